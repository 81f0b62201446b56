//! Rotary position embedding.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use porism_kernels::rope::{RopeLayout, RopeTable, Rotation, rotate};

use crate::error::input;
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};
use crate::{OpContext, Result};

/// Turns each head of x `[n, heads * head_dim]` by its row's entry in the table.
pub fn rope(
    context: &OpContext,
    x: &Tensor,
    layout: RopeLayout,
    table: &Arc<RopeTable>,
    head_dim: usize,
) -> Result<Tensor> {
    const OP: &str = "rope";
    let (x, rows, width) = rows_and_width(OP, x)?;
    if rows != table.rows() {
        return input(OP, format!("x has {rows} rows, the table {}", table.rows()));
    }
    if head_dim == 0 || !width.is_multiple_of(head_dim) || table.rotary_dim() > head_dim {
        let rotary = table.rotary_dim();
        return input(OP, format!("{width} columns in heads of {head_dim}, of which {rotary} turn"));
    }
    Ok(x.apply_op1(Rope { context: context.clone(), layout, table: table.clone(), head_dim })?)
}

struct Rope {
    context: OpContext,
    layout: RopeLayout,
    table: Arc<RopeTable>,
    head_dim: usize,
}

impl Rope {
    fn turned(&self, x: &[f32], rotation: Rotation) -> Vec<f32> {
        let mut y = x.to_vec();
        let OpContext { pool, isa } = &self.context;
        rotate(pool, *isa, self.layout, rotation, &self.table, self.head_dim, &mut y);
        y
    }
}

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok(output(self.turned(slice(self.name(), s, l)?, Rotation::Forward), l.shape()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let dy = Numbers::of(&dy);
        Ok(Some(tensor(self.turned(dy.slice(self.name())?, Rotation::Inverse), x.shape())?))
    }
}
