//! The projection `y = x W^T`: rows of activations times a weight of any block type.
//!
//! Two modes. **Exact f32**: weights are decoded to f32 and multiplied with f32 activations. **int8**:
//! activations are quantized once to int8 in blocks of 32 ([`QuantizedRows`]) and multiplied as
//! integers with the quants of a block format; dense weights, and NF4 and FP4, whose quants are no whole numbers, use
//! the f32 product in either mode.
//!
//! Both modes work on *panels*: 8 output rows by 32 inputs, unpacked so that a vector lane is an output
//! row (`panel`). An output is a sum over its row's blocks in order, in its own lane, whatever the
//! number of tokens or threads: that is what makes a row's bits independent of its batch.

mod ahead;
pub mod backward;
mod f32;
mod int8;
pub mod narrow;
mod panel;
mod quantize;
mod strip;

pub use quantize::{QUANT_BLOCK, QuantizedRows};

use crate::{BlockType, Isa, Pool};

/// A weight matrix: `rows` output features by `cols` input features, row-major in its block layout.
#[derive(Clone, Copy, Debug)]
pub struct MatrixRef<'a> {
    /// The bytes of all rows.
    pub bytes: &'a [u8],
    /// Their layout.
    pub block: BlockType,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
}

impl MatrixRef<'_> {
    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.cols / self.block.block_len() * self.block.block_bytes()
    }

    fn check(&self) {
        assert_eq!(self.cols % self.block.block_len(), 0, "a row is a whole number of blocks");
        assert_eq!(self.bytes.len(), self.rows * self.row_bytes(), "the bytes hold exactly the rows");
    }
}

/// One product of several over the same activations: a weight and where its result goes, `[tokens, rows]`.
#[derive(Debug)]
pub struct Product<'a> {
    /// The weight.
    pub weight: MatrixRef<'a>,
    /// The result, row-major.
    pub out: &'a mut [f32],
}

/// `y = x W^T` in f32. Shapes: x `[m, cols]`, y `[m, rows]`.
///
/// # Panics
/// If the slices do not have these sizes.
pub fn forward_f32(pool: &Pool, isa: Isa, weight: MatrixRef<'_>, x: &[f32], y: &mut [f32]) {
    forward_f32_many(pool, isa, x, &mut [Product { weight, out: y }]);
}

/// Several f32 products over the same activations, shared out as one job.
///
/// # Panics
/// If the sizes do not fit: x `[m, cols]`, each out `[m, rows]`.
pub fn forward_f32_many(pool: &Pool, isa: Isa, x: &[f32], products: &mut [Product<'_>]) {
    let Some(first) = products.first() else { return };
    let cols = first.weight.cols;
    let tokens = x.len() / cols.max(1);
    for p in products.iter() {
        p.weight.check();
        assert_eq!(p.weight.cols * tokens, x.len(), "x is [tokens, cols]");
        assert_eq!(p.out.len(), tokens * p.weight.rows, "out is [tokens, rows]");
    }
    f32::run(pool, isa, x, tokens, products);
}

/// Several products over the same quantized activations, shared out as one job. Every weight must be
/// of a block format ([`takes_int8`]).
///
/// # Panics
/// If the sizes do not fit or a weight is of a type without one.
pub fn forward_int8_many(pool: &Pool, isa: Isa, x: &QuantizedRows, products: &mut [Product<'_>]) {
    for p in products.iter() {
        p.weight.check();
        assert!(takes_int8(p.weight.block), "{} has no int8 product", p.weight.block);
        assert_eq!(p.weight.cols, x.cols(), "x is [tokens, cols]");
        assert_eq!(p.out.len(), x.tokens() * p.weight.rows, "out is [tokens, rows]");
    }
    int8::run(pool, isa, x, products);
}

/// Whether the type's quants can be multiplied with int8 activations.
pub const fn takes_int8(block: BlockType) -> bool {
    !block.is_dense() && !block.is_four_bit()
}
