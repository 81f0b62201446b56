//! Panels of the formats whose quants are places in a table of 16: IQ4_NL, IQ4_XS, MXFP4. The table stands in
//! a register, and a byte shuffle looks 32 places up.

#[cfg(target_arch = "x86_64")]
use super::legacy::nibble_panel;
use super::{Format, RowBlock, unpack_row};
#[cfg(target_arch = "x86_64")]
use super::{Panel, dwords, halves};
#[cfg(target_arch = "x86_64")]
use crate::block::codebook::{E2M1, IQ4, half_of_e8m0};
use crate::block::codebook::{IQ4NL, IQ4XS, MXFP4};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// The numbers at the places that the 16 bytes at `offset` of 8 rows hold, plus `zero`.
///
/// # Safety
/// AVX2; each pointer has 16 bytes at `offset`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn look_up(rows: &[*const u8; 8], offset: usize, table: &[i8; 16], zero: i32) -> [__m256i; 8] {
    // SAFETY: as the caller promises; the table has 16 bytes.
    unsafe {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        let table = _mm256_add_epi8(table, _mm256_set1_epi8(zero as i8));
        let mut quants = nibble_panel(rows, offset);
        for q in &mut quants {
            *q = _mm256_shuffle_epi8(table, *q);
        }
        quants
    }
}

impl Format for IQ4NL {
    const ZERO: i32 = 128;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = false;
    const RUN: usize = 0;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        unpack_row::<IQ4NL>(row, block, Self::ZERO)
    }

    #[cfg(target_arch = "x86_64")]
    type Header = ();

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn header(_: &[*const u8; 8], _: usize) {}

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn panel<const J: usize>(rows: &[*const u8; 8], block: usize, (): &()) -> Panel {
        let at = 18 * block;
        // SAFETY: the block lies inside each row.
        unsafe {
            let zero = _mm256_setzero_ps();
            let quants = look_up(rows, at + 2, &IQ4, Self::ZERO);
            Panel { quants, scales: [halves(rows, at), zero], mins: [zero; 2] }
        }
    }
}

impl Format for IQ4XS {
    const ZERO: i32 = 128;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = false;
    const RUN: usize = 0;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        unpack_row::<IQ4XS>(row, block, Self::ZERO)
    }

    const PANELS: usize = 8;

    /// The scale of the scales; their low four bits; their upper two from bit 16 on.
    #[cfg(target_arch = "x86_64")]
    type Header = (__m256, __m256i, __m256i);

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn header(rows: &[*const u8; 8], block: usize) -> Self::Header {
        let at = 136 * block;
        // SAFETY: the block lies inside each row. The layout is that of `iq4_xs_scale`.
        unsafe { (halves(rows, at), dwords(rows, at + 4), dwords(rows, at)) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn panel<const J: usize>(rows: &[*const u8; 8], block: usize, header: &Self::Header) -> Panel {
        // SAFETY: the block lies inside each row.
        unsafe {
            let quants = look_up(rows, 136 * block + 8 + 16 * J, &IQ4, Self::ZERO);
            let (d, low, high) = *header;
            let low = _mm256_srl_epi32(low, _mm_cvtsi32_si128(4 * J as i32));
            let high = _mm256_srl_epi32(high, _mm_cvtsi32_si128(16 + 2 * J as i32));
            let six = _mm256_or_si256(
                _mm256_and_si256(low, _mm256_set1_epi32(15)),
                _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4),
            );
            let scale = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_sub_epi32(six, _mm256_set1_epi32(32))));
            let zero = _mm256_setzero_ps();
            Panel { quants, scales: [scale, zero], mins: [zero; 2] }
        }
    }
}

impl Format for MXFP4 {
    // The numbers reach 12, so quants are below 25: 5 bits.
    const ZERO: i32 = 12;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = false;
    const RUN: usize = 4;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        unpack_row::<MXFP4>(row, block, Self::ZERO)
    }

    #[cfg(target_arch = "x86_64")]
    type Header = ();

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn header(_: &[*const u8; 8], _: usize) {}

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn panel<const J: usize>(rows: &[*const u8; 8], block: usize, (): &()) -> Panel {
        let at = 17 * block;
        // SAFETY: the block lies inside each row.
        unsafe {
            let quants = look_up(rows, at + 1, &E2M1, Self::ZERO);
            let mut scales = [0.0; 8];
            for (scale, row) in scales.iter_mut().zip(rows) {
                *scale = half_of_e8m0(*row.add(at));
            }
            let zero = _mm256_setzero_ps();
            Panel { quants, scales: [_mm256_loadu_ps(scales.as_ptr()), zero], mins: [zero; 2] }
        }
    }
}
