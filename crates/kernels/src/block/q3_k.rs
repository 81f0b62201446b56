//! Q3_K: 256 weights in 110 bytes, sixteen groups of 16, each with a signed 6-bit scale.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..32 | third bits: bit `r` of byte `l` belongs to weight `32 r + l` |
//! | 32..96 | low bits: byte `l` of each run of 32 holds weights `l`, `l + 32`, `l + 64`, `l + 96`, lowest bits first |
//! | 96..108 | sixteen 6-bit scales, packed (see [`scale`]) |
//! | 108..110 | scale of the scales `d`, f16 |
//!
//! A weight is `(d * (scale - 32)) * (q - 4)` with `q` in 0..8.

use super::group::{Codec, GROUP, Group, half_at};

pub(crate) struct Q3K;

/// Scale `i` (0..16) less 32. Bytes 0..8 hold the low four bits of scales 0..8 in their low halves and of scales
/// 8..16 in their high halves; byte `8 + i % 4` holds the top two of scales `i`, `i + 4`, `i + 8`, `i + 12`.
#[inline(always)]
pub(crate) fn scale(packed: &[u8], i: usize) -> i32 {
    let low = packed[i % 8] >> (4 * (i / 8)) & 15;
    let high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
    i32::from(low | high << 4) - 32
}

impl Codec for Q3K {
    const LEN: usize = 256;
    const BYTES: usize = 110;

    #[inline(always)]
    fn group(block: &[u8], index: usize) -> Group {
        let d = half_at(block, 108);
        let low = &block[32 + 32 * (index / 4)..];
        let mut group = Group::new([0; GROUP], 0.0);
        for (value, (low, high)) in group.values.iter_mut().zip(low.iter().zip(block)) {
            *value = (low >> (2 * (index % 4)) & 3 | (high >> index & 1) << 2) as i8 - 4;
        }
        for half in 0..2 {
            group.scales[half] = d * scale(&block[96..], 2 * index + half) as f32;
        }
        group
    }
}
