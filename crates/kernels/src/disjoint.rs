//! A mutable slice that the threads of a pool fill in disjoint parts.

use std::marker::PhantomData;
use std::ops::Range;

use crate::Pool;

/// Elements below which a job is not worth waking another thread for.
const TILE_ELEMENTS: usize = 4096;

/// A mutable slice whose parts are handed to tiles; each part to one tile only.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: threads get at the elements only through `part` and `start`, whose callers keep the parts disjoint, so
// sharing the handle amounts to sending `&mut [T]`s.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Takes the slice for as long as its parts are in use.
    pub(crate) fn new(slice: &'a mut [T]) -> Disjoint<'a, T> {
        Disjoint { start: slice.as_mut_ptr(), len: slice.len(), owner: PhantomData }
    }

    /// Where the elements lie, for rectangles that are no slices.
    pub(crate) fn start(&self) -> *mut T {
        self.start
    }

    /// The elements `range`.
    ///
    /// # Safety
    /// No two parts that are alive at the same time may overlap.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {}", self.len);
        // SAFETY: the range lies inside the slice that `new` borrowed mutably for `'a`, and the caller
        // vouches that no other part overlaps it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// Cuts `out` (rows of `width`) into tiles of whole rows and calls `fill(first_row, rows)` for each.
pub(crate) fn for_rows<T: Send>(pool: &Pool, width: usize, out: &mut [T], fill: impl Fn(usize, &mut [T]) + Sync) {
    for_rows2(pool, width, out, width, &mut [(); 0][..], |first, rows, _| fill(first, rows));
}

/// [`for_rows`] over two outputs with the same number of rows, or with an empty second one.
pub(crate) fn for_rows2<T: Send, U: Send>(
    pool: &Pool,
    width: usize,
    out: &mut [T],
    width2: usize,
    out2: &mut [U],
    fill: impl Fn(usize, &mut [T], &mut [U]) + Sync,
) {
    let rows = out.len().checked_div(width).unwrap_or(0);
    if rows == 0 {
        return;
    }
    let per_tile = (TILE_ELEMENTS / width).max(1);
    let width2 = if out2.is_empty() { 0 } else { width2 };
    let (out, out2) = (Disjoint::new(out), Disjoint::new(out2));
    pool.run(rows.div_ceil(per_tile), &|tile| {
        let (first, last) = (tile * per_tile, rows.min((tile + 1) * per_tile));
        // SAFETY: tiles have rows of their own, and the pool runs each tile once.
        let (part, part2) =
            unsafe { (out.part(first * width..last * width), out2.part(first * width2..last * width2)) };
        fill(first, part, part2);
    });
}

/// Columns that one tile sums over all rows.
const COLUMN_TILE: usize = 64;

/// Cuts `out`, one number a column, into tiles and calls `fill(first_column, columns)` for each: sums over rows, which
/// no two threads share.
pub(crate) fn for_columns(pool: &Pool, out: &mut [f32], fill: impl Fn(usize, &mut [f32]) + Sync) {
    let width = out.len();
    let parts = Disjoint::new(out);
    pool.run(width.div_ceil(COLUMN_TILE), &|tile| {
        let columns = tile * COLUMN_TILE..width.min((tile + 1) * COLUMN_TILE);
        // SAFETY: each tile has columns of its own, and the pool runs each tile once.
        fill(columns.start, unsafe { parts.part(columns.clone()) });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_filled_once_with_its_own_number() {
        let pool = Pool::new(3);
        for (rows, width) in [(0, 5), (1, 1), (7, 3), (1000, 17), (3, 9000)] {
            let mut out = vec![0usize; rows * width];
            let mut sums = vec![0usize; rows];
            for_rows2(&pool, width, &mut out, 1, &mut sums, |first, part, sums| {
                for (i, (row, sum)) in part.chunks_exact_mut(width).zip(sums).enumerate() {
                    row.iter_mut().for_each(|v| *v += first + i + 1);
                    *sum += row.iter().sum::<usize>();
                }
            });
            for r in 0..rows {
                assert!(out[r * width..(r + 1) * width].iter().all(|&v| v == r + 1));
                assert_eq!(sums[r], (r + 1) * width);
            }
        }
    }
}
