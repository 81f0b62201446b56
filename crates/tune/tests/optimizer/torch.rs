//! AdamW, SGD and clipping against PyTorch.

use porism_ops::OpContext;
use porism_tune::optimizer::{Optimizer, OptimizerKind, StateStorage, clip_factor};

use super::{FIXTURE, Run, assert_close, gradient, numbers, tensors};

const LENGTHS: [usize; 3] = [7, 15, 300];

#[test]
fn steps_are_torchs() {
    let runs = FIXTURE["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    for run in runs {
        let setting = |name: &str| run[name].as_f64().unwrap();
        let kind = match run["optimizer"].as_str().unwrap() {
            "adamw" => OptimizerKind::AdamW { beta1: setting("beta1"), beta2: setting("beta2"), eps: setting("eps") },
            "sgd" => OptimizerKind::Sgd { momentum: setting("momentum") },
            other => panic!("{other}"),
        };
        let mut ours = Run::new(kind, &LENGTHS, 2, &StateStorage::Memory);
        let rates = numbers(&run["rates"]);
        for (step, &rate) in rates.iter().enumerate() {
            ours.step(step as u32, rate, setting("weight_decay"));
            let recorded = if step == 0 { 0 } else { 1 };
            if step == 0 || step + 1 == rates.len() {
                for (i, values) in ours.values.iter().enumerate() {
                    let want = numbers(&run["values"][recorded][i]);
                    assert_close(values, &want, 1e-6, &format!("{kind:?}, step {step}, tensor {i}"));
                }
            }
        }
    }
}

#[test]
fn clipping_is_torchs() {
    let kind = OptimizerKind::ADAMW;
    let optimizer = Optimizer::new(&OpContext::new(2), kind, tensors(&LENGTHS), &StateStorage::Memory).unwrap();
    let mut factors = Vec::new();
    for clip in FIXTURE["clip"].as_array().unwrap() {
        let before: Vec<Vec<f32>> = LENGTHS.iter().enumerate().map(|(i, &n)| gradient(i, 0, n)).collect();
        let (mut gradients, max_norm) = (before.clone(), clip["max_norm"].as_f64().unwrap());
        let (norm, want) = (optimizer.clip(&mut gradients, max_norm), clip["norm"].as_f64().unwrap());
        assert!((norm / want - 1.0).abs() < 1e-6, "{norm} and {want}");
        for (i, gradient) in gradients.iter().enumerate() {
            let want = numbers(&clip["gradients"][i]);
            for (&got, want) in gradient.iter().zip(want) {
                assert!((f64::from(got) - want).abs() <= 1e-6 * want.abs(), "{got} and {want}");
            }
        }
        assert_eq!(gradients == before, max_norm > norm);
        factors.push(clip_factor(norm, max_norm));
    }
    assert!(factors[0] < 1.0 && factors[1] == 1.0, "{factors:?}");
}

#[test]
fn a_scaled_step_is_a_step_of_the_scaled_gradient() {
    for kind in [OptimizerKind::ADAMW, OptimizerKind::SGD, OptimizerKind::ADAMW_8BIT] {
        let new = || Run::new(kind, &[5000], 2, &StateStorage::Memory);
        let (mut one, mut other) = (new(), new());
        for step in 0..3 {
            let mut gradient = gradient(0, step, 5000);
            one.optimizer.step_scaled(0, &mut one.values[0], &gradient, 0.3, 0.01, 0.1).unwrap();
            gradient.iter_mut().for_each(|g| *g *= 0.3);
            other.optimizer.step(0, &mut other.values[0], &gradient, 0.01, 0.1).unwrap();
        }
        assert!(one.values == other.values && one.state() == other.state(), "{kind:?}");
    }
}

#[test]
fn gradients_that_are_no_numbers_show_in_the_norm() {
    let optimizer =
        Optimizer::new(&OpContext::new(1), OptimizerKind::SGD, tensors(&[2]), &StateStorage::Memory).unwrap();
    assert_eq!(optimizer.clip(&mut [[3.0f32, 4.0]], 0.0), 5.0);
    assert!(optimizer.clip(&mut [[f32::INFINITY, 4.0]], 1.0).is_infinite());
    let mut gradients = [[f32::NAN, 4.0]];
    assert!(optimizer.clip(&mut gradients, 1.0).is_nan());
    assert!(gradients[0][1].is_nan(), "as torch does");
}

#[test]
fn settings_and_lengths_are_checked() {
    let new = |kind| Optimizer::new(&OpContext::new(1), kind, tensors(&[4]), &StateStorage::Memory);
    for (kind, what) in [
        (OptimizerKind::AdamW { beta1: 1.0, beta2: 0.9, eps: 0.0 }, "beta1 is 1"),
        (OptimizerKind::AdamW8bit { beta1: 0.9, beta2: f64::NAN, eps: 0.0 }, "beta2 is NaN"),
        (OptimizerKind::AdamW { beta1: 0.9, beta2: 0.9, eps: -1.0 }, "eps is -1"),
        (OptimizerKind::Sgd { momentum: f64::INFINITY }, "momentum is inf"),
    ] {
        let error = new(kind).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("has to be"), "{error}");
    }
    let mut optimizer = new(OptimizerKind::SGD).unwrap();
    let error = optimizer.step(0, &mut [0.0; 4], &[0.0; 5], 1.0, 0.0).unwrap_err().to_string();
    assert!(error.contains("`layer.0` has 4 elements") && error.contains("5 of a gradient"), "{error}");
    assert!(optimizer.step(1, &mut [0.0; 4], &[0.0; 4], 1.0, 0.0).is_err());
    let mut twice = tensors(&[4, 4]);
    twice[1].name = twice[0].name.clone();
    let error = Optimizer::new(&OpContext::new(1), OptimizerKind::SGD, twice, &StateStorage::Memory).unwrap_err();
    assert!(error.to_string().contains("`layer.0` is to be trained twice"), "{error}");
}
