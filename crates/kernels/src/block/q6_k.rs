//! Q6_K: 256 weights in 210 bytes, sixteen groups of 16, each with a signed 8-bit scale.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..128 | low four bits of the quants |
//! | 128..192 | high two bits of the quants |
//! | 192..208 | scales, `i8` |
//! | 208..210 | scale of the scales `d`, f16 |
//!
//! Each half of the block (128 weights: 64 low bytes, 32 high bytes, 8 scales) is four runs of 32.
//! Of weight `l` of run `r`, the low bits are in byte `l + 32 * (r % 2)`, in the low half for runs 0
//! and 1 and the high half for 2 and 3; the high bits are bits `2r..2r+2` of high byte `l`; the scale
//! is number `2r + l / 16`. A weight is `(d * scale) * (q - 32)` with `q` in 0..64.

use super::read_f16;

/// Weights in a block.
pub const LEN: usize = 256;
/// Bytes of a block.
pub const BYTES: usize = 210;

/// Decodes one block: `bytes` is [`BYTES`] long, `out` is [`LEN`] long.
#[inline]
pub fn dequantize_block(bytes: &[u8], out: &mut [f32]) {
    assert!(bytes.len() == BYTES && out.len() == LEN, "one Q6_K block");
    let d = read_f16(bytes, 208);
    for (half, out) in out.chunks_mut(128).enumerate() {
        let low = &bytes[64 * half..][..64];
        let high = &bytes[128 + 32 * half..][..32];
        let scales = &bytes[192 + 8 * half..][..8];
        for (run, out) in out.chunks_mut(32).enumerate() {
            let low = &low[32 * (run % 2)..][..32];
            let low_shift = 4 * (run / 2);
            for (l, out) in out.iter_mut().enumerate() {
                let q = (low[l] >> low_shift & 15) | (high[l] >> (2 * run) & 3) << 4;
                let group = d * f32::from(scales[2 * run + l / 16] as i8);
                *out = group * f32::from(q as i8 - 32);
            }
        }
    }
}
