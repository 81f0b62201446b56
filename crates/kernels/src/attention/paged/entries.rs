//! Writing rows into pages, and reading them back.
//!
//! Rows that become blocks are turned (`turn.rs`) and rounded once, here.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::kv::{Q4Block, Q8Block, of_head, q4_to_rows, q8_to_rows, rows_to_q4, rows_to_q8};
use super::turn::{self, turn};
use super::{BLOCK, KV_BLOCK, KvSlice, KvSliceMut, PAGE, PageRef};
use crate::disjoint::Disjoint;
use crate::{Isa, Pool};

/// A page to be written.
#[derive(Debug)]
pub struct PageMut<'a> {
    /// Keys.
    pub k: KvSliceMut<'a>,
    /// Values.
    pub v: KvSliceMut<'a>,
}

/// Rows below which writing is not worth waking a thread for.
const MANY: usize = 16;

/// Whether entries run along the lanes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Keys,
    Values,
}

/// Writes rows of k and v, `[rows, kv_heads * head_dim]`, as the entries from `first` of the first of consecutive
/// pages on.
///
/// # Panics
/// If the rows do not fit into the pages, or blocks not into heads of `head_dim`.
pub fn write_entries(
    pool: &Pool,
    isa: Isa,
    kv_heads: usize,
    head_dim: usize,
    pages: &mut [PageMut<'_>],
    first: usize,
    k: &[f32],
    v: &[f32],
) {
    let width = kv_heads * head_dim;
    let rows = k.len().checked_div(width).unwrap_or(0);
    assert!(
        k.len() == v.len() && k.len() == rows * width && first + rows <= pages.len() * PAGE,
        "{} and {} numbers of {kv_heads} heads of {head_dim} from entry {first} of {} pages",
        k.len(),
        v.len(),
        pages.len()
    );
    let part = |page: usize| {
        let entries = first.clamp(page * PAGE, (page + 1) * PAGE)..(first + rows).min((page + 1) * PAGE);
        (entries.start - page * PAGE, entries.start - first..entries.end.max(entries.start) - first)
    };
    let write = |page: usize, side: Side, head: usize, slice: KvSliceMut<'_>| {
        let (entry, rows) = part(page);
        let from = if side == Side::Keys { k } else { v };
        let rows = rows.map(|row| &from[row * width + head * head_dim..][..head_dim]);
        write_head(isa, head_dim, side, slice, entry, rows);
    };
    if rows < MANY {
        for (i, page) in pages.iter_mut().enumerate() {
            for (side, slice) in [(Side::Keys, &mut page.k), (Side::Values, &mut page.v)] {
                split(slice, kv_heads, head_dim, |head, slice| write(i, side, head, slice));
            }
        }
        return;
    }
    let mut work = Vec::with_capacity(2 * pages.len() * kv_heads);
    for (i, page) in pages.iter_mut().enumerate() {
        for (side, slice) in [(Side::Keys, &mut page.k), (Side::Values, &mut page.v)] {
            split(slice, kv_heads, head_dim, |head, slice| work.push(Some((i, side, head, slice))));
        }
    }
    let count = work.len();
    let work = Disjoint::new(&mut work);
    pool.run(count, &|i| {
        // SAFETY: each piece of work is taken once.
        if let Some((page, side, head, slice)) = unsafe { work.part(i..i + 1) }[0].take() {
            write(page, side, head, slice);
        }
    });
}

/// Hands out the parts of all heads.
fn split<'s>(
    slice: &'s mut KvSliceMut<'_>,
    kv_heads: usize,
    head_dim: usize,
    mut give: impl FnMut(usize, KvSliceMut<'s>),
) {
    let tiles = || {
        assert!(head_dim.is_multiple_of(KV_BLOCK), "heads of {head_dim} numbers do not fill blocks of {KV_BLOCK}");
        PAGE / BLOCK * (head_dim / KV_BLOCK)
    };
    let numbers = PAGE * head_dim;
    let fits = |len: usize, head: usize| assert_eq!(len, kv_heads * head, "the size of a page");
    match slice {
        KvSliceMut::F32(v) => {
            fits(v.len(), numbers);
            v.chunks_exact_mut(numbers).enumerate().for_each(|(h, v)| give(h, KvSliceMut::F32(v)));
        }
        KvSliceMut::F16(v) => {
            fits(v.len(), numbers);
            v.chunks_exact_mut(numbers).enumerate().for_each(|(h, v)| give(h, KvSliceMut::F16(v)));
        }
        KvSliceMut::Q8_0(v) => {
            fits(v.len(), tiles());
            v.chunks_exact_mut(tiles()).enumerate().for_each(|(h, v)| give(h, KvSliceMut::Q8_0(v)));
        }
        KvSliceMut::Q4_0(v) => {
            fits(v.len(), tiles());
            v.chunks_exact_mut(tiles()).enumerate().for_each(|(h, v)| give(h, KvSliceMut::Q4_0(v)));
        }
    }
}

/// Where number `feature` of an entry stands in a head's plain numbers.
fn place(side: Side, head_dim: usize, entry: usize, feature: usize) -> usize {
    match side {
        Side::Keys => (entry / BLOCK * head_dim + feature) * BLOCK + entry % BLOCK,
        Side::Values => entry * head_dim + feature,
    }
}

fn write_head<'a>(
    isa: Isa,
    head_dim: usize,
    side: Side,
    mut slice: KvSliceMut<'_>,
    entry: usize,
    rows: impl Iterator<Item = &'a [f32]>,
) {
    let width = turn::width(head_dim);
    for (entry, row) in (entry..).zip(rows) {
        match &mut slice {
            KvSliceMut::F32(to) => place_row(side, head_dim, entry, 0, row, to),
            KvSliceMut::F16(to) => {
                let mut half = [f16::ZERO; turn::WIDEST];
                for (i, part) in row.chunks(turn::WIDEST).enumerate() {
                    let half = &mut half[..part.len()];
                    half.convert_from_f32_slice(part);
                    place_row(side, head_dim, entry, i * turn::WIDEST, half, to);
                }
            }
            KvSliceMut::Q8_0(tiles) => {
                let tiles = &mut tiles[entry / BLOCK * (head_dim / KV_BLOCK)..];
                turned(isa, row, width, |isa, i, part| {
                    let mut blocks = [Q8Block::default(); turn::WIDEST / KV_BLOCK];
                    let blocks = &mut blocks[..part.len() / KV_BLOCK];
                    rows_to_q8(isa, part, blocks);
                    for (tile, block) in tiles[i / KV_BLOCK..].iter_mut().zip(blocks) {
                        tile.scales[entry % BLOCK] = block.scale;
                        match side {
                            Side::Keys => lanes(&mut tile.quants, entry % BLOCK, &block.quants),
                            Side::Values => {
                                tile.quants[entry % BLOCK * KV_BLOCK..][..KV_BLOCK].copy_from_slice(&block.quants)
                            }
                        }
                    }
                });
            }
            KvSliceMut::Q4_0(tiles) => {
                let tiles = &mut tiles[entry / BLOCK * (head_dim / KV_BLOCK)..];
                turned(isa, row, width, |isa, i, part| {
                    let mut blocks = [Q4Block::default(); turn::WIDEST / KV_BLOCK];
                    let blocks = &mut blocks[..part.len() / KV_BLOCK];
                    rows_to_q4(isa, part, blocks);
                    for (tile, block) in tiles[i / KV_BLOCK..].iter_mut().zip(blocks) {
                        tile.scales[entry % BLOCK] = block.scale;
                        match side {
                            Side::Keys => lanes(&mut tile.quants, entry % BLOCK, &block.quants),
                            Side::Values => tile.quants[entry % BLOCK * KV_BLOCK / 2..][..KV_BLOCK / 2]
                                .copy_from_slice(&block.quants),
                        }
                    }
                });
            }
        }
    }
}

/// Numbers from feature `first` on of a row.
fn place_row<T: Copy>(side: Side, head_dim: usize, entry: usize, first: usize, row: &[T], to: &mut [T]) {
    let to = &mut to[place(side, head_dim, entry, first)..];
    match side {
        Side::Keys => lanes(to, 0, row),
        Side::Values => to[..row.len()].copy_from_slice(row),
    }
}

/// Numbers down one lane.
fn lanes<T: Copy>(to: &mut [T], lane: usize, from: &[T]) {
    for (to, from) in to[lane..].iter_mut().step_by(BLOCK).zip(from) {
        *to = *from;
    }
}

/// Turns a row, `width` numbers at a time, and hands these on with the number of their first.
fn turned(isa: Isa, row: &[f32], width: usize, mut give: impl FnMut(Isa, usize, &[f32])) {
    let mut part = [0.0; turn::WIDEST];
    for (i, row) in row.chunks_exact(width).enumerate() {
        let part = &mut part[..width];
        part.copy_from_slice(row);
        turn(isa, part, width);
        give(isa, i * width, part);
    }
}

/// The numbers that the entries `entries` of a page stand for: k and v, `[entries, kv_heads * head_dim]`.
///
/// # Panics
/// If the sizes do not fit.
pub fn read_entries(
    isa: Isa,
    kv_heads: usize,
    head_dim: usize,
    page: &PageRef<'_>,
    entries: Range<usize>,
    k: &mut [f32],
    v: &mut [f32],
) {
    let width = kv_heads * head_dim;
    assert!(
        entries.end <= PAGE && k.len() == entries.len() * width && v.len() == k.len(),
        "{} and {} numbers for entries {entries:?} of {kv_heads} heads of {head_dim}",
        k.len(),
        v.len()
    );
    for (side, slice, out) in [(Side::Keys, page.k, k), (Side::Values, page.v, v)] {
        assert!(
            slice.numbers() == width * PAGE && (!slice.is_blocks() || head_dim.is_multiple_of(KV_BLOCK)),
            "the size of a page"
        );
        for (entry, row) in entries.clone().zip(out.chunks_exact_mut(width)) {
            for (head, row) in row.chunks_exact_mut(head_dim).enumerate() {
                read_head(isa, side, slice, head, entry, row);
            }
        }
    }
}

fn read_head(isa: Isa, side: Side, slice: KvSlice<'_>, head: usize, entry: usize, row: &mut [f32]) {
    let head_dim = row.len();
    let at = |d: usize| place(side, head_dim, entry, d);
    let tiles = entry / BLOCK * (head_dim / KV_BLOCK)..;
    match slice {
        KvSlice::F32(v) => {
            let v = of_head(v, head_dim, head, false);
            row.iter_mut().enumerate().for_each(|(d, x)| *x = v[at(d)]);
        }
        KvSlice::F16(v) => {
            let v = of_head(v, head_dim, head, false);
            row.iter_mut().enumerate().for_each(|(d, x)| *x = v[at(d)].to_f32());
        }
        KvSlice::Q8_0(v) => {
            for (tile, x) in of_head(v, head_dim, head, true)[tiles].iter().zip(row.chunks_exact_mut(KV_BLOCK)) {
                let at = |d: usize| place(side, KV_BLOCK, entry % BLOCK, d);
                let quants = std::array::from_fn(|d| tile.quants[at(d)]);
                q8_to_rows(isa, &[Q8Block { scale: tile.scales[entry % BLOCK], quants }], x);
            }
            turn(isa, row, turn::width(head_dim));
        }
        KvSlice::Q4_0(v) => {
            for (tile, x) in of_head(v, head_dim, head, true)[tiles].iter().zip(row.chunks_exact_mut(KV_BLOCK)) {
                let at = |d: usize| place(side, KV_BLOCK / 2, entry % BLOCK, d);
                let quants = std::array::from_fn(|d| tile.quants[at(d)]);
                q4_to_rows(isa, &[Q4Block { scale: tile.scales[entry % BLOCK], quants }], x);
            }
            turn(isa, row, turn::width(head_dim));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Numbers;

    /// The storage of a page.
    enum Kept {
        F32(Vec<f32>),
        F16(Vec<f16>),
        Q8(Vec<super::super::Q8Tile>),
        Q4(Vec<super::super::Q4Tile>),
    }

    impl Kept {
        fn new(kind: usize, numbers: usize) -> Kept {
            match kind {
                0 => Kept::F32(vec![0.0; numbers]),
                1 => Kept::F16(vec![f16::ZERO; numbers]),
                2 => Kept::Q8(vec![Default::default(); numbers / 1024]),
                _ => Kept::Q4(vec![Default::default(); numbers / 1024]),
            }
        }

        fn slice(&self) -> KvSlice<'_> {
            match self {
                Kept::F32(v) => KvSlice::F32(v),
                Kept::F16(v) => KvSlice::F16(v),
                Kept::Q8(v) => KvSlice::Q8_0(v),
                Kept::Q4(v) => KvSlice::Q4_0(v),
            }
        }

        fn slice_mut(&mut self) -> KvSliceMut<'_> {
            match self {
                Kept::F32(v) => KvSliceMut::F32(v),
                Kept::F16(v) => KvSliceMut::F16(v),
                Kept::Q8(v) => KvSliceMut::Q8_0(v),
                Kept::Q4(v) => KvSliceMut::Q4_0(v),
            }
        }
    }

    /// Writes rows from `first` on in pieces, and reads them all.
    fn kept(kind: usize, heads: usize, dim: usize, first: usize, pieces: &[&[f32]], isa: Isa) -> [Vec<f32>; 2] {
        let width = heads * dim;
        let all = pieces.concat();
        let rows = all.len() / width;
        let count = (first + rows).div_ceil(PAGE);
        let mut pages: Vec<(Kept, Kept)> =
            (0..count).map(|_| (Kept::new(kind, width * PAGE), Kept::new(kind, width * PAGE))).collect();
        let mut at = first;
        for piece in pieces {
            let values: Vec<f32> = piece.iter().map(|x| 3.0 - x).collect();
            let mut pages: Vec<PageMut<'_>> =
                pages.iter_mut().map(|(k, v)| PageMut { k: k.slice_mut(), v: v.slice_mut() }).collect();
            let page = at / PAGE;
            write_entries(&Pool::new(2), isa, heads, dim, &mut pages[page..], at % PAGE, piece, &values);
            at += piece.len() / width;
        }
        let mut out = [vec![f32::NAN; all.len()], vec![f32::NAN; all.len()]];
        for row in 0..rows {
            let (page, entry) = ((first + row) / PAGE, (first + row) % PAGE);
            let page = PageRef { k: pages[page].0.slice(), v: pages[page].1.slice() };
            let [k, v] = &mut out;
            let part = row * width..(row + 1) * width;
            read_entries(isa, heads, dim, &page, entry..entry + 1, &mut k[part.clone()], &mut v[part]);
        }
        out
    }

    #[test]
    fn rows_come_back_however_they_were_written() {
        for (heads, dim) in [(1, 32), (3, 64), (2, 96), (1, 512), (2, 80), (3, 5)] {
            let width = heads * dim;
            let x = Numbers::new(7).normal(300 * width);
            for (kind, most) in [0.0, 1e-3, 0.015, 0.25].into_iter().enumerate() {
                if kind > 1 && !dim.is_multiple_of(32) {
                    continue;
                }
                let [k, v] = kept(kind, heads, dim, 250, &[&x], Isa::detect());
                for (got, want) in k.chunks_exact(dim).chain(v.chunks_exact(dim)).zip(
                    x.chunks_exact(dim)
                        .map(<[f32]>::to_vec)
                        .chain(x.chunks_exact(dim).map(|x| x.iter().map(|x| 3.0 - x).collect())),
                ) {
                    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
                    let size = norm(&mut want.iter().copied());
                    let error = norm(&mut got.iter().zip(&want).map(|(g, w)| g - w));
                    assert!(error <= size * most, "{error} of {size}, {kind}, {dim}");
                }
                // Row by row and in uneven pieces, on every level.
                let cut = |cuts: &[usize]| {
                    let mut pieces: Vec<&[f32]> = Vec::new();
                    let mut rest = x.as_slice();
                    for cut in cuts {
                        let (piece, after) = rest.split_at(cut * width);
                        pieces.push(piece);
                        rest = after;
                    }
                    pieces.push(rest);
                    pieces
                };
                for isa in Isa::available() {
                    for cuts in [vec![1; 299], vec![5, 20, 100]] {
                        assert!(kept(kind, heads, dim, 250, &cut(&cuts), isa) == [k.clone(), v.clone()]);
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_that_cannot_be_kept_become_nan() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
            let mut x = vec![0.5; 2 * KV_BLOCK];
            x[40] = bad;
            for isa in Isa::available() {
                for kind in [2, 3] {
                    for out in kept(kind, 2, KV_BLOCK, 3, &[&x], isa) {
                        let beside = if out[0] < 1.0 { 0.5 } else { 2.5 };
                        assert!(out[..KV_BLOCK].iter().all(|v| (v - beside).abs() < 2e-3), "beside {bad}: {out:?}");
                        assert!(out[KV_BLOCK..].iter().all(|v| v.is_nan()), "{bad}");
                    }
                }
            }
        }
    }
}
