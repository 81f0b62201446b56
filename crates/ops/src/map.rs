//! Functions of one number, applied to each: non-linearities without a gate, soft capping.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use porism_kernels::activation::{self, Activation};
use porism_kernels::softcap as capping;

use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};
use crate::{OpContext, Result};

/// `act(x)`, element by element; x `[n, width]`.
pub fn act(context: &OpContext, activation: Activation, x: &Tensor) -> Result<Tensor> {
    let (x, ..) = rows_and_width("act", x)?;
    Ok(x.apply_op1(Act { context: context.clone(), activation })?)
}

/// `cap * tanh(x / cap)`, element by element; x `[n, width]`.
pub fn softcap(context: &OpContext, cap: f32, x: &Tensor) -> Result<Tensor> {
    let (x, ..) = rows_and_width("softcap", x)?;
    Ok(x.apply_op1(Softcap { context: context.clone(), cap })?)
}

struct Act {
    context: OpContext,
    activation: Activation,
}

impl CustomOp1 for Act {
    fn name(&self) -> &'static str {
        "act"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = slice(self.name(), s, l)?;
        let mut y = vec![0.0; x.len()];
        activation::act(&self.context.pool, self.context.isa, self.activation, x, &mut y);
        Ok(output(y, l.shape()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let (xs, dys) = (Numbers::of(x), Numbers::of(&dy));
        let (xs, dys) = (xs.slice(self.name())?, dys.slice(self.name())?);
        let mut dx = vec![0.0; xs.len()];
        activation::act_backward(&self.context.pool, self.context.isa, self.activation, xs, dys, &mut dx);
        Ok(Some(tensor(dx, x.shape())?))
    }
}

struct Softcap {
    context: OpContext,
    cap: f32,
}

impl CustomOp1 for Softcap {
    fn name(&self) -> &'static str {
        "softcap"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let mut y = slice(self.name(), s, l)?.to_vec();
        capping::softcap(&self.context.pool, self.context.isa, self.cap, &mut y);
        Ok(output(y, l.shape()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let (ys, dys) = (Numbers::of(y), Numbers::of(&dy));
        let (ys, dys) = (ys.slice(self.name())?, dys.slice(self.name())?);
        let mut dx = vec![0.0; ys.len()];
        capping::softcap_backward(&self.context.pool, self.context.isa, self.cap, ys, dys, &mut dx);
        Ok(Some(tensor(dx, x.shape())?))
    }
}
