//! What a training step is made of besides the forward products: the backwards of projections and of
//! attention, and the row-wise kernels, at the default model's sizes with 512 tokens.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use porism_kernels::activation::{Activation, act_mul, act_mul_backward};
use porism_kernels::attention::Mask;
use porism_kernels::attention::backward::{DenseGradients, dense_backward};
use porism_kernels::attention::dense::{Dense, DenseSpan, dense_forward};
use porism_kernels::linear::MatrixRef;
use porism_kernels::linear::backward::{backward_input, backward_weight};
use porism_kernels::loss::{cross_entropy, cross_entropy_backward};
use porism_kernels::norm::{rms_norm, rms_norm_backward};
use porism_kernels::pool::usable_cores;
use porism_kernels::{BlockType, Isa, Pool};

const TOKENS: usize = 512;

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()
}

fn projections(c: &mut Criterion) {
    let (rows, cols) = (1536, 576);
    let (dy, x) = (numbers(TOKENS * rows), numbers(TOKENS * cols));
    let (mut dx, mut dw) = (vec![0.0; TOKENS * cols], vec![0.0; rows * cols]);
    for threads in [1, usable_cores()] {
        let pool = Pool::new(threads);
        let mut group = c.benchmark_group(format!("projection/{threads}-threads"));
        group.throughput(Throughput::Elements((2 * TOKENS * rows * cols) as u64));
        for block in [BlockType::F32, BlockType::F16, BlockType::Q4_1, BlockType::Q8_0] {
            let bytes = vec![0x11u8; rows * block.row_bytes(cols).expect("whole blocks")];
            let weight = MatrixRef { bytes: &bytes, block, rows, cols };
            group.bench_function(BenchmarkId::new("dx", block), |b| {
                b.iter(|| backward_input(&pool, Isa::detect(), weight, black_box(&dy), &mut dx));
            });
        }
        group.bench_function("dw", |b| {
            b.iter(|| backward_weight(&pool, Isa::detect(), rows, cols, black_box(&dy), &x, &mut dw));
        });
    }
}

fn attention(c: &mut Criterion) {
    let spec = Dense { heads: 9, kv_heads: 3, head_dim: 64, scale: 0.125, softcap: None, bias: None };
    let (q, k, v) = (numbers(TOKENS * 576), numbers(TOKENS * 192), numbers(TOKENS * 192));
    let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; TOKENS * 9]);
    let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
    let spans = [DenseSpan::whole(Mask::Causal, 0..TOKENS)];
    for threads in [1, usable_cores()] {
        let pool = Pool::new(threads);
        let mut group = c.benchmark_group(format!("attention/{threads}-threads"));
        group.bench_function("forward", |b| {
            b.iter(|| dense_forward(&pool, Isa::detect(), &spec, &spans, black_box(&q), &k, &v, &mut out, &mut lse));
        });
        group.bench_function("backward", |b| {
            b.iter(|| {
                let wanted = DenseGradients { dq: Some(&mut dq), dk: Some(&mut dk), dv: Some(&mut dv) };
                dense_backward(&pool, Isa::detect(), &spec, &spans, black_box(&q), &k, &v, &out, &lse, &q, wanted);
            });
        });
    }
}

fn rows(c: &mut Criterion) {
    let pool = Pool::new(1);
    let isa = Isa::detect();
    let mut group = c.benchmark_group("rows/1-thread");
    let (x, w, mut y) = (numbers(TOKENS * 576), numbers(576), numbers(TOKENS * 576));
    let mut dw = w.clone();
    group.throughput(Throughput::Elements(x.len() as u64));
    group.bench_function("rms_norm", |b| b.iter(|| rms_norm(&pool, isa, black_box(&x), &w, 1e-5, &mut y)));
    group.bench_function("rms_norm_backward", |b| {
        b.iter(|| rms_norm_backward(&pool, isa, black_box(&x), &w, 1e-5, &x, Some(&mut y), Some(&mut dw)));
    });
    let (gate, mut out, mut dup) = (numbers(TOKENS * 1536), numbers(TOKENS * 1536), numbers(TOKENS * 1536));
    group.throughput(Throughput::Elements(gate.len() as u64));
    group.bench_function("silu_mul", |b| {
        b.iter(|| act_mul(&pool, isa, Activation::Silu, black_box(&gate), &gate, &mut out));
    });
    group.bench_function("silu_mul_backward", |b| {
        b.iter(|| act_mul_backward(&pool, isa, Activation::Silu, black_box(&gate), &gate, &gate, &mut out, &mut dup));
    });
    let (vocab, n) = (49_152, 16);
    let (logits, targets, weights) = (numbers(n * vocab), vec![7u32; n], vec![1.0; n]);
    let mut dlogits = logits.clone();
    group.throughput(Throughput::Elements(logits.len() as u64));
    group.bench_function("cross_entropy", |b| {
        b.iter(|| cross_entropy(&pool, isa, vocab, black_box(&logits), &targets, &weights));
    });
    group.bench_function("cross_entropy_backward", |b| {
        b.iter(|| cross_entropy_backward(&pool, isa, vocab, black_box(&logits), &targets, &weights, 1.0, &mut dlogits));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_millis(600));
    targets = projections, attention, rows
}
criterion_main!(benches);
