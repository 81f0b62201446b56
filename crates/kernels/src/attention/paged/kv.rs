//! How a page keeps keys and values: as f32, as f16, or rounded in blocks of 32 with a scale.
//!
//! Keys lie as the scores need them: panels of 32 entries, in each a feature's 32 numbers side by side. Values lie
//! by entries. Blocks are of 32 features of one entry and rounded as ggml's Q8_0 and Q4_0 are (`block::q8_0`,
//! `block::q4_0`), but kept 32 at a time, as a tile, the scales apart from the quants.

use half::f16;

use super::{BLOCK, PAGE};
use crate::lanes::by_isa;

/// Numbers in a block.
pub const KV_BLOCK: usize = 32;

/// Blocks of 32 entries, 34 bytes a block: `scale * quant`.
///
/// Of keys the quants are `[feature][entry]`, of values `[entry][feature]`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Q8Tile {
    pub(super) scales: [f16; BLOCK],
    pub(super) quants: [i8; BLOCK * KV_BLOCK],
}

/// Blocks of 32 entries, 18 bytes a block: `scale * (quant - 8)`.
///
/// A byte holds the quants of features `j` and `j + 16`, in its low and its high half: of keys the bytes are
/// `[j][entry]`, of values `[entry][j]`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Q4Tile {
    pub(super) scales: [f16; BLOCK],
    pub(super) quants: [u8; BLOCK * KV_BLOCK / 2],
}

impl Default for Q8Tile {
    fn default() -> Q8Tile {
        Q8Tile { scales: [f16::ZERO; BLOCK], quants: [0; BLOCK * KV_BLOCK] }
    }
}

impl Default for Q4Tile {
    fn default() -> Q4Tile {
        Q4Tile { scales: [f16::ZERO; BLOCK], quants: [0; BLOCK * KV_BLOCK / 2] }
    }
}

/// Keys or values of a page.
///
/// Plain keys are `[kv_heads][PAGE / 32][head_dim][32]`, plain values `[kv_heads][PAGE][head_dim]`; tiles of either
/// `[kv_heads][PAGE / 32][head_dim / 32]`. [`write_entries`] and [`read_entries`] know the order.
///
/// [`write_entries`]: super::write_entries
/// [`read_entries`]: super::read_entries
#[derive(Clone, Copy, Debug)]
pub enum KvSlice<'a> {
    /// Kept as they are.
    F32(&'a [f32]),
    /// Rounded to half precision.
    F16(&'a [f16]),
    /// Rounded to 8 bits; `head_dim` is a multiple of 32.
    Q8_0(&'a [Q8Tile]),
    /// Rounded to 4 bits; `head_dim` is a multiple of 32.
    Q4_0(&'a [Q4Tile]),
}

/// A [`KvSlice`] to be written.
#[derive(Debug)]
pub enum KvSliceMut<'a> {
    /// Kept as they are.
    F32(&'a mut [f32]),
    /// Rounded to half precision.
    F16(&'a mut [f16]),
    /// Rounded to 8 bits; `head_dim` is a multiple of 32.
    Q8_0(&'a mut [Q8Tile]),
    /// Rounded to 4 bits; `head_dim` is a multiple of 32.
    Q4_0(&'a mut [Q4Tile]),
}

/// The numbers, or tiles, of one head of a page.
pub(super) fn of_head<T>(slice: &[T], head_dim: usize, head: usize, tiles: bool) -> &[T] {
    let len = PAGE * head_dim / if tiles { BLOCK * KV_BLOCK } else { 1 };
    &slice[head * len..(head + 1) * len]
}

impl<'a> KvSlice<'a> {
    /// Whether the numbers lie in blocks of [`KV_BLOCK`].
    pub(super) fn is_blocks(&self) -> bool {
        matches!(self, KvSlice::Q8_0(_) | KvSlice::Q4_0(_))
    }

    /// How many numbers there are.
    pub(super) fn numbers(&self) -> usize {
        match self {
            KvSlice::F32(v) => v.len(),
            KvSlice::F16(v) => v.len(),
            KvSlice::Q8_0(v) => v.len() * BLOCK * KV_BLOCK,
            KvSlice::Q4_0(v) => v.len() * BLOCK * KV_BLOCK,
        }
    }

    /// The part of one head.
    pub(super) fn head(&self, head_dim: usize, head: usize) -> KvSlice<'a> {
        match *self {
            KvSlice::F32(v) => KvSlice::F32(of_head(v, head_dim, head, false)),
            KvSlice::F16(v) => KvSlice::F16(of_head(v, head_dim, head, false)),
            KvSlice::Q8_0(v) => KvSlice::Q8_0(of_head(v, head_dim, head, true)),
            KvSlice::Q4_0(v) => KvSlice::Q4_0(of_head(v, head_dim, head, true)),
        }
    }
}

/// One block as it is rounded, before it goes to its tile.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Q8Block {
    pub(super) scale: f16,
    pub(super) quants: [i8; KV_BLOCK],
}

/// As [`Q8Block`]; byte `j` holds quant `j` in its low half and quant `j + 16` in its high half.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Q4Block {
    pub(super) scale: f16,
    pub(super) quants: [u8; KV_BLOCK / 2],
}

/// A scale to be stored; NaN where the numbers cannot be kept.
#[inline(always)]
fn stored(scale: f32, finite: bool) -> f16 {
    let scale = f16::from_f32(scale);
    if finite && scale.is_finite() { scale } else { f16::NAN }
}

/// The inverse of a scale; zero if it is too small to have a finite one, as the numbers then round to zero.
#[inline(always)]
fn inverse(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse.is_finite() { inverse } else { 0.0 }
}

by_isa! {
    /// Rounds to 8 bits: the largest magnitude of each block becomes 127 steps and the others the nearest step,
    /// ties to even. Blocks with a number that is not finite, or beyond the scale's range, decode to NaN.
    pub(super) fn rows_to_q8(values: &[f32], out: &mut [Q8Block]) {
        for (x, block) in values.as_chunks::<KV_BLOCK>().0.iter().zip(out) {
            let mut largest = 0.0f32;
            let mut finite = true;
            for v in x {
                largest = if v.abs() > largest { v.abs() } else { largest };
                finite &= v.is_finite();
            }
            let scale = largest / 127.0;
            let inverse = inverse(scale);
            block.scale = stored(scale, finite);
            for (q, v) in block.quants.iter_mut().zip(x) {
                *q = (v * inverse).round_ties_even() as i8;
            }
        }
    }
}

by_isa! {
    /// Rounds to 4 bits: the number of largest magnitude of each block becomes -8 steps and the others the nearest
    /// step. Blocks with a number that is not finite, or beyond the scale's range, decode to NaN.
    pub(super) fn rows_to_q4(values: &[f32], out: &mut [Q4Block]) {
        for (x, block) in values.as_chunks::<KV_BLOCK>().0.iter().zip(out) {
            let mut largest = 0.0f32;
            let mut finite = true;
            for &v in x {
                largest = if v.abs() > largest.abs() { v } else { largest };
                finite &= v.is_finite();
            }
            let scale = largest / -8.0;
            let inverse = inverse(scale);
            block.scale = stored(scale, finite);
            let mut quants = [0u8; KV_BLOCK];
            for (q, v) in quants.iter_mut().zip(x) {
                // From 0.5 to 16.5, cut down; only the end opposite to the largest can pass 15.
                *q = ((v * inverse + 8.5) as i32).min(15) as u8;
            }
            for (j, byte) in block.quants.iter_mut().enumerate() {
                *byte = quants[j] | quants[j + KV_BLOCK / 2] << 4;
            }
        }
    }
}

by_isa! {
    /// The numbers that blocks stand for.
    pub(super) fn q8_to_rows(blocks: &[Q8Block], out: &mut [f32]) {
        for (block, out) in blocks.iter().zip(out.as_chunks_mut::<KV_BLOCK>().0) {
            let scale = block.scale.to_f32();
            for (out, &q) in out.iter_mut().zip(&block.quants) {
                *out = f32::from(q) * scale;
            }
        }
    }
}

by_isa! {
    /// The numbers that blocks stand for.
    pub(super) fn q4_to_rows(blocks: &[Q4Block], out: &mut [f32]) {
        for (block, out) in blocks.iter().zip(out.as_chunks_mut::<KV_BLOCK>().0) {
            let scale = block.scale.to_f32();
            let (low, high) = out.split_at_mut(KV_BLOCK / 2);
            for ((low, high), &q) in low.iter_mut().zip(high).zip(&block.quants) {
                *low = (i32::from(q & 15) - 8) as f32 * scale;
                *high = (i32::from(q >> 4) - 8) as f32 * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockType;
    use crate::Isa;
    use crate::block::quantize;
    use crate::testing::Numbers;

    /// Blocks of ordinary, small, zero and one-sided numbers.
    fn numbers() -> Vec<f32> {
        let mut numbers = Numbers::new(31).normal(64 * KV_BLOCK);
        for (i, block) in numbers.chunks_exact_mut(KV_BLOCK).enumerate() {
            let factor = [1.0, 1e-6, 300.0, 0.0][i % 4];
            block.iter_mut().for_each(|v| *v *= factor);
            if i % 8 >= 4 {
                block.iter_mut().for_each(|v| *v = v.abs());
            }
        }
        numbers
    }

    fn bytes8(block: &Q8Block) -> Vec<u8> {
        block.scale.to_le_bytes().into_iter().chain(block.quants.map(|q| q as u8)).collect()
    }

    fn bytes4(block: &Q4Block) -> Vec<u8> {
        block.scale.to_le_bytes().into_iter().chain(block.quants).collect()
    }

    #[test]
    fn blocks_are_those_of_the_weights_on_every_level() {
        let x = numbers();
        let (mut want8, mut want4) = (Vec::new(), Vec::new());
        quantize(BlockType::Q8_0, &x, &mut want8).unwrap();
        quantize(BlockType::Q4_0, &x, &mut want4).unwrap();
        let (mut out8, mut out4) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        crate::block::dequantize(BlockType::Q8_0, &want8, &mut out8);
        crate::block::dequantize(BlockType::Q4_0, &want4, &mut out4);
        for isa in Isa::available() {
            let mut q8 = vec![Q8Block::default(); x.len() / KV_BLOCK];
            rows_to_q8(isa, &x, &mut q8);
            // Ties would differ, being rounded to even here; there are none.
            assert!(q8.iter().flat_map(bytes8).eq(want8.iter().copied()), "{} q8", isa.name());
            let mut q4 = vec![Q4Block::default(); x.len() / KV_BLOCK];
            rows_to_q4(isa, &x, &mut q4);
            assert!(q4.iter().flat_map(bytes4).eq(want4.iter().copied()), "{} q4", isa.name());
            let mut out = vec![f32::NAN; x.len()];
            q8_to_rows(isa, &q8, &mut out);
            assert!(out == out8, "{} q8 decoded", isa.name());
            q4_to_rows(isa, &q4, &mut out);
            assert!(out == out4, "{} q4 decoded", isa.name());
        }
    }
}
