//! Panels of the 256-weight formats: Q4_K, Q6_K.

use half::f16;

use super::{Format, PANEL_COLS, RowBlock};
#[cfg(target_arch = "x86_64")]
use super::{Panel, halves, transpose_32};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

pub(crate) struct Q4K;

/// The 6-bit scale and minimum of group `j` from their 12 packed bytes: the first four groups use the low
/// 6 bits of bytes 0..8, the others put their upper two bits into the top of those bytes.
#[inline(always)]
fn scale_min(packed: &[u8; 12], j: usize) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        ((packed[j + 4] & 15) | (packed[j - 4] >> 6 << 4), (packed[j + 4] >> 4) | (packed[j] >> 6 << 4))
    }
}

impl Format for Q4K {
    const ZERO: i32 = 0;
    const GROUPS: usize = 1;
    const HAS_MIN: bool = true;
    const RUN: usize = 8;

    fn unpack_row(row: &[u8], block: usize) -> RowBlock {
        let (b, j) = (&row[144 * (block / 8)..144 * (block / 8 + 1)], block % 8);
        let packed: &[u8; 12] = b[4..16].try_into().expect("twelve bytes");
        let (scale, min) = scale_min(packed, j);
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
            let mut scale = [0i32; 8];
            let mut min = [0i32; 8];
            for (r, row) in rows.iter().enumerate() {
                let (s, m) = scale_min(&*row.add(at + 4).cast::<[u8; 12]>(), j);
                scale[r] = i32::from(s);
                min[r] = i32::from(m);
            }
            let float = |v: &[i32; 8]| _mm256_cvtepi32_ps(_mm256_loadu_si256(v.as_ptr().cast()));
            let scale = _mm256_mul_ps(halves(rows, at), float(&scale));
            let min = _mm256_mul_ps(halves(rows, at + 2), float(&min));
            let mask = _mm256_set1_epi8(15);
            let shift = _mm_cvtsi32_si128(4 * (j % 2) as i32);
            let quants =
                transpose_32(rows, at + 16 + 32 * (j / 2)).map(|q| _mm256_and_si256(_mm256_srl_epi16(q, shift), mask));
            let min = _mm256_xor_ps(min, _mm256_set1_ps(-0.0));
            Panel { quants, scales: [scale, _mm256_setzero_ps()], mins: [min, _mm256_setzero_ps()] }
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
