//! [`BlockType`]: the types by name, by number in GGUF files, and by size.

/// Name, number in GGUF files (`enum ggml_type`) where there is one, weights and bytes of a block.
type Facts = (&'static str, Option<u32>, usize, usize);

/// The element layout of a weight: dense, one of ggml's block formats, or one of bitsandbytes'.
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
    /// 32 weights: f16 scale, f16 minimum, 5-bit quants (24 bytes).
    Q5_1,
    /// 32 weights: f16 scale, signed 8-bit quants (34 bytes).
    Q8_0,
    /// 256 weights in 16 groups of 16: 4-bit scales and minima, 2-bit quants (84 bytes).
    Q2K,
    /// 256 weights in 16 groups of 16: signed 6-bit scales, 3-bit quants (110 bytes).
    Q3K,
    /// 256 weights in 8 groups of 32: 6-bit scales and minima, 4-bit quants (144 bytes).
    Q4K,
    /// 256 weights in 8 groups of 32: 6-bit scales and minima, 5-bit quants (176 bytes).
    Q5K,
    /// 256 weights in 16 groups of 16: signed 8-bit scales, 6-bit quants (210 bytes).
    Q6K,
    /// 32 weights: f16 scale, 4-bit places in a table (18 bytes).
    IQ4NL,
    /// 256 weights in 8 groups of 32: signed 6-bit scales, 4-bit places in a table (136 bytes).
    IQ4XS,
    /// 32 weights: a power of two, 4-bit floats (17 bytes).
    MXFP4,
    /// 256 weights: f16 scale, ternary digits, five a byte (54 bytes).
    TQ1_0,
    /// 256 weights: f16 scale, ternary digits, four a byte (66 bytes).
    TQ2_0,
    /// 256 weights in 8 groups of 32: 4-bit scales, points of a list of 256 (66 bytes).
    IQ2XXS,
    /// 256 weights in 16 groups of 16: 4-bit scales, points of a list of 512 (74 bytes).
    IQ2XS,
    /// 256 weights in 16 groups of 16: 4-bit scales, points of a list of 1024 (82 bytes).
    IQ2S,
    /// 256 weights in 8 groups of 32: 4-bit scales, points of a list of 256 (98 bytes).
    IQ3XXS,
    /// 256 weights in 8 groups of 32: 4-bit scales, points of a list of 512 (110 bytes).
    IQ3S,
    /// 256 weights in 8 groups of 32: 3-bit scales, points of a list of 2048 (50 bytes).
    IQ1S,
    /// 256 weights in 16 groups of 16: 3-bit scales, points of a list of 2048 (56 bytes).
    IQ1M,
    /// 64 weights: f32 scale, 4-bit places in a table of quantiles (36 bytes); bitsandbytes' type.
    NF4,
    /// 64 weights: f32 scale, 4-bit floats (36 bytes); bitsandbytes' type.
    FP4,
}

impl BlockType {
    /// Every type that this build can decode.
    pub const ALL: [BlockType; 27] = [
        BlockType::F32,
        BlockType::F16,
        BlockType::BF16,
        BlockType::Q4_0,
        BlockType::Q4_1,
        BlockType::Q5_0,
        BlockType::Q5_1,
        BlockType::Q8_0,
        BlockType::Q2K,
        BlockType::Q3K,
        BlockType::Q4K,
        BlockType::Q5K,
        BlockType::Q6K,
        BlockType::IQ4NL,
        BlockType::IQ4XS,
        BlockType::MXFP4,
        BlockType::TQ1_0,
        BlockType::TQ2_0,
        BlockType::IQ2XXS,
        BlockType::IQ2XS,
        BlockType::IQ2S,
        BlockType::IQ3XXS,
        BlockType::IQ3S,
        BlockType::IQ1S,
        BlockType::IQ1M,
        BlockType::NF4,
        BlockType::FP4,
    ];

    const fn facts(self) -> Facts {
        match self {
            BlockType::F32 => ("F32", Some(0), 1, 4),
            BlockType::F16 => ("F16", Some(1), 1, 2),
            BlockType::BF16 => ("BF16", Some(30), 1, 2),
            BlockType::Q4_0 => ("Q4_0", Some(2), 32, 18),
            BlockType::Q4_1 => ("Q4_1", Some(3), 32, 20),
            BlockType::Q5_0 => ("Q5_0", Some(6), 32, 22),
            BlockType::Q5_1 => ("Q5_1", Some(7), 32, 24),
            BlockType::Q8_0 => ("Q8_0", Some(8), 32, 34),
            BlockType::Q2K => ("Q2_K", Some(10), 256, 84),
            BlockType::Q3K => ("Q3_K", Some(11), 256, 110),
            BlockType::Q4K => ("Q4_K", Some(12), 256, 144),
            BlockType::Q5K => ("Q5_K", Some(13), 256, 176),
            BlockType::Q6K => ("Q6_K", Some(14), 256, 210),
            BlockType::IQ4NL => ("IQ4_NL", Some(20), 32, 18),
            BlockType::IQ4XS => ("IQ4_XS", Some(23), 256, 136),
            BlockType::MXFP4 => ("MXFP4", Some(39), 32, 17),
            BlockType::TQ1_0 => ("TQ1_0", Some(34), 256, 54),
            BlockType::TQ2_0 => ("TQ2_0", Some(35), 256, 66),
            BlockType::IQ2XXS => ("IQ2_XXS", Some(16), 256, 66),
            BlockType::IQ2XS => ("IQ2_XS", Some(17), 256, 74),
            BlockType::IQ2S => ("IQ2_S", Some(22), 256, 82),
            BlockType::IQ3XXS => ("IQ3_XXS", Some(18), 256, 98),
            BlockType::IQ3S => ("IQ3_S", Some(21), 256, 110),
            BlockType::IQ1S => ("IQ1_S", Some(19), 256, 50),
            BlockType::IQ1M => ("IQ1_M", Some(29), 256, 56),
            BlockType::NF4 => ("NF4", None, 64, 36),
            BlockType::FP4 => ("FP4", None, 64, 36),
        }
    }

    /// The type's number in GGUF files (`enum ggml_type`); `None` for bitsandbytes' types, which GGUF does not have.
    pub const fn ggml_id(self) -> Option<u32> {
        self.facts().1
    }

    /// The type with the given GGUF number, if this build can decode it.
    pub fn from_ggml_id(id: u32) -> Option<BlockType> {
        BlockType::ALL.into_iter().find(|t| t.ggml_id() == Some(id))
    }

    /// The name used by ggml, or by bitsandbytes, and their tools.
    pub const fn name(self) -> &'static str {
        self.facts().0
    }

    /// Weights in one block.
    pub const fn block_len(self) -> usize {
        self.facts().2
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        self.facts().3
    }

    /// Whether the type is dense: one number an element, no shared scale.
    pub const fn is_dense(self) -> bool {
        self.block_len() == 1
    }

    /// Whether [`quantize`](super::quantize) can write this type.
    pub const fn has_encoder(self) -> bool {
        use BlockType::{BF16, F16, F32, FP4, NF4, Q4_0, Q4_1, Q8_0};
        matches!(self, F32 | F16 | BF16 | Q4_0 | Q4_1 | Q8_0 | NF4 | FP4)
    }

    /// Whether this is one of bitsandbytes' types of four bits ([`four_bit`](super::four_bit)).
    pub const fn is_four_bit(self) -> bool {
        matches!(self, BlockType::NF4 | BlockType::FP4)
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
