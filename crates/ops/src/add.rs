//! Sums: a residual, an adapter's contribution.

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
use porism_kernels::add;

use crate::error::input;
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};
use crate::{OpContext, Result};

/// `x + factor * y`; both `[n, width]`.
pub fn add_scaled(context: &OpContext, x: &Tensor, factor: f32, y: &Tensor) -> Result<Tensor> {
    const OP: &str = "add-scaled";
    let (x, ..) = rows_and_width(OP, x)?;
    let (y, ..) = rows_and_width(OP, y)?;
    if x.dims() != y.dims() {
        return input(OP, format!("{:?} and {:?} cannot be added", x.dims(), y.dims()));
    }
    Ok(x.apply_op2(&y, AddScaled { context: context.clone(), factor })?)
}

struct AddScaled {
    context: OpContext,
    factor: f32,
}

impl CustomOp2 for AddScaled {
    fn name(&self) -> &'static str {
        "add-scaled"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, y) = (slice(self.name(), s1, l1)?, slice(self.name(), s2, l2)?);
        let mut out = vec![0.0; x.len()];
        add::add_scaled(&self.context.pool, self.context.isa, x, self.factor, y, &mut out);
        Ok(output(out, l1.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        _: &Tensor,
        dout: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = x.track_op().then(|| dout.clone());
        let dy = y.track_op().then(|| {
            if self.factor == 1.0 {
                return Ok(dout.clone());
            }
            let dout = dout.contiguous()?;
            let dout = Numbers::of(&dout);
            tensor(dout.slice(self.name())?.iter().map(|d| self.factor * d).collect(), y.shape())
        });
        Ok((dx, dy.transpose()?))
    }
}
