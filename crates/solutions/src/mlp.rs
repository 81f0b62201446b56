//! A network of two layers, forward and backward by hand beside the tape's (book, Part I, 3.3).
//!
//! `z1 = W1 x`, `a1 = relu(z1)`, `z2 = w2 . a1`, `a2 = sigmoid(z2)`, loss `-log` of the right answer's probability; no
//! biases. Backwards: `d2 = a2 - y`, `dL/dw2 = d2 a1`, `d1 = d2 w2 * relu'(z1)`, `dL/dW1 = d1 x^T`.

use candle_core::Var;
use porism_ops::{OpContext, linear};

use crate::Result;
use crate::logistic::{loss, sigmoid};
use crate::tape::{binary_cross_entropy, constant, context, gradient, numbers, variable};
use crate::vector::dot;

/// The weights: `[hidden][inputs]` and `[hidden]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mlp {
    /// Of the first layer, by row.
    pub first: Vec<Vec<f64>>,
    /// Of the second.
    pub second: Vec<f64>,
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// Inputs of the first non-linearity.
    pub z1: Vec<f64>,
    /// Its outputs.
    pub a1: Vec<f64>,
    /// The logit.
    pub z2: f64,
    /// The probability of yes.
    pub a2: f64,
}

/// What the backward pass gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Backward {
    /// The loss by the logit.
    pub delta2: f64,
    /// The loss by the first layer's `z`.
    pub delta1: Vec<f64>,
    /// The loss by the weights.
    pub weights: Mlp,
}

impl Mlp {
    /// The forward pass. With `decimals` the activations are rounded to so many, as one does on paper.
    pub fn forward(&self, x: &[f64], decimals: Option<i32>) -> Forward {
        let rounded = |a: f64| decimals.map_or(a, |d| (a * 10f64.powi(d)).round() / 10f64.powi(d));
        let z1: Vec<f64> = self.first.iter().map(|row| dot(row, x)).collect();
        let a1: Vec<f64> = z1.iter().map(|z| rounded(z.max(0.0))).collect();
        let z2 = dot(&self.second, &a1);
        Forward { z1, a1, z2, a2: rounded(sigmoid(z2)) }
    }

    /// The backward pass.
    pub fn backward(&self, x: &[f64], forward: &Forward, yes: bool) -> Backward {
        let delta2 = forward.a2 - f64::from(u8::from(yes));
        let second = forward.a1.iter().map(|a| delta2 * a).collect();
        let open = |z: f64| if z > 0.0 { 1.0 } else { 0.0 };
        let delta1: Vec<f64> = self.second.iter().zip(&forward.z1).map(|(w, &z)| w * delta2 * open(z)).collect();
        let first = delta1.iter().map(|d| x.iter().map(|x| d * x).collect()).collect();
        Backward { delta2, delta1, weights: Mlp { first, second } }
    }

    /// The weights after a step against a gradient.
    pub fn step(&self, gradient: &Mlp, lr: f64) -> Mlp {
        let stepped = |w: &[f64], g: &[f64]| w.iter().zip(g).map(|(w, g)| w - lr * g).collect();
        Mlp {
            first: self.first.iter().zip(&gradient.first).map(|(w, g)| stepped(w, g)).collect(),
            second: stepped(&self.second, &gradient.second),
        }
    }

    /// All weights in one list, the first layer's before the second's.
    pub fn flat(&self) -> Vec<f64> {
        self.first.iter().flatten().chain(&self.second).copied().collect()
    }

    /// The weights' gradient by the tape.
    ///
    /// # Errors
    /// An operation failed.
    pub fn gradient_by_tape(&self, x: &[f64], yes: bool) -> Result<Mlp> {
        Taped::new(self)?.gradient(x, yes)
    }
}

/// The loss after each of `updates` steps by hand, the first before any, and the weights at the end.
pub fn train(mlp: &Mlp, x: &[f64], yes: bool, lr: f64, updates: usize) -> (Vec<f64>, Mlp) {
    let mut mlp = mlp.clone();
    let mut losses = Vec::with_capacity(updates + 1);
    for update in 0..=updates {
        let forward = mlp.forward(x, None);
        losses.push(loss(forward.z2, yes));
        if update < updates {
            let gradient = mlp.backward(x, &forward, yes).weights;
            mlp = mlp.step(&gradient, lr);
        }
    }
    (losses, mlp)
}

/// The weights after so many steps of the tape's gradients, in f32.
///
/// # Errors
/// An operation failed.
pub fn train_by_tape(mlp: &Mlp, x: &[f64], yes: bool, lr: f64, updates: usize) -> Result<Mlp> {
    let mut mlp = mlp.clone();
    for _ in 0..updates {
        mlp = mlp.step(&mlp.gradient_by_tape(x, yes)?, lr);
    }
    Ok(mlp)
}

/// The same network on the tape.
struct Taped {
    context: OpContext,
    first: Var,
    second: Var,
}

impl Taped {
    fn new(mlp: &Mlp) -> Result<Taped> {
        let first: Vec<f64> = mlp.first.iter().flatten().copied().collect();
        let (first, second) = (variable(mlp.first.len(), &first)?, variable(1, &mlp.second)?);
        Ok(Taped { context: context(), first, second })
    }

    fn gradient(&self, x: &[f64], yes: bool) -> Result<Mlp> {
        let hidden = linear(&self.context, &constant(1, x)?, &self.first)?.relu()?;
        let z2 = linear(&self.context, &hidden, &self.second)?;
        let gradients = binary_cross_entropy(&self.context, &z2, yes)?.backward()?;
        let first = gradient(&gradients, &self.first)?;
        let width = numbers(&self.first)?.len() / self.first.dims()[0];
        let first = first.chunks(width).map(<[f64]>::to_vec).collect();
        Ok(Mlp { first, second: gradient(&gradients, &self.second)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mlp(w: &[f64]) -> Mlp {
        Mlp { first: w[..6].chunks(2).map(<[f64]>::to_vec).collect(), second: w[6..].to_vec() }
    }

    proptest! {
        #[test]
        fn both_backward_passes_are_the_loss_by_its_weights(
            w in prop::collection::vec(-2.0..2.0f64, 9),
            x in prop::collection::vec(-2.0..2.0f64, 2),
            yes in any::<bool>(),
        ) {
            let network = mlp(&w);
            let forward = network.forward(&x, None);
            // Away from the corner of the ReLU.
            prop_assume!(forward.z1.iter().all(|z| z.abs() > 1e-3));
            let by_hand = network.backward(&x, &forward, yes).weights.flat();
            let by_tape = network.gradient_by_tape(&x, yes).expect("a gradient").flat();
            let h = 1e-6;
            for i in 0..w.len() {
                let at = |d: f64| {
                    let mut moved = w.clone();
                    moved[i] += d;
                    loss(mlp(&moved).forward(&x, None).z2, yes)
                };
                let by_differences = (at(h) - at(-h)) / (2.0 * h);
                prop_assert!((by_differences - by_hand[i]).abs() < 1e-6, "{i}: {by_differences} {}", by_hand[i]);
                prop_assert!((by_tape[i] - by_hand[i]).abs() < 1e-5, "{i}: {} {}", by_tape[i], by_hand[i]);
            }
        }
    }
}
