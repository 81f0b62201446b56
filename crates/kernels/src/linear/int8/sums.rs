//! What both ways of multiplying do with a group's integer sums.

use std::arch::x86_64::*;

use super::super::panel::Format;
use super::QuantizedRows;

/// Two entries to `$body`, with the int8 dot product of AVX-512 VNNI and without, told apart by a constant.
macro_rules! entries {
    ($body:ident) => {
        /// # Safety
        /// AVX2, FMA and F16C; sizes fit; the tile's rows of `out` belong to the caller.
        #[target_feature(enable = "avx2,fma,f16c")]
        pub(super) unsafe fn avx2<F: Format>(w: &MatrixRef<'_>, tile: StripTile, x: &QuantizedRows, out: OutPtr) {
            // SAFETY: passed on.
            unsafe { $body::<F, false>(w, tile, x, out) }
        }

        /// # Safety
        /// As [`avx2`], and AVX-512 VL and VNNI.
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
        pub(super) unsafe fn vnni<F: Format>(w: &MatrixRef<'_>, tile: StripTile, x: &QuantizedRows, out: OutPtr) {
            // SAFETY: passed on.
            unsafe { $body::<F, true>(w, tile, x, out) }
        }
    };
}
pub(super) use entries;

/// Whether quants were multiplied with their offset in them, and not as signed numbers.
pub(super) const fn keeps_offset<F: Format>(vnni: bool) -> bool {
    F::ZERO != 0 && (vnni || F::RUN != 0)
}

/// What the quants' offset added to the sums of group `g` with the block of activations `at`.
///
/// # Safety
/// AVX2; the block exists.
#[inline(always)]
pub(super) unsafe fn offset<F: Format>(x: &QuantizedRows, at: usize, g: usize) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe {
        let total = if F::GROUPS == 2 {
            _mm256_set1_epi32(*x.sums.as_ptr().add(2 * at + g))
        } else {
            _mm256_set1_epi32(*x.totals.as_ptr().add(at))
        };
        if F::ZERO.count_ones() == 1 {
            _mm256_sll_epi32(total, _mm_cvtsi32_si128(F::ZERO.trailing_zeros() as i32))
        } else {
            _mm256_mullo_epi32(total, _mm256_set1_epi32(F::ZERO))
        }
    }
}

/// The scale of the block of activations `at`.
///
/// # Safety
/// AVX; the block exists.
#[inline(always)]
pub(super) unsafe fn scale(x: &QuantizedRows, at: usize) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe { _mm256_broadcast_ss(&*x.scales.as_ptr().add(at)) }
}

/// What the minimum of group `g` is multiplied with.
///
/// # Safety
/// As [`offset`].
#[inline(always)]
pub(super) unsafe fn scaled_sum<F: Format>(x: &QuantizedRows, at: usize, g: usize, scale: __m256) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe {
        if F::GROUPS == 1 {
            _mm256_broadcast_ss(&*x.scaled_sums.as_ptr().add(at))
        } else {
            let sum = _mm256_set1_epi32(*x.sums.as_ptr().add(2 * at + g));
            _mm256_mul_ps(scale, _mm256_cvtepi32_ps(sum))
        }
    }
}
