//! Losses: on logits `[n, vocab]`, with log-softmax fused in, and the inner product with a given gradient.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use porism_kernels::loss;

use crate::error::{check_indexes, input};
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};
use crate::{OpContext, Result};

/// Checks logits and one target a row; gives the logits contiguous.
fn logits_and_targets(op: &'static str, logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let (logits, rows, vocab) = rows_and_width(op, logits)?;
    if rows != targets.len() || vocab == 0 {
        return input(op, format!("{} targets for {rows} rows of {vocab} logits", targets.len()));
    }
    check_indexes(op, "a vocabulary", targets, vocab)?;
    Ok(logits)
}

/// The natural log-probability of one token a row: `[n, 1]`.
pub fn log_prob_of(context: &OpContext, logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let logits = logits_and_targets("log-prob-of", logits, targets)?;
    Ok(logits.apply_op1(LogProbOf { context: context.clone(), targets: targets.into() })?)
}

struct LogProbOf {
    context: OpContext,
    targets: Arc<[u32]>,
}

impl CustomOp1 for LogProbOf {
    fn name(&self) -> &'static str {
        "log-prob-of"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (logits, vocab) = (slice(self.name(), s, l)?, l.dims()[1]);
        let mut y = vec![0.0; self.targets.len()];
        loss::log_prob_of(&self.context.pool, self.context.isa, vocab, logits, &self.targets, &mut y);
        Ok(output(y, (self.targets.len(), 1)))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let (zs, dy) = (Numbers::of(logits), Numbers::of(&dy));
        let (zs, dy, vocab) = (zs.slice(self.name())?, dy.slice(self.name())?, logits.dims()[1]);
        let mut dz = vec![0.0; zs.len()];
        let OpContext { pool, isa } = &self.context;
        loss::log_prob_of_backward(pool, *isa, vocab, zs, &self.targets, dy, &mut dz);
        Ok(Some(tensor(dz, logits.shape())?))
    }
}

/// `sum_i w_i * -log p(target_i) / sum_i w_i`: `[1, 1]`. Rows of weight zero are not looked at; the weights
/// must not sum to zero.
pub fn cross_entropy(context: &OpContext, logits: &Tensor, targets: &[u32], weights: &[f32]) -> Result<Tensor> {
    const OP: &str = "cross-entropy";
    let logits = logits_and_targets(OP, logits, targets)?;
    if weights.len() != targets.len() {
        return input(OP, format!("{} weights for {} targets", weights.len(), targets.len()));
    }
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    if !total.is_finite() || total == 0.0 {
        return input(OP, format!("the weights of {} rows sum to {total}: there is nothing to learn", weights.len()));
    }
    let op = CrossEntropy { context: context.clone(), targets: targets.into(), weights: weights.into() };
    Ok(logits.apply_op1(op)?)
}

struct CrossEntropy {
    context: OpContext,
    targets: Arc<[u32]>,
    weights: Arc<[f32]>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (logits, vocab) = (slice(self.name(), s, l)?, l.dims()[1]);
        let OpContext { pool, isa } = &self.context;
        let value = loss::cross_entropy(pool, *isa, vocab, logits, &self.targets, &self.weights);
        Ok(output(vec![value], (1, 1)))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let (zs, dy) = (Numbers::of(logits), scalar(dy)?);
        let (zs, vocab) = (zs.slice(self.name())?, logits.dims()[1]);
        let mut dz = vec![0.0; zs.len()];
        let OpContext { pool, isa } = &self.context;
        loss::cross_entropy_backward(pool, *isa, vocab, zs, &self.targets, &self.weights, dy, &mut dz);
        Ok(Some(tensor(dz, logits.shape())?))
    }
}

/// The mean over rows of `KL(teacher || model)`: `[1, 1]`. The teacher's natural log-probabilities are
/// `[n, vocab]`, row-major; negative infinity is a token that the teacher rules out.
pub fn kl(context: &OpContext, logits: &Tensor, teacher_log_probs: &[f32]) -> Result<Tensor> {
    const OP: &str = "kl";
    let (logits, rows, vocab) = rows_and_width(OP, logits)?;
    if rows * vocab != teacher_log_probs.len() || rows * vocab == 0 {
        let n = teacher_log_probs.len();
        return input(OP, format!("{n} log-probabilities of the teacher for logits [{rows}, {vocab}]"));
    }
    Ok(logits.apply_op1(Kl { context: context.clone(), teacher: teacher_log_probs.into() })?)
}

struct Kl {
    context: OpContext,
    teacher: Arc<[f32]>,
}

impl CustomOp1 for Kl {
    fn name(&self) -> &'static str {
        "kl"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (logits, vocab) = (slice(self.name(), s, l)?, l.dims()[1]);
        let value = loss::kl(&self.context.pool, self.context.isa, vocab, logits, &self.teacher);
        Ok(output(vec![value], (1, 1)))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let (zs, dy) = (Numbers::of(logits), scalar(dy)?);
        let (zs, vocab) = (zs.slice(self.name())?, logits.dims()[1]);
        let mut dz = vec![0.0; zs.len()];
        loss::kl_backward(&self.context.pool, self.context.isa, vocab, zs, &self.teacher, dy, &mut dz);
        Ok(Some(tensor(dz, logits.shape())?))
    }
}

/// `sum(x * g)` with a constant g of x's shape: `[1, 1]`. Its gradient is g: this is how a gradient that
/// comes from elsewhere enters a piece of tape.
pub fn inner_product(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    const OP: &str = "inner-product";
    let (x, ..) = rows_and_width(OP, x)?;
    let (g, ..) = rows_and_width(OP, g)?;
    if x.dims() != g.dims() {
        return input(OP, format!("x is {:?}, the gradient {:?}", x.dims(), g.dims()));
    }
    Ok(x.apply_op1(InnerProduct { g: g.detach() })?)
}

struct InnerProduct {
    g: Tensor,
}

impl CustomOp1 for InnerProduct {
    fn name(&self) -> &'static str {
        "inner-product"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let g = Numbers::of(&self.g);
        let terms = slice(self.name(), s, l)?.iter().zip(g.slice(self.name())?);
        let sum: f64 = terms.map(|(&x, &g)| f64::from(x) * f64::from(g)).sum();
        Ok(output(vec![sum as f32], (1, 1)))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = scalar(dy)?;
        if dy == 1.0 { Ok(Some(self.g.clone())) } else { Ok(Some(self.g.affine(f64::from(dy), 0.0)?)) }
    }
}

/// The one number of a loss's gradient.
fn scalar(dy: &Tensor) -> candle_core::Result<f32> {
    dy.flatten_all()?.get(0)?.to_scalar::<f32>()
}
