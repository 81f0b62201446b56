//! The formats whose quants are places in a list of points, eight (or four) weights at a time: IQ1, IQ2, IQ3.
//!
//! Blocks hold 256 weights, eight groups of 32. `d` is the f16 at the block's start (but for IQ1_M).
//!
//! | type | bytes | layout |
//! | --- | --- | --- |
//! | IQ2_XXS | 66 | of each group: 4 places of 8 bits; 4 x 7 bits of signs, 4 bits of scale |
//! | IQ2_XS | 74 | 2..66 of each 8 weights 9 bits of place, 7 of signs; 66..74 two scales a group |
//! | IQ2_S | 82 | 2..34 places, 34..66 signs, 66..74 upper two bits of the places, 74..82 two scales a group |
//! | IQ3_XXS | 98 | 2..66 places of 4 weights, 66..98 of each group 4 x 7 bits of signs, 4 bits of scale |
//! | IQ3_S | 110 | 2..66 places of 4 weights, 66..74 their ninth bits, 74..106 signs, 106..110 a scale a group |
//! | IQ1_S | 50 | 2..34 places, 34..50 of each group 4 x 3 upper bits of the places, 3 bits of scale, the shift's sign |
//! | IQ1_M | 56 | 0..32 places, 32..48 of each 8 weights 3 upper bits and the shift's sign, 48..56 scales and `d` |
//!
//! A weight is `scale * point * sign`; in IQ1 `scale * (point + shift)` with a shift of an eighth, up or down,
//! where points are -1, 0 and 1. Seven bits of signs stand for eight: the number of negative ones is even.

use super::group::{Codec, GROUP, Group, half_at, u16_at, u32_at};

/// All lists, packed: 2 bits a coordinate for IQ1 and IQ2, 4 for IQ3. `scripts/fixtures/dequantize.py` takes them
/// from the Python package `gguf`.
const PACKED: &[u8] = include_bytes!("grids.bin");

/// `N` points of `W` coordinates, from byte `at` on; a coordinate is a place in `map`.
const fn points<const W: usize, const N: usize>(at: usize, map: &[i8]) -> [[i8; W]; N] {
    let bits = if map.len() > 4 { 4 } else { 2 };
    let mut out = [[0; W]; N];
    let mut i = 0;
    while i < N * W {
        let byte = PACKED[at + i * bits / 8];
        let place = (byte >> (i * bits % 8)) & ((1 << bits) - 1);
        out[i / W][i % W] = map[place as usize];
        i += 1;
    }
    out
}

const IQ2: [i8; 3] = [8, 25, 43];
static IQ2_XXS: [[i8; 8]; 256] = points(0, &IQ2);
static IQ2_XS: [[i8; 8]; 512] = points(512, &IQ2);
static IQ2_S: [[i8; 8]; 1024] = points(1536, &IQ2);
static IQ3_XXS: [[i8; 4]; 256] = points(3584, &[4, 12, 20, 28, 36, 44, 52, 62]);
static IQ3_S: [[i8; 4]; 512] = points(4096, &[1, 3, 5, 7, 9, 11, 13, 15]);
static IQ1: [[i8; 8]; 2048] = points(5120, &[-1, 0, 1]);

/// Eight signs of seven bits.
#[inline(always)]
fn eight_signs(seven: u32) -> u8 {
    let seven = (seven & 127) as u8;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// Writes points with signs: bit `i` set makes number `i` negative.
#[inline(always)]
fn put(to: &mut [i8], points: &[i8], signs: u8) {
    for (i, (to, point)) in to.iter_mut().zip(points).enumerate() {
        *to = if signs >> i & 1 == 1 { -point } else { *point };
    }
}

pub(crate) struct IQ2XXS;

impl Codec for IQ2XXS {
    const LEN: usize = 256;
    const BYTES: usize = 66;

    #[inline(always)]
    fn group(block: &[u8], index: usize) -> Group {
        let packed = u32_at(block, 2 + 8 * index + 4);
        let mut values = [0; GROUP];
        for (l, values) in values.chunks_exact_mut(8).enumerate() {
            let place = usize::from(block[2 + 8 * index + l]);
            put(values, &IQ2_XXS[place], eight_signs(packed >> (7 * l)));
        }
        Group::new(values, half_at(block, 0) * (0.5 + (packed >> 28) as f32) * 0.25)
    }
}

/// The two scales that a byte holds, as IQ2_XS and IQ2_S have them.
#[inline(always)]
fn two_scales(d: f32, byte: u8) -> [f32; 2] {
    [d * (0.5 + f32::from(byte & 15)) * 0.25, d * (0.5 + f32::from(byte >> 4)) * 0.25]
}

pub(crate) struct IQ2XS;

impl Codec for IQ2XS {
    const LEN: usize = 256;
    const BYTES: usize = 74;

    #[inline(always)]
    fn group(block: &[u8], index: usize) -> Group {
        let mut values = [0; GROUP];
        for (l, values) in values.chunks_exact_mut(8).enumerate() {
            let packed = u16_at(block, 2 + 8 * index + 2 * l);
            put(values, &IQ2_XS[usize::from(packed & 511)], eight_signs(u32::from(packed >> 9)));
        }
        Group { values, scales: two_scales(half_at(block, 0), block[66 + index]), mins: [0.0; 2] }
    }
}

pub(crate) struct IQ2S;

impl Codec for IQ2S {
    const LEN: usize = 256;
    const BYTES: usize = 82;

    #[inline(always)]
    fn group(block: &[u8], index: usize) -> Group {
        let high = block[66 + index];
        let mut values = [0; GROUP];
        for (l, values) in values.chunks_exact_mut(8).enumerate() {
            let place = usize::from(block[2 + 4 * index + l]) | usize::from(high >> (2 * l) & 3) << 8;
            put(values, &IQ2_S[place], block[34 + 4 * index + l]);
        }
        Group { values, scales: two_scales(half_at(block, 0), block[74 + index]), mins: [0.0; 2] }
    }
}

pub(crate) struct IQ3XXS;

impl Codec for IQ3XXS {
    const LEN: usize = 256;
    const BYTES: usize = 98;

    #[inline(always)]
    fn group(block: &[u8], index: usize) -> Group {
        let packed = u32_at(block, 66 + 4 * index);
        let mut values = [0; GROUP];
        for (l, values) in values.chunks_exact_mut(4).enumerate() {
            let place = usize::from(block[2 + 8 * index + l]);
            let signs = eight_signs(packed >> (7 * (l / 2)));
            put(values, &IQ3_XXS[place], signs >> (4 * (l % 2)));
        }
        Group::new(values, half_at(block, 0) * (0.5 + (packed >> 28) as f32) * 0.5)
    }
}

pub(crate) struct IQ3S;

impl Codec for IQ3S {
    const LEN: usize = 256;
    const BYTES: usize = 110;

    #[inline(always)]
    fn group(block: &[u8], index: usize) -> Group {
        let high = block[66 + index];
        let mut values = [0; GROUP];
        for (l, values) in values.chunks_exact_mut(4).enumerate() {
            let place = usize::from(block[2 + 8 * index + l]) | usize::from(high >> l & 1) << 8;
            put(values, &IQ3_S[place], block[74 + 4 * index + l / 2] >> (4 * (l % 2)));
        }
        let scale = block[106 + index / 2] >> (4 * (index % 2)) & 15;
        Group::new(values, half_at(block, 0) * f32::from(1 + 2 * scale))
    }
}

/// Eight times the points of IQ1 with their shift, which is an eighth.
#[inline(always)]
fn put_shifted(to: &mut [i8], place: usize, down: bool) {
    let shift = if down { -1 } else { 1 };
    for (to, point) in to.iter_mut().zip(IQ1[place]) {
        *to = 8 * point + shift;
    }
}

pub(crate) struct IQ1S;

impl Codec for IQ1S {
    const LEN: usize = 256;
    const BYTES: usize = 50;

    #[inline(always)]
    fn group(block: &[u8], index: usize) -> Group {
        let packed = u16_at(block, 34 + 2 * index);
        let mut values = [0; GROUP];
        for (l, values) in values.chunks_exact_mut(8).enumerate() {
            let place = usize::from(block[2 + 4 * index + l]) | usize::from(packed >> (3 * l) & 7) << 8;
            put_shifted(values, place, packed >> 15 == 1);
        }
        Group::new(values, half_at(block, 0) * f32::from(2 * (packed >> 12 & 7) + 1) * 0.125)
    }
}

pub(crate) struct IQ1M;

impl Codec for IQ1M {
    const LEN: usize = 256;
    const BYTES: usize = 56;

    #[inline(always)]
    fn group(block: &[u8], index: usize) -> Group {
        // The upper four bits of the four words of scales are the f16 `d`, lowest first.
        let mut d = 0;
        for word in 0..4 {
            d |= (u16_at(block, 48 + 2 * word) >> 12) << (4 * word);
        }
        let d = half::f16::from_bits(d).to_f32();
        let packed = u16_at(block, 48 + 2 * (index / 2)) >> (6 * (index % 2));
        let mut values = [0; GROUP];
        for (l, values) in values.chunks_exact_mut(8).enumerate() {
            let high = block[32 + 2 * index + l / 2] >> (4 * (l % 2));
            let place = usize::from(block[4 * index + l]) | usize::from(high & 7) << 8;
            put_shifted(values, place, high & 8 != 0);
        }
        let scales = [packed & 7, packed >> 3 & 7].map(|scale| d * f32::from(2 * scale + 1) * 0.125);
        Group { values, scales, mins: [0.0; 2] }
    }
}
