//! Q2_K: 256 weights in 84 bytes, sixteen groups of 16, each with a scale and a minimum.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..16 | of each 16 weights the scale (low half) and the minimum (high half) |
//! | 16..80 | quants: byte `l` of each run of 32 holds weights `l`, `l + 32`, `l + 64`, `l + 96`, lowest bits first |
//! | 80..82 | scale of the scales `d`, f16 |
//! | 82..84 | scale of the minima `dmin`, f16 |
//!
//! A weight is `(d * scale) * q - (dmin * min)` with `q` in 0..4.

use super::group::{Codec, GROUP, Group, half_at};

pub(crate) struct Q2K;

impl Codec for Q2K {
    const LEN: usize = 256;
    const BYTES: usize = 84;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn group(block: &[u8], index: usize) -> Group {
        let (d, dmin) = (half_at(block, 80), half_at(block, 82));
        let quants = &block[16 + 32 * (index / 4)..];
        let mut group = Group::new([0; GROUP], 0.0);
        for (value, byte) in group.values.iter_mut().zip(quants) {
            *value = (byte >> (2 * (index % 4)) & 3) as i8;
        }
        for half in 0..2 {
            let packed = block[2 * index + half];
            group.scales[half] = d * f32::from(packed & 15);
            group.mins[half] = -(dmin * f32::from(packed >> 4));
        }
        group
    }
}
