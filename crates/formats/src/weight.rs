//! A weight: an immutable range of bytes with a block type and a shape.
//!
//! The bytes stay where the file put them (a mapping) or where a converter wrote them (a buffer);
//! a `Weight` is a cheap handle on them and can be sliced by rows without copying.

use std::ops::Range;
use std::sync::Arc;

use porism_kernels::BlockType;
use porism_kernels::arena::Room;

use crate::{Error, Result};

/// Bytes that outlive every weight that points into them: a mapped file or a buffer.
pub trait Storage: Send + Sync {
    /// The bytes. Must return the same slice each time.
    fn bytes(&self) -> &[u8];

    /// Says that a part of the bytes will not be read soon: of a mapping, whose pages are then no longer counted as the
    /// process's.
    fn release(&self, _part: &[u8]) {}
}

impl Storage for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Storage for Room<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Storage for memmap2::Mmap {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn release(&self, part: &[u8]) {
        #[cfg(unix)]
        {
            let from = (part.as_ptr() as usize).wrapping_sub(self.as_ptr() as usize);
            if from <= self.len() && part.len() <= self.len() - from {
                // SAFETY: the mapping is of a file and read-only: what is read again comes from the file again.
                let _ = unsafe { self.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from, part.len()) };
            }
        }
        let _ = part;
    }
}

/// An immutable matrix of `rows x cols` weights in a file's own layout, row-major.
///
/// A vector (a norm, a bias) is one row. Cloning shares the storage.
#[derive(Clone)]
pub struct Weight {
    storage: Arc<dyn Storage>,
    range: Range<usize>,
    block: BlockType,
    rows: usize,
    cols: usize,
}

impl Weight {
    /// A weight over `storage[range]`, checked: the range must lie inside the storage and hold exactly
    /// `rows` rows of `cols` weights of type `block`.
    pub fn new(
        storage: Arc<dyn Storage>,
        range: Range<usize>,
        block: BlockType,
        rows: usize,
        cols: usize,
    ) -> Result<Weight> {
        let needed = block.row_bytes(cols).and_then(|b| b.checked_mul(rows));
        let held = range.end.checked_sub(range.start);
        if needed.is_none() || needed != held || range.end > storage.bytes().len() {
            return Err(Error::WeightRange { block, rows, cols, range });
        }
        Ok(Weight { storage, range, block, rows, cols })
    }

    /// A dense f32 weight made from numbers.
    pub fn from_f32(values: &[f32], rows: usize, cols: usize) -> Result<Weight> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let end = bytes.len();
        Weight::new(Arc::new(bytes), 0..end, BlockType::F32, rows, cols)
    }

    /// The raw bytes, in the file's layout. They may begin at any address: a file chooses its own
    /// alignment.
    pub fn bytes(&self) -> &[u8] {
        &self.storage.bytes()[self.range.clone()]
    }

    /// The same weight where its bytes were copied to, from byte `at` of `storage`.
    pub fn at(&self, storage: Arc<dyn Storage>, at: usize) -> Result<Weight> {
        Weight::new(storage, at..at + self.bytes().len(), self.block, self.rows, self.cols)
    }

    /// What the bytes lie in.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The block type.
    pub fn block(&self) -> BlockType {
        self.block
    }

    /// Rows: output features of a projection, tokens of an embedding table.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: input features of a projection, width of an embedding.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The number of weights.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether the weight has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        // Checked when the weight was made.
        self.cols / self.block.block_len() * self.block.block_bytes()
    }

    /// The rows `range` as a weight of their own, sharing the storage (experts, fused projections).
    pub fn slice_rows(&self, range: Range<usize>) -> Result<Weight> {
        if range.start > range.end || range.end > self.rows {
            return Err(Error::RowRange { rows: self.rows, range });
        }
        let start = self.range.start + range.start * self.row_bytes();
        let end = self.range.start + range.end * self.row_bytes();
        Weight::new(self.storage.clone(), start..end, self.block, range.len(), self.cols)
    }

    /// All weights as f32, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        porism_kernels::block::dequantize(self.block, self.bytes(), &mut out);
        out
    }
}

impl std::fmt::Debug for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Weight({} {}x{})", self.block, self.rows, self.cols)
    }
}
