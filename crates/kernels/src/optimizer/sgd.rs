//! Stochastic gradient descent with momentum as PyTorch has it: the buffer is a sum of gradients, not a mean; no
//! dampening, no Nesterov; weight decay is added to the gradient.

use super::for_parts;
use crate::lanes::by_isa;
use crate::{Isa, Pool};

/// The settings of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// How much of the buffer remains; zero for plain descent, which needs no buffer.
    pub momentum: f64,
    /// How much of each value is added to its gradient.
    pub weight_decay: f64,
    /// What the gradient is multiplied with first.
    pub gradient_scale: f64,
}

/// What a step multiplies with.
#[derive(Clone, Copy)]
struct Coefficients {
    rate: f32,
    momentum: f32,
    decay: f32,
    gradient_scale: f32,
}

/// One step of values and buffer: `buffer = momentum * buffer + scale * gradient + decay * values`,
/// `values -= lr * buffer`. A new buffer is zeros, so that the first step makes it the gradient. Without momentum the
/// buffer may be empty.
///
/// # Panics
/// If the lengths differ.
pub fn sgd(pool: &Pool, isa: Isa, step: &Sgd, values: &mut [f32], gradient: &[f32], buffer: &mut [f32]) {
    assert_eq!(gradient.len(), values.len(), "sgd: lengths differ");
    let by = Coefficients {
        rate: step.learning_rate as f32,
        momentum: step.momentum as f32,
        decay: step.weight_decay as f32,
        gradient_scale: step.gradient_scale as f32,
    };
    if step.momentum == 0.0 {
        for_parts(pool, [values], |at, [values]| plain_part(isa, by, values, &gradient[at]));
        return;
    }
    assert_eq!(buffer.len(), values.len(), "sgd: lengths differ");
    for_parts(pool, [values, buffer], |at, [values, buffer]| momentum_part(isa, by, values, &gradient[at], buffer));
}

by_isa! {
    fn plain_part(by: Coefficients, values: &mut [f32], gradient: &[f32]) {
        for (p, &g) in values.iter_mut().zip(gradient) {
            let g = by.decay.mul_add(*p, g * by.gradient_scale);
            *p = by.rate.mul_add(-g, *p);
        }
    }
}

by_isa! {
    fn momentum_part(by: Coefficients, values: &mut [f32], gradient: &[f32], buffer: &mut [f32]) {
        for ((p, &g), b) in values.iter_mut().zip(gradient).zip(buffer) {
            let g = by.decay.mul_add(*p, g * by.gradient_scale);
            *b = by.momentum.mul_add(*b, g);
            *p = by.rate.mul_add(-*b, *p);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, wide};

    #[test]
    fn steps_are_the_f64_twin() {
        let (pool, n) = (Pool::new(2), 5000);
        for momentum in [0.0, 0.9] {
            let step = Sgd { learning_rate: 0.05, momentum, weight_decay: 0.01, gradient_scale: 2.0 };
            let mut numbers = Numbers::new(1);
            let mut values = numbers.normal(n);
            let mut buffer = vec![0.0; if momentum == 0.0 { 0 } else { n }];
            let (mut p64, mut b64) = (wide(&values), vec![0.0; n]);
            for _ in 0..5 {
                let gradient = numbers.normal(n);
                for i in 0..n {
                    b64[i] = momentum * b64[i] + 2.0 * f64::from(gradient[i]) + 0.01 * p64[i];
                    p64[i] -= 0.05 * b64[i];
                }
                sgd(&pool, Isa::detect(), &step, &mut values, &gradient, &mut buffer);
            }
            assert_close(&values, &p64, 3e-7, "values");
        }
    }

    #[test]
    fn every_level_and_number_of_threads_gives_the_same_bits() {
        let mut numbers = Numbers::new(2);
        let start: [Vec<f32>; 3] = std::array::from_fn(|_| numbers.normal(9001));
        for momentum in [0.0, 0.9] {
            let step = Sgd { learning_rate: 0.05, momentum, weight_decay: 0.01, gradient_scale: 0.3 };
            let run = |isa: Isa, threads: usize| {
                let [mut values, gradient, mut buffer] = start.clone();
                sgd(&Pool::new(threads), isa, &step, &mut values, &gradient, &mut buffer);
                (values, buffer)
            };
            let want = run(Isa::Scalar, 1);
            for isa in Isa::available() {
                assert!(run(isa, 3) == want, "{}", isa.name());
            }
        }
    }
}
