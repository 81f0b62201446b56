//! Panels of the ternary formats: TQ1_0, TQ2_0.

use super::{Format, RowBlock, unpack_row};
#[cfg(target_arch = "x86_64")]
use super::{Panel, bits, dwords, halves, transpose_16, transpose_32};
use crate::block::ternary::{TQ1_0, TQ2_0};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Digit `n` of each byte, a fraction of 256 in base 3.
///
/// # Safety
/// AVX2.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn digit(mut v: __m256i, n: usize) -> __m256i {
    // SAFETY: register operations only.
    unsafe {
        for _ in 0..n {
            v = _mm256_add_epi8(v, _mm256_add_epi8(v, v));
        }
        // Thrice the fraction passes 256 from 86 on, and 512 from 171 on.
        let one = _mm256_cmpeq_epi8(_mm256_max_epu8(v, _mm256_set1_epi8(86)), v);
        let two = _mm256_cmpeq_epi8(_mm256_max_epu8(v, _mm256_set1_epi8(171u8 as i8)), v);
        _mm256_sub_epi8(_mm256_setzero_si256(), _mm256_add_epi8(one, two))
    }
}

impl Format for TQ1_0 {
    const ZERO: i32 = 1;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = false;
    const RUN: usize = 8;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        unpack_row::<TQ1_0>(row, block, Self::ZERO)
    }

    #[cfg(target_arch = "x86_64")]
    type Header = ();

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn header(_: &[*const u8; 8], _: usize) {}

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn panel<const J: usize>(rows: &[*const u8; 8], block: usize, (): &()) -> Panel {
        let (at, j) = (54 * (block / 8), block % 8);
        // SAFETY: the super-block lies inside each row.
        unsafe {
            let mut quants = [_mm256_setzero_si256(); 8];
            if j < 5 {
                let bytes = transpose_32(rows, at);
                for (q, byte) in quants.iter_mut().zip(bytes) {
                    *q = digit(byte, j);
                }
            } else {
                let bytes = transpose_16(rows, at + 32);
                let last = dwords(rows, at + 48);
                for i in 0..4 {
                    quants[i] = digit(bytes[i], 2 * (j - 5));
                    quants[i + 4] = if j < 7 { digit(bytes[i], 2 * (j - 5) + 1) } else { digit(last, i) };
                }
            }
            let zero = _mm256_setzero_ps();
            Panel { quants, scales: [halves(rows, at + 52), zero], mins: [zero; 2] }
        }
    }
}

impl Format for TQ2_0 {
    const ZERO: i32 = 1;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = false;
    const RUN: usize = 8;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        unpack_row::<TQ2_0>(row, block, Self::ZERO)
    }

    #[cfg(target_arch = "x86_64")]
    type Header = ();

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn header(_: &[*const u8; 8], _: usize) {}

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn panel<const J: usize>(rows: &[*const u8; 8], block: usize, (): &()) -> Panel {
        let (at, j) = (66 * (block / 8), block % 8);
        // SAFETY: the super-block lies inside each row.
        unsafe {
            let mut quants = transpose_32(rows, at + 32 * (j / 4));
            for q in &mut quants {
                *q = bits(*q, 2 * (j % 4), 3);
            }
            let zero = _mm256_setzero_ps();
            Panel { quants, scales: [halves(rows, at + 64), zero], mins: [zero; 2] }
        }
    }
}
