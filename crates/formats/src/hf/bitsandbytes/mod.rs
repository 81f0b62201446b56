//! Weights of four bits as bitsandbytes keeps them in safetensors: one matrix is several tensors.
//!
//! ```text
//! X                                   u8  [n / 2, 1]      places, two a byte, the first in the upper half
//! X.absmax                            f32 [n / 64]        a scale for each block of 64, row-major
//! X.quant_map                         f32 [16]            the table
//! X.quant_state.bitsandbytes__nf4     u8  [..]            JSON: quant_type, blocksize, dtype, shape, ...
//! ```
//!
//! With double quantization `X.absmax` is u8, and `X.nested_absmax` (f32, one for 256 scales), `X.nested_quant_map`
//! (f32 [256]) and the JSON's `nested_offset` say what its codes stand for. Outside, all of it is one tensor of type NF4
//! or FP4 and of the matrix's shape; [`kernels`](porism_kernels::block::four_bit) says how it lies in memory.

mod read;
mod write;

pub(super) use read::{Packed, Part};
pub(super) use write::{announce, fill};

use porism_kernels::BlockType;
use porism_kernels::block::four_bit::{FP4_TABLE, NF4_TABLE};

/// What stands between a weight's name and the name of its type.
const STATE: &str = ".quant_state.bitsandbytes__";
const ABSMAX: &str = ".absmax";
const QUANT_MAP: &str = ".quant_map";
const NESTED_ABSMAX: &str = ".nested_absmax";
const NESTED_QUANT_MAP: &str = ".nested_quant_map";

/// How the matrices of a folder are packed, beside their type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packing {
    /// Whether the scales are kept in 8 bits (double quantization), which rounds them.
    pub double_quant: bool,
    /// The type that bitsandbytes decodes to: F32, or the 16-bit type of the other weights.
    pub decoded: Decoded,
}

/// The type that bitsandbytes decodes a matrix to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decoded {
    /// Single precision: the numbers themselves.
    #[default]
    F32,
    /// Half precision: rounded.
    F16,
    /// bfloat16: rounded.
    BF16,
}

impl Decoded {
    /// PyTorch's name.
    pub const fn name(self) -> &'static str {
        match self {
            Decoded::F32 => "float32",
            Decoded::F16 => "float16",
            Decoded::BF16 => "bfloat16",
        }
    }
}

/// bitsandbytes' name of a type.
pub(crate) fn quant_type(block: BlockType) -> &'static str {
    if block == BlockType::FP4 { "fp4" } else { "nf4" }
}

fn table(block: BlockType) -> &'static [f32; 16] {
    if block == BlockType::FP4 { &FP4_TABLE } else { &NF4_TABLE }
}
