//! The tape: our operations on candle's tensors, and numbers in and out.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use porism_ops::{OpContext, cross_entropy, linear};

use crate::Result;

/// What the operations run on. The exercises are small: one thread.
pub(crate) fn context() -> OpContext {
    OpContext::new(1)
}

/// A constant `[rows, numbers / rows]`.
pub(crate) fn constant(rows: usize, numbers: &[f64]) -> Result<Tensor> {
    let numbers: Vec<f32> = numbers.iter().map(|&x| x as f32).collect();
    let width = numbers.len() / rows.max(1);
    Ok(Tensor::from_vec(numbers, (rows, width), &Device::Cpu)?)
}

/// A variable of that shape.
pub(crate) fn variable(rows: usize, numbers: &[f64]) -> Result<Var> {
    Ok(Var::from_tensor(&constant(rows, numbers)?)?)
}

/// The numbers of a tensor, row-major.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
}

/// The gradient of a variable; zero where nothing hangs on it.
pub(crate) fn gradient(gradients: &GradStore, of: &Tensor) -> Result<Vec<f64>> {
    match gradients.get(of) {
        Some(gradient) => numbers(gradient),
        None => Ok(vec![0.0; of.elem_count()]),
    }
}

/// The loss `-log p` of a yes-or-no answer, p being the sigmoid of the logit `z` `[1, 1]`: the cross-entropy of the two
/// logits `[0, z]`.
pub(crate) fn binary_cross_entropy(context: &OpContext, z: &Tensor, yes: bool) -> Result<Tensor> {
    let both = linear(context, z, &constant(2, &[0.0, 1.0])?)?;
    Ok(cross_entropy(context, &both, &[u32::from(yes)], &[1.0])?)
}

/// The largest difference of two lists.
pub(crate) fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}
