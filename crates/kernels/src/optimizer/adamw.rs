//! AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), in PyTorch's order of operations.

use super::for_parts;
use crate::lanes::by_isa;
use crate::{Isa, Pool};

/// The settings of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// How much of the first moment remains.
    pub beta1: f64,
    /// How much of the second moment remains.
    pub beta2: f64,
    /// Added to the root of the corrected second moment.
    pub eps: f64,
    /// Times the learning rate: the share of each value that is taken away.
    pub weight_decay: f64,
    /// What the gradient is multiplied with first: for clipping, or for a mean over what was accumulated.
    pub gradient_scale: f64,
    /// The number of this step; the first is 1.
    pub step: u64,
}

/// What a step multiplies with.
#[derive(Clone, Copy)]
pub(super) struct Coefficients {
    gradient_scale: f32,
    /// `1 - beta1`.
    rest1: f32,
    beta2: f32,
    /// `1 - beta2`.
    rest2: f32,
    /// `sqrt(1 - beta2^t)`.
    root: f32,
    eps: f32,
    /// `1 - lr * decay`.
    keep: f32,
    /// `lr / (1 - beta1^t)`.
    size: f32,
}

impl AdamW {
    pub(super) fn coefficients(&self) -> Coefficients {
        let steps = self.step as f64;
        Coefficients {
            gradient_scale: self.gradient_scale as f32,
            rest1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            rest2: (1.0 - self.beta2) as f32,
            root: (1.0 - self.beta2.powf(steps)).sqrt() as f32,
            eps: self.eps as f32,
            keep: (1.0 - self.learning_rate * self.weight_decay) as f32,
            size: (self.learning_rate / (1.0 - self.beta1.powf(steps))) as f32,
        }
    }
}

/// One step of values and both moments; all four slices have one length.
///
/// With the scaled gradient g: `m += (1 - beta1) * (g - m)`, `v = beta2 * v + (1 - beta2) * g^2`,
/// `p = (1 - lr * decay) * p - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)`.
///
/// # Panics
/// If the lengths differ.
pub fn adamw(
    pool: &Pool,
    isa: Isa,
    step: &AdamW,
    values: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let len = values.len();
    assert!(gradient.len() == len && first.len() == len && second.len() == len, "adamw: lengths differ");
    let by = step.coefficients();
    for_parts(pool, [values, first, second], |at, [values, first, second]| {
        update_part(isa, by, values, &gradient[at], first, second);
    });
}

/// The arithmetic of a step on slices of one length.
#[inline(always)]
pub(super) fn update(by: Coefficients, values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
    for ((p, &g), (m, v)) in values.iter_mut().zip(gradient).zip(first.iter_mut().zip(second)) {
        let g = g * by.gradient_scale;
        *m = by.rest1.mul_add(g - *m, *m);
        *v = (by.rest2 * g).mul_add(g, by.beta2 * *v);
        let direction = *m / (v.sqrt() / by.root + by.eps);
        *p = by.size.mul_add(-direction, by.keep * *p);
    }
}

by_isa! {
    fn update_part(by: Coefficients, values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        update(by, values, gradient, first, second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, wide};

    const SETTINGS: AdamW = AdamW {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-6,
        weight_decay: 0.1,
        gradient_scale: 0.5,
        step: 0,
    };

    #[test]
    fn steps_are_the_papers() {
        let (pool, n) = (Pool::new(2), 5000);
        let mut numbers = Numbers::new(1);
        let mut values = numbers.normal(n);
        let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
        let (mut p64, mut m64, mut v64) = (wide(&values), vec![0.0f64; n], vec![0.0f64; n]);
        for step in 1..=5 {
            let gradient = numbers.normal(n);
            let AdamW { learning_rate: lr, beta1, beta2, eps, weight_decay, gradient_scale, .. } = SETTINGS;
            for i in 0..n {
                let g = gradient_scale * f64::from(gradient[i]);
                m64[i] = beta1 * m64[i] + (1.0 - beta1) * g;
                v64[i] = beta2 * v64[i] + (1.0 - beta2) * g * g;
                let (m, v) = (m64[i] / (1.0 - beta1.powi(step)), v64[i] / (1.0 - beta2.powi(step)));
                p64[i] -= lr * (m / (v.sqrt() + eps) + weight_decay * p64[i]);
            }
            let settings = AdamW { step: step as u64, ..SETTINGS };
            adamw(&pool, Isa::detect(), &settings, &mut values, &gradient, &mut m, &mut v);
        }
        assert_close(&values, &p64, 3e-7, "values");
        assert_close(&m, &m64, 1e-7, "first moment");
        assert_close(&v, &v64, 1e-7, "second moment");
    }

    #[test]
    fn every_level_and_number_of_threads_gives_the_same_bits() {
        let mut numbers = Numbers::new(2);
        let start: [Vec<f32>; 4] = std::array::from_fn(|_| numbers.normal(9001));
        let run = |isa: Isa, threads: usize| {
            let [mut values, gradient, mut first, mut second] = start.clone();
            second.iter_mut().for_each(|v| *v = v.abs());
            let settings = AdamW { step: 3, ..SETTINGS };
            adamw(&Pool::new(threads), isa, &settings, &mut values, &gradient, &mut first, &mut second);
            (values, first, second)
        };
        let want = run(Isa::Scalar, 1);
        for isa in Isa::available() {
            assert!(run(isa, 3) == want, "{}", isa.name());
        }
    }
}
