//! One page of a sequence for one tile of rows.
//!
//! A line is a row and a head of the tile's group. Lines are worked on up to six at a time, which share each key and
//! value. Few lines read the cache in place; where there are many, each panel of keys and the page's values are
//! widened to f32 first, once for all. The arithmetic is the same.

use std::ops::Range;

use half::f16;

use super::partial::Partial;
use super::scores::{Flat, High, Low, Numbers, Panel, Queries, Scores, Widened};
use super::softmax::{add_bias, capped, exponentials};
use super::turn;
use super::values::{Halves, Rows, Strided, Values, Weigh, Widen};
use super::vector::run;
use super::{BLOCK, KV_BLOCK, KvSlice, PAGE, PagedShape, PagedSpan, Tile, padded};
use crate::Isa;

/// Lines that one kernel works on at most.
const LINES: usize = 6;
/// From this many lines on, what they share is widened first.
const WIDEN: usize = 13;
/// Features of a panel of widened values.
const PANEL: usize = KV_BLOCK;
/// Numbers from one line of scores to the next: a page, and some more so that lines do not share cache sets.
const STRIDE: usize = PAGE + 16;

#[derive(Default)]
pub(super) struct Scratch {
    /// The tile's queries, scaled and turned as the keys are, `[lines][head_dim]`.
    queries: Vec<f32>,
    /// A panel of keys, widened, and the scales of its blocks.
    keys: Vec<f32>,
    key_scales: Vec<f32>,
    /// The page's values, widened: `[panels][PAGE][32]`, and the scales, `[head_dim / 32][PAGE]`.
    values: Vec<f32>,
    value_scales: Vec<f32>,
    /// Scores, then weights, `[lines][STRIDE]`.
    scores: Vec<f32>,
    /// Weights of some lines times the scales of a block, `[LINES][STRIDE]`.
    scaled: Vec<f32>,
    seen: Seen,
}

/// What the lines of a tile see of a page.
#[derive(Default)]
struct Seen {
    /// Each row's ranges, and where they end.
    ranges: Vec<Range<usize>>,
    ends: Vec<usize>,
    /// For each batch of lines the stretches of entries that the same lines see, in order, and where they end.
    stretches: Vec<Stretch>,
    stretch_ends: Vec<usize>,
    bounds: Vec<usize>,
}

/// Entries that the lines `lines` of a batch see.
#[derive(Clone)]
struct Stretch {
    entries: Range<usize>,
    lines: Range<usize>,
}

fn part<'a, T>(items: &'a [T], ends: &[usize], i: usize) -> &'a [T] {
    &items[i.checked_sub(1).map_or(0, |before| ends[before])..ends[i]]
}

impl Seen {
    /// Finds the ranges, and the stretches of batches of `batch` lines, `group` lines being a row.
    fn fill(&mut self, span: &PagedSpan<'_>, tile: &Tile, page: usize, group: usize, batch: usize) {
        self.ranges.clear();
        self.ends.clear();
        for r in 0..tile.count {
            self.ranges.extend(span.seen(tile.first + r, page));
            self.ends.push(self.ranges.len());
        }
        self.stretches.clear();
        self.stretch_ends.clear();
        let lines = tile.count * group;
        for first in (0..lines).step_by(batch) {
            let count = batch.min(lines - first);
            let rows = first / group..(first + count - 1) / group + 1;
            self.bounds.clear();
            for row in rows.clone() {
                self.bounds.extend(part(&self.ranges, &self.ends, row).iter().flat_map(|r| [r.start, r.end]));
            }
            self.bounds.sort_unstable();
            self.bounds.dedup();
            for pair in self.bounds.windows(2) {
                let mut open: Option<Range<usize>> = None;
                for row in rows.clone() {
                    let sees = part(&self.ranges, &self.ends, row).iter().any(|r| r.contains(&pair[0]));
                    let of_row = (row * group).max(first) - first..((row + 1) * group).min(first + count) - first;
                    match &mut open {
                        Some(lines) if sees => lines.end = of_row.end,
                        _ if sees => open = Some(of_row),
                        _ => {
                            let lines = open.take();
                            self.stretches.extend(lines.map(|lines| Stretch { entries: pair[0]..pair[1], lines }));
                        }
                    }
                }
                self.stretches.extend(open.map(|lines| Stretch { entries: pair[0]..pair[1], lines }));
            }
            self.stretch_ends.push(self.stretches.len());
        }
    }

    fn row(&self, row: usize) -> &[Range<usize>] {
        part(&self.ranges, &self.ends, row)
    }

    fn batch(&self, batch: usize) -> &[Stretch] {
        part(&self.stretches, &self.stretch_ends, batch)
    }
}

/// Takes the queries of a tile for the pages that follow.
pub(super) fn take_queries(
    isa: Isa,
    shape: &PagedShape<'_>,
    span: &PagedSpan<'_>,
    tile: &Tile,
    q: &[f32],
    scratch: &mut Scratch,
) {
    let (group, dim) = (shape.heads / shape.kv_heads, shape.head_dim);
    // Scores are to base two, where no cap comes between.
    let scale = if shape.softcap.is_some() { shape.scale } else { shape.scale * std::f32::consts::LOG2_E };
    scratch.queries.clear();
    for row in 0..tile.count {
        let at = (span.rows.start + tile.first + row) * shape.heads * dim + tile.kv_head * group * dim;
        scratch.queries.extend(q[at..at + group * dim].iter().map(|x| x * scale));
    }
    if span.turned_keys() {
        turn::turn(isa, &mut scratch.queries, turn::width(dim));
    }
}

/// Works off the entries of a page that the rows of a tile see; `partial` is overwritten.
pub(super) fn page_partial(
    isa: Isa,
    shape: &PagedShape<'_>,
    span: &PagedSpan<'_>,
    tile: &Tile,
    page: usize,
    scratch: &mut Scratch,
    partial: &mut Partial<'_>,
) {
    let (group, dim) = (shape.heads / shape.kv_heads, shape.head_dim);
    let lines = tile.count * group;
    // Even batches: eight lines are four and four.
    let batch = lines.div_ceil(lines.div_ceil(LINES));
    scratch.seen.fill(span, tile, page, group, batch);
    partial.clear();
    let Some(start) = scratch.seen.ranges.iter().map(|r| r.start).min() else { return };
    let end = scratch.seen.ranges.iter().map(|r| r.end).max().unwrap_or(start);
    scratch.scores.resize(lines * STRIDE, 0.0);

    let k = span.pages[page].k.head(dim, tile.kv_head);
    for panel in start / BLOCK..end.div_ceil(BLOCK) {
        panel_scores(isa, dim, lines, batch, k, panel, scratch);
    }
    for line in 0..lines {
        let (row, head) = (line / group, tile.kv_head * group + line % group);
        let seen = scratch.seen.row(row);
        if seen.is_empty() {
            continue;
        }
        let scores = &mut scratch.scores[line * STRIDE..line * STRIDE + PAGE];
        for range in seen {
            if let Some(cap) = shape.softcap {
                capped(isa, &mut scores[range.clone()], cap);
            }
            if let Some(bias) = shape.bias {
                // Where the range's first entry stands in the head's numbers.
                let own = span.own + tile.first + row;
                let at = (page * PAGE + range.start) as isize - own as isize + bias.max as isize;
                add_bias(isa, &mut scores[range.clone()], bias.head(head), at);
            }
        }
        (partial.max[line], partial.sum[line]) = exponentials(isa, scores, seen);
    }
    partial.values.fill(0.0);
    let v = span.pages[page].v.head(dim, tile.kv_head);
    if lines >= WIDEN || !reads_in_place(dim) {
        widen_values(isa, dim, v, start / BLOCK..end.div_ceil(BLOCK), scratch);
        wide_values(isa, dim, lines, batch, v.is_blocks(), scratch, partial);
    } else {
        values_in_place(isa, dim, lines, batch, v, scratch, partial);
    }
}

/// Whether values of this many features are read where they lie.
pub(super) fn reads_in_place(head_dim: usize) -> bool {
    head_dim.is_multiple_of(16)
}

/// The scores of all lines for a panel's 32 entries, for batches that see any of them.
fn panel_scores(isa: Isa, dim: usize, lines: usize, batch: usize, k: KvSlice<'_>, panel: usize, scratch: &mut Scratch) {
    let numbers = panel * dim * BLOCK..(panel + 1) * dim * BLOCK;
    let tiles = panel * (dim / KV_BLOCK)..(panel + 1) * (dim / KV_BLOCK);
    let Scratch { queries, keys, key_scales, scores, seen, .. } = scratch;
    let target = Target { isa, dim, lines, batch, panel, seen, queries, scores };
    if lines < WIDEN {
        // SAFETY: the panels hold `dim` features of 32 entries: the slices are as long.
        unsafe {
            match k {
                KvSlice::F32(k) => target.scores(Flat(k[numbers].as_ptr())),
                KvSlice::F16(k) => target.scores(Flat(k[numbers].as_ptr())),
                KvSlice::Q8_0(k) => target.scores(k[tiles].as_ptr()),
                KvSlice::Q4_0(k) => target.scores(k[tiles].as_ptr()),
            }
        }
        return;
    }
    keys.resize(dim * BLOCK, 0.0);
    let to = keys.as_mut_ptr();
    key_scales.clear();
    // SAFETY: `to` has room for the panel, and 16 numbers at a time fill it; the slices of the cache are as long.
    unsafe {
        match k {
            KvSlice::F32(k) => target.scores(Flat(k[numbers].as_ptr())),
            KvSlice::F16(k) => {
                widen(isa, k[numbers].as_ptr(), to, dim * BLOCK);
                target.scores(Flat(to.cast_const()));
            }
            KvSlice::Q8_0(k) => {
                for (i, tile) in k[tiles].iter().enumerate() {
                    widen(isa, tile.quants.as_ptr(), to.add(i * KV_BLOCK * BLOCK), KV_BLOCK * BLOCK);
                    key_scales.extend(tile.scales.iter().map(|s| s.to_f32()));
                }
                target.scores(Widened { quants: to, scales: key_scales.as_ptr() });
            }
            KvSlice::Q4_0(k) => {
                for (i, tile) in k[tiles].iter().enumerate() {
                    let (bytes, half) = (tile.quants.as_ptr(), KV_BLOCK * BLOCK / 2);
                    widen(isa, Low(bytes), to.add(2 * i * half), half);
                    widen(isa, High(bytes), to.add((2 * i + 1) * half), half);
                    key_scales.extend(tile.scales.iter().map(|s| s.to_f32()));
                }
                target.scores(Widened { quants: to, scales: key_scales.as_ptr() });
            }
        }
    }
}

/// Widens `count` numbers, a multiple of 16.
///
/// # Safety
/// There are as many, and room for as many.
unsafe fn widen<S: Numbers>(isa: Isa, from: S, to: *mut f32, count: usize) {
    // SAFETY: the caller's.
    unsafe { run(isa, Widen { from, from_stride: 16, to, to_stride: 16, count: count / 16 }) }
}

/// The lines of a tile, waiting for a panel.
struct Target<'a> {
    isa: Isa,
    dim: usize,
    lines: usize,
    batch: usize,
    panel: usize,
    seen: &'a Seen,
    queries: &'a [f32],
    scores: &'a mut [f32],
}

impl Target<'_> {
    /// # Safety
    /// The panel holds `dim` features.
    unsafe fn scores<P: Panel>(self, panel: P) {
        let entries = self.panel * BLOCK..(self.panel + 1) * BLOCK;
        for (b, first) in (0..self.lines).step_by(self.batch).enumerate() {
            let seen = self.seen.batch(b);
            if !seen.iter().any(|s| s.entries.start < entries.end && s.entries.end > entries.start) {
                continue;
            }
            let lines = self.batch.min(self.lines - first);
            let q = &self.queries[first * self.dim..(first + lines) * self.dim];
            let out = &mut self.scores[first * STRIDE + entries.start..];
            assert!(lines <= LINES && out.len() >= (lines - 1) * STRIDE + BLOCK);
            let q = Queries { start: q.as_ptr(), stride: self.dim, features: self.dim };
            // SAFETY: queries and scores hold the lines, as just checked; the panel is the caller's.
            unsafe { run(self.isa, Scores { panel, q, lines, out: out.as_mut_ptr(), out_stride: STRIDE }) };
        }
    }
}

/// A batch of lines whose weighted values are wanted.
struct Batch<'a> {
    isa: Isa,
    stretches: &'a [Stretch],
    /// Weights of the batch's first line, `STRIDE` from one line to the next.
    weights: &'a [f32],
    /// Where the sums of the batch's first line begin, `width` from one line to the next.
    out: &'a mut [f32],
    width: usize,
}

impl Batch<'_> {
    /// Adds `8 * vectors` features of those entries of `entries` that are seen. Weights and values begin with entry
    /// `base`.
    ///
    /// # Safety
    /// The rows hold the entries and vectors.
    unsafe fn add<R: Rows>(&mut self, rows: R, vectors: usize, entries: Range<usize>, base: usize) {
        for stretch in self.stretches {
            let seen = stretch.entries.start.max(entries.start)..stretch.entries.end.min(entries.end);
            if seen.start >= seen.end {
                continue;
            }
            let lines = stretch.lines.clone();
            let entries = seen.start - base..seen.end - base;
            let weights = &self.weights[lines.start * STRIDE..];
            let out = &mut self.out[lines.start * self.width..];
            assert!(
                lines.len() <= LINES
                    && weights.len() >= (lines.len() - 1) * STRIDE + entries.end
                    && out.len() >= (lines.len() - 1) * self.width + 8 * vectors
            );
            let values = Values {
                rows,
                vectors,
                entries,
                weights: weights.as_ptr(),
                weight_stride: STRIDE,
                lines: lines.len(),
                out: out.as_mut_ptr(),
                out_stride: self.width,
            };
            // SAFETY: weights and sums hold the lines, as just checked; the rows are the caller's.
            unsafe { run(self.isa, values) };
        }
    }
}

/// The weights of some lines times the scales of a block, for entries `entries`, which are whole vectors, as the
/// first ones of `scaled`.
///
/// # Safety
/// There are as many scales.
unsafe fn weigh<S: Numbers>(
    isa: Isa,
    weights: &[f32],
    lines: usize,
    entries: Range<usize>,
    scales: S,
    scaled: &mut Vec<f32>,
) {
    scaled.resize(LINES * STRIDE, 0.0);
    assert!(
        lines <= LINES && weights.len() >= (lines - 1) * STRIDE + entries.end && entries.len() <= PAGE,
        "weights of {lines} lines"
    );
    let weigh = Weigh {
        weights: weights[entries.start..].as_ptr(),
        weight_stride: STRIDE,
        scales,
        count: entries.len(),
        lines,
        out: scaled.as_mut_ptr(),
        out_stride: STRIDE,
    };
    // SAFETY: both hold the lines, as just checked; the scales are the caller's.
    unsafe { run(isa, weigh) };
}

fn values_in_place(
    isa: Isa,
    dim: usize,
    lines: usize,
    batch: usize,
    v: KvSlice<'_>,
    scratch: &mut Scratch,
    partial: &mut Partial<'_>,
) {
    let Scratch { scores, scaled, seen, .. } = scratch;
    let blocks = dim / KV_BLOCK;
    for (b, first) in (0..lines).step_by(batch).enumerate() {
        let count = batch.min(lines - first);
        let stretches = seen.batch(b);
        let (Some(start), Some(end)) = (stretches.first(), stretches.last()) else { continue };
        let tiles = start.entries.start / BLOCK..end.entries.end.div_ceil(BLOCK);
        let weights = &scores[first * STRIDE..(first + count) * STRIDE];
        let sums = &mut partial.values[first * dim..(first + count) * dim];
        // SAFETY: a head's values hold `dim` features of all entries; a tile those of 32.
        unsafe {
            match v {
                KvSlice::F32(v) => {
                    let rows = Strided { start: v[..PAGE * dim].as_ptr(), stride: dim };
                    Batch { isa, stretches, weights, out: sums, width: dim }.add(rows, dim / 8, 0..PAGE, 0);
                }
                KvSlice::F16(v) => {
                    let rows = Strided { start: v[..PAGE * dim].as_ptr(), stride: dim };
                    Batch { isa, stretches, weights, out: sums, width: dim }.add(rows, dim / 8, 0..PAGE, 0);
                }
                KvSlice::Q8_0(v) => {
                    for (i, tile) in v[tiles.start * blocks..tiles.end * blocks].iter().enumerate() {
                        let at = (tiles.start + i / blocks) * BLOCK;
                        weigh(isa, weights, count, at..at + BLOCK, tile.scales.as_ptr(), scaled);
                        let out = &mut sums[i % blocks * KV_BLOCK..];
                        let rows = Strided { start: tile.quants.as_ptr(), stride: KV_BLOCK };
                        let mut batch = Batch { isa, stretches, weights: scaled, out, width: dim };
                        batch.add(rows, KV_BLOCK / 8, at..at + BLOCK, at);
                    }
                }
                KvSlice::Q4_0(v) => {
                    for (i, tile) in v[tiles.start * blocks..tiles.end * blocks].iter().enumerate() {
                        let at = (tiles.start + i / blocks) * BLOCK;
                        weigh(isa, weights, count, at..at + BLOCK, tile.scales.as_ptr(), scaled);
                        let out = &mut sums[i % blocks * KV_BLOCK..];
                        let mut batch = Batch { isa, stretches, weights: scaled, out, width: dim };
                        batch.add(Halves(tile.quants.as_ptr()), KV_BLOCK / 8, at..at + BLOCK, at);
                    }
                }
            }
        }
    }
}

/// Widens the values of some blocks of 32 entries, in panels of 32 features.
fn widen_values(isa: Isa, dim: usize, v: KvSlice<'_>, blocks: Range<usize>, scratch: &mut Scratch) {
    let entries = blocks.start * BLOCK..blocks.end * BLOCK;
    scratch.values.resize(dim.next_multiple_of(PANEL) * PAGE, 0.0);
    let to = scratch.values.as_mut_ptr();
    match v {
        KvSlice::F32(v) => widen_rows(isa, dim, &v[..PAGE * dim], entries, to, |x| *x),
        KvSlice::F16(v) => widen_rows(isa, dim, &v[..PAGE * dim], entries, to, |x: &f16| x.to_f32()),
        KvSlice::Q8_0(v) => {
            let of_block = dim / KV_BLOCK;
            scratch.value_scales.resize(of_block * PAGE, 0.0);
            for (i, tile) in v[blocks.start * of_block..blocks.end * of_block].iter().enumerate() {
                let (at, b) = ((blocks.start + i / of_block) * BLOCK, i % of_block);
                // SAFETY: a tile is 32 rows of 32, and so are this many rows of a panel.
                unsafe { widen(isa, tile.quants.as_ptr(), to.add((b * PAGE + at) * PANEL), BLOCK * PANEL) };
                let scales = &mut scratch.value_scales[b * PAGE + at..][..BLOCK];
                scales.iter_mut().zip(&tile.scales).for_each(|(s, t)| *s = t.to_f32());
            }
        }
        KvSlice::Q4_0(v) => {
            let of_block = dim / KV_BLOCK;
            scratch.value_scales.resize(of_block * PAGE, 0.0);
            for (i, tile) in v[blocks.start * of_block..blocks.end * of_block].iter().enumerate() {
                let (at, b) = ((blocks.start + i / of_block) * BLOCK, i % of_block);
                let from = tile.quants.as_ptr();
                // SAFETY: a tile is 32 rows of 16 bytes, which are as many rows of a panel.
                unsafe {
                    let (low, high) = (to.add((b * PAGE + at) * PANEL), to.add((b * PAGE + at) * PANEL + 16));
                    run(isa, Widen { from: Low(from), from_stride: 16, to: low, to_stride: PANEL, count: BLOCK });
                    run(isa, Widen { from: High(from), from_stride: 16, to: high, to_stride: PANEL, count: BLOCK });
                }
                let scales = &mut scratch.value_scales[b * PAGE + at..][..BLOCK];
                scales.iter_mut().zip(&tile.scales).for_each(|(s, t)| *s = t.to_f32());
            }
        }
    }
}

/// Rows of plain numbers to panels; what the last 16 features lack becomes zero.
fn widen_rows<T>(isa: Isa, dim: usize, v: &[T], entries: Range<usize>, to: *mut f32, one: impl Fn(&T) -> f32)
where
    *const T: Numbers,
{
    let from = &v[entries.start * dim..entries.end * dim];
    for first in (0..dim).step_by(16) {
        // SAFETY: the panels have room for all features and PAGE entries.
        let to = unsafe { to.add((first / PANEL * PAGE + entries.start) * PANEL + first % PANEL) };
        if first + 16 <= dim {
            // SAFETY: each of the rows holds these 16 features.
            unsafe {
                let from = from.as_ptr().add(first);
                run(isa, Widen { from, from_stride: dim, to, to_stride: PANEL, count: entries.len() });
            }
            continue;
        }
        for (i, row) in from.chunks_exact(dim).enumerate() {
            for f in 0..16 {
                let x = row.get(first + f).map_or(0.0, &one);
                // SAFETY: one of the 16 numbers.
                unsafe { to.add(i * PANEL + f).write(x) };
            }
        }
    }
}

fn wide_values(
    isa: Isa,
    dim: usize,
    lines: usize,
    batch: usize,
    blocks: bool,
    scratch: &mut Scratch,
    partial: &mut Partial<'_>,
) {
    let Scratch { values, value_scales, scores, scaled, seen, .. } = scratch;
    let width = padded(dim);
    for panel in 0..width.div_ceil(PANEL) {
        let vectors = (width - panel * PANEL).min(PANEL) / 8;
        for (b, first) in (0..lines).step_by(batch).enumerate() {
            let count = batch.min(lines - first);
            let stretches = seen.batch(b);
            let (Some(start), Some(end)) = (stretches.first(), stretches.last()) else { continue };
            let mut weights = &scores[first * STRIDE..(first + count) * STRIDE];
            let mut base = 0;
            if blocks {
                base = start.entries.start / 8 * 8;
                let entries = base..end.entries.end.next_multiple_of(8);
                let scales = value_scales[panel * PAGE + entries.start..panel * PAGE + entries.end].as_ptr();
                // SAFETY: the scales were just cut out.
                unsafe { weigh(isa, weights, count, entries, scales, scaled) };
                weights = scaled;
            }
            let values = &values[(panel * PAGE + base) * PANEL..(panel + 1) * PAGE * PANEL];
            let rows = Strided { start: values.as_ptr(), stride: PANEL };
            let out = &mut partial.values[first * width + panel * PANEL..];
            let mut batch = Batch { isa, stretches, weights, out, width };
            // SAFETY: a panel holds 32 features of the entries from `base` on.
            unsafe { batch.add(rows, vectors, 0..PAGE, base) };
        }
    }
}
