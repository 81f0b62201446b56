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
    /// What the sums are begun with, or added to.
    pub(super) from: *const f32,
    pub(super) from_row: usize,
    pub(super) c: *mut f32,
    pub(super) c_row: usize,
}

/// A piece of B of at most so many numbers stays in the first-level cache beside a few rows of A.
const RESIDENT: usize = 6 << 10;

impl Tile {
    /// The corners of the register tiles of `m` rows and `n` columns, `most` rows at most, with the rows that each
    /// has. Where B stays in the first-level cache as a whole, the rows of A come by once for all of its columns;
    /// else once for each 16 of them.
    #[inline(always)]
    pub(super) fn corners(&self, m: usize, n: usize, most: usize, mut each: impl FnMut(usize, usize, usize)) {
        let width = if self.k * n <= RESIDENT { n } else { COLS };
        for first in (0..n).step_by(width) {
            let mut row = 0;
            while row < m {
                let rows = next_rows(m - row, most);
                for column in (first..first + width).step_by(COLS) {
                    each(row, column, rows);
                }
                row += rows;
            }
        }
    }
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

/// All register tiles of `m` rows and `n` columns.
///
/// # Safety
/// AVX2 and FMA; `n` is a multiple of 16, and all elements exist.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn tiles<const START: u8>(whole: Tile, m: usize, n: usize) {
    whole.corners(m, n, ROWS, |row, column, rows| {
        // SAFETY: the processor has AVX2 and FMA; row and column exist, and `rows` rows from there on.
        unsafe {
            let tile = whole.at(row, column);
            match rows {
                6 => tile.run::<6, START>(),
                5 => tile.run::<5, START>(),
                4 => tile.run::<4, START>(),
                3 => tile.run::<3, START>(),
                2 => tile.run::<2, START>(),
                _ => tile.run::<1, START>(),
            }
        }
    });
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
                from: self.from.add(row * self.from_row + column),
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
        let Tile { k, mut a, a_row, a_col, mut b, b_row, from, from_row, c, c_row } = self;
        let mut acc = [[_mm256_setzero_ps(); 2]; M];
        let rows: [usize; M] = std::array::from_fn(|i| in_register(i * a_row));
        // SAFETY: as the caller promises; pointers past the last step are not read.
        unsafe {
            if START == RESUME {
                for (i, acc) in acc.iter_mut().enumerate() {
                    *acc = [_mm256_loadu_ps(from.add(i * from_row)), _mm256_loadu_ps(from.add(i * from_row + 8))];
                }
            }
            let mut left = k;
            if a_col == 1 {
                while left >= UNROLL {
                    for step in 0..UNROLL {
                        multiply_add(&mut acc, a.wrapping_add(step), &rows, b);
                        b = b.wrapping_add(b_row);
                    }
                    a = a.wrapping_add(UNROLL);
                    left -= UNROLL;
                }
            }
            for _ in 0..left {
                multiply_add(&mut acc, a, &rows, b);
                a = a.wrapping_add(a_col);
                b = b.wrapping_add(b_row);
            }
            for (i, acc) in acc.iter().enumerate() {
                for (v, &sum) in acc.iter().enumerate() {
                    let from = from.wrapping_add(i * from_row + 8 * v);
                    let sum = if START == ADD { _mm256_add_ps(_mm256_loadu_ps(from), sum) } else { sum };
                    _mm256_storeu_ps(c.add(i * c_row + 8 * v), sum);
                }
            }
        }
    }
}

/// Steps of the sum between two jumps, where A's numbers are neighbours.
const UNROLL: usize = 4;

/// One step of the sum: 16 numbers of B times one number of each row of A.
///
/// # Safety
/// AVX2 and FMA; the numbers exist.
#[inline(always)]
unsafe fn multiply_add<const M: usize>(acc: &mut [[__m256; 2]; M], a: *const f32, rows: &[usize; M], b: *const f32) {
    // SAFETY: as the caller promises.
    unsafe {
        let row = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
        for (acc, &at) in acc.iter_mut().zip(rows) {
            let x = _mm256_broadcast_ss(&*a.add(at));
            acc[0] = _mm256_fmadd_ps(x, row[0], acc[0]);
            acc[1] = _mm256_fmadd_ps(x, row[1], acc[1]);
        }
    }
}

/// The same number, of which the compiler does not know where it comes from: else it makes one row's address from the
/// last one's by an addition each, a chain nearly as long as the multiply-adds.
#[inline(always)]
fn in_register(number: usize) -> usize {
    let same;
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {same} */", same = inout(reg) number => same, options(pure, nomem, nostack, preserves_flags))
    };
    same
}
