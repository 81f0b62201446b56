//! The gated non-linearity `act(gate) * up`.

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
use porism_kernels::activation::{self, Activation};

use crate::error::input;
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};
use crate::{OpContext, Result};

/// `act(gate) * up`, element by element; both `[n, width]`.
pub fn act_mul(context: &OpContext, activation: Activation, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    const OP: &str = "act-mul";
    let (gate, ..) = rows_and_width(OP, gate)?;
    let (up, ..) = rows_and_width(OP, up)?;
    if gate.dims() != up.dims() {
        return input(OP, format!("gate is {:?}, up {:?}", gate.dims(), up.dims()));
    }
    Ok(gate.apply_op2(&up, ActMul { context: context.clone(), activation })?)
}

struct ActMul {
    context: OpContext,
    activation: Activation,
}

impl CustomOp2 for ActMul {
    fn name(&self) -> &'static str {
        "act-mul"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (gate, up) = (slice(self.name(), s1, l1)?, slice(self.name(), s2, l2)?);
        let mut y = vec![0.0; gate.len()];
        activation::act_mul(&self.context.pool, self.context.isa, self.activation, gate, up, &mut y);
        Ok(output(y, l1.shape()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (gates, ups, dys) = (Numbers::of(gate), Numbers::of(up), Numbers::of(&dy));
        let (mut dgate, mut dup) = (vec![0.0; gate.elem_count()], vec![0.0; up.elem_count()]);
        activation::act_mul_backward(
            &self.context.pool,
            self.context.isa,
            self.activation,
            gates.slice(self.name())?,
            ups.slice(self.name())?,
            dys.slice(self.name())?,
            &mut dgate,
            &mut dup,
        );
        // Both come out of one pass over the same numbers; what is not wanted costs nothing more.
        let wanted = |t: &Tensor, d: Vec<f32>| t.track_op().then(|| tensor(d, t.shape())).transpose();
        Ok((wanted(gate, dgate)?, wanted(up, dup)?))
    }
}
