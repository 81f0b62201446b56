//! Panels of the 256-weight formats Q2_K to Q6_K.

use crate::BlockType;
use half::f16;

use super::{Format, PANEL_COLS, RowBlock, unpack_row};
#[cfg(target_arch = "x86_64")]
use super::{Scales, bits, dwords, half_pair, halves, lanes_16, two_halves};
use crate::block::q2_k::Q2K;
use crate::block::q3_k::Q3K;
use crate::block::q4_k::scale_and_min;
use crate::block::q5_k::Q5K;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

pub(crate) struct Q4K;

impl Format for Q4K {
    const BLOCK: BlockType = BlockType::Q4K;
    const ZERO: i32 = 0;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = true;
    const RUN: usize = 8;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        let (b, j) = (&row[144 * (block / 8)..144 * (block / 8 + 1)], block % 8);
        let packed: &[u8; 12] = b[4..16].try_into().expect("twelve bytes");
        let (scale, min) = scale_and_min(packed, j);
        let bytes = &b[16 + 32 * (j / 2)..];
        let quants = std::array::from_fn(|i| if j.is_multiple_of(2) { bytes[i] & 15 } else { bytes[i] >> 4 });
        RowBlock {
            quants,
            scales: [half_at(b, 0) * f32::from(scale), 0.0],
            mins: [-(half_at(b, 2) * f32::from(min)), 0.0],
        }
    }

    const PANELS: usize = 8;

    #[cfg(target_arch = "x86_64")]
    type Header = SixBits;

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn header(rows: &[*const u8; 8], block: usize) -> SixBits {
        // SAFETY: the block lies inside each row.
        unsafe { SixBits::read(rows, 144 * block) }
    }

    const SHARE: usize = 2;

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn vectors(rows: &[*const u8; 8], block: usize, _: &Self::Header, first: usize, i: usize) -> [__m256i; 4] {
        // SAFETY: the block lies inside each row.
        unsafe {
            let v = half_pair(rows, 144 * block + 16 + 16 * first, i);
            let zero = _mm256_setzero_si256();
            [bits(v, 0, 15), bits(v, 4, 15), zero, zero]
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(_: &[*const u8; 8], _: usize, header: &Self::Header, j: usize) -> Scales {
        // SAFETY: register operations only.
        unsafe { header.of(j) }
    }
}

/// Byte `I` of each dword, unsigned.
///
/// # Safety
/// AVX2.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn byte(v: __m256i, i: usize) -> __m256i {
    // SAFETY: register operations only.
    unsafe { _mm256_and_si256(_mm256_srl_epi32(v, _mm_cvtsi32_si128(8 * i as i32)), _mm256_set1_epi32(255)) }
}

/// The eight scales and eight minima of Q4_K and Q5_K blocks, a row's in its lane, four to a dword.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct SixBits {
    d: __m256,
    /// Below zero.
    dmin: __m256,
    scales: [__m256i; 2],
    mins: [__m256i; 2],
}

#[cfg(target_arch = "x86_64")]
impl SixBits {
    /// # Safety
    /// AVX2 and F16C; each pointer has 16 bytes at `at`.
    #[inline(always)]
    unsafe fn read(rows: &[*const u8; 8], at: usize) -> SixBits {
        // SAFETY: as the caller promises. The layout is that of `scale_and_min`, four bytes at a time.
        unsafe {
            let (d, dmin) = two_halves(rows, at);
            let (first, second, rest) = (dwords(rows, at + 4), dwords(rows, at + 8), dwords(rows, at + 12));
            let (low, top) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
            let scale_tops = _mm256_and_si256(_mm256_srli_epi16(first, 2), top);
            let min_tops = _mm256_and_si256(_mm256_srli_epi16(second, 2), top);
            SixBits {
                d,
                dmin: _mm256_xor_ps(dmin, _mm256_set1_ps(-0.0)),
                scales: [
                    _mm256_and_si256(first, _mm256_set1_epi8(63)),
                    _mm256_or_si256(_mm256_and_si256(rest, low), scale_tops),
                ],
                mins: [
                    _mm256_and_si256(second, _mm256_set1_epi8(63)),
                    _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(rest, 4), low), min_tops),
                ],
            }
        }
    }

    /// # Safety
    /// AVX2; `j` is below 8.
    #[inline(always)]
    unsafe fn of(&self, j: usize) -> Scales {
        // SAFETY: register operations only.
        unsafe {
            let scale = _mm256_mul_ps(self.d, _mm256_cvtepi32_ps(byte(self.scales[j / 4], j % 4)));
            let min = _mm256_mul_ps(self.dmin, _mm256_cvtepi32_ps(byte(self.mins[j / 4], j % 4)));
            Scales::with_min((scale, min))
        }
    }
}

impl Format for Q5K {
    const BLOCK: BlockType = BlockType::Q5K;
    const ZERO: i32 = 0;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = true;
    const RUN: usize = 4;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        unpack_row::<Q5K>(row, block, Self::ZERO)
    }

    const PANELS: usize = 8;

    #[cfg(target_arch = "x86_64")]
    type Header = SixBits;

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn header(rows: &[*const u8; 8], block: usize) -> SixBits {
        // SAFETY: the block lies inside each row.
        unsafe { SixBits::read(rows, 176 * block) }
    }

    const SHARE: usize = 2;

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn vectors(rows: &[*const u8; 8], block: usize, _: &Self::Header, first: usize, i: usize) -> [__m256i; 4] {
        // SAFETY: the block lies inside each row.
        unsafe {
            let v = half_pair(rows, 176 * block + 48 + 16 * first, i);
            let high = half_pair(rows, 176 * block + 16, i);
            let zero = _mm256_setzero_si256();
            let low = _mm256_or_si256(bits(v, 0, 15), _mm256_slli_epi16(bits(high, first, 1), 4));
            [low, _mm256_or_si256(bits(v, 4, 15), _mm256_slli_epi16(bits(high, first + 1, 1), 4)), zero, zero]
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(_: &[*const u8; 8], _: usize, header: &Self::Header, j: usize) -> Scales {
        // SAFETY: register operations only.
        unsafe { header.of(j) }
    }
}

impl Format for Q2K {
    const BLOCK: BlockType = BlockType::Q2K;
    const ZERO: i32 = 0;
    const GROUPS: usize = 2;
    const HAS_MIN: bool = true;
    const RUN: usize = 8;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        unpack_row::<Q2K>(row, block, Self::ZERO)
    }

    const PANELS: usize = 8;

    /// The scales of the scales and of the minima, these below zero; a scale and a minimum of four bits in each
    /// byte, a row's in its lane.
    #[cfg(target_arch = "x86_64")]
    type Header = (__m256, __m256, [__m256i; 4]);

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn header(rows: &[*const u8; 8], block: usize) -> Self::Header {
        let at = 84 * block;
        // SAFETY: the block lies inside each row.
        unsafe {
            let (d, dmin) = two_halves(rows, at + 80);
            (d, _mm256_xor_ps(dmin, _mm256_set1_ps(-0.0)), lanes_16(rows, at))
        }
    }

    const SHARE: usize = 4;

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn vectors(rows: &[*const u8; 8], block: usize, _: &Self::Header, first: usize, i: usize) -> [__m256i; 4] {
        // SAFETY: the block lies inside each row.
        unsafe {
            let v = half_pair(rows, 84 * block + 16 + 8 * first, i);
            [bits(v, 0, 3), bits(v, 2, 3), bits(v, 4, 3), bits(v, 6, 3)]
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(_: &[*const u8; 8], _: usize, header: &Self::Header, j: usize) -> Scales {
        // SAFETY: register operations only.
        unsafe {
            let (d, dmin, packed) = *header;
            let zero = _mm256_setzero_ps();
            let mut all = Scales { scales: [zero; 2], mins: [zero; 2] };
            for g in 0..2 {
                let byte = byte(packed[j / 2], 2 * (j % 2) + g);
                all.scales[g] = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_and_si256(byte, _mm256_set1_epi32(15))));
                all.mins[g] = _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(_mm256_srli_epi32(byte, 4)));
            }
            all
        }
    }
}

impl Format for Q3K {
    const BLOCK: BlockType = BlockType::Q3K;
    const ZERO: i32 = 4;
    const GROUPS: usize = 2;
    const HAS_MIN: bool = false;
    const RUN: usize = 8;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        unpack_row::<Q3K>(row, block, Self::ZERO)
    }

    const PANELS: usize = 8;

    /// The scale of the scales, and these, four to a dword, a row's in its lane, 32 too large.
    #[cfg(target_arch = "x86_64")]
    type Header = (__m256, [__m256i; 4]);

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn header(rows: &[*const u8; 8], block: usize) -> Self::Header {
        let at = 110 * block;
        // SAFETY: the block lies inside each row. The layout is that of `q3_k::scale`, four bytes at a time.
        unsafe {
            let (first, second, tops) = (dwords(rows, at + 96), dwords(rows, at + 100), dwords(rows, at + 104));
            let parts = [
                (first, tops),
                (second, _mm256_srli_epi16(tops, 2)),
                (_mm256_srli_epi16(first, 4), _mm256_srli_epi16(tops, 4)),
                (_mm256_srli_epi16(second, 4), _mm256_srli_epi16(tops, 6)),
            ];
            // A closure would be a function of its own, without the vector instructions.
            let mut scales = [_mm256_setzero_si256(); 4];
            for (scale, (low, top)) in scales.iter_mut().zip(parts) {
                let top = _mm256_and_si256(top, _mm256_set1_epi8(3));
                *scale = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi8(15)), _mm256_slli_epi16(top, 4));
            }
            (halves(rows, at + 108), scales)
        }
    }

    const SHARE: usize = 4;

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn vectors(rows: &[*const u8; 8], block: usize, _: &Self::Header, first: usize, i: usize) -> [__m256i; 4] {
        // SAFETY: the block lies inside each row.
        unsafe {
            let v = half_pair(rows, 110 * block + 32 + 8 * first, i);
            let high = half_pair(rows, 110 * block, i);
            let mut all = [bits(v, 0, 3), bits(v, 2, 3), bits(v, 4, 3), bits(v, 6, 3)];
            for (k, q) in all.iter_mut().enumerate() {
                *q = _mm256_or_si256(*q, _mm256_slli_epi16(bits(high, first + k, 1), 2));
            }
            all
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(_: &[*const u8; 8], _: usize, header: &Self::Header, j: usize) -> Scales {
        // SAFETY: register operations only.
        unsafe {
            let (d, packed) = *header;
            let mut groups = [_mm256_setzero_si256(); 2];
            for (g, group) in groups.iter_mut().enumerate() {
                *group = _mm256_sub_epi32(byte(packed[j / 2], 2 * (j % 2) + g), _mm256_set1_epi32(32));
            }
            Scales::two(d, groups)
        }
    }
}

pub(crate) struct Q6K;

impl Format for Q6K {
    const BLOCK: BlockType = BlockType::Q6K;
    const ZERO: i32 = 32;
    const GROUPS: usize = 2;
    const HAS_MIN: bool = false;
    const RUN: usize = 2;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        let b = &row[210 * (block / 8)..210 * (block / 8 + 1)];
        let (half, k) = (block % 8 / 4, block % 4);
        let low = &b[64 * half + 32 * (k % 2)..][..PANEL_COLS];
        let high = &b[128 + 32 * half..][..PANEL_COLS];
        let quants = std::array::from_fn(|i| (low[i] >> (4 * (k / 2)) & 15) | ((high[i] >> (2 * k) & 3) << 4));
        let d = half_at(b, 208);
        let scales = std::array::from_fn(|g| d * f32::from(b[192 + 8 * half + 2 * k + g] as i8));
        RowBlock { quants, scales, mins: [0.0; 2] }
    }

    const PANELS: usize = 8;

    /// The scale of the scales, and these, four to a dword, a row's in its lane.
    #[cfg(target_arch = "x86_64")]
    type Header = (__m256, [__m256i; 4]);

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn header(rows: &[*const u8; 8], block: usize) -> Self::Header {
        // SAFETY: the block lies inside each row.
        unsafe { (halves(rows, 210 * block + 208), lanes_16(rows, 210 * block + 192)) }
    }

    const SHARE: usize = 4;

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn vectors(rows: &[*const u8; 8], block: usize, _: &Self::Header, first: usize, i: usize) -> [__m256i; 4] {
        let (low, high) = (210 * block + 16 * first, 210 * block + 128 + 8 * first);
        // SAFETY: the block lies inside each row.
        unsafe {
            let (even, odd) = (half_pair(rows, low, i), half_pair(rows, low + 32, i));
            let high = half_pair(rows, high, i);
            let mut all = [bits(even, 0, 15), bits(odd, 0, 15), bits(even, 4, 15), bits(odd, 4, 15)];
            for (k, q) in all.iter_mut().enumerate() {
                *q = _mm256_or_si256(*q, _mm256_slli_epi16(bits(high, 2 * k, 3), 4));
            }
            all
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(_: &[*const u8; 8], _: usize, header: &Self::Header, j: usize) -> Scales {
        // SAFETY: register operations only.
        unsafe {
            let (d, packed) = *header;
            let mut groups = [_mm256_setzero_si256(); 2];
            for (g, group) in groups.iter_mut().enumerate() {
                // The byte with its sign: up to the top and back.
                let up = _mm_cvtsi32_si128(24 - 8 * (2 * (j % 2) + g) as i32);
                *group = _mm256_srai_epi32(_mm256_sll_epi32(packed[j / 2], up), 24);
            }
            Scales::two(d, groups)
        }
    }
}
