//! Panels of the formats whose quants are places in a table of 16: IQ4_NL, IQ4_XS, MXFP4. The table stands in
//! a register, and a byte shuffle looks 32 places up.

use super::legacy::nibble_pair;
use super::{Format, RowBlock, unpack_row};
#[cfg(target_arch = "x86_64")]
use super::{Scales, dwords, halves, one};
#[cfg(target_arch = "x86_64")]
use crate::BlockType;
#[cfg(target_arch = "x86_64")]
use crate::block::codebook::{E2M1, IQ4, half_of_e8m0};
use crate::block::codebook::{IQ4NL, IQ4XS, MXFP4};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// The numbers at the places in vector `i` of the nibbles at `offset`, plus `zero`.
///
/// # Safety
/// AVX2; each pointer has 16 bytes at `offset`; `i` is below 8.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn look_up(rows: &[*const u8; 8], offset: usize, i: usize, table: &[i8; 16], zero: i32) -> __m256i {
    // SAFETY: as the caller promises; the table has 16 bytes.
    unsafe {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        let table = _mm256_add_epi8(table, _mm256_set1_epi8(zero as i8));
        _mm256_shuffle_epi8(table, nibble_pair(rows, offset, i))
    }
}

impl Format for IQ4NL {
    const BLOCK: BlockType = BlockType::IQ4NL;
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
    unsafe fn vectors(rows: &[*const u8; 8], block: usize, (): &Self::Header, _: usize, i: usize) -> [__m256i; 4] {
        // SAFETY: the block lies inside each row.
        unsafe { one(look_up(rows, 18 * block + 2, i, &IQ4, Self::ZERO)) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; 8], block: usize, (): &Self::Header, _: usize) -> Scales {
        // SAFETY: the block lies inside each row.
        unsafe { Scales::one(halves(rows, 18 * block)) }
    }
}

impl Format for IQ4XS {
    const BLOCK: BlockType = BlockType::IQ4XS;
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
    unsafe fn vectors(rows: &[*const u8; 8], block: usize, _: &Self::Header, first: usize, i: usize) -> [__m256i; 4] {
        // SAFETY: the block lies inside each row.
        unsafe { one(look_up(rows, 136 * block + 8 + 16 * first, i, &IQ4, Self::ZERO)) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(_: &[*const u8; 8], _: usize, header: &Self::Header, j: usize) -> Scales {
        // SAFETY: the block lies inside each row.
        unsafe {
            let (d, low, high) = *header;
            let low = _mm256_srl_epi32(low, _mm_cvtsi32_si128(4 * j as i32));
            let high = _mm256_srl_epi32(high, _mm_cvtsi32_si128(16 + 2 * j as i32));
            let six = _mm256_or_si256(
                _mm256_and_si256(low, _mm256_set1_epi32(15)),
                _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4),
            );
            let scale = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_sub_epi32(six, _mm256_set1_epi32(32))));
            Scales::one(scale)
        }
    }
}

impl Format for MXFP4 {
    const BLOCK: BlockType = BlockType::MXFP4;
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
    unsafe fn vectors(rows: &[*const u8; 8], block: usize, (): &Self::Header, _: usize, i: usize) -> [__m256i; 4] {
        // SAFETY: the block lies inside each row.
        unsafe { one(look_up(rows, 17 * block + 1, i, &E2M1, Self::ZERO)) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; 8], block: usize, (): &Self::Header, _: usize) -> Scales {
        // SAFETY: the block lies inside each row.
        unsafe {
            let mut scales = [0.0; 8];
            for (scale, row) in scales.iter_mut().zip(rows) {
                *scale = half_of_e8m0(*row.add(17 * block));
            }
            Scales::one(_mm256_loadu_ps(scales.as_ptr()))
        }
    }
}
