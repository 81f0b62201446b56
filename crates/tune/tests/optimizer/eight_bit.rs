//! 8-bit AdamW against bitsandbytes.

use porism_kernels::optimizer::dynamic_map;
use porism_tune::optimizer::{OptimizerKind, StateStorage};
use serde_json::Value;

use super::{FIXTURE, INITIAL, Run, assert_close, noise, numbers};

const LENGTHS: [usize; 2] = [4226, 100];
const BLOCKS: usize = 17;

fn run(steps: usize) -> Run {
    let fixture = &FIXTURE["adamw8bit"];
    let mut run = Run::new(OptimizerKind::ADAMW_8BIT, &LENGTHS, 2, &StateStorage::Memory);
    for (step, &rate) in numbers(&fixture["rates"]).iter().take(steps).enumerate() {
        run.step(step as u32, rate, fixture["weight_decay"].as_f64().unwrap());
    }
    run
}

/// The elements that the fixture has.
fn some<T: Copy>(all: &[T]) -> Vec<T> {
    let every = FIXTURE["adamw8bit"]["every"].as_u64().unwrap() as usize;
    all.iter().copied().step_by(every).collect()
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap().as_bytes().as_chunks::<2>().0.to_vec();
    digits.iter().map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

/// A tensor of a state's safetensors file.
fn part(file: &[u8], name: &str) -> Vec<u8> {
    let header = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let entries: Value = serde_json::from_slice(&file[8..header]).unwrap();
    let at = |i: usize| header + entries[name]["data_offsets"][i].as_u64().unwrap() as usize;
    file[at(0)..at(1)].to_vec()
}

fn rms(a: &[f64], b: &[f64]) -> f64 {
    (a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / a.len() as f64).sqrt()
}

#[test]
fn maps_are_those_of_bitsandbytes() {
    for (name, signed) in [("signed", true), ("unsigned", false)] {
        let want: Vec<f32> = numbers(&FIXTURE["adamw8bit"]["maps"][name]).iter().map(|&v| v as f32).collect();
        assert_eq!(want, dynamic_map(signed), "{name}");
    }
}

#[test]
fn one_step_is_that_of_bitsandbytes() {
    let (run, want) = (run(1), &FIXTURE["adamw8bit"]["published"][0]);
    assert_close(&some(&run.values[0]), &numbers(&want[0]["values"]), 1e-6, "values");
    assert_close(&run.values[1], &numbers(&want[1]["values"]), 1e-6, "values of a small tensor");
    let state = run.state();
    for name in ["state1", "state2"] {
        let (got, want) = (some(&part(&state, &format!("layer.0.{name}"))), hex(&want[0][name]));
        // A moment that rounds otherwise in its last bit may lie on the other side of a midpoint.
        let apart = got.iter().zip(&want).filter(|(a, b)| a.abs_diff(**b) != 0).count();
        assert!(got.len() == want.len() && apart <= 1, "{name}: {apart} of {} codes differ", want.len());
    }
    for name in ["absmax1", "absmax2"] {
        let bytes = part(&state, &format!("layer.0.{name}"));
        let got: Vec<f32> = bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
        assert_eq!(got.len(), BLOCKS);
        for (got, want) in got.iter().zip(numbers(&want[0][name])) {
            assert!((f64::from(*got) / want - 1.0).abs() < 1e-6, "{name}: {got} and {want}");
        }
    }
    // 32-bit moments stay in small tensors.
    assert_eq!(part(&state, "layer.1.state1").len(), 400);
}

#[test]
fn thirty_steps_are_those_of_bitsandbytes() {
    let fixture = &FIXTURE["adamw8bit"];
    let (run, want) = (run(30), &fixture["published"][1]);
    let got: Vec<f64> = some(&run.values[0]).iter().map(|&v| f64::from(v)).collect();
    let start: Vec<f64> = some(&noise(0, INITIAL, LENGTHS[0])).iter().map(|&v| f64::from(v)).collect();
    let published = numbers(&want[0]["values"]);
    // A code that differs once goes on in its element.
    let apart = got.iter().zip(&published).filter(|(a, b)| (*a - *b).abs() > 1e-6 * (1.0 + b.abs())).count();
    assert!(got.len() == published.len() && apart * 200 <= got.len(), "{apart} of {} values differ", got.len());
    let (moved, rounding) = (rms(&got, &start), rms(&published, &numbers(&fixture["full"])));
    assert!(rms(&got, &published) < rounding / 20.0, "{} and {rounding}", rms(&got, &published));
    assert_close(&run.values[1], &numbers(&want[1]["values"]), 1e-6, "values of a small tensor");
    // What bitsandbytes does on a CPU as it comes differs about as much as 8 bits differ from 32; both are small.
    let shipped = rms(&got, &numbers(&fixture["shipped"][0]));
    assert!(rounding < 0.1 * moved && shipped < 0.1 * moved, "{rounding} and {shipped} of {moved}");
}
