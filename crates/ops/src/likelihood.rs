//! A frozen head and the likelihood of tokens as one operation: of the logits there is one array, which their gradient takes
//! over.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use porism_formats::Weight;
use porism_kernels::linear::backward::backward_input;
use porism_kernels::linear::forward_f32;
use porism_kernels::loss;

use crate::error::{check_indexes, input};
use crate::linear::matrix;
use crate::tensor::{output, rows_and_width, slice, tensor};
use crate::{OpContext, Result};

/// `sum_r share_r log p(target_r)` under the softmax of `x W^T`: x `[n, cols]`, the frozen weight `[vocab, cols]`, the result
/// `[1, 1]`.
///
/// # Errors
/// Shapes that do not fit, or a target that is no row of the weight.
pub fn frozen_likelihood(
    context: &OpContext,
    x: &Tensor,
    weight: &Weight,
    targets: &[u32],
    shares: &[f32],
) -> Result<Tensor> {
    const OP: &str = "frozen-likelihood";
    let (x, rows, width) = rows_and_width(OP, x)?;
    if width != weight.cols() || weight.rows() == 0 {
        return input(OP, format!("x has {width} columns, the weight is [{}, {}]", weight.rows(), weight.cols()));
    }
    if targets.len() != rows || shares.len() != rows {
        return input(OP, format!("{} targets and {} shares for {rows} rows", targets.len(), shares.len()));
    }
    check_indexes(OP, "a vocabulary", targets, weight.rows())?;
    let op = Likelihood {
        context: context.clone(),
        weight: weight.clone(),
        targets: targets.to_vec(),
        shares: shares.to_vec(),
        keep: x.track_op(),
        dx: Mutex::default(),
    };
    Ok(x.apply_op1(op)?)
}

struct Likelihood {
    context: OpContext,
    weight: Weight,
    targets: Vec<u32>,
    shares: Vec<f32>,
    keep: bool,
    /// The gradient of x, which is computed while the logits are there.
    dx: Mutex<Vec<f32>>,
}

impl CustomOp1 for Likelihood {
    fn name(&self) -> &'static str {
        "frozen-likelihood"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let OpContext { pool, isa } = &self.context;
        let (x, vocab) = (slice(self.name(), s, l)?, self.weight.rows());
        let mut logits = vec![0.0; self.targets.len() * vocab];
        forward_f32(pool, *isa, matrix(&self.weight), x, &mut logits);
        let mut log_probs = vec![0.0; self.targets.len()];
        if self.keep {
            loss::log_prob_of_with_gradient(
                pool,
                *isa,
                vocab,
                &mut logits,
                &self.targets,
                &self.shares,
                &mut log_probs,
            );
            let mut dx = vec![0.0; x.len()];
            backward_input(pool, *isa, matrix(&self.weight), &logits, &mut dx);
            *self.dx.lock().unwrap_or_else(PoisonError::into_inner) = dx;
        } else {
            loss::log_prob_of(pool, *isa, vocab, &logits, &self.targets, &mut log_probs);
        }
        let sum: f64 = log_probs.iter().zip(&self.shares).map(|(&l, &s)| f64::from(l) * f64::from(s)).sum();
        Ok(output(vec![sum as f32], (1, 1)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.flatten_all()?.get(0)?.to_scalar::<f32>()?;
        let dx = self.dx.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(tensor(dx.iter().map(|d| dy * d).collect(), x.shape())?))
    }
}
