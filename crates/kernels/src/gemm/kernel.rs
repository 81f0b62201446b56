//! The register tile of AVX2: up to 6 rows by 16 columns of a product, in 12 of 16 vector registers.
//!
//! One step reads 16 numbers of B and broadcasts 6 of A for 12 multiply-adds of 8 lanes, so it is bound by the
//! multiply-add units and not by the loads.

use std::arch::x86_64::*;

use super::{COLS, ROWS};

/// [`super::Start`] as a constant of the code.
pub(super) const ZERO: u8 = 0;
pub(super) const RESUME: u8 = 1;
pub(super) const ADD: u8 = 2;

/// Where a product or a tile of it begins, and the distances between rows and columns in numbers.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// Steps of the sum.
    pub(super) k: usize,
    pub(super) a: *const f32,
    pub(super) a_row: usize,
    pub(super) a_col: usize,
    pub(super) b: *const f32,
    pub(super) b_row: usize,
    pub(super) c: *mut f32,
    pub(super) c_row: usize,
}

/// Rows of the next register tile of at most `most`: the last two share what is left, so that neither is thin.
#[inline(always)]
pub(super) fn next_rows(left: usize, most: usize) -> usize {
    match left {
        _ if left <= most => left,
        _ if left < 2 * most => left.div_ceil(2),
        _ => most,
    }
}

/// All register tiles of `m` rows and `n` columns: 16 columns of B stay in the first-level cache while the rows of
/// A pass by.
///
/// # Safety
/// AVX2 and FMA; `n` is a multiple of 16, and all elements exist.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn tiles<const START: u8>(whole: Tile, m: usize, n: usize) {
    for j in (0..n).step_by(COLS) {
        let mut i = 0;
        while i < m {
            let rows = next_rows(m - i, ROWS);
            // SAFETY: row `i` and column `j` exist, and `rows` rows from there on.
            unsafe {
                let tile = whole.at(i, j);
                match rows {
                    6 => tile.run::<6, START>(),
                    5 => tile.run::<5, START>(),
                    4 => tile.run::<4, START>(),
                    3 => tile.run::<3, START>(),
                    2 => tile.run::<2, START>(),
                    _ => tile.run::<1, START>(),
                }
            }
            i += rows;
        }
    }
}

impl Tile {
    /// The tile that begins with a row and a column of the product.
    ///
    /// # Safety
    /// They exist.
    #[inline(always)]
    pub(super) unsafe fn at(self, row: usize, column: usize) -> Tile {
        // SAFETY: as the caller promises.
        unsafe {
            Tile {
                a: self.a.add(row * self.a_row),
                b: self.b.add(column),
                c: self.c.add(row * self.c_row + column),
                ..self
            }
        }
    }

    /// M rows by 16 columns.
    ///
    /// # Safety
    /// AVX2 and FMA; all elements exist.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run<const M: usize, const START: u8>(self) {
        let Tile { k, mut a, a_row, a_col, mut b, b_row, c, c_row } = self;
        let mut acc = [[_mm256_setzero_ps(); 2]; M];
        // SAFETY: as the caller promises; pointers past the last step are not read.
        unsafe {
            if START == RESUME {
                for (i, acc) in acc.iter_mut().enumerate() {
                    *acc = [_mm256_loadu_ps(c.add(i * c_row)), _mm256_loadu_ps(c.add(i * c_row + 8))];
                }
            }
            for _ in 0..k {
                let row = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
                // Two pointers and one distance reach six rows.
                let upper = a.wrapping_add(3 * a_row);
                for (i, acc) in acc.iter_mut().enumerate() {
                    let at = if i < 3 { a.add(i * a_row) } else { upper.add((i - 3) * a_row) };
                    let x = _mm256_broadcast_ss(&*at);
                    acc[0] = _mm256_fmadd_ps(x, row[0], acc[0]);
                    acc[1] = _mm256_fmadd_ps(x, row[1], acc[1]);
                }
                a = a.wrapping_add(a_col);
                b = b.wrapping_add(b_row);
            }
            for (i, acc) in acc.iter().enumerate() {
                for (v, &sum) in acc.iter().enumerate() {
                    let at = c.add(i * c_row + 8 * v);
                    _mm256_storeu_ps(at, if START == ADD { _mm256_add_ps(_mm256_loadu_ps(at), sum) } else { sum });
                }
            }
        }
    }
}
