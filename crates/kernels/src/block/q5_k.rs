//! Q5_K: 256 weights in 176 bytes, eight groups of 32, each with a scale and a minimum.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | scale of the scales `d`, f16 |
//! | 2..4 | scale of the minima `dmin`, f16 |
//! | 4..16 | eight 6-bit scales and eight 6-bit minima, packed as in Q4_K |
//! | 16..48 | fifth bits: bit `g` of byte `l` belongs to weight `l` of group `g` |
//! | 48..176 | low bits: of each run of 32 bytes, the low halves are one group and the high halves the next |
//!
//! A weight of group `g` is `(d * scale[g]) * q - (dmin * min[g])` with `q` in 0..32.

use super::group::{Codec, GROUP, Group, half_at};
use super::q4_k::scale_and_min;

pub(crate) struct Q5K;

impl Codec for Q5K {
    const LEN: usize = 256;
    const BYTES: usize = 176;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn group(block: &[u8], index: usize) -> Group {
        let packed: &[u8; 12] = block[4..16].try_into().expect("twelve bytes");
        let (scale, min) = scale_and_min(packed, index);
        let (scale, min) = (half_at(block, 0) * f32::from(scale), half_at(block, 2) * f32::from(min));
        let low = &block[48 + 32 * (index / 2)..];
        let mut values = [0; GROUP];
        for (value, (low, high)) in values.iter_mut().zip(low.iter().zip(&block[16..48])) {
            *value = (low >> (4 * (index % 2)) & 15 | (high >> index & 1) << 4) as i8;
        }
        Group { values, scales: [scale; 2], mins: [-min; 2] }
    }
}
