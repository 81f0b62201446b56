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

/// `N` points of `W` coordinates, from byte `at` on, one a byte from the lowest up; a coordinate is a place in `map`.
const fn points<const W: usize, const N: usize>(at: usize, map: &[i8]) -> [u64; N] {
    let bits = if map.len() > 4 { 4 } else { 2 };
    let mut out = [0; N];
    let mut i = 0;
    while i < N * W {
        let byte = PACKED[at + i * bits / 8];
        let place = (byte >> (i * bits % 8)) & ((1 << bits) - 1);
        out[i / W] |= (map[place as usize] as u8 as u64) << (8 * (i % W));
        i += 1;
    }
    out
}

const IQ2: [i8; 3] = [8, 25, 43];
static IQ2_XXS: [u64; 256] = points::<8, 256>(0, &IQ2);
static IQ2_XS: [u64; 512] = points::<8, 512>(512, &IQ2);
static IQ2_S: [u64; 1024] = points::<8, 1024>(1536, &IQ2);
static IQ3_XXS: [u64; 256] = points::<4, 256>(3584, &[4, 12, 20, 28, 36, 44, 52, 62]);
static IQ3_S: [u64; 512] = points::<4, 512>(4096, &[1, 3, 5, 7, 9, 11, 13, 15]);
/// Eight times the points: a shift is then one.
static IQ1: [u64; 2048] = points::<8, 2048>(5120, &[-8, 0, 8]);

/// 32 weights as points.
pub(crate) struct Points {
    /// Coordinates, one a byte.
    pub(crate) points: [u64; 4],
    /// Bit `i` set: weight `i` is negative, or shifted down.
    pub(crate) signs: u32,
    /// As in [`Group`].
    pub(crate) scales: [f32; 2],
}

/// A format of points.
pub(crate) trait Grid {
    /// Bytes of a block.
    const BYTES: usize;
    /// Whether bits of `signs` say how points are shifted, by one, and not whether they are negative.
    const SHIFTED: bool;

    /// Group `index` (0..8) of a block.
    fn points(block: &[u8], index: usize) -> Points;
}

impl<G: Grid> Codec for G {
    const LEN: usize = 256;
    const BYTES: usize = G::BYTES;

    #[inline(always)]
    fn group(block: &[u8], index: usize) -> Group {
        let Points { points, signs, scales } = G::points(block, index);
        let mut values = [0; GROUP];
        for (i, value) in values.iter_mut().enumerate() {
            let point = (points[i / 8] >> (8 * (i % 8))) as i8;
            let sign = if signs >> i & 1 == 1 { -1 } else { 1 };
            *value = if G::SHIFTED { point + sign } else { point * sign };
        }
        Group { values, scales, mins: [0.0; 2] }
    }
}

/// 32 signs of four times seven bits.
#[inline(always)]
fn all_signs(packed: u32) -> u32 {
    let sevens = packed & 127 | (packed << 1) & (127 << 8) | (packed << 2) & (127 << 16) | (packed << 3) & (127 << 24);
    // The parity of each byte, all four at once: a count of bits needs an instruction that AVX2 does not imply.
    let mut parity = sevens ^ (sevens >> 4) & 0x0f0f_0f0f;
    parity ^= (parity >> 2) & 0x0303_0303;
    parity ^= (parity >> 1) & 0x0101_0101;
    sevens | (parity & 0x0101_0101) << 7
}

pub(crate) struct IQ2XXS;

impl Grid for IQ2XXS {
    const BYTES: usize = 66;
    const SHIFTED: bool = false;

    #[inline(always)]
    fn points(block: &[u8], index: usize) -> Points {
        let packed = u32_at(block, 2 + 8 * index + 4);
        let mut points = [0; 4];
        for (l, point) in points.iter_mut().enumerate() {
            *point = IQ2_XXS[usize::from(block[2 + 8 * index + l])];
        }
        let scale = half_at(block, 0) * (0.5 + (packed >> 28) as f32) * 0.25;
        Points { points, signs: all_signs(packed), scales: [scale; 2] }
    }
}

/// The two scales that a byte holds, as IQ2_XS and IQ2_S have them.
#[inline(always)]
fn two_scales(d: f32, byte: u8) -> [f32; 2] {
    [d * (0.5 + f32::from(byte & 15)) * 0.25, d * (0.5 + f32::from(byte >> 4)) * 0.25]
}

pub(crate) struct IQ2XS;

impl Grid for IQ2XS {
    const BYTES: usize = 74;
    const SHIFTED: bool = false;

    #[inline(always)]
    fn points(block: &[u8], index: usize) -> Points {
        let (mut points, mut sevens) = ([0; 4], 0);
        for (l, point) in points.iter_mut().enumerate() {
            let packed = u16_at(block, 2 + 8 * index + 2 * l);
            *point = IQ2_XS[usize::from(packed & 511)];
            sevens |= u32::from(packed >> 9) << (7 * l);
        }
        Points { points, signs: all_signs(sevens), scales: two_scales(half_at(block, 0), block[66 + index]) }
    }
}

pub(crate) struct IQ2S;

impl Grid for IQ2S {
    const BYTES: usize = 82;
    const SHIFTED: bool = false;

    #[inline(always)]
    fn points(block: &[u8], index: usize) -> Points {
        let high = block[66 + index];
        let mut points = [0; 4];
        for (l, point) in points.iter_mut().enumerate() {
            *point = IQ2_S[usize::from(block[2 + 4 * index + l]) | usize::from(high >> (2 * l) & 3) << 8];
        }
        let scales = two_scales(half_at(block, 0), block[74 + index]);
        Points { points, signs: u32_at(block, 34 + 4 * index), scales }
    }
}

pub(crate) struct IQ3XXS;

impl Grid for IQ3XXS {
    const BYTES: usize = 98;
    const SHIFTED: bool = false;

    #[inline(always)]
    fn points(block: &[u8], index: usize) -> Points {
        let packed = u32_at(block, 66 + 4 * index);
        let mut points = [0; 4];
        for (l, point) in points.iter_mut().enumerate() {
            let places = &block[2 + 8 * index + 2 * l..];
            *point = IQ3_XXS[usize::from(places[0])] | IQ3_XXS[usize::from(places[1])] << 32;
        }
        let scale = half_at(block, 0) * (0.5 + (packed >> 28) as f32) * 0.5;
        Points { points, signs: all_signs(packed), scales: [scale; 2] }
    }
}

pub(crate) struct IQ3S;

impl Grid for IQ3S {
    const BYTES: usize = 110;
    const SHIFTED: bool = false;

    #[inline(always)]
    fn points(block: &[u8], index: usize) -> Points {
        let high = block[66 + index];
        let mut points = [0; 4];
        for (l, point) in points.iter_mut().enumerate() {
            let places = &block[2 + 8 * index + 2 * l..];
            let low = usize::from(places[0]) | usize::from(high >> (2 * l) & 1) << 8;
            let upper = usize::from(places[1]) | usize::from(high >> (2 * l + 1) & 1) << 8;
            *point = IQ3_S[low] | IQ3_S[upper] << 32;
        }
        let scale = block[106 + index / 2] >> (4 * (index % 2)) & 15;
        let scale = half_at(block, 0) * f32::from(1 + 2 * scale);
        Points { points, signs: u32_at(block, 74 + 4 * index), scales: [scale; 2] }
    }
}

pub(crate) struct IQ1S;

impl Grid for IQ1S {
    const BYTES: usize = 50;
    const SHIFTED: bool = true;

    #[inline(always)]
    fn points(block: &[u8], index: usize) -> Points {
        let packed = u16_at(block, 34 + 2 * index);
        let mut points = [0; 4];
        for (l, point) in points.iter_mut().enumerate() {
            *point = IQ1[usize::from(block[2 + 4 * index + l]) | usize::from(packed >> (3 * l) & 7) << 8];
        }
        let signs = if packed >> 15 == 1 { u32::MAX } else { 0 };
        let scale = half_at(block, 0) * f32::from(2 * (packed >> 12 & 7) + 1) * 0.125;
        Points { points, signs, scales: [scale; 2] }
    }
}

pub(crate) struct IQ1M;

impl Grid for IQ1M {
    const BYTES: usize = 56;
    const SHIFTED: bool = true;

    #[inline(always)]
    fn points(block: &[u8], index: usize) -> Points {
        // The upper four bits of the four words of scales are the f16 `d`, lowest first.
        let mut d = 0;
        for word in 0..4 {
            d |= (u16_at(block, 48 + 2 * word) >> 12) << (4 * word);
        }
        let d = half::f16::from_bits(d).to_f32();
        let packed = u16_at(block, 48 + 2 * (index / 2)) >> (6 * (index % 2));
        let (mut points, mut signs) = ([0; 4], 0);
        for (l, point) in points.iter_mut().enumerate() {
            let high = block[32 + 2 * index + l / 2] >> (4 * (l % 2));
            *point = IQ1[usize::from(block[4 * index + l]) | usize::from(high & 7) << 8];
            signs |= (if high & 8 != 0 { 255 } else { 0 }) << (8 * l);
        }
        let scales = [packed & 7, packed >> 3 & 7].map(|scale| d * f32::from(2 * scale + 1) * 0.125);
        Points { points, signs, scales }
    }
}
