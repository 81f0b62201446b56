//! Panels of the 256-weight formats Q2_K to Q6_K.

use half::f16;

use super::{Format, PANEL_COLS, RowBlock, unpack_row};
#[cfg(target_arch = "x86_64")]
use super::{Panel, bits, floats, halves, transpose_32};
use crate::block::q2_k::Q2K;
#[cfg(target_arch = "x86_64")]
use crate::block::q3_k;
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

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn unpack_panel(rows: &[*const u8; 8], block: usize) -> Panel {
        let (at, j) = (144 * (block / 8), block % 8);
        // SAFETY: the super-block lies inside each row.
        unsafe {
            let (scale, min) = scales_and_mins(rows, at, j);
            let mut quants = transpose_32(rows, at + 16 + 32 * (j / 2));
            for q in &mut quants {
                *q = bits(*q, 4 * (j % 2), 15);
            }
            let zero = _mm256_setzero_ps();
            Panel { quants, scales: [scale, zero], mins: [min, zero] }
        }
    }
}

/// The scales of group `j` of the Q4_K or Q5_K blocks at `at`, and its minima below zero.
///
/// # Safety
/// AVX2 and F16C; each pointer has 16 bytes at `at`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn scales_and_mins(rows: &[*const u8; 8], at: usize, j: usize) -> (__m256, __m256) {
    // SAFETY: as the caller promises.
    unsafe {
        let (mut scale, mut min) = ([0; 8], [0; 8]);
        for (r, row) in rows.iter().enumerate() {
            let (s, m) = scale_and_min(&*row.add(at + 4).cast::<[u8; 12]>(), j);
            scale[r] = i32::from(s);
            min[r] = i32::from(m);
        }
        let min = _mm256_mul_ps(halves(rows, at + 2), floats(&min));
        (_mm256_mul_ps(halves(rows, at), floats(&scale)), _mm256_xor_ps(min, _mm256_set1_ps(-0.0)))
    }
}

impl Format for Q5K {
    const ZERO: i32 = 0;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = true;
    const RUN: usize = 4;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        unpack_row::<Q5K>(row, block, Self::ZERO)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn unpack_panel(rows: &[*const u8; 8], block: usize) -> Panel {
        let (at, j) = (176 * (block / 8), block % 8);
        // SAFETY: the super-block lies inside each row.
        unsafe {
            let (scale, min) = scales_and_mins(rows, at, j);
            let mut quants = transpose_32(rows, at + 48 + 32 * (j / 2));
            let high = transpose_32(rows, at + 16);
            for (q, high) in quants.iter_mut().zip(high) {
                *q = _mm256_or_si256(bits(*q, 4 * (j % 2), 15), _mm256_slli_epi16(bits(high, j, 1), 4));
            }
            let zero = _mm256_setzero_ps();
            Panel { quants, scales: [scale, zero], mins: [min, zero] }
        }
    }
}

impl Format for Q2K {
    const ZERO: i32 = 0;
    const GROUPS: usize = 2;
    const HAS_MIN: bool = true;
    const RUN: usize = 8;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        unpack_row::<Q2K>(row, block, Self::ZERO)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn unpack_panel(rows: &[*const u8; 8], block: usize) -> Panel {
        let (at, j) = (84 * (block / 8), block % 8);
        // SAFETY: the super-block lies inside each row.
        unsafe {
            let mut quants = transpose_32(rows, at + 16 + 32 * (j / 4));
            for q in &mut quants {
                *q = bits(*q, 2 * (j % 4), 3);
            }
            // Each of two bytes has a scale and a minimum of four bits.
            let mut packed = [0i32; 8];
            for (packed, row) in packed.iter_mut().zip(rows) {
                *packed = i32::from(row.add(at + 2 * j).cast::<u16>().read_unaligned());
            }
            let packed = _mm256_loadu_si256(packed.as_ptr().cast());
            let nibble = _mm256_set1_epi32(15);
            let scales = [packed, _mm256_srli_epi32(packed, 8)];
            let (d, dmin) = (halves(rows, at + 80), _mm256_xor_ps(halves(rows, at + 82), _mm256_set1_ps(-0.0)));
            let mut panel = Panel { quants, scales: [_mm256_setzero_ps(); 2], mins: [_mm256_setzero_ps(); 2] };
            for (g, byte) in scales.into_iter().enumerate() {
                let scale = _mm256_cvtepi32_ps(_mm256_and_si256(byte, nibble));
                let min = _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(byte, 4), nibble));
                panel.scales[g] = _mm256_mul_ps(d, scale);
                panel.mins[g] = _mm256_mul_ps(dmin, min);
            }
            panel
        }
    }
}

impl Format for Q3K {
    const ZERO: i32 = 4;
    const GROUPS: usize = 2;
    const HAS_MIN: bool = false;
    const RUN: usize = 8;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        unpack_row::<Q3K>(row, block, Self::ZERO)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn unpack_panel(rows: &[*const u8; 8], block: usize) -> Panel {
        let (at, j) = (110 * (block / 8), block % 8);
        // SAFETY: the super-block lies inside each row.
        unsafe {
            let mut quants = transpose_32(rows, at + 32 + 32 * (j / 4));
            let high = transpose_32(rows, at);
            for (q, high) in quants.iter_mut().zip(high) {
                *q = _mm256_or_si256(bits(*q, 2 * (j % 4), 3), _mm256_slli_epi16(bits(high, j, 1), 2));
            }
            let mut scales = [[0i32; 8]; 2];
            for (r, row) in rows.iter().enumerate() {
                let packed = &*row.add(at + 96).cast::<[u8; 12]>();
                for (g, scales) in scales.iter_mut().enumerate() {
                    scales[r] = q3_k::scale(packed, 2 * j + g);
                }
            }
            let d = halves(rows, at + 108);
            let scales = [_mm256_mul_ps(d, floats(&scales[0])), _mm256_mul_ps(d, floats(&scales[1]))];
            Panel { quants, scales, mins: [_mm256_setzero_ps(); 2] }
        }
    }
}

pub(crate) struct Q6K;

impl Format for Q6K {
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

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn unpack_panel(rows: &[*const u8; 8], block: usize) -> Panel {
        let at = 210 * (block / 8);
        let (half, k) = (block % 8 / 4, block % 4);
        // SAFETY: the super-block lies inside each row.
        unsafe {
            let low = transpose_32(rows, at + 64 * half + 32 * (k % 2));
            let high = transpose_32(rows, at + 128 + 32 * half);
            let low_shift = _mm_cvtsi32_si128(4 * (k / 2) as i32);
            let high_shift = _mm_cvtsi32_si128(2 * k as i32);
            let quants = std::array::from_fn(|i| {
                let low = _mm256_and_si256(_mm256_srl_epi16(low[i], low_shift), _mm256_set1_epi8(15));
                let high = _mm256_and_si256(_mm256_srl_epi16(high[i], high_shift), _mm256_set1_epi8(3));
                _mm256_or_si256(low, _mm256_slli_epi16(high, 4))
            });
            let d = halves(rows, at + 208);
            let scales = std::array::from_fn(|g| {
                let offset = at + 192 + 8 * half + 2 * k + g;
                let s = rows.map(|r| i32::from(r.add(offset).cast::<i8>().read()));
                _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_loadu_si256(s.as_ptr().cast())))
            });
            Panel { quants, scales, mins: [_mm256_setzero_ps(); 2] }
        }
    }
}
