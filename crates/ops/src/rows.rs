//! Rows by number: token embeddings, the rows whose output is wanted, the rows of one adapter.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use porism_formats::Weight;
use porism_kernels::linear::MatrixRef;
use porism_kernels::{BlockType, embedding};

use crate::error::{check_indexes, input};
use crate::sum::GradientSum;
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};
use crate::{OpContext, Result};

/// The rows `ids` of a frozen table `[rows, width]`, dequantized: `[ids, width]`. Nothing of it is on the tape.
pub fn embed_frozen(context: &OpContext, table: &Weight, ids: &[u32]) -> Result<Tensor> {
    check_indexes("embed", "a table", ids, table.rows())?;
    let mut out = vec![0.0; ids.len() * table.cols()];
    let matrix = MatrixRef { bytes: table.bytes(), block: table.block(), rows: table.rows(), cols: table.cols() };
    embedding::gather(&context.pool, matrix, ids, &mut out);
    Ok(tensor(out, (ids.len(), table.cols()))?)
}

/// The rows `ids` of x `[rows, width]`, in that order and as often as they are named: `[ids, width]`. With a
/// trainable table this is the embedding. The backward pass adds up the gradients of a row's copies.
pub fn select_rows(context: &OpContext, x: &Tensor, ids: &[u32]) -> Result<Tensor> {
    selected(context, x, ids, None)
}

/// [`select_rows`], whose backward pass adds the gradient of x to a sum and gives none to the tape.
pub fn select_rows_into(context: &OpContext, x: &Tensor, ids: &[u32], sum: &GradientSum) -> Result<Tensor> {
    selected(context, x, ids, Some(sum.clone()))
}

fn selected(context: &OpContext, x: &Tensor, ids: &[u32], sum: Option<GradientSum>) -> Result<Tensor> {
    const OP: &str = "select-rows";
    let (x, rows, width) = rows_and_width(OP, x)?;
    if width == 0 {
        return input(OP, "rows without columns");
    }
    check_indexes(OP, "a tensor", ids, rows)?;
    Ok(x.apply_op1(SelectRows { context: context.clone(), ids: ids.into(), sum })?)
}

struct SelectRows {
    context: OpContext,
    ids: Arc<[u32]>,
    sum: Option<GradientSum>,
}

impl CustomOp1 for SelectRows {
    fn name(&self) -> &'static str {
        "select-rows"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = slice(self.name(), s, l)?;
        let (rows, cols) = (l.dims()[0], l.dims()[1]);
        let mut out = vec![0.0; self.ids.len() * cols];
        let matrix = MatrixRef { bytes: bytemuck::cast_slice(x), block: BlockType::F32, rows, cols };
        embedding::gather(&self.context.pool, matrix, &self.ids, &mut out);
        Ok(output(out, (self.ids.len(), cols)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let dy = Numbers::of(&dy);
        let (width, dy) = (x.dims()[1], dy.slice(self.name())?);
        GradientSum::of(self.sum.as_ref(), x, |dx| embedding::scatter_add(&self.context.pool, width, &self.ids, dy, dx))
    }
}

/// x `[rows, width]` with row `ids[i]` replaced by row `i` of `part` `[ids, width]`; no id twice.
pub fn replace_rows(x: &Tensor, part: &Tensor, ids: &[u32]) -> Result<Tensor> {
    const OP: &str = "replace-rows";
    let (x, rows, width) = rows_and_width(OP, x)?;
    let (part, part_rows, part_width) = rows_and_width(OP, part)?;
    if part_rows != ids.len() || part_width != width {
        return input(OP, format!("the part is [{part_rows}, {part_width}], not [{}, {width}]", ids.len()));
    }
    check_indexes(OP, "a tensor", ids, rows)?;
    let mut seen = vec![false; rows];
    if let Some(id) = ids.iter().find(|&&id| std::mem::replace(&mut seen[id as usize], true)) {
        return input(OP, format!("row {id} is replaced twice"));
    }
    Ok(x.apply_op2(&part, ReplaceRows { ids: ids.into() })?)
}

struct ReplaceRows {
    ids: Arc<[u32]>,
}

impl ReplaceRows {
    /// The row of a part and the elements of the whole that it stands for.
    fn places(&self, width: usize) -> impl Iterator<Item = (std::ops::Range<usize>, std::ops::Range<usize>)> {
        let range = move |row: usize| row * width..(row + 1) * width;
        self.ids.iter().enumerate().map(move |(i, &id)| (range(i), range(id as usize)))
    }
}

impl CustomOp2 for ReplaceRows {
    fn name(&self) -> &'static str {
        "replace-rows"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, part) = (slice(self.name(), s1, l1)?, slice(self.name(), s2, l2)?);
        let mut out = x.to_vec();
        for (from, to) in self.places(l1.dims()[1]) {
            out[to].copy_from_slice(&part[from]);
        }
        Ok(output(out, l1.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        part: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let dy = Numbers::of(&dy);
        let dy = dy.slice(self.name())?;
        let width = x.dims()[1];
        let dx = x.track_op().then(|| {
            let mut dx = dy.to_vec();
            self.places(width).for_each(|(_, to)| dx[to].fill(0.0));
            tensor(dx, x.shape())
        });
        let dpart = part.track_op().then(|| {
            let mut dpart = vec![0.0; part.elem_count()];
            self.places(width).for_each(|(from, to)| dpart[from].copy_from_slice(&dy[to]));
            tensor(dpart, part.shape())
        });
        Ok((dx.transpose()?, dpart.transpose()?))
    }
}
