//! A frozen gated feed-forward branch as one operation: what a model trains beside it needs its input's gradient only.
//!
//! As separate operations the branch puts its norm, gate, up and their product on the tape, and candle sums the
//! gradient of each on one thread. Here gate and up are kept; the norm and the product are computed again on the way back.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use porism_formats::Weight;
use porism_kernels::activation::{self, Activation};
use porism_kernels::linear::backward::backward_input;
use porism_kernels::linear::{Product, forward_f32, forward_f32_many};
use porism_kernels::{add, norm};

use crate::error::input;
use crate::linear::matrix;
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};
use crate::{OpContext, Result};

/// The weights of a gated feed-forward network, all frozen: gate and up `[hidden, width]`, down `[width, hidden]`.
#[derive(Clone, Debug)]
pub struct FrozenGated {
    /// An RMSNorm before it: its weight of one row, and epsilon.
    pub norm: Option<(Weight, f32)>,
    /// `[hidden, width]`.
    pub gate: Weight,
    /// `[hidden, width]`.
    pub up: Weight,
    /// `[width, hidden]`.
    pub down: Weight,
    /// On the gate.
    pub activation: Activation,
}

/// `down(act(gate(n)) * up(n))` with `n = rms_norm(x)`, or `n = x`: x and the result are `[n, width]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn frozen_gated(context: &OpContext, x: &Tensor, weights: FrozenGated) -> Result<Tensor> {
    const OP: &str = "frozen-gated";
    let (x, _, width) = rows_and_width(OP, x)?;
    let hidden = weights.gate.rows();
    let shapes = [&weights.gate, &weights.up, &weights.down].map(|w| (w.rows(), w.cols()));
    let norm = weights.norm.as_ref().map(|(weight, _)| (weight.rows(), weight.cols()));
    if shapes != [(hidden, width), (hidden, width), (width, hidden)]
        || norm.is_some_and(|n| n != (1, width))
        || width == 0
    {
        return input(OP, format!("x has {width} columns, gate, up and down are {shapes:?}, the norm {norm:?}"));
    }
    let norm = weights.norm.as_ref().map(|(weight, eps)| (weight.to_f32(), *eps));
    // Without a gradient nothing is asked for later.
    let keep = x.track_op();
    Ok(x.apply_op1(Gated { context: context.clone(), weights, norm, keep, kept: Mutex::default() })?)
}

struct Gated {
    context: OpContext,
    weights: FrozenGated,
    norm: Option<(Vec<f32>, f32)>,
    keep: bool,
    /// Gate and up.
    kept: Mutex<Option<[Vec<f32>; 2]>>,
}

impl Gated {
    /// The input of gate and up, where it is not x itself.
    fn normed(&self, x: &[f32]) -> Option<Vec<f32>> {
        let OpContext { pool, isa } = &self.context;
        self.norm.as_ref().map(|(weight, eps)| {
            let mut normed = vec![0.0; x.len()];
            norm::rms_norm(pool, *isa, x, weight, *eps, &mut normed);
            normed
        })
    }
}

impl CustomOp1 for Gated {
    fn name(&self) -> &'static str {
        "frozen-gated"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let OpContext { pool, isa } = &self.context;
        let FrozenGated { gate, up, down, activation, .. } = &self.weights;
        let x = slice(self.name(), s, l)?;
        let inner = l.dims()[0] * gate.rows();
        let (mut gates, mut ups) = (vec![0.0; inner], vec![0.0; inner]);
        let normed = self.normed(x);
        let mut products =
            [Product { weight: matrix(gate), out: &mut gates }, Product { weight: matrix(up), out: &mut ups }];
        forward_f32_many(pool, *isa, normed.as_deref().unwrap_or(x), &mut products);
        drop(normed);
        let mut hidden = vec![0.0; inner];
        activation::act_mul(pool, *isa, *activation, &gates, &ups, &mut hidden);
        if self.keep {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some([gates, ups]);
        }
        let mut y = vec![0.0; x.len()];
        forward_f32(pool, *isa, matrix(down), &hidden, &mut y);
        Ok(output(y, l.shape()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let OpContext { pool, isa } = &self.context;
        let FrozenGated { gate, up, down, activation, .. } = &self.weights;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some([gates, ups]) = &*kept else {
            candle_core::bail!("{}: nothing was kept of the forward pass", self.name());
        };
        let (xs, dy) = (Numbers::of(x), dy.contiguous()?);
        let (xs, dys) = (xs.slice(self.name())?, Numbers::of(&dy));
        let mut hidden = vec![0.0; gates.len()];
        backward_input(pool, *isa, matrix(down), dys.slice(self.name())?, &mut hidden);
        let (mut dgate, mut dup) = (vec![0.0; gates.len()], vec![0.0; gates.len()]);
        activation::act_mul_backward(pool, *isa, *activation, gates, ups, &hidden, &mut dgate, &mut dup);
        drop(hidden);
        let (mut dx, mut other) = (vec![0.0; xs.len()], vec![0.0; xs.len()]);
        backward_input(pool, *isa, matrix(gate), &dgate, &mut dx);
        backward_input(pool, *isa, matrix(up), &dup, &mut other);
        add::add_to(pool, *isa, &mut dx, &other);
        if let Some((weight, eps)) = &self.norm {
            norm::rms_norm_backward(pool, *isa, xs, weight, *eps, &dx, Some(&mut other), None);
            dx = other;
        }
        Ok(Some(tensor(dx, x.shape())?))
    }
}
