//! Projections: `y = x W^T` with a frozen weight of any block type, or with a trainable dense one.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use porism_formats::Weight;
use porism_kernels::linear::backward::{backward_input, backward_weight};
use porism_kernels::linear::{MatrixRef, forward_f32};

use crate::error::input;
use crate::sum::GradientSum;
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};
use crate::{OpContext, Result};

/// `x W^T` with a frozen weight: x `[n, cols]`, the weight `[rows, cols]`, the result `[n, rows]`.
///
/// The weight stays packed; the backward pass is `dy W`, decoded piece by piece, and computes nothing
/// for the weight. This is what makes LoRA on a quantized base (QLoRA) cheap.
pub fn frozen_linear(context: &OpContext, x: &Tensor, weight: &Weight) -> Result<Tensor> {
    const OP: &str = "frozen-linear";
    let (x, _, width) = rows_and_width(OP, x)?;
    if width != weight.cols() {
        return input(OP, format!("x has {width} columns, the weight {}", weight.cols()));
    }
    Ok(x.apply_op1(FrozenLinear { context: context.clone(), weight: weight.clone() })?)
}

struct FrozenLinear {
    context: OpContext,
    weight: Weight,
}

/// A frozen weight as the kernels see it.
pub(crate) fn matrix(w: &Weight) -> MatrixRef<'_> {
    MatrixRef { bytes: w.bytes(), block: w.block(), rows: w.rows(), cols: w.cols() }
}

impl CustomOp1 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = slice(self.name(), s, l)?;
        let n = l.dims()[0];
        let mut y = vec![0.0; n * self.weight.rows()];
        forward_f32(&self.context.pool, self.context.isa, matrix(&self.weight), x, &mut y);
        Ok(output(y, (n, self.weight.rows())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let dy = Numbers::of(&dy);
        let mut dx = vec![0.0; x.elem_count()];
        backward_input(&self.context.pool, self.context.isa, matrix(&self.weight), dy.slice(self.name())?, &mut dx);
        Ok(Some(tensor(dx, x.shape())?))
    }
}

/// `x w^T` with a trainable weight: x `[n, cols]`, w `[rows, cols]`, the result `[n, rows]`.
pub fn linear(context: &OpContext, x: &Tensor, w: &Tensor) -> Result<Tensor> {
    trained(context, x, w, None)
}

/// [`linear`], whose backward pass adds the gradient of w to a sum and gives none to the tape.
pub fn linear_into(context: &OpContext, x: &Tensor, w: &Tensor, sum: &GradientSum) -> Result<Tensor> {
    trained(context, x, w, Some(sum.clone()))
}

fn trained(context: &OpContext, x: &Tensor, w: &Tensor, sum: Option<GradientSum>) -> Result<Tensor> {
    const OP: &str = "linear";
    let (x, _, width) = rows_and_width(OP, x)?;
    let (w, _, cols) = rows_and_width(OP, w)?;
    if width != cols {
        return input(OP, format!("x has {width} columns, the weight {cols}"));
    }
    Ok(x.apply_op2(&w, Linear { context: context.clone(), sum })?)
}

struct Linear {
    context: OpContext,
    sum: Option<GradientSum>,
}

/// A dense matrix as a weight of the kernels.
pub(crate) fn dense(values: &[f32], rows: usize, cols: usize) -> MatrixRef<'_> {
    MatrixRef { bytes: bytemuck::cast_slice(values), block: porism_kernels::BlockType::F32, rows, cols }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, w) = (slice(self.name(), s1, l1)?, slice(self.name(), s2, l2)?);
        let (n, rows, cols) = (l1.dims()[0], l2.dims()[0], l2.dims()[1]);
        let mut y = vec![0.0; n * rows];
        forward_f32(&self.context.pool, self.context.isa, dense(w, rows, cols), x, &mut y);
        Ok(output(y, (n, rows)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let OpContext { pool, isa } = &self.context;
        let (rows, cols) = w.dims2()?;
        let dy = dy.contiguous()?;
        let dy = Numbers::of(&dy);
        let dy = dy.slice(self.name())?;
        let dx = x.track_op().then(|| {
            let w = Numbers::of(w);
            let mut dx = vec![0.0; x.elem_count()];
            backward_input(pool, *isa, dense(w.slice(self.name())?, rows, cols), dy, &mut dx);
            tensor(dx, x.shape())
        });
        let dw = if w.track_op() {
            let x = Numbers::of(x);
            let x = x.slice(self.name())?;
            GradientSum::of(self.sum.as_ref(), w, |dw| backward_weight(pool, *isa, rows, cols, dy, x, dw))?
        } else {
            None
        };
        Ok((dx.transpose()?, dw))
    }
}
