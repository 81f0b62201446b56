//! Logistic regression: the probability of yes, its loss, and one step of gradient descent (book, Part I, 2.2).

use porism_ops::{add_columns, linear};

use crate::Result;
use crate::tape::{binary_cross_entropy, constant, context, gradient, variable};

/// `1 / (1 + e^-z)`.
pub fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) }
}

/// `-log p` of the right answer in nats, p being `sigmoid(z)` for yes and `1 - sigmoid(z)` for no; exact also where p
/// would round to 0.
pub fn loss(z: f64, yes: bool) -> f64 {
    let against = if yes { -z } else { z };
    against.max(0.0) + (-against.abs()).exp().ln_1p()
}

/// A model: one weight a feature, and a bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    /// The weights.
    pub weights: Vec<f64>,
    /// The bias.
    pub bias: f64,
}

impl Logistic {
    /// The logit of an example, of as many features as there are weights.
    pub fn logit(&self, x: &[f64]) -> f64 {
        crate::vector::dot(&self.weights, x) + self.bias
    }

    /// The gradient of the loss, `(p - y) x` for the weights and `p - y` for the bias.
    pub fn gradient(&self, x: &[f64], yes: bool) -> Logistic {
        let error = sigmoid(self.logit(x)) - f64::from(u8::from(yes));
        Logistic { weights: x.iter().map(|x| error * x).collect(), bias: error }
    }

    /// The same gradient by the tape: the cross-entropy of the logits 0 and z.
    ///
    /// # Errors
    /// An operation failed.
    pub fn gradient_by_tape(&self, x: &[f64], yes: bool) -> Result<Logistic> {
        let context = context();
        let (weights, bias) = (variable(1, &self.weights)?, variable(1, &[self.bias])?);
        let z = add_columns(&linear(&context, &constant(1, x)?, &weights)?, &bias)?;
        let gradients = binary_cross_entropy(&context, &z, yes)?.backward()?;
        Ok(Logistic { weights: gradient(&gradients, &weights)?, bias: gradient(&gradients, &bias)?[0] })
    }

    /// The model after one step against a gradient.
    pub fn step(&self, gradient: &Logistic, lr: f64) -> Logistic {
        let weights = self.weights.iter().zip(&gradient.weights).map(|(w, g)| w - lr * g).collect();
        Logistic { weights, bias: self.bias - lr * gradient.bias }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_gradient_is_that_of_the_loss(
            w in prop::collection::vec(-3.0..3.0f64, 3),
            x in prop::collection::vec(-3.0..3.0f64, 3),
            bias in -2.0..2.0f64,
            yes in any::<bool>(),
        ) {
            let model = Logistic { weights: w, bias };
            let by_hand = model.gradient(&x, yes);
            let by_tape = model.gradient_by_tape(&x, yes).expect("a gradient");
            let h = 1e-5;
            for i in 0..3 {
                let at = |d: f64| {
                    let mut moved = model.clone();
                    moved.weights[i] += d;
                    loss(moved.logit(&x), yes)
                };
                prop_assert!(((at(h) - at(-h)) / (2.0 * h) - by_hand.weights[i]).abs() < 1e-7);
                prop_assert!((by_tape.weights[i] - by_hand.weights[i]).abs() < 2e-6);
            }
            prop_assert!((by_tape.bias - by_hand.bias).abs() < 2e-6);
        }
    }

    #[test]
    fn losses_do_not_overflow() {
        assert_eq!(loss(-800.0, true), 800.0);
        assert_eq!(loss(800.0, true), 0.0);
        assert!((loss(0.3, false) + (1.0 - sigmoid(0.3)).ln()).abs() < 1e-15);
    }
}
