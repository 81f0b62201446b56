//! Q8_0: 32 weights in 34 bytes, symmetric.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | scale `d`, f16 |
//! | 2..34 | quants, `i8`, in order |
//!
//! A weight is `q * d`. Encoders give -127..=127; a decoder must take -128 too.

use super::{inverse, read_f16, scale};

/// Weights in a block.
pub const LEN: usize = 32;
/// Bytes of a block.
pub const BYTES: usize = 34;

/// Decodes one block: `bytes` is [`BYTES`] long, `out` is [`LEN`] long.
#[inline]
pub fn dequantize_block(bytes: &[u8], out: &mut [f32]) {
    assert!(bytes.len() == BYTES && out.len() == LEN, "one Q8_0 block");
    let d = read_f16(bytes, 0);
    for (q, out) in bytes[2..].iter().zip(out) {
        *out = f32::from(*q as i8) * d;
    }
}

/// Encodes one block of [`LEN`] finite weights as ggml's reference does: the largest magnitude
/// becomes 127, the others are rounded half away from zero. `None` if the scale overflows f16.
pub(super) fn quantize_block(values: &[f32], out: &mut Vec<u8>) -> Option<()> {
    let largest = values.iter().fold(0.0f32, |a, v| a.max(v.abs()));
    let d = largest / 127.0;
    let inverse = inverse(d);
    out.extend(scale(d)?);
    out.extend(values.iter().map(|v| (v * inverse).round() as i8 as u8));
    Some(())
}
