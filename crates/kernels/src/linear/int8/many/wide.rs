//! Vectors of 16 rows, those of two strips, with the int8 dot product of AVX-512 VNNI.

use std::arch::x86_64::*;

use super::super::super::panel::{Format, PANEL_COLS};
use super::super::QuantizedRows;
use super::super::sums::keeps_offset;
use super::{MINS, SCALES};

/// A panel of both strips in the buffer.
#[derive(Clone, Copy)]
pub(super) struct Panels(pub(super) *const __m512i);

impl Panels {
    #[inline(always)]
    unsafe fn quants(&self, i: usize) -> __m512i {
        // SAFETY: the first 8 vectors are quants.
        unsafe { _mm512_load_si512(self.0.add(i)) }
    }
    #[inline(always)]
    unsafe fn scale(&self, group: usize) -> __m512 {
        // SAFETY: they follow the quants.
        unsafe { _mm512_castsi512_ps(_mm512_load_si512(self.0.add(SCALES + group))) }
    }
    #[inline(always)]
    unsafe fn min(&self, group: usize) -> __m512 {
        // SAFETY: they follow the scales.
        unsafe { _mm512_castsi512_ps(_mm512_load_si512(self.0.add(MINS + group))) }
    }
}

/// Adds a panel's 32 inputs of two strips and `T` tokens to the accumulators.
///
/// # Safety
/// AVX-512 F and VNNI; tokens `first .. first + T` and block `b` exist.
#[inline(always)]
pub(super) unsafe fn accumulate<F: Format, const T: usize>(
    w: Panels,
    x: &QuantizedRows,
    first: usize,
    b: usize,
    acc: &mut [__m512; T],
) {
    let blocks = x.cols() / PANEL_COLS;
    let quads = 8 / F::GROUPS;
    // SAFETY: the caller promises that the tokens and the block exist.
    unsafe {
        let at = first * blocks + b;
        let quants: *const i32 = x.quants.as_ptr().add(at * PANEL_COLS).cast();
        let scales = x.scales.as_ptr().add(at);
        for g in 0..F::GROUPS {
            let mut sums = [_mm512_setzero_si512(); T];
            if keeps_offset::<F>(true) {
                // From what the offset will have added.
                for (t, sum) in sums.iter_mut().enumerate() {
                    *sum = less_offset::<F>(x, at + t * blocks, g);
                }
            }
            for i in g * quads..(g + 1) * quads {
                let w = w.quants(i);
                for (t, sum) in sums.iter_mut().enumerate() {
                    let v = _mm512_set1_epi32(quants.add(t * blocks * (PANEL_COLS / 4) + i).read_unaligned());
                    *sum = _mm512_dpbusd_epi32(*sum, w, v);
                }
            }
            let scale = w.scale(g);
            for (t, (acc, sum)) in acc.iter_mut().zip(sums).enumerate() {
                let scale = _mm512_mul_ps(scale, _mm512_set1_ps(*scales.add(t * blocks)));
                *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, *acc);
            }
        }
        if F::HAS_MIN {
            for (t, acc) in acc.iter_mut().enumerate() {
                for g in 0..F::GROUPS {
                    *acc = _mm512_fmadd_ps(w.min(g), scaled_sum::<F>(x, at + t * blocks, g), *acc);
                }
            }
        }
    }
}

/// Less what the quants' offset adds to the sums of group `g` with the block of activations `at`.
///
/// # Safety
/// AVX-512 F; the block exists.
#[inline(always)]
unsafe fn less_offset<F: Format>(x: &QuantizedRows, at: usize, g: usize) -> __m512i {
    // SAFETY: as the caller promises.
    unsafe {
        let total = if F::GROUPS == 2 { *x.sums.as_ptr().add(2 * at + g) } else { *x.totals.as_ptr().add(at) };
        _mm512_set1_epi32(-F::ZERO * total)
    }
}

/// What the minimum of group `g` is multiplied with.
///
/// # Safety
/// As [`less_offset`].
#[inline(always)]
unsafe fn scaled_sum<F: Format>(x: &QuantizedRows, at: usize, g: usize) -> __m512 {
    // SAFETY: as the caller promises.
    unsafe {
        _mm512_set1_ps(if F::GROUPS == 1 {
            *x.scaled_sums.as_ptr().add(at)
        } else {
            *x.scales.as_ptr().add(at) * *x.sums.as_ptr().add(2 * at + g) as f32
        })
    }
}
