//! Times of attention over plain slices, for `benches/compare_pytorch_attention.py`: reads a length a line, runs
//! causal attention of 9 heads of 64 forward and backward once each on random numbers, and prints the milliseconds
//! of both and the kilobytes that they took beyond inputs, outputs and gradients (zero where that is unknown).

#![allow(clippy::print_stdout)]

use std::collections::HashMap;
use std::io::BufRead;
use std::time::Instant;

use porism_kernels::attention::Mask;
use porism_kernels::attention::backward::{DenseGradients, dense_backward};
use porism_kernels::attention::dense::{Dense, DenseSpan, dense_forward};
use porism_kernels::pool::usable_cores;
use porism_kernels::{Isa, Pool};

const HEADS: usize = 9;
const HEAD_DIM: usize = 64;

/// Everything that is not extra memory.
struct Case {
    spans: [DenseSpan; 1],
    inputs: [Vec<f32>; 4],
    out: Vec<f32>,
    lse: Vec<f32>,
    gradients: [Vec<f32>; 3],
}

impl Case {
    fn new(n: usize) -> Case {
        let width = n * HEADS * HEAD_DIM;
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let inputs = [(); 4].map(|()| (0..width).map(|_| random()).collect());
        let gradients = [(); 3].map(|()| vec![1.0; width]);
        Case {
            spans: [DenseSpan::whole(Mask::Causal, 0..n)],
            inputs,
            out: vec![1.0; width],
            lse: vec![1.0; n * HEADS],
            gradients,
        }
    }
}

/// A number of kilobytes about this process, if the system tells.
fn kilobytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim_matches([':', '\t', ' ', 'k', 'B']).parse().ok()).unwrap_or(0)
}

fn main() {
    let (pool, isa) = (Pool::new(usable_cores()), Isa::detect());
    let spec = Dense { heads: HEADS, kv_heads: HEADS, head_dim: HEAD_DIM, scale: 0.125, softcap: None, bias: None };
    let mut cases = HashMap::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let Ok(n) = line.trim().parse::<usize>() else { break };
        let Case { spans, inputs: [q, k, v, dout], out, lse, gradients: [dq, dk, dv] } =
            cases.entry(n).or_insert_with(|| Case::new(n));
        let before = kilobytes("VmRSS");
        let start = Instant::now();
        dense_forward(&pool, isa, &spec, spans, q, k, v, out, lse);
        let forward = start.elapsed();
        let start = Instant::now();
        let wanted = DenseGradients { dq: Some(dq), dk: Some(dk), dv: Some(dv) };
        dense_backward(&pool, isa, &spec, spans, q, k, v, out, lse, dout, wanted);
        let backward = start.elapsed();
        let extra = kilobytes("VmHWM").saturating_sub(before);
        println!("{} {} {extra}", forward.as_secs_f64() * 1e3, backward.as_secs_f64() * 1e3);
    }
}
