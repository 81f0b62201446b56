//! Vectors of 8 rows, with the pairwise products of AVX2.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::super::panel::{Format, PANEL_COLS};
use super::super::QuantizedRows;
use super::super::sums::{keeps_offset, offset, scale, scaled_sum};
use super::{MINS, SCALES, STRIPS};

/// A panel in the buffer, of the strip that it begins with.
#[derive(Clone, Copy)]
pub(super) struct Panel(pub(super) *const __m256i);

impl Panel {
    #[inline(always)]
    unsafe fn vector(&self, i: usize) -> __m256i {
        // SAFETY: `i` is a vector of the stored panel.
        unsafe { _mm256_load_si256(self.0.add(i * STRIPS)) }
    }
    #[inline(always)]
    unsafe fn quants(&self, i: usize) -> __m256i {
        // SAFETY: the first 8 vectors are quants.
        unsafe { self.vector(i) }
    }
    #[inline(always)]
    unsafe fn scale(&self, group: usize) -> __m256 {
        // SAFETY: they follow the quants.
        unsafe { _mm256_castsi256_ps(self.vector(SCALES + group)) }
    }
    #[inline(always)]
    unsafe fn min(&self, group: usize) -> __m256 {
        // SAFETY: they follow the scales.
        unsafe { _mm256_castsi256_ps(self.vector(MINS + group)) }
    }
}

/// Adds a panel's 32 inputs of `S` strips and `T` tokens to the accumulators.
///
/// `quads` is `8 / GROUPS`, the vectors of a group, in a variable: the compiler would unroll the loop, move its loads to the
/// front, and then store them, since 16 registers are too few. Only loops of pairs are faster so.
///
/// # Safety
/// AVX2 and FMA; tokens `first .. first + T` and block `b` exist.
#[inline(always)]
pub(super) unsafe fn accumulate<F: Format, const S: usize, const T: usize>(
    w: &[Panel; S],
    x: &QuantizedRows,
    first: usize,
    b: usize,
    quads: usize,
    acc: &mut [[__m256; T]; S],
) {
    let blocks = x.cols() / PANEL_COLS;
    // SAFETY: the caller promises that the tokens and the block exist.
    unsafe {
        let mut at = [0; T];
        let mut quants = [std::ptr::null::<i32>(); T];
        for t in 0..T {
            at[t] = (first + t) * blocks + b;
            quants[t] = x.quants.as_ptr().add(at[t] * PANEL_COLS).cast();
        }
        for g in 0..F::GROUPS {
            let quads = if matches!(F::RUN, 1 | 2) { 8 / F::GROUPS } else { quads };
            let group = g * quads..(g + 1) * quads;
            let sums = match F::RUN {
                0 => sums_of_bytes(w, &quants, group),
                1 => sums_of_runs::<1, S, T>(w, &quants, group),
                2 => sums_of_runs::<2, S, T>(w, &quants, group),
                4 if F::GROUPS == 1 => sums_of_runs::<4, S, T>(w, &quants, group),
                _ => sums_of_group(w, &quants, group),
            };
            for t in 0..T {
                let offset = if keeps_offset::<F>(false) { offset::<F>(x, at[t], g) } else { _mm256_setzero_si256() };
                let scale = scale(x, at[t]);
                for s in 0..S {
                    let sum = _mm256_cvtepi32_ps(_mm256_sub_epi32(sums[s][t], offset));
                    acc[s][t] = _mm256_fmadd_ps(sum, _mm256_mul_ps(w[s].scale(g), scale), acc[s][t]);
                }
            }
        }
        if F::HAS_MIN {
            for t in 0..T {
                for g in 0..F::GROUPS {
                    let sum = scaled_sum::<F>(x, at[t], g, scale(x, at[t]));
                    for s in 0..S {
                        acc[s][t] = _mm256_fmadd_ps(w[s].min(g), sum, acc[s][t]);
                    }
                }
            }
        }
    }
}

/// Four inputs of a token in every lane.
///
/// # Safety
/// AVX2; there are four inputs.
#[inline(always)]
unsafe fn inputs(at: *const i32) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe { _mm256_set1_epi32(at.read_unaligned()) }
}

/// Neighbours of 16 bits added to 32.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn widen(pairs: __m256i) -> __m256i {
    // SAFETY: register operations only.
    unsafe { _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)) }
}

/// Sums of a group whose pairs of products all fit 16 bits.
///
/// # Safety
/// As [`accumulate`].
#[inline(always)]
unsafe fn sums_of_group<const S: usize, const T: usize>(
    w: &[Panel; S],
    quants: &[*const i32; T],
    group: Range<usize>,
) -> [[__m256i; T]; S] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); T]; S];
        for i in group {
            add_pairs(w, quants, i, &mut sums);
        }
        for sum in sums.as_flattened_mut() {
            *sum = widen(*sum);
        }
        sums
    }
}

/// Sums of a group of whose pairs of products `RUN` fit 16 bits.
///
/// # Safety
/// As [`accumulate`].
#[inline(always)]
unsafe fn sums_of_runs<const RUN: usize, const S: usize, const T: usize>(
    w: &[Panel; S],
    quants: &[*const i32; T],
    group: Range<usize>,
) -> [[__m256i; T]; S] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); T]; S];
        let mut i = group.start;
        while i < group.end {
            let mut pairs = [[_mm256_setzero_si256(); T]; S];
            for r in 0..RUN {
                add_pairs(w, quants, i + r, &mut pairs);
            }
            for (sum, pairs) in sums.as_flattened_mut().iter_mut().zip(pairs.as_flattened()) {
                *sum = _mm256_add_epi32(*sum, widen(*pairs));
            }
            i += RUN;
        }
        sums
    }
}

/// # Safety
/// As [`accumulate`].
#[inline(always)]
unsafe fn add_pairs<const S: usize, const T: usize>(
    w: &[Panel; S],
    quants: &[*const i32; T],
    i: usize,
    pairs: &mut [[__m256i; T]; S],
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut q = [_mm256_setzero_si256(); S];
        for (q, w) in q.iter_mut().zip(w) {
            *q = w.quants(i);
        }
        for t in 0..T {
            let v = inputs(quants[t].add(i));
            for s in 0..S {
                pairs[s][t] = _mm256_add_epi16(pairs[s][t], _mm256_maddubs_epi16(q[s], v));
            }
        }
    }
}

/// Sums of a group of 8-bit quants, of which a pair of products may not fit 16 bits: |q| times x with q's sign does.
///
/// # Safety
/// As [`accumulate`].
#[inline(always)]
unsafe fn sums_of_bytes<const S: usize, const T: usize>(
    w: &[Panel; S],
    quants: &[*const i32; T],
    group: Range<usize>,
) -> [[__m256i; T]; S] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); T]; S];
        for i in group {
            for (w, sums) in w.iter().zip(&mut sums) {
                let signed = _mm256_xor_si256(w.quants(i), _mm256_set1_epi8(-128));
                let magnitude = _mm256_abs_epi8(signed);
                for (sum, quants) in sums.iter_mut().zip(quants) {
                    let v = _mm256_sign_epi8(inputs(quants.add(i)), signed);
                    *sum = _mm256_add_epi32(*sum, widen(_mm256_maddubs_epi16(magnitude, v)));
                }
            }
        }
        sums
    }
}
