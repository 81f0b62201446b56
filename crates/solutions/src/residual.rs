//! Gradients through a stack of layers with and without the identity path (He et al. 2016; book, Part I, 6.4).

use candle_core::Tensor;
use porism_ops::{OpContext, add_scaled, inner_product, linear};

use crate::Result;
use crate::random::Random;
use crate::tape::{constant, context, gradient, numbers, variable};
use crate::vector::norm;

/// What a layer adds to its input x, or puts in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Branch {
    /// `tanh(W x)`, the entries of W drawn with a variance of gain^2 / width.
    Network {
        /// How much longer W makes a vector on average.
        gain: f64,
    },
    /// `factor * x`.
    Scale(f64),
}

/// The stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stack {
    /// Layers.
    pub layers: usize,
    /// Features.
    pub width: usize,
    /// What a layer computes.
    pub branch: Branch,
    /// Whether a layer adds its input to that.
    pub identity: bool,
}

struct Layers {
    stack: Stack,
    context: OpContext,
    weights: Vec<Tensor>,
}

impl Layers {
    fn new(stack: Stack, random: &mut Random) -> Result<Layers> {
        let mut weights = Vec::new();
        if let Branch::Network { gain } = stack.branch {
            let factor = gain / (stack.width as f64).sqrt();
            for _ in 0..stack.layers {
                let numbers: Vec<f64> = (0..stack.width * stack.width).map(|_| factor * random.normal()).collect();
                weights.push(constant(stack.width, &numbers)?);
            }
        }
        Ok(Layers { stack, context: context(), weights })
    }

    fn forward(&self, layer: usize, x: &Tensor) -> Result<Tensor> {
        let branch = match self.stack.branch {
            Branch::Network { .. } => linear(&self.context, x, &self.weights[layer])?.tanh()?,
            Branch::Scale(factor) => x.affine(factor, 0.0)?,
        };
        Ok(if self.stack.identity { add_scaled(&self.context, x, 1.0, &branch)? } else { branch })
    }
}

/// The length of the gradient, by the tape, as it is carried back: 1 at the output, then at the input of the last
/// layer, and so on to the first. The tape has one layer at a time, and the gradient is made length 1 again before each, so
/// that what is tiny does not become zero.
///
/// # Errors
/// An operation failed.
pub fn gradient_lengths(stack: Stack, seed: u64) -> Result<Vec<f64>> {
    let mut random = Random::new(seed);
    let layers = Layers::new(stack, &mut random)?;
    let mut draw = || -> Vec<f64> { (0..stack.width).map(|_| random.normal()).collect() };
    let mut inputs = vec![draw()];
    for layer in 0..stack.layers {
        let x = constant(1, &inputs[layer])?;
        inputs.push(numbers(&layers.forward(layer, &x)?)?);
    }
    let mut back = crate::vector::unit(&draw());
    let mut lengths = vec![1.0];
    let mut length = 1.0;
    for layer in (0..stack.layers).rev() {
        let x = variable(1, &inputs[layer])?;
        let loss = inner_product(&layers.forward(layer, &x)?, &constant(1, &back)?)?;
        let next = gradient(&loss.backward()?, &x)?;
        length *= norm(&next);
        lengths.push(length);
        back = crate::vector::unit(&next);
    }
    Ok(lengths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_layers_scale_the_gradient() {
        let stack = Stack { layers: 10, width: 8, branch: Branch::Scale(-0.5), identity: true };
        let lengths = gradient_lengths(stack, 3).expect("lengths");
        for (layer, length) in lengths.iter().enumerate() {
            assert!((length / 0.5f64.powi(layer as i32) - 1.0).abs() < 1e-5, "{layer}: {length}");
        }
        let without = gradient_lengths(Stack { identity: false, ..stack }, 3).expect("lengths");
        assert!((without[10] / 0.5f64.powi(10) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn the_gradient_is_the_change_of_the_output() {
        let stack = Stack { layers: 4, width: 6, branch: Branch::Network { gain: 0.7 }, identity: true };
        // The same draws, in f64.
        let mut random = Random::new(5);
        let layers = Layers::new(stack, &mut random).expect("layers");
        let weights: Vec<Vec<f64>> = layers.weights.iter().map(|w| numbers(w).expect("numbers")).collect();
        let mut draw = || -> Vec<f64> { (0..6).map(|_| random.normal()).collect() };
        let (x, direction) = (draw(), draw());
        let direction = crate::vector::unit(&direction);
        let output = |x: &[f64]| {
            let mut x = x.to_vec();
            for w in &weights {
                let branch: Vec<f64> = w.chunks(6).map(|row| crate::vector::dot(row, &x).tanh()).collect();
                x.iter_mut().zip(branch).for_each(|(x, b)| *x += b);
            }
            crate::vector::dot(&x, &direction)
        };
        let slopes: Vec<f64> = (0..6)
            .map(|i| {
                let moved = |d: f64| {
                    let mut x = x.clone();
                    x[i] += d;
                    output(&x)
                };
                (moved(1e-5) - moved(-1e-5)) / 2e-5
            })
            .collect();
        let lengths = gradient_lengths(stack, 5).expect("lengths");
        assert!((lengths[4] - norm(&slopes)).abs() < 1e-4 * norm(&slopes), "{} {}", lengths[4], norm(&slopes));
    }
}
