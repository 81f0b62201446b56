//! A head and the likelihood of tokens as one operation: of the logits there is one array, which their gradient takes over.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use porism_formats::Weight;
use porism_kernels::linear::backward::{backward_input, backward_weight};
use porism_kernels::linear::{MatrixRef, forward_f32};
use porism_kernels::loss;

use crate::error::{check_indexes, input};
use crate::linear::{dense, matrix};
use crate::sum::GradientSum;
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};
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
    let tokens = Tokens::new(OP, context, [rows, width], [weight.rows(), weight.cols()], targets, shares)?;
    Ok(x.apply_op1(Frozen { tokens, weight: weight.clone(), keep: x.track_op(), dx: Mutex::default() })?)
}

/// [`frozen_likelihood`] with a trainable weight, the tensor w `[vocab, cols]`. The backward pass adds its gradient to a sum and gives
/// none to the tape.
///
/// # Errors
/// As for [`frozen_likelihood`].
pub fn likelihood_into(
    context: &OpContext,
    x: &Tensor,
    w: &Tensor,
    sum: &GradientSum,
    targets: &[u32],
    shares: &[f32],
) -> Result<Tensor> {
    const OP: &str = "likelihood";
    let (x, rows, width) = rows_and_width(OP, x)?;
    let (w, vocab, cols) = rows_and_width(OP, w)?;
    let tokens = Tokens::new(OP, context, [rows, width], [vocab, cols], targets, shares)?;
    let keep = x.track_op() || w.track_op();
    Ok(x.apply_op2(&w, Trained { tokens, sum: sum.clone(), keep, dlogits: Mutex::default() })?)
}

/// Which tokens' likelihood.
struct Tokens {
    context: OpContext,
    vocab: usize,
    targets: Vec<u32>,
    shares: Vec<f32>,
}

impl Tokens {
    fn new(
        op: &'static str,
        context: &OpContext,
        [rows, width]: [usize; 2],
        [vocab, cols]: [usize; 2],
        targets: &[u32],
        shares: &[f32],
    ) -> Result<Tokens> {
        if width != cols || vocab == 0 {
            return input(op, format!("x has {width} columns, the weight is [{vocab}, {cols}]"));
        }
        if targets.len() != rows || shares.len() != rows {
            return input(op, format!("{} targets and {} shares for {rows} rows", targets.len(), shares.len()));
        }
        check_indexes(op, "a vocabulary", targets, vocab)?;
        Ok(Tokens { context: context.clone(), vocab, targets: targets.to_vec(), shares: shares.to_vec() })
    }

    /// The sum of log-likelihoods, and the gradient of the logits if it is to be kept.
    fn forward(&self, weight: MatrixRef<'_>, x: &[f32], keep: bool) -> (f32, Option<Vec<f32>>) {
        let OpContext { pool, isa } = &self.context;
        let Tokens { vocab, targets, shares, .. } = self;
        let mut logits = vec![0.0; targets.len() * vocab];
        forward_f32(pool, *isa, weight, x, &mut logits);
        let mut log_probs = vec![0.0; targets.len()];
        if keep {
            loss::log_prob_of_with_gradient(pool, *isa, *vocab, &mut logits, targets, shares, &mut log_probs);
        } else {
            loss::log_prob_of(pool, *isa, *vocab, &logits, targets, &mut log_probs);
        }
        let sum: f64 = log_probs.iter().zip(shares).map(|(&l, &s)| f64::from(l) * f64::from(s)).sum();
        (sum as f32, keep.then_some(logits))
    }
}

struct Frozen {
    tokens: Tokens,
    weight: Weight,
    keep: bool,
    /// The gradient of x, which is computed while the logits are there.
    dx: Mutex<Vec<f32>>,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen-likelihood"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, weight) = (slice(self.name(), s, l)?, matrix(&self.weight));
        let (sum, dlogits) = self.tokens.forward(weight, x, self.keep);
        if let Some(dlogits) = dlogits {
            let mut dx = vec![0.0; x.len()];
            backward_input(&self.tokens.context.pool, self.tokens.context.isa, weight, &dlogits, &mut dx);
            *self.dx.lock().unwrap_or_else(PoisonError::into_inner) = dx;
        }
        Ok(output(vec![sum], (1, 1)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.flatten_all()?.get(0)?.to_scalar::<f32>()?;
        let dx = self.dx.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(tensor(dx.iter().map(|d| dy * d).collect(), x.shape())?))
    }
}

struct Trained {
    tokens: Tokens,
    sum: GradientSum,
    keep: bool,
    /// The gradient of the logits, before that of the result.
    dlogits: Mutex<Vec<f32>>,
}

impl CustomOp2 for Trained {
    fn name(&self) -> &'static str {
        "likelihood"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, w) = (slice(self.name(), s1, l1)?, slice(self.name(), s2, l2)?);
        let (sum, dlogits) = self.tokens.forward(dense(w, l2.dims()[0], l2.dims()[1]), x, self.keep);
        *self.dlogits.lock().unwrap_or_else(PoisonError::into_inner) = dlogits.unwrap_or_default();
        Ok(output(vec![sum], (1, 1)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let OpContext { pool, isa } = &self.tokens.context;
        let (rows, cols) = w.dims2()?;
        let dy = dy.flatten_all()?.get(0)?.to_scalar::<f32>()?;
        let dlogits = self.dlogits.lock().unwrap_or_else(PoisonError::into_inner);
        // The factor goes to the narrow sides.
        let dx = if x.track_op() {
            let w = Numbers::of(w);
            let mut dx = vec![0.0; x.elem_count()];
            backward_input(pool, *isa, dense(w.slice(self.name())?, rows, cols), &dlogits, &mut dx);
            dx.iter_mut().for_each(|d| *d *= dy);
            Some(tensor(dx, x.shape())?)
        } else {
            None
        };
        if w.track_op() {
            let x = Numbers::of(x);
            let x: Vec<f32> = x.slice(self.name())?.iter().map(|x| dy * x).collect();
            GradientSum::of(Some(&self.sum), w, |dw| backward_weight(pool, *isa, rows, cols, &dlogits, &x, dw))?;
        }
        Ok((dx, None))
    }
}
