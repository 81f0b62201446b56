//! Panels of the formats whose quants are places in a table of 16: IQ4_NL, IQ4_XS, MXFP4. The table stands in
//! a register, and a byte shuffle looks 32 places up.

#[cfg(target_arch = "x86_64")]
use super::legacy::nibble_panel;
use super::{Format, RowBlock, unpack_row};
#[cfg(target_arch = "x86_64")]
use super::{Panel, floats, halves};
#[cfg(target_arch = "x86_64")]
use crate::block::codebook::{E2M1, IQ4, half_of_e8m0, iq4_xs_scale};
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
    #[inline(always)]
    unsafe fn unpack_panel(rows: &[*const u8; 8], block: usize) -> Panel {
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

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn unpack_panel(rows: &[*const u8; 8], block: usize) -> Panel {
        let (at, j) = (136 * (block / 8), block % 8);
        // SAFETY: the super-block lies inside each row.
        unsafe {
            let quants = look_up(rows, at + 8 + 16 * j, &IQ4, Self::ZERO);
            let mut scales = [0; 8];
            for (scale, row) in scales.iter_mut().zip(rows) {
                *scale = iq4_xs_scale(&*row.add(at).cast::<[u8; 8]>(), j);
            }
            let zero = _mm256_setzero_ps();
            Panel { quants, scales: [_mm256_mul_ps(halves(rows, at), floats(&scales)), zero], mins: [zero; 2] }
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
    #[inline(always)]
    unsafe fn unpack_panel(rows: &[*const u8; 8], block: usize) -> Panel {
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
