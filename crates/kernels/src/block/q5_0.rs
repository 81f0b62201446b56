//! Q5_0: 32 weights in 22 bytes, symmetric.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | scale `d`, f16 |
//! | 2..6 | fifth bits, little-endian: bit `j` belongs to weight `j` |
//! | 6..22 | low bits: byte `j` holds weight `j` in its low half and weight `j + 16` in its high half |
//!
//! A weight is `(q - 16) * d` with `q` in 0..32.

use super::read_f16;

/// Weights in a block.
pub const LEN: usize = 32;
/// Bytes of a block.
pub const BYTES: usize = 22;

/// Decodes one block: `bytes` is [`BYTES`] long, `out` is [`LEN`] long.
#[inline]
pub fn dequantize_block(bytes: &[u8], out: &mut [f32]) {
    assert!(bytes.len() == BYTES && out.len() == LEN, "one Q5_0 block");
    let d = read_f16(bytes, 0);
    let fifth = u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
    let (low, high) = out.split_at_mut(LEN / 2);
    for (j, ((q, low), high)) in bytes[6..].iter().zip(low).zip(high).enumerate() {
        let low_bit = (fifth >> j & 1) << 4;
        let high_bit = (fifth >> (j + 16) & 1) << 4;
        *low = ((u32::from(q & 15) | low_bit) as i32 - 16) as f32 * d;
        *high = ((u32::from(q >> 4) | high_bit) as i32 - 16) as f32 * d;
    }
}
