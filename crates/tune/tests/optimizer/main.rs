//! Optimizers and schedules against torch, transformers and bitsandbytes: `../fixtures/optimizers.json`, made by
//! `scripts/fixtures/optimizers.py`.

mod eight_bit;
mod paged;
mod schedule;
mod state;
mod torch;

use std::sync::LazyLock;

use porism_ops::OpContext;
use porism_tune::optimizer::{Optimizer, OptimizerKind, StateStorage, TrainedTensor};
use serde_json::Value;

static FIXTURE: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../fixtures/optimizers.json")).unwrap());

/// What initial values are made of, in place of a step.
const INITIAL: u32 = 1000;

/// Numbers from -1 to 1 that the fixture's script makes too, bit for bit.
fn noise(tensor: usize, step: u32, n: usize) -> Vec<f32> {
    let of = (step + 1).wrapping_mul(0x85EB_CA77).wrapping_add((tensor as u32 + 1).wrapping_mul(0xC2B2_AE3D));
    let number = |i: usize| {
        let mut x = (i as u32).wrapping_mul(0x9E37_79B1).wrapping_add(of);
        x ^= x >> 15;
        x = x.wrapping_mul(0x2C1B_3C6D);
        x ^= x >> 12;
        x = x.wrapping_mul(0x297A_2D39);
        x ^= x >> 15;
        (f64::from(x) / 2f64.powi(31) - 1.0) as f32
    };
    (0..n).map(number).collect()
}

/// The same over seven magnitudes.
fn gradient(tensor: usize, step: u32, n: usize) -> Vec<f32> {
    noise(tensor, step, n).iter().enumerate().map(|(i, x)| x * 0.5f32.powi(i as i32 % 7)).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Tensors of which the second does not decay.
fn tensors(lengths: &[usize]) -> Vec<TrainedTensor> {
    let tensor = |(i, &len): (usize, &usize)| TrainedTensor { name: format!("layer.{i}"), len, decays: i != 1 };
    lengths.iter().enumerate().map(tensor).collect()
}

/// An optimizer and the values that it changes.
struct Run {
    optimizer: Optimizer,
    values: Vec<Vec<f32>>,
}

impl Run {
    fn new(kind: OptimizerKind, lengths: &[usize], threads: usize, storage: &StateStorage) -> Run {
        let optimizer = Optimizer::new(&OpContext::new(threads), kind, tensors(lengths), storage).unwrap();
        Run { optimizer, values: lengths.iter().enumerate().map(|(i, &n)| noise(i, INITIAL, n)).collect() }
    }

    fn step(&mut self, step: u32, rate: f64, decay: f64) {
        for (i, values) in self.values.iter_mut().enumerate() {
            let gradient = gradient(i, step, values.len());
            self.optimizer.step(i, values, &gradient, rate, decay).unwrap();
        }
    }

    fn state(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.optimizer.write_to(&mut bytes).unwrap();
        bytes
    }
}

#[track_caller]
fn assert_close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(error <= tolerance * (1.0 + want.abs()), "{what}[{i}]: {got} where {want} was expected");
    }
}
