//! Log-softmax of rows, and one column a row.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use porism_kernels::softmax;

use crate::error::{check_indexes, input};
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};
use crate::{OpContext, Result};

/// `x - logsumexp(x)` of each row of x `[n, width]`.
pub fn log_softmax(context: &OpContext, x: &Tensor) -> Result<Tensor> {
    const OP: &str = "log-softmax";
    let (x, _, width) = rows_and_width(OP, x)?;
    if width == 0 {
        return input(OP, "rows without columns");
    }
    Ok(x.apply_op1(LogSoftmax { context: context.clone() })?)
}

struct LogSoftmax {
    context: OpContext,
}

impl CustomOp1 for LogSoftmax {
    fn name(&self) -> &'static str {
        "log-softmax"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = slice(self.name(), s, l)?;
        let mut y = vec![0.0; x.len()];
        softmax::log_softmax(&self.context.pool, self.context.isa, l.dims()[1], x, &mut y);
        Ok(output(y, l.shape()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let (y, dy) = (Numbers::of(y), Numbers::of(&dy));
        let mut dx = vec![0.0; x.elem_count()];
        let OpContext { pool, isa } = &self.context;
        let (y, dy) = (y.slice(self.name())?, dy.slice(self.name())?);
        softmax::log_softmax_backward(pool, *isa, x.dims()[1], y, dy, &mut dx);
        Ok(Some(tensor(dx, x.shape())?))
    }
}

/// Column `columns[i]` of row `i` of x `[n, width]`: `[n, 1]`.
pub fn gather(x: &Tensor, columns: &[u32]) -> Result<Tensor> {
    const OP: &str = "gather";
    let (x, rows, width) = rows_and_width(OP, x)?;
    if columns.len() != rows {
        return input(OP, format!("{} columns for {rows} rows", columns.len()));
    }
    check_indexes(OP, "a row", columns, width)?;
    Ok(x.apply_op1(Gather { columns: columns.into() })?)
}

struct Gather {
    columns: Arc<[u32]>,
}

impl CustomOp1 for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, width) = (slice(self.name(), s, l)?, l.dims()[1]);
        let picked: Vec<f32> = self.columns.iter().enumerate().map(|(i, &c)| x[i * width + c as usize]).collect();
        Ok(output(picked, (self.columns.len(), 1)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let dy = Numbers::of(&dy);
        let width = x.dims()[1];
        let mut dx = vec![0.0; x.elem_count()];
        for (i, (&column, &dy)) in self.columns.iter().zip(dy.slice(self.name())?).enumerate() {
            dx[i * width + column as usize] = dy;
        }
        Ok(Some(tensor(dx, x.shape())?))
    }
}
