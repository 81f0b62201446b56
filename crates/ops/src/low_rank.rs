//! A frozen projection with a trained low-rank pair beside it, as one operation (Hu et al. 2021, section 4.1).
//!
//! As separate operations the pair puts two more tensors of the projection's width on the tape, and candle sums two
//! gradients of the input on one thread.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};
use porism_formats::Weight;
use porism_kernels::linear::backward::{backward_input, backward_weight};
use porism_kernels::linear::forward_f32;
use porism_kernels::linear::narrow::add_product;

use crate::error::input;
use crate::linear::{dense, matrix};
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};
use crate::{OpContext, Result};

/// `x W^T + scale (x A^T) B^T`: x `[n, cols]`, the frozen weight `[rows, cols]`, A `[rank, cols]`, B `[rows, rank]`, the result
/// `[n, rows]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn frozen_low_rank(
    context: &OpContext,
    x: &Tensor,
    weight: &Weight,
    (a, b, scale): (&Tensor, &Tensor, f32),
) -> Result<Tensor> {
    const OP: &str = "frozen-low-rank";
    let (x, _, width) = rows_and_width(OP, x)?;
    let (a, rank, inputs) = rows_and_width(OP, a)?;
    let (b, outputs, inner) = rows_and_width(OP, b)?;
    let (rows, cols) = (weight.rows(), weight.cols());
    if width != cols || inputs != cols || outputs != rows || inner != rank {
        return input(
            OP,
            format!(
                "x has {width} columns, the weight is [{rows}, {cols}], A [{rank}, {inputs}], B [{outputs}, {inner}]"
            ),
        );
    }
    let op = LowRank { context: context.clone(), weight: weight.clone(), scale, inner: Mutex::default() };
    Ok(x.apply_op3(&a, &b, op)?)
}

struct LowRank {
    context: OpContext,
    weight: Weight,
    scale: f32,
    /// `scale x A^T`, `[n, rank]`.
    inner: Mutex<Vec<f32>>,
}

impl CustomOp3 for LowRank {
    fn name(&self) -> &'static str {
        "frozen-low-rank"
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
        let OpContext { pool, isa } = &self.context;
        let name = self.name();
        let (x, a, b) = (slice(name, s1, l1)?, slice(name, s2, l2)?, slice(name, s3, l3)?);
        let (n, cols, rank, rows) = (l1.dims()[0], l1.dims()[1], l2.dims()[0], l3.dims()[0]);
        let mut y = vec![0.0; n * rows];
        forward_f32(pool, *isa, matrix(&self.weight), x, &mut y);
        let mut inner = vec![0.0; n * rank];
        forward_f32(pool, *isa, dense(a, rank, cols), x, &mut inner);
        // The scale on the narrow side, here and on the way back.
        inner.iter_mut().for_each(|v| *v *= self.scale);
        let across: Vec<f32> = (0..rank).flat_map(|j| b.iter().skip(j).step_by(rank)).copied().collect();
        add_product(pool, *isa, rank, &inner, &across, &mut y);
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = inner;
        Ok(output(y, (n, rows)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let OpContext { pool, isa } = &self.context;
        let name = self.name();
        let dy = dy.contiguous()?;
        let (dys, xs, xa, xb) = (Numbers::of(&dy), Numbers::of(x), Numbers::of(a), Numbers::of(b));
        let (dys, xs, xa, xb) = (dys.slice(name)?, xs.slice(name)?, xa.slice(name)?, xb.slice(name)?);
        let ((rank, cols), rows) = (a.dims2()?, b.dim(0)?);
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dinner = vec![0.0; inner.len()];
        add_product(pool, *isa, rows, dys, xb, &mut dinner);
        dinner.iter_mut().for_each(|d| *d *= self.scale);
        let dx = x.track_op().then(|| {
            let mut dx = vec![0.0; xs.len()];
            backward_input(pool, *isa, matrix(&self.weight), dys, &mut dx);
            add_product(pool, *isa, rank, &dinner, xa, &mut dx);
            tensor(dx, x.shape())
        });
        let da = a.track_op().then(|| {
            let mut da = vec![0.0; rank * cols];
            backward_weight(pool, *isa, rank, cols, &dinner, xs, &mut da);
            tensor(da, a.shape())
        });
        let db = b.track_op().then(|| {
            let mut db = vec![0.0; rows * rank];
            backward_weight(pool, *isa, rows, rank, dys, &inner, &mut db);
            tensor(db, b.shape())
        });
        Ok((dx.transpose()?, da.transpose()?, db.transpose()?))
    }
}
