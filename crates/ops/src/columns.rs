//! One factor or one summand a column: biases, IA3's and DoRA's scales.

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};

use crate::Result;
use crate::error::input;
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};

/// `x * s` with a factor for each column: x `[n, width]`, s `[1, width]`.
pub fn scale_columns(x: &Tensor, s: &Tensor) -> Result<Tensor> {
    apply("scale-columns", x, s, Columns::Scale)
}

/// `x + b` with a summand for each column: x `[n, width]`, b `[1, width]`.
pub fn add_columns(x: &Tensor, b: &Tensor) -> Result<Tensor> {
    apply("add-columns", x, b, Columns::Add)
}

fn apply(op: &'static str, x: &Tensor, row: &Tensor, kind: Columns) -> Result<Tensor> {
    let (x, _, width) = rows_and_width(op, x)?;
    let (row, rows, cols) = rows_and_width(op, row)?;
    if rows != 1 || cols != width || width == 0 {
        return input(op, format!("x has {width} columns, the row is [{rows}, {cols}], not [1, {width}]"));
    }
    Ok(x.apply_op2(&row, kind)?)
}

enum Columns {
    Scale,
    Add,
}

impl CustomOp2 for Columns {
    fn name(&self) -> &'static str {
        match self {
            Columns::Scale => "scale-columns",
            Columns::Add => "add-columns",
        }
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, row) = (slice(self.name(), s1, l1)?, slice(self.name(), s2, l2)?);
        let mut y = x.to_vec();
        for y in y.chunks_exact_mut(row.len()) {
            match self {
                Columns::Scale => y.iter_mut().zip(row).for_each(|(y, r)| *y *= r),
                Columns::Add => y.iter_mut().zip(row).for_each(|(y, r)| *y += r),
            }
        }
        Ok(output(y, l1.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        row: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (xs, rows, dys) = (Numbers::of(x), Numbers::of(row), Numbers::of(&dy));
        let (xs, rows, dys) = (xs.slice(self.name())?, rows.slice(self.name())?, dys.slice(self.name())?);
        let width = rows.len();
        let dx = x.track_op().then(|| {
            let mut dx = dys.to_vec();
            if let Columns::Scale = self {
                for dx in dx.chunks_exact_mut(width) {
                    dx.iter_mut().zip(rows).for_each(|(d, r)| *d *= r);
                }
            }
            tensor(dx, x.shape())
        });
        let drow = row.track_op().then(|| {
            let mut drow = vec![0.0f32; width];
            for (x, dy) in xs.chunks_exact(width).zip(dys.chunks_exact(width)) {
                match self {
                    Columns::Scale => drow.iter_mut().zip(x.iter().zip(dy)).for_each(|(d, (x, dy))| *d += x * dy),
                    Columns::Add => drow.iter_mut().zip(dy).for_each(|(d, dy)| *d += dy),
                }
            }
            tensor(drow, row.shape())
        });
        Ok((dx.transpose()?, drow.transpose()?))
    }
}
