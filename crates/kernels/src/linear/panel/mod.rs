//! Panels: 8 output rows by 32 inputs of a block format, unpacked to unsigned bytes with f32 scales.
//!
//! Every format says the same thing in other words: `w = scale * (q - ZERO) + min` with an unsigned quant
//! `q`, a scale for each group of 32 (or 16) inputs and perhaps a minimum. [`Format`] translates. The
//! scalar form ([`Format::unpack_row`]) handles one row and is the reference; the AVX2 form
//! ([`Format::panel`]) handles 8 rows and leaves them transposed: dword `r` of vector `i` holds
//! inputs `4i .. 4i + 3` of row `r`. What several panels of a block share is read once ([`Format::header`]).

mod codebook;
mod grid;
mod k_quants;
mod legacy;
mod ternary;

pub(crate) use crate::block::codebook::{IQ4NL, IQ4XS, MXFP4};
pub(crate) use crate::block::grid::{IQ1M, IQ1S, IQ2S, IQ2XS, IQ2XXS, IQ3S, IQ3XXS};
pub(crate) use crate::block::q2_k::Q2K;
pub(crate) use crate::block::q3_k::Q3K;
pub(crate) use crate::block::q5_1::Q5_1;
pub(crate) use crate::block::q5_k::Q5K;
pub(crate) use crate::block::ternary::{TQ1_0, TQ2_0};
pub(crate) use k_quants::{Q4K, Q6K};
pub(crate) use legacy::{Q4_0, Q4_1, Q5_0, Q8_0};

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use crate::block::group::Codec;

/// Inputs in a panel.
pub(crate) const PANEL_COLS: usize = 32;

/// 32 inputs of one row.
pub(crate) struct RowBlock {
    pub(crate) quants: [u8; PANEL_COLS],
    /// One scale for each group; formats with one group of 32 use the first.
    pub(crate) scales: [f32; 2],
    /// One for each group, too.
    pub(crate) mins: [f32; 2],
}

/// 32 inputs of 8 rows.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Panel {
    pub(crate) quants: [__m256i; 8],
    pub(crate) scales: [__m256; 2],
    pub(crate) mins: [__m256; 2],
}

/// How a block format says `w = scale * (q - ZERO) + min`.
pub(crate) trait Format {
    /// What stands for zero among the unsigned quants.
    const ZERO: i32;
    /// Scales in 32 inputs: 1, or 2 for groups of 16.
    const GROUPS: usize;
    /// Whether there is a minimum.
    const HAS_MIN: bool;
    /// How many products of quant pairs with int8 pairs fit a 16-bit sum: 8 for 4-bit quants, 4 for 5-bit,
    /// 2 for 6-bit, 1 for 7-bit; 0 where a single pair may not fit (8-bit quants).
    const RUN: usize;

    /// Inputs `32 * block ..` of the row that starts at `row`.
    fn unpack_row(row: &[u8], block: usize) -> RowBlock;

    /// Panels that share a header; they are worked off one after the other, each by code of its own. 1 where
    /// there is nothing to share.
    const PANELS: usize = 1;

    /// What the panels of a block share: scales that are packed together.
    #[cfg(target_arch = "x86_64")]
    type Header: Copy;

    /// The header of block `block` of 8 rows, a block being [`Self::PANELS`] panels.
    ///
    /// # Safety
    /// The processor has AVX2 and F16C, and each pointer starts a row that has the block.
    #[cfg(target_arch = "x86_64")]
    unsafe fn header(rows: &[*const u8; 8], block: usize) -> Self::Header;

    /// Panel `J` of block `block` of 8 rows.
    ///
    /// # Safety
    /// As [`Self::header`].
    #[cfg(target_arch = "x86_64")]
    unsafe fn panel<const J: usize>(rows: &[*const u8; 8], block: usize, header: &Self::Header) -> Panel;

    /// Inputs `32 * panel ..` of 8 rows.
    ///
    /// # Safety
    /// As [`Self::header`].
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn unpack_panel(rows: &[*const u8; 8], panel: usize) -> Panel {
        let block = panel / Self::PANELS;
        // SAFETY: passed on.
        unsafe {
            let header = Self::header(rows, block);
            match panel % Self::PANELS {
                0 => Self::panel::<0>(rows, block, &header),
                1 => Self::panel::<1>(rows, block, &header),
                2 => Self::panel::<2>(rows, block, &header),
                3 => Self::panel::<3>(rows, block, &header),
                4 => Self::panel::<4>(rows, block, &header),
                5 => Self::panel::<5>(rows, block, &header),
                6 => Self::panel::<6>(rows, block, &header),
                _ => Self::panel::<7>(rows, block, &header),
            }
        }
    }
}

/// [`Format::unpack_row`] of a format that has a codec.
#[inline(always)]
fn unpack_row<C: Codec>(row: &[u8], block: usize, zero: i32) -> RowBlock {
    let groups = C::LEN / PANEL_COLS;
    let at = C::BYTES * (block / groups);
    let group = C::group(&row[at..at + C::BYTES], block % groups);
    let mut quants = [0; PANEL_COLS];
    for (quant, value) in quants.iter_mut().zip(group.values) {
        *quant = (i32::from(value) + zero) as u8;
    }
    RowBlock { quants, scales: group.scales, mins: group.mins }
}

/// `$body` with `$format` standing for the [`Format`] of a block type.
macro_rules! with_format {
    ($block:expr, $format:ident => $body:expr) => {
        $crate::linear::panel::with_format!($block, $format => $body;
            Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2K Q3K Q4K Q5K Q6K IQ4NL IQ4XS MXFP4 TQ1_0 TQ2_0
            IQ2XXS IQ2XS IQ2S IQ3XXS IQ3S IQ1S IQ1M)
    };
    ($block:expr, $format:ident => $body:expr; $($name:ident)*) => {
        match $block {
            $($crate::BlockType::$name => {
                type $format = $crate::linear::panel::$name;
                $body
            })*
            $crate::BlockType::F32 | $crate::BlockType::F16 | $crate::BlockType::BF16 => {
                unreachable!("dense types have no panels of quants")
            }
        }
    };
}
pub(crate) use with_format;

/// The 8 half-precision numbers at `offset` of each row.
///
/// # Safety
/// F16C; each pointer has two bytes at `offset`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn halves(rows: &[*const u8; 8], offset: usize) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe {
        // Put together by the integer units: the vector units have enough to do.
        let four = |r: usize| {
            let half = |r: usize| u64::from(rows[r].add(offset).cast::<u16>().read_unaligned());
            (half(r) | half(r + 1) << 16 | (half(r + 2) | half(r + 3) << 16) << 32) as i64
        };
        _mm256_cvtph_ps(_mm_set_epi64x(four(4), four(0)))
    }
}

/// The dword at `offset` of each row.
///
/// # Safety
/// AVX2; each pointer has four bytes at `offset`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn dwords(rows: &[*const u8; 8], offset: usize) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe {
        let two = |r: usize| {
            let dword = |r: usize| u64::from(rows[r].add(offset).cast::<u32>().read_unaligned());
            (dword(r) | dword(r + 1) << 32) as i64
        };
        _mm256_setr_epi64x(two(0), two(2), two(4), two(6))
    }
}

/// The two half-precision numbers at `offset` of each row.
///
/// # Safety
/// AVX2 and F16C; each pointer has four bytes at `offset`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn two_halves(rows: &[*const u8; 8], offset: usize) -> (__m256, __m256) {
    // SAFETY: as the caller promises.
    unsafe {
        // Both are one dword a row: gather them together, then split.
        let both = dwords(rows, offset);
        let split = _mm256_setr_epi8(
            0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, //
            0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
        );
        let halves = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(both, split), 0b11_01_10_00);
        (_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)))
    }
}

/// Bits `shift ..` of each byte, as many as `mask` has.
///
/// # Safety
/// AVX2.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn bits(v: __m256i, shift: usize, mask: i8) -> __m256i {
    // SAFETY: register operations only.
    unsafe { _mm256_and_si256(_mm256_srl_epi16(v, _mm_cvtsi32_si128(shift as i32)), _mm256_set1_epi8(mask)) }
}

/// The 16 bytes at `offset` of 8 rows, as four vectors whose dword `r` is dword `i` of row `r`.
///
/// # Safety
/// AVX2; each pointer has 16 bytes at `offset`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose_16(rows: &[*const u8; 8], offset: usize) -> [__m256i; 4] {
    // SAFETY: as the caller promises.
    unsafe {
        let pair = |r: usize| _mm256_loadu2_m128i(rows[r + 4].add(offset).cast(), rows[r].add(offset).cast());
        let (a, b, c, d) = (pair(0), pair(1), pair(2), pair(3));
        let ab_low = _mm256_unpacklo_epi32(a, b);
        let ab_high = _mm256_unpackhi_epi32(a, b);
        let cd_low = _mm256_unpacklo_epi32(c, d);
        let cd_high = _mm256_unpackhi_epi32(c, d);
        [
            _mm256_unpacklo_epi64(ab_low, cd_low),
            _mm256_unpackhi_epi64(ab_low, cd_low),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ]
    }
}

/// The 32 bytes at `offset` of 8 rows, as eight vectors whose dword `r` is dword `i` of row `r`.
///
/// # Safety
/// AVX2; each pointer has 32 bytes at `offset`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose_32(rows: &[*const u8; 8], offset: usize) -> [__m256i; 8] {
    // SAFETY: as the caller promises.
    unsafe {
        let low = transpose_16(rows, offset);
        let high = transpose_16(rows, offset + 16);
        [low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]
    }
}
