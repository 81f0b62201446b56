//! Panels of the ternary formats: TQ1_0, TQ2_0.

use super::{Format, RowBlock, unpack_row};
#[cfg(target_arch = "x86_64")]
use super::{Scales, bits, dwords, half_pair, halves, one, pair, transpose_dwords};
use crate::BlockType;
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
    const BLOCK: BlockType = BlockType::TQ1_0;
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
    unsafe fn vectors(rows: &[*const u8; 8], block: usize, (): &Self::Header, _: usize, i: usize) -> [__m256i; 4] {
        let (at, j) = (54 * (block / 8), block % 8);
        // SAFETY: the super-block lies inside each row.
        unsafe {
            if j < 5 {
                return one(digit(half_pair(rows, at, i), j));
            }
            if j < 7 || i < 4 {
                return one(digit(pair(rows, at + 32, i % 4), 2 * (j - 5) + i / 4));
            }
            // Four digits of each of four bytes.
            let last = dwords(rows, at + 48);
            one(transpose_dwords([digit(last, 0), digit(last, 1), digit(last, 2), digit(last, 3)])[i % 4])
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; 8], block: usize, (): &Self::Header, _: usize) -> Scales {
        // SAFETY: the super-block lies inside each row.
        unsafe { Scales::one(halves(rows, 54 * (block / 8) + 52)) }
    }
}

impl Format for TQ2_0 {
    const BLOCK: BlockType = BlockType::TQ2_0;
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
    unsafe fn vectors(rows: &[*const u8; 8], block: usize, (): &Self::Header, _: usize, i: usize) -> [__m256i; 4] {
        let (at, j) = (66 * (block / 8), block % 8);
        // SAFETY: the super-block lies inside each row.
        unsafe { one(bits(half_pair(rows, at + 32 * (j / 4), i), 2 * (j % 4), 3)) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; 8], block: usize, (): &Self::Header, _: usize) -> Scales {
        // SAFETY: the super-block lies inside each row.
        unsafe { Scales::one(halves(rows, 66 * (block / 8) + 64)) }
    }
}
