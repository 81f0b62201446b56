//! Steps of optimizers and the norm of a gradient, on as many elements as a large matrix of a small model has. What
//! bounds them is memory: the bytes are those that a step reads and writes.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use porism_kernels::optimizer::{AdamW, BLOCK, Moments8bit, Sgd, adamw, adamw8bit, scale, sgd, sum_of_squares};
use porism_kernels::pool::usable_cores;
use porism_kernels::{Isa, Pool};

const ELEMENTS: usize = 8 << 20;

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()
}

fn steps(c: &mut Criterion) {
    let isa = Isa::detect();
    let gradient = numbers(ELEMENTS);
    let (mut values, mut first, mut second) = (numbers(ELEMENTS), vec![0.0; ELEMENTS], vec![0.0; ELEMENTS]);
    let mut codes = [vec![0u8; ELEMENTS], vec![0u8; ELEMENTS]];
    let mut absmax = [vec![0.0; ELEMENTS / BLOCK], vec![0.0; ELEMENTS / BLOCK]];
    let step = AdamW {
        learning_rate: 1e-4,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        gradient_scale: 1.0,
        step: 10,
    };
    let descent = Sgd { learning_rate: 1e-4, momentum: 0.9, weight_decay: 0.01, gradient_scale: 1.0 };
    for threads in [1, usable_cores()] {
        let pool = Pool::new(threads);
        let mut group = c.benchmark_group(format!("optimizer/{threads}-threads"));
        // Values and moments are read and written, the gradient is read.
        let throughput = |bytes: usize| Throughput::Bytes((ELEMENTS * bytes) as u64);
        group.throughput(throughput(4 + 3 * 8));
        group.bench_function("adamw", |b| {
            b.iter(|| adamw(&pool, isa, &step, &mut values, black_box(&gradient), &mut first, &mut second));
        });
        group.throughput(throughput(4 + 8 + 2 * 2));
        group.bench_function("adamw8bit", |b| {
            b.iter(|| {
                let ([first, second], [first_absmax, second_absmax]) = (&mut codes, &mut absmax);
                let moments = Moments8bit { first, second, first_absmax, second_absmax };
                adamw8bit(&pool, isa, &step, &mut values, black_box(&gradient), moments);
            });
        });
        group.throughput(throughput(4 + 2 * 8));
        group.bench_function("sgd", |b| {
            b.iter(|| sgd(&pool, isa, &descent, &mut values, black_box(&gradient), &mut first));
        });
        group.throughput(throughput(4));
        group.bench_function("sum_of_squares", |b| {
            b.iter(|| sum_of_squares(&pool, isa, black_box(&gradient)));
        });
        group.throughput(throughput(8));
        group.bench_function("scale", |b| {
            b.iter(|| scale(&pool, isa, black_box(1.0), &mut values));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_millis(600));
    targets = steps
}
criterion_main!(benches);
