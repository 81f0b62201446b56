//! LayerNorm. Weight and bias are tensors; one that is not trained gets no gradient.

use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};
use porism_kernels::layer_norm::{self as kernel, LayerNormGradients};

use crate::error::input;
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};
use crate::{OpContext, Result};

/// `(x - mean) / sqrt(variance + eps) * w + b` of each row: x `[n, width]`, w and b `[1, width]`.
pub fn layer_norm(context: &OpContext, x: &Tensor, w: &Tensor, b: &Tensor, eps: f32) -> Result<Tensor> {
    const OP: &str = "layer-norm";
    let (x, _, width) = rows_and_width(OP, x)?;
    let (w, ..) = rows_and_width(OP, w)?;
    let (b, ..) = rows_and_width(OP, b)?;
    if w.dims() != [1, width] || b.dims() != [1, width] || width == 0 {
        let (w, b) = (w.dims(), b.dims());
        return input(OP, format!("x has {width} columns, weight and bias are {w:?} and {b:?}, not [1, {width}]"));
    }
    Ok(x.apply_op3(&w, &b, LayerNorm { context: context.clone(), eps })?)
}

struct LayerNorm {
    context: OpContext,
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = slice(self.name(), s1, l1)?;
        let (w, b) = (slice(self.name(), s2, l2)?, slice(self.name(), s3, l3)?);
        let mut y = vec![0.0; x.len()];
        kernel::layer_norm(&self.context.pool, self.context.isa, x, w, b, self.eps, &mut y);
        Ok(output(y, l1.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let [xs, ws, dys] = [x, w, &dy].map(Numbers::of);
        let mut gradients = [x, w, b].map(|t| t.track_op().then(|| vec![0.0; t.elem_count()]));
        let [dx, dw, db] = &mut gradients;
        kernel::layer_norm_backward(
            &self.context.pool,
            self.context.isa,
            xs.slice(self.name())?,
            ws.slice(self.name())?,
            self.eps,
            dys.slice(self.name())?,
            LayerNormGradients { dx: dx.as_deref_mut(), dweight: dw.as_deref_mut(), dbias: db.as_deref_mut() },
        );
        let [dx, dw, db] = gradients;
        let wrap = |d: Option<Vec<f32>>, t: &Tensor| d.map(|d| tensor(d, t.shape())).transpose();
        Ok((wrap(dx, x)?, wrap(dw, w)?, wrap(db, b)?))
    }
}
