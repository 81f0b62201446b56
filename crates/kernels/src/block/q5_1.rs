//! Q5_1: 32 weights in 24 bytes, with a minimum.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | scale `d`, f16 |
//! | 2..4 | minimum `m`, f16 |
//! | 4..8 | fifth bits, little-endian: bit `j` belongs to weight `j` |
//! | 8..24 | low bits: byte `j` holds weight `j` in its low half and weight `j + 16` in its high half |
//!
//! A weight is `q * d + m` with `q` in 0..32.

use super::group::{Codec, GROUP, Group, half_at, nibbles, u32_at};

pub(crate) struct Q5_1;

impl Codec for Q5_1 {
    const LEN: usize = 32;
    const BYTES: usize = 24;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn group(block: &[u8], _index: usize) -> Group {
        let fifth = u32_at(block, 4);
        let low = nibbles(&block[8..]);
        let mut values = [0; GROUP];
        for (i, (value, low)) in values.iter_mut().zip(low).enumerate() {
            *value = (low | ((fifth >> i & 1) << 4) as u8) as i8;
        }
        Group { values, scales: [half_at(block, 0); 2], mins: [half_at(block, 2); 2] }
    }
}
