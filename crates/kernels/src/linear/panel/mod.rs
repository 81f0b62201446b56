//! Panels: 8 output rows by 32 inputs of a block format, unpacked to unsigned bytes with f32 scales.
//!
//! Every format says the same thing in other words: `w = scale * (q - ZERO) + min` with an unsigned quant
//! `q`, a scale for each group of 32 (or 16) inputs and perhaps a minimum. [`Format`] translates. The
//! scalar form ([`Format::unpack_row`]) handles one row and is the reference; the AVX2 form handles 8 rows, two to a vector
//! ([`Panel`]). What several panels of a block share is read once: scales that are packed together ([`Format::header`]), and
//! bytes that hold quants of several ([`Format::vectors`]).

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

use crate::BlockType;
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
    /// Vector `i` holds the first 16 inputs of rows `i` and `i + 4`, vector `4 + i` the other 16.
    pub(crate) quants: [__m256i; 8],
    pub(crate) scales: Scales,
}

/// The scales and minima of 32 inputs of 8 rows, one for each group; a lane is a row.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Scales {
    pub(crate) scales: [__m256; 2],
    pub(crate) mins: [__m256; 2],
}

#[cfg(target_arch = "x86_64")]
impl Scales {
    /// One scale, no minimum.
    ///
    /// # Safety
    /// AVX.
    #[inline(always)]
    unsafe fn one(scale: __m256) -> Scales {
        // SAFETY: register operations only.
        let zero = unsafe { _mm256_setzero_ps() };
        Scales { scales: [scale, zero], mins: [zero; 2] }
    }

    /// A whole multiple of `d` for each group, no minimum.
    ///
    /// # Safety
    /// AVX2.
    #[inline(always)]
    unsafe fn two(d: __m256, groups: [__m256i; 2]) -> Scales {
        // SAFETY: register operations only.
        unsafe {
            let scales =
                [_mm256_mul_ps(d, _mm256_cvtepi32_ps(groups[0])), _mm256_mul_ps(d, _mm256_cvtepi32_ps(groups[1]))];
            Scales { scales, mins: [_mm256_setzero_ps(); 2] }
        }
    }

    /// A scale and a minimum.
    ///
    /// # Safety
    /// AVX.
    #[inline(always)]
    unsafe fn with_min((scale, min): (__m256, __m256)) -> Scales {
        // SAFETY: register operations only.
        let zero = unsafe { _mm256_setzero_ps() };
        Scales { scales: [scale, zero], mins: [min, zero] }
    }
}

#[cfg(target_arch = "x86_64")]
impl Panel {
    /// The quants with a row in each lane: dword `r` of vector `i` holds inputs `4i .. 4i + 3` of row `r`.
    ///
    /// # Safety
    /// AVX2.
    #[inline(always)]
    pub(crate) unsafe fn lanes(&self) -> [__m256i; 8] {
        let q = &self.quants;
        // SAFETY: register operations only.
        unsafe {
            let first = transpose_dwords([q[0], q[1], q[2], q[3]]);
            let last = transpose_dwords([q[4], q[5], q[6], q[7]]);
            [first[0], first[1], first[2], first[3], last[0], last[1], last[2], last[3]]
        }
    }
}

/// How a block format says `w = scale * (q - ZERO) + min`.
pub(crate) trait Format {
    /// The type.
    const BLOCK: BlockType;
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

    /// Bytes of 8 rows of so many panels, rounded up.
    const BYTES: usize = (8 * PANEL_COLS * Self::PANELS * Self::BLOCK.block_bytes()).div_ceil(Self::BLOCK.block_len());

    /// What the panels of a block share: scales that are packed together.
    #[cfg(target_arch = "x86_64")]
    type Header: Copy;

    /// The header of block `block` of 8 rows, a block being [`Self::PANELS`] panels.
    ///
    /// # Safety
    /// The processor has AVX2 and F16C, and each pointer starts a row that has the block.
    #[cfg(target_arch = "x86_64")]
    unsafe fn header(rows: &[*const u8; 8], block: usize) -> Self::Header;

    /// Neighbouring panels whose quants lie in the same bytes; 1, 2 or 4.
    const SHARE: usize = 1;

    /// Vector `i` of [`Panel::quants`] of the panels from `first` on of block `block`, [`Self::SHARE`] of them.
    ///
    /// # Safety
    /// As [`Self::header`]; `i` is below 8 and `first` a multiple of [`Self::SHARE`] below [`Self::PANELS`].
    #[cfg(target_arch = "x86_64")]
    unsafe fn vectors(
        rows: &[*const u8; 8],
        block: usize,
        header: &Self::Header,
        first: usize,
        i: usize,
    ) -> [__m256i; 4];

    /// The scales and minima of panel `j` of block `block`.
    ///
    /// # Safety
    /// As [`Self::header`]; `j` is below [`Self::PANELS`].
    #[cfg(target_arch = "x86_64")]
    unsafe fn scales(rows: &[*const u8; 8], block: usize, header: &Self::Header, j: usize) -> Scales;

    /// Panel `j` of block `block` of 8 rows.
    ///
    /// # Safety
    /// As [`Self::scales`].
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn panel(rows: &[*const u8; 8], block: usize, header: &Self::Header, j: usize) -> Panel {
        // SAFETY: passed on.
        unsafe {
            let mut quants = [_mm256_setzero_si256(); 8];
            for (i, q) in quants.iter_mut().enumerate() {
                *q = Self::vectors(rows, block, header, j / Self::SHARE * Self::SHARE, i)[j % Self::SHARE];
            }
            Panel { quants, scales: Self::scales(rows, block, header, j) }
        }
    }

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
            Self::panel(rows, block, &header, panel % Self::PANELS)
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
            $crate::BlockType::F32
            | $crate::BlockType::F16
            | $crate::BlockType::BF16
            | $crate::BlockType::NF4
            | $crate::BlockType::FP4 => {
                unreachable!("dense types and tables of floats have no panels of quants")
            }
        }
    };
}
pub(crate) use with_format;

/// The 8 half-precision numbers at `offset` of each row.
///
/// # Safety
/// AVX2 and F16C; each pointer has two bytes at `offset`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn halves(rows: &[*const u8; 8], offset: usize) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe {
        let mut v = _mm_cvtsi32_si128(half(rows[0], offset));
        v = _mm_insert_epi16::<1>(v, half(rows[1], offset));
        v = _mm_insert_epi16::<2>(v, half(rows[2], offset));
        v = _mm_insert_epi16::<3>(v, half(rows[3], offset));
        v = _mm_insert_epi16::<4>(v, half(rows[4], offset));
        v = _mm_insert_epi16::<5>(v, half(rows[5], offset));
        v = _mm_insert_epi16::<6>(v, half(rows[6], offset));
        _mm256_cvtph_ps(_mm_insert_epi16::<7>(v, half(rows[7], offset)))
    }
}

/// # Safety
/// Two bytes lie at `offset`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn half(row: *const u8, offset: usize) -> i32 {
    // SAFETY: as the caller promises.
    i32::from(unsafe { row.add(offset).cast::<u16>().read_unaligned() })
}

/// The dword at `offset` of each row.
///
/// # Safety
/// AVX2; each pointer has four bytes at `offset`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(in crate::linear) unsafe fn dwords(rows: &[*const u8; 8], offset: usize) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe {
        let mut low = _mm_cvtsi32_si128(dword(rows[0], offset));
        low = _mm_insert_epi32::<1>(low, dword(rows[1], offset));
        low = _mm_insert_epi32::<2>(low, dword(rows[2], offset));
        low = _mm_insert_epi32::<3>(low, dword(rows[3], offset));
        let mut high = _mm_cvtsi32_si128(dword(rows[4], offset));
        high = _mm_insert_epi32::<1>(high, dword(rows[5], offset));
        high = _mm_insert_epi32::<2>(high, dword(rows[6], offset));
        high = _mm_insert_epi32::<3>(high, dword(rows[7], offset));
        _mm256_set_m128i(high, low)
    }
}

/// # Safety
/// Four bytes lie at `offset`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn dword(row: *const u8, offset: usize) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { row.add(offset).cast::<i32>().read_unaligned() }
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

/// The vectors of a format whose panels share nothing.
///
/// # Safety
/// AVX.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn one(v: __m256i) -> [__m256i; 4] {
    // SAFETY: register operations only.
    let zero = unsafe { _mm256_setzero_si256() };
    [v, zero, zero, zero]
}

/// The 16 bytes at `offset` of rows `i` and `i + 4`.
///
/// # Safety
/// AVX2; each pointer has 16 bytes at `offset`; `i` is below 4.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn pair(rows: &[*const u8; 8], offset: usize, i: usize) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe { _mm256_loadu2_m128i(rows[i + 4].add(offset).cast(), rows[i].add(offset).cast()) }
}

/// Vector `i` of the 32 bytes at `offset` of 8 rows, as [`Panel::quants`] lie.
///
/// # Safety
/// AVX2; each pointer has 32 bytes at `offset`; `i` is below 8.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn half_pair(rows: &[*const u8; 8], offset: usize, i: usize) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe { pair(rows, offset + i / 4 * 16, i % 4) }
}

/// The 16 bytes at `offset` of 8 rows: dword `r` of vector `i` is dword `i` of row `r`.
///
/// # Safety
/// AVX2; each pointer has 16 bytes at `offset`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(in crate::linear) unsafe fn lanes_16(rows: &[*const u8; 8], offset: usize) -> [__m256i; 4] {
    // SAFETY: as the caller promises.
    unsafe {
        transpose_dwords([pair(rows, offset, 0), pair(rows, offset, 1), pair(rows, offset, 2), pair(rows, offset, 3)])
    }
}

/// Four dwords of four vectors transposed, in either half: dword `j` of vector `i` becomes dword `i` of vector `j`.
///
/// # Safety
/// AVX2.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose_dwords([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    // SAFETY: register operations only.
    unsafe {
        let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(ab_low, cd_low),
            _mm256_unpackhi_epi64(ab_low, cd_low),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ]
    }
}

/// `$step` with `$panel` standing for each panel of a block in turn, as a constant.
#[cfg(target_arch = "x86_64")]
macro_rules! each_panel {
    ($format:ident, $panel:ident => $step:expr) => {
        $crate::linear::panel::each_panel!($format, $panel => $step; 0 1 2 3 4 5 6 7)
    };
    ($format:ident, $panel:ident => $step:expr; $($j:literal)*) => {
        $(if $j < $format::PANELS {
            const $panel: usize = $j;
            $step
        })*
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use each_panel;
