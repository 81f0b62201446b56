//! The register tile of AVX-512: up to 8 rows by 16 columns of a product, a vector to a row.
//!
//! One step reads 16 numbers of B, and each multiply-add broadcasts its own number of A: 8 sums on their way hide an
//! instruction's latency on a processor that begins two a cycle.

use std::arch::x86_64::*;

use super::kernel::{ADD, RESUME, Tile};

/// Rows of a tile.
const ROWS: usize = 8;

/// All register tiles of `m` rows and `n` columns, as [`super::kernel::tiles`] has them.
///
/// # Safety
/// AVX-512 F; `n` is a multiple of 16, and all elements exist.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn tiles<const START: u8>(whole: Tile, m: usize, n: usize) {
    whole.corners(m, n, ROWS, |row, column, rows| {
        // SAFETY: the processor has AVX-512 F; row and column exist, and `rows` rows from there on.
        unsafe {
            let tile = whole.at(row, column);
            match rows {
                8 => run::<8, START>(tile),
                7 => run::<7, START>(tile),
                6 => run::<6, START>(tile),
                5 => run::<5, START>(tile),
                4 => run::<4, START>(tile),
                3 => run::<3, START>(tile),
                2 => run::<2, START>(tile),
                _ => run::<1, START>(tile),
            }
        }
    });
}

/// M rows by 16 columns.
///
/// # Safety
/// AVX-512 F; all elements exist.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn run<const M: usize, const START: u8>(tile: Tile) {
    let Tile { k, mut a, a_row, a_col, mut b, b_row, from, from_row, c, c_row } = tile;
    let mut acc = [_mm512_setzero_ps(); M];
    // SAFETY: as the caller promises; pointers past the last step are not read.
    unsafe {
        if START == RESUME {
            for (i, acc) in acc.iter_mut().enumerate() {
                *acc = _mm512_loadu_ps(from.add(i * from_row));
            }
        }
        for _ in 0..k {
            let row = _mm512_loadu_ps(b);
            // Three pointers and one distance reach eight rows.
            let (middle, upper) = (a.wrapping_add(3 * a_row), a.wrapping_add(6 * a_row));
            for (i, acc) in acc.iter_mut().enumerate() {
                let at = match i {
                    0..3 => a.add(i * a_row),
                    3..6 => middle.add((i - 3) * a_row),
                    _ => upper.add((i - 6) * a_row),
                };
                *acc = _mm512_fmadd_ps(_mm512_set1_ps(*at), row, *acc);
            }
            a = a.wrapping_add(a_col);
            b = b.wrapping_add(b_row);
        }
        for (i, &sum) in acc.iter().enumerate() {
            let from = from.wrapping_add(i * from_row);
            let sum = if START == ADD { _mm512_add_ps(_mm512_loadu_ps(from), sum) } else { sum };
            _mm512_storeu_ps(c.add(i * c_row), sum);
        }
    }
}
