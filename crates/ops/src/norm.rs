//! RMSNorm with a trainable or a frozen weight.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use porism_formats::Weight;
use porism_kernels::norm;

use crate::error::input;
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};
use crate::{OpContext, Result};

/// `x / sqrt(mean(x^2) + eps) * w` of each row, with a trainable weight: x `[n, width]`, w `[1, width]`.
pub fn rms_norm(context: &OpContext, x: &Tensor, w: &Tensor, eps: f32) -> Result<Tensor> {
    const OP: &str = "rms-norm";
    let (x, _, width) = rows_and_width(OP, x)?;
    let (w, rows, cols) = rows_and_width(OP, w)?;
    if rows != 1 || cols != width || width == 0 {
        return input(OP, format!("x has {width} columns, the weight is [{rows}, {cols}], not [1, {width}]"));
    }
    Ok(x.apply_op2(&w, RmsNorm { context: context.clone(), eps })?)
}

/// [`rms_norm`] with a frozen weight of one row.
pub fn rms_norm_frozen(context: &OpContext, x: &Tensor, weight: &Weight, eps: f32) -> Result<Tensor> {
    const OP: &str = "frozen-rms-norm";
    let (x, _, width) = rows_and_width(OP, x)?;
    if weight.rows() != 1 || weight.cols() != width || width == 0 {
        let (rows, cols) = (weight.rows(), weight.cols());
        return input(OP, format!("x has {width} columns, the weight is [{rows}, {cols}], not [1, {width}]"));
    }
    Ok(x.apply_op1(FrozenRmsNorm { context: context.clone(), weight: weight.to_f32().into(), eps })?)
}

struct RmsNorm {
    context: OpContext,
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, w) = (slice(self.name(), s1, l1)?, slice(self.name(), s2, l2)?);
        let mut y = vec![0.0; x.len()];
        norm::rms_norm(&self.context.pool, self.context.isa, x, w, self.eps, &mut y);
        Ok(output(y, l1.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (xs, ws, dys) = (Numbers::of(x), Numbers::of(w), Numbers::of(&dy));
        let (xs, ws, dys) = (xs.slice(self.name())?, ws.slice(self.name())?, dys.slice(self.name())?);
        let mut dx = x.track_op().then(|| vec![0.0; xs.len()]);
        let mut dw = w.track_op().then(|| vec![0.0; ws.len()]);
        let OpContext { pool, isa } = &self.context;
        norm::rms_norm_backward(pool, *isa, xs, ws, self.eps, dys, dx.as_deref_mut(), dw.as_deref_mut());
        Ok((dx.map(|dx| tensor(dx, x.shape())).transpose()?, dw.map(|dw| tensor(dw, w.shape())).transpose()?))
    }
}

struct FrozenRmsNorm {
    context: OpContext,
    weight: Arc<[f32]>,
    eps: f32,
}

impl CustomOp1 for FrozenRmsNorm {
    fn name(&self) -> &'static str {
        "frozen-rms-norm"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = slice(self.name(), s, l)?;
        let mut y = vec![0.0; x.len()];
        norm::rms_norm(&self.context.pool, self.context.isa, x, &self.weight, self.eps, &mut y);
        Ok(output(y, l.shape()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let (xs, dys) = (Numbers::of(x), Numbers::of(&dy));
        let (xs, dys) = (xs.slice(self.name())?, dys.slice(self.name())?);
        let mut dx = vec![0.0; xs.len()];
        let OpContext { pool, isa } = &self.context;
        norm::rms_norm_backward(pool, *isa, xs, &self.weight, self.eps, dys, Some(&mut dx), None);
        Ok(Some(tensor(dx, x.shape())?))
    }
}
