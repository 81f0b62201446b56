//! Q4_K: 256 weights in 144 bytes, eight groups of 32, each with a scale and a minimum.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | scale of the scales `d`, f16 |
//! | 2..4 | scale of the minima `dmin`, f16 |
//! | 4..16 | eight 6-bit scales and eight 6-bit minima, packed (see [`scale_and_min`]) |
//! | 16..144 | quants: of each run of 32 bytes, the low halves are one group and the high halves the next |
//!
//! A weight of group `g` is `(d * scale[g]) * q - (dmin * min[g])` with `q` in 0..16, each product
//! rounded before the difference.

use super::read_f16;

/// Weights in a block.
pub const LEN: usize = 256;
/// Bytes of a block.
pub const BYTES: usize = 144;

/// The 6-bit scale and minimum of group `g` (0..8) out of the block's twelve packed bytes.
///
/// Bytes 0..4 hold scales 0..4 and bytes 4..8 minima 0..4 in their low six bits. The scale and
/// minimum of group `g` in 4..8 have their low four bits in byte `g + 4` (low half the scale, high
/// half the minimum) and their top two bits above those of scale and minimum `g - 4`.
#[inline]
pub fn scale_and_min(packed: &[u8; 12], g: usize) -> (u8, u8) {
    if g < 4 {
        (packed[g] & 63, packed[g + 4] & 63)
    } else {
        let low = packed[g + 4];
        ((low & 15) | (packed[g - 4] >> 6) << 4, (low >> 4) | (packed[g] >> 6) << 4)
    }
}

/// Decodes one block: `bytes` is [`BYTES`] long, `out` is [`LEN`] long.
#[inline]
pub fn dequantize_block(bytes: &[u8], out: &mut [f32]) {
    assert!(bytes.len() == BYTES && out.len() == LEN, "one Q4_K block");
    let d = read_f16(bytes, 0);
    let dmin = read_f16(bytes, 2);
    let packed: &[u8; 12] = bytes[4..16].try_into().expect("twelve bytes");
    for (pair, (quants, out)) in bytes[16..].chunks(32).zip(out.chunks_mut(64)).enumerate() {
        let (low_scale, low_min) = scale_and_min(packed, 2 * pair);
        let (high_scale, high_min) = scale_and_min(packed, 2 * pair + 1);
        let (d_low, m_low) = (d * f32::from(low_scale), dmin * f32::from(low_min));
        let (d_high, m_high) = (d * f32::from(high_scale), dmin * f32::from(high_min));
        let (low, high) = out.split_at_mut(32);
        for ((q, low), high) in quants.iter().zip(low).zip(high) {
            *low = d_low * f32::from(q & 15) - m_low;
            *high = d_high * f32::from(q >> 4) - m_high;
        }
    }
}
