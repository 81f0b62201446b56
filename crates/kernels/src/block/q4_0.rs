//! Q4_0: 32 weights in 18 bytes, symmetric.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | scale `d`, f16 |
//! | 2..18 | quants: byte `j` holds weight `j` in its low half and weight `j + 16` in its high half |
//!
//! A weight is `(q - 8) * d` with `q` in 0..16.

use super::{inverse, read_f16, scale};

/// Weights in a block.
pub const LEN: usize = 32;
/// Bytes of a block.
pub const BYTES: usize = 18;

/// Decodes one block: `bytes` is [`BYTES`] long, `out` is [`LEN`] long.
#[inline]
pub fn dequantize_block(bytes: &[u8], out: &mut [f32]) {
    assert!(bytes.len() == BYTES && out.len() == LEN, "one Q4_0 block");
    let d = read_f16(bytes, 0);
    let (low, high) = out.split_at_mut(LEN / 2);
    for ((q, low), high) in bytes[2..].iter().zip(low).zip(high) {
        *low = (i32::from(q & 15) - 8) as f32 * d;
        *high = (i32::from(q >> 4) - 8) as f32 * d;
    }
}

/// Encodes one block of [`LEN`] finite weights as ggml's reference does: the weight of largest
/// magnitude, sign included, becomes quant 0 (-8), the others are rounded half up. `None` if the scale overflows f16.
pub(super) fn quantize_block(values: &[f32], out: &mut Vec<u8>) -> Option<()> {
    let mut largest = 0.0f32;
    for &v in values {
        if largest.abs() < v.abs() {
            largest = v;
        }
    }
    let d = largest / -8.0;
    let inverse = inverse(d);
    out.extend(scale(d)?);
    let quant = |v: f32| ((v * inverse + 8.5) as i8).min(15) as u8;
    for (&low, &high) in values[..LEN / 2].iter().zip(&values[LEN / 2..]) {
        out.push(quant(low) | quant(high) << 4);
    }
    Some(())
}
