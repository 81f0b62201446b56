//! Panels of the 32-weight formats: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.

use half::f16;

use super::{Format, PANEL_COLS, RowBlock, unpack_row};
#[cfg(target_arch = "x86_64")]
use super::{Panel, dwords, halves, transpose_16, transpose_32, two_halves};
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

/// As [`nibbles`], for the 16 bytes at `offset` of 8 rows.
///
/// # Safety
/// AVX2; each pointer has 16 bytes at `offset`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn nibble_panel(rows: &[*const u8; 8], offset: usize) -> [__m256i; 8] {
    // SAFETY: as the caller promises.
    unsafe {
        let t = transpose_16(rows, offset);
        let mask = _mm256_set1_epi8(15);
        std::array::from_fn(|i| {
            let v = if i < 4 { t[i] } else { _mm256_srli_epi16(t[i - 4], 4) };
            _mm256_and_si256(v, mask)
        })
    }
}

pub(crate) struct Q4_0;

impl Format for Q4_0 {
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
    unsafe fn panel<const J: usize>(rows: &[*const u8; 8], block: usize, (): &()) -> Panel {
        let at = 18 * block;
        // SAFETY: the block lies inside each row.
        unsafe {
            let zero = _mm256_setzero_ps();
            Panel { quants: nibble_panel(rows, at + 2), scales: [halves(rows, at), zero], mins: [zero; 2] }
        }
    }
}

pub(crate) struct Q4_1;

impl Format for Q4_1 {
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
    unsafe fn panel<const J: usize>(rows: &[*const u8; 8], block: usize, (): &()) -> Panel {
        let at = 20 * block;
        // SAFETY: the block lies inside each row.
        unsafe {
            let (scale, min) = two_halves(rows, at);
            Panel {
                quants: nibble_panel(rows, at + 4),
                scales: [scale, _mm256_setzero_ps()],
                mins: [min, _mm256_setzero_ps()],
            }
        }
    }
}

/// Adds the fifth bits of the dword at `offset` of each row to its quants.
///
/// # Safety
/// AVX2; each pointer has four bytes at `offset`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn add_fifth_bits(rows: &[*const u8; 8], offset: usize, quants: &mut [__m256i; 8]) {
    // SAFETY: as the caller promises.
    unsafe {
        let high = dwords(rows, offset);
        // Byte j of vector i wants bit 4i + j of its row's dword: copy the byte that holds it to all
        // four bytes, pick one bit in each, and turn "set" into 16.
        let bits = _mm256_set1_epi32(0x0804_0201);
        let fifth = _mm256_set1_epi8(16);
        for (i, q) in quants.iter_mut().enumerate() {
            let nibble = _mm256_srl_epi32(high, _mm_cvtsi32_si128(4 * i as i32));
            let byte = _mm256_shuffle_epi8(
                nibble,
                _mm256_setr_epi8(
                    0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12, //
                    0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12,
                ),
            );
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(byte, bits), bits);
            *q = _mm256_or_si256(*q, _mm256_and_si256(set, fifth));
        }
    }
}

pub(crate) struct Q5_0;

impl Format for Q5_0 {
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

    #[cfg(target_arch = "x86_64")]
    type Header = ();

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn header(_: &[*const u8; 8], _: usize) {}

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn panel<const J: usize>(rows: &[*const u8; 8], block: usize, (): &()) -> Panel {
        let at = 22 * block;
        // SAFETY: the block lies inside each row.
        unsafe {
            let mut quants = nibble_panel(rows, at + 6);
            add_fifth_bits(rows, at + 2, &mut quants);
            Panel { quants, scales: [halves(rows, at), _mm256_setzero_ps()], mins: [_mm256_setzero_ps(); 2] }
        }
    }
}

impl Format for Q5_1 {
    const ZERO: i32 = 0;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = true;
    const RUN: usize = 4;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        unpack_row::<Q5_1>(row, block, Self::ZERO)
    }

    #[cfg(target_arch = "x86_64")]
    type Header = ();

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn header(_: &[*const u8; 8], _: usize) {}

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn panel<const J: usize>(rows: &[*const u8; 8], block: usize, (): &()) -> Panel {
        let at = 24 * block;
        // SAFETY: the block lies inside each row.
        unsafe {
            let (scale, min) = two_halves(rows, at);
            let mut quants = nibble_panel(rows, at + 8);
            add_fifth_bits(rows, at + 4, &mut quants);
            Panel { quants, scales: [scale, _mm256_setzero_ps()], mins: [min, _mm256_setzero_ps()] }
        }
    }
}

pub(crate) struct Q8_0;

impl Format for Q8_0 {
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
    unsafe fn panel<const J: usize>(rows: &[*const u8; 8], block: usize, (): &()) -> Panel {
        let at = 34 * block;
        // SAFETY: the block lies inside each row.
        unsafe {
            let flip = _mm256_set1_epi8(-128);
            let quants = transpose_32(rows, at + 2).map(|q| _mm256_xor_si256(q, flip));
            Panel { quants, scales: [halves(rows, at), _mm256_setzero_ps()], mins: [_mm256_setzero_ps(); 2] }
        }
    }
}
