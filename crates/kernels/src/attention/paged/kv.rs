//! How a page keeps keys and values: as f32, as f16, or rounded in blocks of 32 with a scale.
//!
//! The blocks run along a head and have the layout of ggml's Q8_0 and Q4_0 (`block::q8_0`, `block::q4_0`).
//! Rows are turned (`turn.rs`) and rounded once, when they are appended. Attention widens 32 entries at a time
//! and computes in f32.

use std::ops::Range;

use super::turn::{self, turn};

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::Isa;
use crate::lanes::by_isa;

/// Numbers in a block.
pub const KV_BLOCK: usize = 32;

/// 32 numbers in 34 bytes: `scale * quant`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Q8Block {
    scale: f16,
    quants: [i8; KV_BLOCK],
}

/// 32 numbers in 18 bytes: `scale * (quant - 8)`; byte `j` holds quant `j` in its low half and quant `j + 16` in
/// its high half.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Q4Block {
    scale: f16,
    quants: [u8; KV_BLOCK / 2],
}

/// Keys or values of a page, `[kv_heads, PAGE, head_dim]`.
#[derive(Clone, Copy, Debug)]
pub enum KvSlice<'a> {
    /// Kept as they are.
    F32(&'a [f32]),
    /// Rounded to half precision.
    F16(&'a [f16]),
    /// Rounded to 8 bits; `head_dim` is a multiple of 32.
    Q8_0(&'a [Q8Block]),
    /// Rounded to 4 bits; `head_dim` is a multiple of 32.
    Q4_0(&'a [Q4Block]),
}

impl KvSlice<'_> {
    /// Whether the numbers lie in blocks of [`KV_BLOCK`].
    pub(super) fn is_blocks(&self) -> bool {
        matches!(self, KvSlice::Q8_0(_) | KvSlice::Q4_0(_))
    }

    /// Numbers `range` as f32, those of blocks turned.
    pub(super) fn widen(&self, isa: Isa, range: Range<usize>, out: &mut [f32]) {
        let blocks = range.start / KV_BLOCK..range.end / KV_BLOCK;
        match self {
            KvSlice::F32(v) => out.copy_from_slice(&v[range]),
            KvSlice::F16(v) => v[range].convert_to_f32_slice(out),
            KvSlice::Q8_0(v) => q8_to_rows(isa, &v[blocks], out),
            KvSlice::Q4_0(v) => q4_to_rows(isa, &v[blocks], out),
        }
    }
}

/// Rounds rows of heads of `head_dim` numbers to 8 bits: they are turned, then the largest magnitude of each block
/// becomes 127 steps and the others the nearest step, ties to even. Blocks with a number that is not finite, or
/// beyond the scale's range, decode to NaN.
///
/// # Panics
/// If heads are not whole blocks, or there are not 32 numbers for each block of `out`.
pub fn encode_q8(isa: Isa, head_dim: usize, values: &[f32], out: &mut [Q8Block]) {
    turned(isa, head_dim, values, out, rows_to_q8);
}

/// Rounds rows of heads of `head_dim` numbers to 4 bits: they are turned, then the number of largest magnitude of
/// each block becomes -8 steps and the others the nearest step. Blocks with a number that is not finite, or beyond
/// the scale's range, decode to NaN.
///
/// # Panics
/// If heads are not whole blocks, or there are not 32 numbers for each block of `out`.
pub fn encode_q4(isa: Isa, head_dim: usize, values: &[f32], out: &mut [Q4Block]) {
    turned(isa, head_dim, values, out, rows_to_q4);
}

fn turned<B>(isa: Isa, head_dim: usize, values: &[f32], out: &mut [B], encode: impl Fn(Isa, &[f32], &mut [B])) {
    check(head_dim, values.len(), out.len());
    let width = turn::width(head_dim);
    let mut part = [0.0; turn::WIDEST];
    let part = &mut part[..width];
    for (values, out) in values.chunks_exact(width).zip(out.chunks_exact_mut(width / KV_BLOCK)) {
        part.copy_from_slice(values);
        turn(isa, part, width);
        encode(isa, part, out);
    }
}

/// The numbers that blocks stand for, turned back.
///
/// # Panics
/// If heads are not whole blocks, or there are not 32 numbers for each block.
pub fn decode_q8(isa: Isa, head_dim: usize, blocks: &[Q8Block], out: &mut [f32]) {
    check(head_dim, out.len(), blocks.len());
    q8_to_rows(isa, blocks, out);
    turn(isa, out, turn::width(head_dim));
}

/// As [`decode_q8`].
///
/// # Panics
/// As there.
pub fn decode_q4(isa: Isa, head_dim: usize, blocks: &[Q4Block], out: &mut [f32]) {
    check(head_dim, out.len(), blocks.len());
    q4_to_rows(isa, blocks, out);
    turn(isa, out, turn::width(head_dim));
}

fn check(head_dim: usize, numbers: usize, blocks: usize) {
    assert!(
        head_dim > 0
            && head_dim.is_multiple_of(KV_BLOCK)
            && numbers.is_multiple_of(head_dim)
            && numbers == blocks * KV_BLOCK,
        "{numbers} numbers in heads of {head_dim} do not fill {blocks} blocks of {KV_BLOCK}"
    );
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
    fn rows_to_q8(values: &[f32], out: &mut [Q8Block]) {
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
    fn rows_to_q4(values: &[f32], out: &mut [Q4Block]) {
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
    fn q8_to_rows(blocks: &[Q8Block], out: &mut [f32]) {
        for (block, out) in blocks.iter().zip(out.as_chunks_mut::<KV_BLOCK>().0) {
            let scale = block.scale.to_f32();
            for (out, &q) in out.iter_mut().zip(&block.quants) {
                *out = f32::from(q) * scale;
            }
        }
    }
}

by_isa! {
    fn q4_to_rows(blocks: &[Q4Block], out: &mut [f32]) {
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
            KvSlice::Q8_0(&q8).widen(isa, 0..x.len(), &mut out);
            assert!(out == out8, "{} q8 decoded", isa.name());
            KvSlice::Q4_0(&q4).widen(isa, 0..x.len(), &mut out);
            assert!(out == out4, "{} q4 decoded", isa.name());
        }
    }

    #[test]
    fn heads_come_back() {
        let x = numbers();
        for head_dim in [32, 64, 512] {
            let (mut q8, mut q4) = (vec![Q8Block::default(); 64], vec![Q4Block::default(); 64]);
            encode_q8(Isa::detect(), head_dim, &x, &mut q8);
            encode_q4(Isa::detect(), head_dim, &x, &mut q4);
            let (mut out8, mut out4) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            decode_q8(Isa::detect(), head_dim, &q8, &mut out8);
            decode_q4(Isa::detect(), head_dim, &q4, &mut out4);
            for (out, most) in [(&out8, 0.015), (&out4, 0.25)] {
                for (got, want) in out.chunks_exact(head_dim).zip(x.chunks_exact(head_dim)) {
                    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
                    let size = norm(&mut want.iter().copied());
                    let error = norm(&mut got.iter().zip(want).map(|(g, w)| g - w));
                    // The scales of the smallest heads are too small for f16: these become zero.
                    assert!(error <= size * most + 1e-5, "{error} of {size}, {head_dim}");
                }
            }
        }
    }

    #[test]
    fn numbers_that_cannot_be_kept_become_nan() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
            let mut x = [0.5; 2 * KV_BLOCK];
            x[40] = bad;
            for isa in Isa::available() {
                let (mut q8, mut q4) = ([Q8Block::default(); 2], [Q4Block::default(); 2]);
                encode_q8(isa, KV_BLOCK, &x, &mut q8);
                encode_q4(isa, KV_BLOCK, &x, &mut q4);
                let (mut out8, mut out4) = ([0.0; 2 * KV_BLOCK], [0.0; 2 * KV_BLOCK]);
                decode_q8(isa, KV_BLOCK, &q8, &mut out8);
                decode_q4(isa, KV_BLOCK, &q4, &mut out4);
                for out in [out8, out4] {
                    assert!(out[..KV_BLOCK].iter().all(|v| (v - 0.5).abs() < 1e-3), "the head beside {bad}");
                    assert!(out[KV_BLOCK..].iter().all(|v| v.is_nan()), "{bad}");
                }
            }
        }
    }
}
