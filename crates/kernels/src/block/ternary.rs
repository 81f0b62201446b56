//! The ternary formats, whose weights are `d`, 0 and `-d`: TQ1_0 and TQ2_0, blocks of 256.
//!
//! | type | bytes | layout |
//! | --- | --- | --- |
//! | TQ1_0 | 54 | 0..48 five weights a byte, 48..52 four weights a byte, 52..54 scale `d` f16 |
//! | TQ2_0 | 66 | 0..64 two bits a weight as in Q2_K, 64..66 scale `d` f16 |
//!
//! A byte of TQ1_0 is a fraction of 256 in base 3: digit `n` is the integer part of `3 * frac(3^n * byte / 256)`.
//! Digit `n` of bytes 0..32 are weights `32 n ..`, of bytes 32..48 weights `160 + 16 n ..`, of bytes 48..52
//! weights `240 + 4 n ..`. A weight is `(digit - 1) * d`, in TQ2_0 with digits up to 3.

use super::group::{Codec, GROUP, Group, half_at};

/// Powers of three, modulo 256.
pub(crate) const POWERS: [u8; 5] = [1, 3, 9, 27, 81];

pub(crate) struct TQ1_0;

impl Codec for TQ1_0 {
    const LEN: usize = 256;
    const BYTES: usize = 54;

    #[inline(always)]
    fn group(block: &[u8], index: usize) -> Group {
        let mut values = [0; GROUP];
        for (i, value) in values.iter_mut().enumerate() {
            let (byte, digit) = match index * GROUP + i {
                at @ 0..160 => (block[at % 32], at / 32),
                at @ 160..240 => (block[32 + at % 16], (at - 160) / 16),
                at => (block[48 + at % 4], (at - 240) / 4),
            };
            let fraction = byte.wrapping_mul(POWERS[digit]);
            *value = ((u16::from(fraction) * 3) >> 8) as i8 - 1;
        }
        Group::new(values, half_at(block, 52))
    }
}

pub(crate) struct TQ2_0;

impl Codec for TQ2_0 {
    const LEN: usize = 256;
    const BYTES: usize = 66;

    #[inline(always)]
    fn group(block: &[u8], index: usize) -> Group {
        let mut values = [0; GROUP];
        for (value, byte) in values.iter_mut().zip(&block[32 * (index / 4)..]) {
            *value = (byte >> (2 * (index % 4)) & 3) as i8 - 1;
        }
        Group::new(values, half_at(block, 64))
    }
}
