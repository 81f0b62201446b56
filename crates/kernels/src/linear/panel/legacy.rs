//! Panels of the 32-weight formats: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.

use crate::BlockType;
use half::f16;

use super::{Format, PANEL_COLS, RowBlock, unpack_row};
#[cfg(target_arch = "x86_64")]
use super::{Scales, dwords, half_pair, halves, one, pair, two_halves};
use crate::block::q5_1::Q5_1;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The low nibbles of 16 bytes, then the high ones.
fn nibbles(bytes: &[u8]) -> [u8; PANEL_COLS] {
    std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
}

/// As [`nibbles`], for the 16 bytes at `offset` of rows `i` and `i + 4`, or `i - 4` and `i`, of which the high ones.
///
/// # Safety
/// AVX2; each pointer has 16 bytes at `offset`; `i` is below 8.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn nibble_pair(rows: &[*const u8; 8], offset: usize, i: usize) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe {
        let v = pair(rows, offset, i % 4);
        _mm256_and_si256(if i < 4 { v } else { _mm256_srli_epi16(v, 4) }, _mm256_set1_epi8(15))
    }
}

pub(crate) struct Q4_0;

impl Format for Q4_0 {
    const BLOCK: BlockType = BlockType::Q4_0;
    const ZERO: i32 = 8;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = false;
    const RUN: usize = 8;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        let b = &row[18 * block..18 * (block + 1)];
        RowBlock { quants: nibbles(&b[2..]), scales: [half_at(b, 0), 0.0], mins: [0.0; 2] }
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
        unsafe { one(nibble_pair(rows, 18 * block + 2, i)) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; 8], block: usize, (): &Self::Header, _: usize) -> Scales {
        // SAFETY: the block lies inside each row.
        unsafe { Scales::one(halves(rows, 18 * block)) }
    }
}

pub(crate) struct Q4_1;

impl Format for Q4_1 {
    const BLOCK: BlockType = BlockType::Q4_1;
    const ZERO: i32 = 0;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = true;
    const RUN: usize = 8;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        let b = &row[20 * block..20 * (block + 1)];
        RowBlock { quants: nibbles(&b[4..]), scales: [half_at(b, 0), 0.0], mins: [half_at(b, 2), 0.0] }
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
        unsafe { one(nibble_pair(rows, 20 * block + 4, i)) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; 8], block: usize, (): &Self::Header, _: usize) -> Scales {
        // SAFETY: the block lies inside each row.
        unsafe { Scales::with_min(two_halves(rows, 20 * block)) }
    }
}

/// The fifth bits of vector `i` of the quants, from a dword of each row.
///
/// # Safety
/// AVX2; `i` is below 8.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn fifth_bits(high: __m256i, i: usize) -> __m256i {
    // SAFETY: register operations only.
    unsafe {
        // Byte j of a half wants bit j, or 16 + j, of its row's dword: copy the byte that holds it to where it is
        // wanted, pick one bit in each, and turn "set" into 16.
        let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let spread = _mm256_setr_epi8(
            0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, //
            0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,
        );
        let first = _mm256_set1_epi8((4 * (i % 4) + 2 * (i / 4)) as i8);
        let bytes = _mm256_shuffle_epi8(high, _mm256_add_epi8(spread, first));
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bits), bits);
        _mm256_and_si256(set, _mm256_set1_epi8(16))
    }
}

pub(crate) struct Q5_0;

impl Format for Q5_0 {
    const BLOCK: BlockType = BlockType::Q5_0;
    const ZERO: i32 = 16;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = false;
    const RUN: usize = 4;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        let b = &row[22 * block..22 * (block + 1)];
        let high = u32::from_le_bytes([b[2], b[3], b[4], b[5]]);
        let mut quants = nibbles(&b[6..]);
        for (i, q) in quants.iter_mut().enumerate() {
            *q |= ((high >> i & 1) << 4) as u8;
        }
        RowBlock { quants, scales: [half_at(b, 0), 0.0], mins: [0.0; 2] }
    }

    /// The fifth bits of each row.
    #[cfg(target_arch = "x86_64")]
    type Header = __m256i;

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn header(rows: &[*const u8; 8], block: usize) -> __m256i {
        // SAFETY: the block lies inside each row.
        unsafe { dwords(rows, 22 * block + 2) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn vectors(rows: &[*const u8; 8], block: usize, high: &Self::Header, _: usize, i: usize) -> [__m256i; 4] {
        // SAFETY: the block lies inside each row.
        unsafe { one(_mm256_or_si256(nibble_pair(rows, 22 * block + 6, i), fifth_bits(*high, i))) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; 8], block: usize, _: &Self::Header, _: usize) -> Scales {
        // SAFETY: the block lies inside each row.
        unsafe { Scales::one(halves(rows, 22 * block)) }
    }
}

impl Format for Q5_1 {
    const BLOCK: BlockType = BlockType::Q5_1;
    const ZERO: i32 = 0;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = true;
    const RUN: usize = 4;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        unpack_row::<Q5_1>(row, block, Self::ZERO)
    }

    /// The fifth bits of each row.
    #[cfg(target_arch = "x86_64")]
    type Header = __m256i;

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn header(rows: &[*const u8; 8], block: usize) -> __m256i {
        // SAFETY: the block lies inside each row.
        unsafe { dwords(rows, 24 * block + 4) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn vectors(rows: &[*const u8; 8], block: usize, high: &Self::Header, _: usize, i: usize) -> [__m256i; 4] {
        // SAFETY: the block lies inside each row.
        unsafe { one(_mm256_or_si256(nibble_pair(rows, 24 * block + 8, i), fifth_bits(*high, i))) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; 8], block: usize, _: &Self::Header, _: usize) -> Scales {
        // SAFETY: the block lies inside each row.
        unsafe { Scales::with_min(two_halves(rows, 24 * block)) }
    }
}

pub(crate) struct Q8_0;

impl Format for Q8_0 {
    const BLOCK: BlockType = BlockType::Q8_0;
    const ZERO: i32 = 128;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = false;
    const RUN: usize = 0;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        let b = &row[34 * block..34 * (block + 1)];
        let quants = std::array::from_fn(|i| b[2 + i] ^ 0x80);
        RowBlock { quants, scales: [half_at(b, 0), 0.0], mins: [0.0; 2] }
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
        unsafe { one(_mm256_xor_si256(half_pair(rows, 34 * block + 2, i), _mm256_set1_epi8(-128))) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; 8], block: usize, (): &Self::Header, _: usize) -> Scales {
        // SAFETY: the block lies inside each row.
        unsafe { Scales::one(halves(rows, 34 * block)) }
    }
}
