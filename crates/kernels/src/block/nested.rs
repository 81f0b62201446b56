//! Double quantization (Dettmers et al. 2023, section 3): the scales of NF4 and FP4 blocks rounded themselves, to 8
//! bits in blocks of 256, around their mean.
//!
//! ```text
//! scale[i] = map[code[i]] * largest[i / 256] + offset
//! ```
//!
//! The map is the signed dynamic one. bitsandbytes does not look for the nearest value of the map at once: on a CPU it
//! first rounds `(scale - offset) / largest` to one of 65,536 places from -1 to 1, and takes the value nearest to the
//! place. Near zero that is a little worse than could be; it is done here too, so that the bytes are the same.

use crate::optimizer::dynamic_map;

use super::four_bit::{scales, set_scales};

/// Scales that share a scale of their own.
pub const NESTED_BLOCK: usize = 256;

/// Scales in 8 bits.
#[derive(Clone, Debug, PartialEq)]
pub struct NestedScales {
    /// A place in the dynamic map for each scale.
    pub codes: Vec<u8>,
    /// The largest distance from `offset` of each 256 scales.
    pub largest: Vec<f32>,
    /// The mean of all scales.
    pub offset: f32,
}

impl NestedScales {
    /// Rounds the scales of one weight. The mean is that of an f64 sum, rounded once; PyTorch's is a sum in f32 whose
    /// order hangs on the machine, and may be a unit in the last place off.
    pub fn encode(scales: &[f32]) -> NestedScales {
        let sum: f64 = scales.iter().map(|&s| f64::from(s)).sum();
        NestedScales::encode_around(scales, (sum / scales.len().max(1) as f64) as f32)
    }

    /// [`NestedScales::encode`] around a mean that is given.
    pub fn encode_around(scales: &[f32], offset: f32) -> NestedScales {
        let map = dynamic_map(true);
        let mut borders = [0.0f64; 255];
        for (border, pair) in borders.iter_mut().zip(map.windows(2)) {
            *border = (f64::from(pair[0]) + f64::from(pair[1])) / 2.0;
        }
        let mut nested = NestedScales { codes: Vec::with_capacity(scales.len()), largest: Vec::new(), offset };
        for scales in scales.chunks(NESTED_BLOCK) {
            let largest = scales.iter().fold(0.0f32, |most, s| most.max((s - offset).abs()));
            nested.largest.push(largest);
            // bitsandbytes' code for a block of nothing is the first of the map, times zero.
            if largest == 0.0 {
                nested.codes.resize(nested.codes.len() + scales.len(), 0);
                continue;
            }
            let inverse = 1.0 / largest;
            nested.codes.extend(scales.iter().map(|s| {
                let place = ((s - offset) * inverse + 1.0) * 32_767.5 + 0.5;
                // A cast saturates, and cuts as the program's does.
                let middle = f64::from(place as u16) / 32_767.5 - 1.0;
                borders.partition_point(|&border| border < middle) as u8
            }));
        }
        nested
    }

    /// The scales that these stand for.
    pub fn decode(&self) -> Vec<f32> {
        decode(&self.codes, &self.largest, dynamic_map(true), NESTED_BLOCK, self.offset)
    }
}

/// Scales from their codes, the scales of `block` of them each, the map and the mean, as bitsandbytes computes them.
///
/// # Panics
/// If there are fewer than `codes.len() / block` values in `largest`, or `block` is zero.
pub fn decode(codes: &[u8], largest: &[f32], map: &[f32; 256], block: usize, offset: f32) -> Vec<f32> {
    assert!(codes.len().div_ceil(block) <= largest.len(), "nested scales: one of their own for each block");
    let scale = |(i, &code): (usize, &u8)| map[usize::from(code)] * largest[i / block] + offset;
    codes.iter().enumerate().map(scale).collect()
}

/// Rounds the scales of a weight's NF4 or FP4 blocks through the nested form. `order` gives the order of the blocks that
/// the rounding sees, where it is not that of the bytes: block `order[i]` comes at place `i`.
///
/// # Panics
/// If `blocks` is not a whole number of blocks, or `order` does not name each of them.
pub fn round_scales(blocks: &mut [u8], order: Option<&[usize]>) {
    let mut exact = scales(blocks);
    let Some(order) = order else {
        return set_scales(blocks, &NestedScales::encode(&exact).decode());
    };
    assert_eq!(order.len(), exact.len(), "round_scales: a place for each block");
    let ordered: Vec<f32> = order.iter().map(|&i| exact[i]).collect();
    for (&i, rounded) in order.iter().zip(NestedScales::encode(&ordered).decode()) {
        exact[i] = rounded;
    }
    set_scales(blocks, &exact);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Numbers;
    use crate::{BlockType, block};

    include!("fixtures/bitsandbytes_nested.rs");

    #[test]
    fn the_bytes_are_those_of_bitsandbytes() {
        let even = |i: u32| i.wrapping_mul(2_654_435_761) as i32 as f32 / 2_147_483_648.0;
        // As `scripts/fixtures/four_bit.py` makes them: a whole block and a part of one.
        let scales: Vec<f32> = (0..300).map(|i| even(i).abs() * even(i + 1000).abs() + 0.03125).collect();
        let nested = NestedScales::encode_around(&scales, f32::from_bits(OFFSET));
        let hex: String = nested.codes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, CODES);
        assert_eq!(nested.largest.iter().map(|l| l.to_bits()).collect::<Vec<_>>(), LARGEST);
        let hash = nested
            .decode()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325u64, |h, w| (h ^ u64::from(w.to_bits())).wrapping_mul(0x100_0000_01b3));
        assert_eq!(hash, DECODED);
        let own = NestedScales::encode(&scales).offset.to_bits();
        assert!(own.abs_diff(OFFSET) <= 1, "the mean: {own:#x} and {OFFSET:#x}");
    }

    #[test]
    fn equal_scales_are_kept_and_ordinary_ones_nearly() {
        let equal = NestedScales::encode(&[0.75; 300]);
        assert!(equal.codes.iter().all(|&c| c == 0));
        assert_eq!(equal.decode(), [0.75; 300]);
        assert_eq!(NestedScales::encode(&[]).decode(), []);
        let scales: Vec<f32> = Numbers::new(4).normal(1000).iter().map(|v| v.abs() + 1.0).collect();
        let nested = NestedScales::encode(&scales);
        for (i, (got, want)) in nested.decode().iter().zip(&scales).enumerate() {
            let step = nested.largest[i / NESTED_BLOCK] / 128.0;
            assert!((got - want).abs() <= step, "{got} for {want}");
        }
    }

    #[test]
    fn blocks_are_rounded_in_the_order_that_is_given() {
        let values: Vec<f32> = Numbers::new(9).normal(600 * 64);
        let mut blocks = Vec::new();
        block::quantize(BlockType::NF4, &values, &mut blocks).unwrap();
        let exact = scales(&blocks);
        let turned: Vec<usize> = (0..600).rev().collect();
        let mut rounded = blocks.clone();
        round_scales(&mut rounded, Some(&turned));
        let mut reversed = exact.clone();
        reversed.reverse();
        let mut want = NestedScales::encode(&reversed).decode();
        want.reverse();
        assert_eq!(scales(&rounded), want);
        round_scales(&mut blocks, None);
        assert_eq!(scales(&blocks), NestedScales::encode(&exact).decode());
        assert_ne!(scales(&blocks), want);
    }
}
