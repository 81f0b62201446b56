//! The formats whose 4-bit quants are places in a table of 16 numbers: IQ4_NL, IQ4_XS and MXFP4.
//!
//! Byte `j` of each 16 bytes of quants holds weight `j` in its low half and weight `j + 16` in its high half.
//!
//! | type | block | layout |
//! | --- | --- | --- |
//! | IQ4_NL | 32 weights, 18 bytes | 0..2 scale `d` f16, 2..18 quants |
//! | IQ4_XS | 256 weights, 136 bytes | 0..2 `d` f16, 2..4 upper bits of the scales, 4..8 lower ones, 8..136 quants |
//! | MXFP4 | 32 weights, 17 bytes | 0 exponent (E8M0), 1..17 quants |
//!
//! An IQ4 weight is `d * table[q]`; in IQ4_XS `d` is `d * (scale - 32)` with a 6-bit scale for each 32 weights,
//! of which `scales[g / 2]` has the lower four bits and bits `2g ..` of the upper ones the rest. MXFP4 is the
//! Open Compute Project's microscaling format (specification 1.0): FP4 numbers (E2M1) times a power of two.

use super::group::{Codec, GROUP, Group, half_at, nibbles, u16_at};

/// The numbers of IQ4_NL and IQ4_XS: denser near zero, as weights are.
pub(crate) const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice the numbers of E2M1.
pub(crate) const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

#[inline(always)]
fn look_up(table: &[i8; 16], quants: &[u8]) -> [i8; GROUP] {
    let places = nibbles(quants);
    let mut values = [0; GROUP];
    for (value, place) in values.iter_mut().zip(places) {
        *value = table[usize::from(place)];
    }
    values
}

pub(crate) struct IQ4NL;

impl Codec for IQ4NL {
    const LEN: usize = 32;
    const BYTES: usize = 18;

    #[inline(always)]
    fn group(block: &[u8], _index: usize) -> Group {
        Group::new(look_up(&IQ4, &block[2..]), half_at(block, 0))
    }
}

pub(crate) struct IQ4XS;

/// The scale of group `g` (0..8) of an IQ4_XS block, less 32.
#[inline(always)]
pub(crate) fn iq4_xs_scale(block: &[u8], g: usize) -> i32 {
    let low = block[4 + g / 2] >> (4 * (g % 2)) & 15;
    let high = u16_at(block, 2) >> (2 * g) & 3;
    i32::from(u16::from(low) | high << 4) - 32
}

impl Codec for IQ4XS {
    const LEN: usize = 256;
    const BYTES: usize = 136;

    #[inline(always)]
    fn group(block: &[u8], index: usize) -> Group {
        let scale = half_at(block, 0) * iq4_xs_scale(block, index) as f32;
        Group::new(look_up(&IQ4, &block[8 + 16 * index..]), scale)
    }
}

pub(crate) struct MXFP4;

/// Half of `2^(exponent - 127)`. There is no not-a-number here: ggml reads 255 as a power as well.
#[inline(always)]
pub(crate) fn half_of_e8m0(exponent: u8) -> f32 {
    f32::from_bits(if exponent < 2 { 0x0020_0000 << exponent } else { (u32::from(exponent) - 1) << 23 })
}

impl Codec for MXFP4 {
    const LEN: usize = 32;
    const BYTES: usize = 17;

    #[inline(always)]
    fn group(block: &[u8], _index: usize) -> Group {
        Group::new(look_up(&E2M1, &block[1..]), half_of_e8m0(block[0]))
    }
}
