//! The products of every block type: one token (bytes a second) and 2 to 512 tokens (operations a second), at the
//! sizes of a small model's feed-forward network, on one and on all threads.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use porism_kernels::linear::{self, MatrixRef, Product, QuantizedRows};
use porism_kernels::pool::usable_cores;
use porism_kernels::{BlockType, Isa, Pool};

fn products(c: &mut Criterion) {
    let (rows, cols) = (1536, 768);
    let isa = Isa::detect();
    for block in BlockType::ALL {
        // Many copies of the weight, so that one token reads from memory and not from a cache.
        let copies = (64 << 20) / (rows * block.row_bytes(cols).expect("whole blocks")) + 1;
        let bytes = vec![0x11u8; rows * block.row_bytes(cols).expect("whole blocks")];
        let weights: Vec<Vec<u8>> = (0..copies).map(|_| bytes.clone()).collect();
        for threads in [1, usable_cores()] {
            let pool = Pool::new(threads);
            for tokens in [1, 2, 4, 8, 16, 512] {
                let x: Vec<f32> = (0..tokens * cols).map(|i| (i % 17) as f32 - 8.0).collect();
                let mut quantized = QuantizedRows::default();
                quantized.quantize(&pool, isa, &x, cols);
                let mut out = vec![0.0; tokens * rows];
                let mut group = c.benchmark_group(format!("{block}/{threads}-threads"));
                group.throughput(if tokens == 1 {
                    Throughput::Bytes(bytes.len() as u64)
                } else {
                    Throughput::Elements((2 * tokens * rows * cols) as u64)
                });
                let mut next = 0;
                let mut weight = || {
                    next = (next + 1) % copies;
                    MatrixRef { bytes: &weights[next], block, rows, cols }
                };
                group.bench_function(BenchmarkId::new("f32", tokens), |b| {
                    b.iter(|| linear::forward_f32(&pool, isa, weight(), black_box(&x), &mut out));
                });
                if linear::takes_int8(block) {
                    group.bench_function(BenchmarkId::new("int8", tokens), |b| {
                        b.iter(|| {
                            let mut products = [Product { weight: weight(), out: &mut out }];
                            linear::forward_int8_many(&pool, isa, black_box(&quantized), &mut products);
                        });
                    });
                }
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(std::time::Duration::from_millis(200)).measurement_time(std::time::Duration::from_millis(600));
    targets = products
}
criterion_main!(benches);
