//! A model's frozen projections in four bits, as QLoRA trains on them, from weights of any type.
//!
//! The weights are those that `porism convert --to nf4` writes and its folder gives back, so that what was trained on one
//! is at home on the other. One matrix at a time is decoded and encoded; the pages that it was read from are given back.
//! A file that keeps several projections in one tensor has its scales rounded together in the folder, and here apart.

use std::sync::Arc;

use porism_formats::Weight;
use porism_kernels::BlockType;
use porism_kernels::block::nested::round_scales;
use porism_kernels::block::{QuantizeError, dequantize, quantize};
use porism_kernels::rope::RopeLayout;

use crate::linear::Linear;
use crate::names::gguf_rows_from_hf;
use crate::stack::{Block, Stack};
use crate::{Error, Result};

/// Weights that are decoded at a time (a wider row is a piece of its own).
const PIECE: usize = 1 << 18;

impl Stack {
    /// Encodes the projections of all blocks, outside of mixtures of experts, as `block`, in memory. `double_quant`
    /// rounds the scales of NF4 and FP4 to 8 bits too; other types have no such scales.
    ///
    /// # Errors
    /// A row is no whole number of blocks, a weight is not finite, or there is no encoder for the type.
    pub fn requantize(&mut self, block: BlockType, double_quant: bool) -> Result<()> {
        for part in &mut self.blocks {
            let orders = row_orders(part);
            let linears = part.linears_and_norms_mut().0;
            for (i, linear) in linears.into_iter().enumerate() {
                let order = orders.get(i).and_then(Option::as_deref);
                linear.weight = encoded(linear, block, double_quant, order)?;
            }
        }
        Ok(())
    }
}

/// The rows of a folder in those of this file, for query and key: where RoPE turns neighbours, they are not in a
/// folder's order, and the scales of 256 blocks would not be the same ones.
fn row_orders(block: &Block) -> [Option<Vec<usize>>; 2] {
    let a = &block.attention;
    let paired = a.rope.as_ref().is_some_and(|rope| rope.layout == RopeLayout::Adjacent);
    let order = |heads: usize| {
        paired.then(|| {
            let mut order = vec![0; heads * a.spec.head_dim];
            for (row, hf) in gguf_rows_from_hf(heads, a.spec.head_dim).into_iter().enumerate() {
                order[hf] = row;
            }
            order
        })
    };
    [order(a.spec.heads), order(a.spec.kv_heads)]
}

/// A projection's weight as `block`. `order`: row `order[i]` is row `i` in a folder.
fn encoded(linear: &Linear, block: BlockType, double_quant: bool, order: Option<&[usize]>) -> Result<Weight> {
    let weight = &linear.weight;
    let (rows, cols) = (weight.rows(), weight.cols());
    let failed = |e| Error::Quantize { site: linear.site, block, source: e };
    // Two rows may fill a block together; a block does not go over the end of a row.
    if block.row_bytes(cols).is_none() {
        return Err(failed(QuantizeError::PartialBlock { block, len: cols }));
    }
    let mut bytes = Vec::with_capacity(block.row_bytes(cols).unwrap_or(0) * rows);
    let step = (PIECE / cols.max(1)).max(1);
    let mut values = Vec::new();
    for raw in weight.bytes().chunks(step * weight.row_bytes().max(1)) {
        values.resize(raw.len() / weight.row_bytes() * cols, 0.0);
        dequantize(weight.block(), raw, &mut values);
        quantize(block, &values, &mut bytes).map_err(failed)?;
    }
    if double_quant && block.is_four_bit() {
        let per_row = cols / block.block_len();
        let order = order.filter(|order| order.len() == rows);
        let blocks: Option<Vec<usize>> =
            order.map(|order| order.iter().flat_map(|row| row * per_row..(row + 1) * per_row).collect());
        round_scales(&mut bytes, blocks.as_deref());
    }
    weight.storage().release(weight.bytes());
    let end = bytes.len();
    Ok(Weight::new(Arc::new(bytes), 0..end, block, rows, cols)?)
}
