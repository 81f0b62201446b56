//! Block types: how rows of weights lie in memory.
//!
//! A row of `cols` weights is stored as `cols / block_len` blocks of `block_bytes` bytes each, one
//! after the other, rows one after the other, exactly as ggml lays them out. The dense types are
//! blocks of one element. Each type has a file of its own with its layout and its scalar decoder,
//! which is bit-identical to ggml's `dequantize_row_*`.

/// The element layout of a weight: dense, or one of ggml's block formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum BlockType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16: the upper half of an `f32`.
    BF16,
    /// 32 weights: f16 scale, 4-bit quants around 8 (18 bytes).
    Q4_0,
    /// 32 weights: f16 scale, f16 minimum, 4-bit quants (20 bytes).
    Q4_1,
    /// 32 weights: f16 scale, 5-bit quants around 16 (22 bytes).
    Q5_0,
    /// 32 weights: f16 scale, signed 8-bit quants (34 bytes).
    Q8_0,
    /// 256 weights in 8 groups of 32: 6-bit scales and minima, 4-bit quants (144 bytes).
    Q4K,
    /// 256 weights in 16 groups of 16: signed 8-bit scales, 6-bit quants (210 bytes).
    Q6K,
}

impl BlockType {
    /// Every type that this build can decode.
    pub const ALL: [BlockType; 9] = [
        BlockType::F32,
        BlockType::F16,
        BlockType::BF16,
        BlockType::Q4_0,
        BlockType::Q4_1,
        BlockType::Q5_0,
        BlockType::Q8_0,
        BlockType::Q4K,
        BlockType::Q6K,
    ];

    /// The type's number in GGUF files (`enum ggml_type`).
    pub const fn ggml_id(self) -> u32 {
        match self {
            BlockType::F32 => 0,
            BlockType::F16 => 1,
            BlockType::Q4_0 => 2,
            BlockType::Q4_1 => 3,
            BlockType::Q5_0 => 6,
            BlockType::Q8_0 => 8,
            BlockType::Q4K => 12,
            BlockType::Q6K => 14,
            BlockType::BF16 => 30,
        }
    }

    /// The type with the given GGUF number, if this build can decode it.
    pub fn from_ggml_id(id: u32) -> Option<BlockType> {
        BlockType::ALL.into_iter().find(|t| t.ggml_id() == id)
    }

    /// The name used by ggml and its tools.
    pub const fn name(self) -> &'static str {
        match self {
            BlockType::F32 => "F32",
            BlockType::F16 => "F16",
            BlockType::BF16 => "BF16",
            BlockType::Q4_0 => "Q4_0",
            BlockType::Q4_1 => "Q4_1",
            BlockType::Q5_0 => "Q5_0",
            BlockType::Q8_0 => "Q8_0",
            BlockType::Q4K => "Q4_K",
            BlockType::Q6K => "Q6_K",
        }
    }

    /// Weights in one block.
    pub const fn block_len(self) -> usize {
        match self {
            BlockType::F32 | BlockType::F16 | BlockType::BF16 => 1,
            BlockType::Q4_0 | BlockType::Q4_1 | BlockType::Q5_0 | BlockType::Q8_0 => 32,
            BlockType::Q4K | BlockType::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            BlockType::F32 => 4,
            BlockType::F16 | BlockType::BF16 => 2,
            BlockType::Q4_0 => 18,
            BlockType::Q4_1 => 20,
            BlockType::Q5_0 => 22,
            BlockType::Q8_0 => 34,
            BlockType::Q4K => 144,
            BlockType::Q6K => 210,
        }
    }

    /// Whether the type is dense: one number an element, no shared scale.
    pub const fn is_dense(self) -> bool {
        self.block_len() == 1
    }

    /// Bytes of a row of `cols` weights; `None` if `cols` is no multiple of the block length or the
    /// size does not fit in memory's address space.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl std::fmt::Display for BlockType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
