//! Panels of the formats whose quants are places in a list of points: IQ1, IQ2, IQ3. The points of a row are looked
//! up one after the other; signs and shifts are put on 32 at a time.

use super::{Format, RowBlock, unpack_row};
#[cfg(target_arch = "x86_64")]
use super::{Scales, one};
use crate::BlockType;
#[cfg(target_arch = "x86_64")]
use crate::block::grid::Grid;
use crate::block::grid::{IQ1M, IQ1S, IQ2S, IQ2XS, IQ2XXS, IQ3S, IQ3XXS};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Quants and scales of 8 rows.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Points {
    quants: [[u8; 32]; 8],
    scales: [[f32; 8]; 2],
}

/// [`Format::header`] of a format of points: all that there is.
///
/// # Safety
/// As there.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn look_up<G: Grid>(rows: &[*const u8; 8], block: usize, zero: i32) -> Points {
    let at = G::BYTES * (block / 8);
    let mut quants = [[0u8; 32]; 8];
    let mut scales = [[0f32; 8]; 2];
    // SAFETY: the caller promises AVX2 and that the block lies inside each row; all else are local arrays.
    unsafe {
        // Byte i wants bit i % 8 of byte i / 8 of the signs.
        let spread = _mm256_setr_epi8(
            0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, //
            2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3,
        );
        let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let zero = _mm256_set1_epi8(zero as i8);
        for (r, row) in rows.iter().enumerate() {
            let row = G::points(std::slice::from_raw_parts(row.add(at), G::BYTES), block % 8);
            let points = _mm256_loadu_si256(row.points.as_ptr().cast());
            let signs = _mm256_shuffle_epi8(_mm256_set1_epi32(row.signs as i32), spread);
            let negative = _mm256_cmpeq_epi8(_mm256_and_si256(signs, bit), bit);
            let values = if G::SHIFTED {
                _mm256_add_epi8(points, _mm256_or_si256(negative, _mm256_set1_epi8(1)))
            } else {
                _mm256_sub_epi8(_mm256_xor_si256(points, negative), negative)
            };
            _mm256_storeu_si256(quants[r].as_mut_ptr().cast(), _mm256_add_epi8(values, zero));
            scales[0][r] = row.scales[0];
            scales[1][r] = row.scales[1];
        }
        Points { quants, scales }
    }
}

macro_rules! grid {
    ($name:ident, zero $zero:literal, groups $groups:literal, run $run:literal) => {
        impl Format for $name {
            const BLOCK: BlockType = BlockType::$name;
            const ZERO: i32 = $zero;
            const GROUPS: usize = $groups;
            const HAS_MIN: bool = false;
            const RUN: usize = $run;

            fn unpack_row(row: &[u8], block: usize) -> RowBlock {
                unpack_row::<$name>(row, block, $zero)
            }

            #[cfg(target_arch = "x86_64")]
            type Header = Points;

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn header(rows: &[*const u8; 8], block: usize) -> Points {
                // SAFETY: passed on.
                unsafe { look_up::<$name>(rows, block, $zero) }
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn vectors(_: &[*const u8; 8], _: usize, points: &Points, _: usize, i: usize) -> [__m256i; 4] {
                let (half, q) = (16 * (i / 4), &points.quants);
                // SAFETY: both halves of both rows have 16 bytes.
                unsafe {
                    one(_mm256_loadu2_m128i(q[i % 4 + 4].as_ptr().add(half).cast(), q[i % 4].as_ptr().add(half).cast()))
                }
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn scales(_: &[*const u8; 8], _: usize, points: &Points, _: usize) -> Scales {
                // SAFETY: eight numbers each.
                unsafe {
                    let scales =
                        [_mm256_loadu_ps(points.scales[0].as_ptr()), _mm256_loadu_ps(points.scales[1].as_ptr())];
                    Scales { scales, mins: [_mm256_setzero_ps(); 2] }
                }
            }
        }
    };
}

// Points reach 62, so quants are below 127: 7 bits.
grid!(IQ2XXS, zero 64, groups 1, run 1);
grid!(IQ2XS, zero 64, groups 2, run 1);
grid!(IQ2S, zero 64, groups 2, run 1);
grid!(IQ3XXS, zero 64, groups 1, run 1);
// Points reach 15: 5 bits.
grid!(IQ3S, zero 16, groups 1, run 4);
grid!(IQ1S, zero 9, groups 1, run 4);
grid!(IQ1M, zero 9, groups 2, run 4);
