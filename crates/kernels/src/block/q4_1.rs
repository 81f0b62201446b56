//! Q4_1: 32 weights in 20 bytes, with a minimum.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | scale `d`, f16 |
//! | 2..4 | minimum `m`, f16 |
//! | 4..20 | quants: byte `j` holds weight `j` in its low half and weight `j + 16` in its high half |
//!
//! A weight is `q * d + m` with `q` in 0..16, the product rounded before the sum.

use super::{inverse, read_f16, scale};

/// Weights in a block.
pub const LEN: usize = 32;
/// Bytes of a block.
pub const BYTES: usize = 20;

/// Decodes one block: `bytes` is [`BYTES`] long, `out` is [`LEN`] long.
#[inline]
pub fn dequantize_block(bytes: &[u8], out: &mut [f32]) {
    assert!(bytes.len() == BYTES && out.len() == LEN, "one Q4_1 block");
    let d = read_f16(bytes, 0);
    let m = read_f16(bytes, 2);
    let (low, high) = out.split_at_mut(LEN / 2);
    for ((q, low), high) in bytes[4..].iter().zip(low).zip(high) {
        *low = f32::from(q & 15) * d + m;
        *high = f32::from(q >> 4) * d + m;
    }
}

/// Encodes one block of [`LEN`] finite weights as ggml's reference does: the range from the smallest
/// to the largest weight in 15 steps, rounded half up. `None` if the scale overflows f16.
pub(super) fn quantize_block(values: &[f32], out: &mut Vec<u8>) -> Option<()> {
    let mut min = f32::MAX;
    let mut max = -f32::MAX;
    for &v in values {
        // Comparisons as in the reference: with equal zeros the sign of the first one stays.
        if v < min {
            min = v;
        }
        if v > max {
            max = v;
        }
    }
    let d = (max - min) / 15.0;
    let inverse = inverse(d);
    out.extend(scale(d)?);
    out.extend(scale(min)?);
    let quant = |v: f32| (((v - min) * inverse + 0.5) as i8).min(15) as u8;
    for (&low, &high) in values[..LEN / 2].iter().zip(&values[LEN / 2..]) {
        out.push(quant(low) | quant(high) << 4);
    }
    Some(())
}
