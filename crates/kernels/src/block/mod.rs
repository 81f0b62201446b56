//! Block types: how rows of weights lie in memory.
//!
//! A row of `cols` weights is stored as `cols / block_len` blocks of `block_bytes` bytes each, one
//! after the other, rows one after the other, exactly as ggml lays them out. The dense types are
//! blocks of one element. Each type or family has a file of its own with its layout and its scalar
//! decoder, which is bit-identical to ggml's `dequantize_row_*`, and for NF4 and FP4 to bitsandbytes'.

pub(crate) mod codebook;
pub mod dense;
pub mod four_bit;
pub(crate) mod grid;
pub(crate) mod group;
mod kinds;
pub mod nested;
pub(crate) mod q2_k;
pub(crate) mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub(crate) mod q5_1;
pub(crate) mod q5_k;
pub mod q6_k;
pub mod q8_0;
pub(crate) mod ternary;

pub use kinds::BlockType;

use half::f16;

/// Decodes any whole number of blocks, bit for bit as ggml does: sums and products are rounded one
/// by one, nothing is fused.
///
/// # Panics
/// If `bytes` is not a whole number of blocks or `out` is not exactly as long as their weights.
pub fn dequantize(block: BlockType, bytes: &[u8], out: &mut [f32]) {
    let blocks = bytes.len() / block.block_bytes();
    assert!(
        blocks * block.block_bytes() == bytes.len() && blocks * block.block_len() == out.len(),
        "{} bytes of {block} do not hold {} weights",
        bytes.len(),
        out.len()
    );
    match block {
        BlockType::F32 => dense::dequantize_f32(bytes, out),
        BlockType::F16 => dense::dequantize_f16(bytes, out),
        BlockType::BF16 => dense::dequantize_bf16(bytes, out),
        BlockType::Q4_0 => each_block(block, bytes, out, q4_0::dequantize_block),
        BlockType::Q4_1 => each_block(block, bytes, out, q4_1::dequantize_block),
        BlockType::Q5_0 => each_block(block, bytes, out, q5_0::dequantize_block),
        BlockType::Q8_0 => each_block(block, bytes, out, q8_0::dequantize_block),
        BlockType::Q4K => each_block(block, bytes, out, q4_k::dequantize_block),
        BlockType::Q6K => each_block(block, bytes, out, q6_k::dequantize_block),
        BlockType::Q5_1 => each_block(block, bytes, out, group::dequantize_block::<q5_1::Q5_1>),
        BlockType::Q2K => each_block(block, bytes, out, group::dequantize_block::<q2_k::Q2K>),
        BlockType::Q3K => each_block(block, bytes, out, group::dequantize_block::<q3_k::Q3K>),
        BlockType::Q5K => each_block(block, bytes, out, group::dequantize_block::<q5_k::Q5K>),
        BlockType::IQ4NL => each_block(block, bytes, out, group::dequantize_block::<codebook::IQ4NL>),
        BlockType::IQ4XS => each_block(block, bytes, out, group::dequantize_block::<codebook::IQ4XS>),
        BlockType::MXFP4 => each_block(block, bytes, out, group::dequantize_block::<codebook::MXFP4>),
        BlockType::TQ1_0 => each_block(block, bytes, out, group::dequantize_block::<ternary::TQ1_0>),
        BlockType::TQ2_0 => each_block(block, bytes, out, group::dequantize_block::<ternary::TQ2_0>),
        BlockType::IQ2XXS => each_block(block, bytes, out, group::dequantize_block::<grid::IQ2XXS>),
        BlockType::IQ2XS => each_block(block, bytes, out, group::dequantize_block::<grid::IQ2XS>),
        BlockType::IQ2S => each_block(block, bytes, out, group::dequantize_block::<grid::IQ2S>),
        BlockType::IQ3XXS => each_block(block, bytes, out, group::dequantize_block::<grid::IQ3XXS>),
        BlockType::IQ3S => each_block(block, bytes, out, group::dequantize_block::<grid::IQ3S>),
        BlockType::IQ1S => each_block(block, bytes, out, group::dequantize_block::<grid::IQ1S>),
        BlockType::IQ1M => each_block(block, bytes, out, group::dequantize_block::<grid::IQ1M>),
        BlockType::NF4 => each_block(block, bytes, out, four_bit::dequantize_block::<four_bit::NF4>),
        BlockType::FP4 => each_block(block, bytes, out, four_bit::dequantize_block::<four_bit::FP4>),
    }
}

fn each_block(block: BlockType, bytes: &[u8], out: &mut [f32], decode: impl Fn(&[u8], &mut [f32])) {
    let blocks = bytes.chunks_exact(block.block_bytes());
    for (bytes, out) in blocks.zip(out.chunks_exact_mut(block.block_len())) {
        decode(bytes, out);
    }
}

/// Why numbers could not be written as blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// There is a decoder only.
    #[error("weights cannot be encoded as {0}: use F32, F16, BF16, Q8_0, Q4_0, Q4_1, NF4 or FP4")]
    NoEncoder(BlockType),
    /// The values do not fill whole blocks.
    #[error("{len} weights do not fill whole blocks of {block}: the count must be a multiple of {}", block.block_len())]
    PartialBlock {
        /// The wanted type.
        block: BlockType,
        /// The number of values.
        len: usize,
    },
    /// A value is infinite or not a number, or too large for the scale.
    #[error("a weight in {index}..{} is not finite or too large for the scale of {block}", index + block.block_len())]
    TooLarge {
        /// The wanted type.
        block: BlockType,
        /// Index of the first value of the block.
        index: usize,
    },
}

/// Appends `values` encoded as `block` to `out`, byte for byte as ggml's `quantize_row_*_ref` does, NF4 and FP4
/// as bitsandbytes does on a CPU.
///
/// F16 and BF16 round to nearest even and pass infinities and NaNs on. The types with a shared scale
/// refuse them. On an error `out` is as it was.
pub fn quantize(block: BlockType, values: &[f32], out: &mut Vec<u8>) -> Result<(), QuantizeError> {
    match block {
        BlockType::F32 => dense::quantize_f32(values, out),
        BlockType::F16 => dense::quantize_f16(values, out),
        BlockType::BF16 => dense::quantize_bf16(values, out),
        BlockType::Q4_0 => encode_blocks(block, values, out, q4_0::quantize_block)?,
        BlockType::Q4_1 => encode_blocks(block, values, out, q4_1::quantize_block)?,
        BlockType::Q8_0 => encode_blocks(block, values, out, q8_0::quantize_block)?,
        BlockType::NF4 => encode_blocks(block, values, out, four_bit::quantize_block::<four_bit::NF4>)?,
        BlockType::FP4 => encode_blocks(block, values, out, four_bit::quantize_block::<four_bit::FP4>)?,
        _ => return Err(QuantizeError::NoEncoder(block)),
    }
    Ok(())
}

fn encode_blocks(
    block: BlockType,
    values: &[f32],
    out: &mut Vec<u8>,
    encode: impl Fn(&[f32], &mut Vec<u8>) -> Option<()>,
) -> Result<(), QuantizeError> {
    let len = block.block_len();
    if !values.len().is_multiple_of(len) {
        return Err(QuantizeError::PartialBlock { block, len: values.len() });
    }
    let start = out.len();
    out.reserve(values.len() / len * block.block_bytes());
    for (i, values) in values.chunks_exact(len).enumerate() {
        let finite = values.iter().all(|v| v.is_finite());
        if !finite || encode(values, out).is_none() {
            out.truncate(start);
            return Err(QuantizeError::TooLarge { block, index: i * len });
        }
    }
    Ok(())
}

/// The f16 at `bytes[at..at + 2]` as f32.
#[inline]
fn read_f16(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The inverse of a scale, zero where it would not be finite: below 2^-128 a scale is zero in f16, all
/// weights decode to zero, and the reference's quants are whatever the machine makes of infinity.
fn inverse(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// A scale or minimum as f16 bytes; `None` if it does not fit.
fn scale(value: f32) -> Option<[u8; 2]> {
    let half = f16::from_f32(value);
    half.is_finite().then(|| half.to_le_bytes())
}

#[cfg(test)]
mod tests;
