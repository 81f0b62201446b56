//! Attention over a paged cache: the CPU executor's forward.
//!
//! A sequence's keys and values lie in pages of [`PAGE`] entries. A page is worked off as a whole: scores
//! of all its visible entries, their maximum, exponentials and weighted values; then the pages' partial
//! results are merged in order (the online softmax of FlashAttention, Dao et al. 2022, at page
//! granularity). A row's arithmetic thus depends on its own bounds only. When there are few rows the pages
//! are shared out among the threads, when there are many the rows are; the bits are the same.
//!
//! Query heads of one group share each key and value block that is widened to f32.

use std::cell::RefCell;
use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::RelativeBias;
use crate::disjoint::Disjoint;
use crate::exp::exp;
use crate::lanes::{by_isa, max, sum};
use crate::{Isa, Pool};

/// Entries of a page.
pub const PAGE: usize = 256;
/// Entries widened at a time.
const BLOCK: usize = 32;
/// Rows of a sequence that one tile works on.
const TILE_ROWS: usize = 16;
/// Values of a head are padded to a multiple of this.
const CHUNK: usize = 32;

/// Keys or values of a page, `[kv_heads, PAGE, head_dim]`.
#[derive(Clone, Copy, Debug)]
pub enum KvSlice<'a> {
    /// Kept as they are.
    F32(&'a [f32]),
    /// Rounded to half precision.
    F16(&'a [f16]),
}

impl KvSlice<'_> {
    fn widen(&self, range: Range<usize>, out: &mut [f32]) {
        match self {
            KvSlice::F32(v) => out.copy_from_slice(&v[range]),
            KvSlice::F16(v) => v[range].convert_to_f32_slice(out),
        }
    }
}

/// One page of a sequence.
#[derive(Clone, Copy, Debug)]
pub struct PageRef<'a> {
    /// Keys.
    pub k: KvSlice<'a>,
    /// Values.
    pub v: KvSlice<'a>,
}

/// The numbers of an attention step.
#[derive(Clone, Copy, Debug)]
pub struct PagedShape<'a> {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Features a head.
    pub head_dim: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// Added to the scores last.
    pub bias: Option<&'a RelativeBias>,
}

/// The rows of one sequence and the cache that they look at.
#[derive(Clone, Debug)]
pub struct PagedSpan<'a> {
    /// Its rows in q and out.
    pub rows: Range<usize>,
    /// Its pages, the new rows' own entries included.
    pub pages: Vec<PageRef<'a>>,
    /// The entry of the first row; those of the others follow it. Only a relative bias needs it.
    pub own: usize,
    /// Leading entries that every row sees.
    pub always: usize,
    /// For each row, the entries it sees beyond those.
    pub visible: Vec<Range<usize>>,
}

impl PagedSpan<'_> {
    /// What row `row` of the span sees of page `page`, as entries of the page: at most two ranges.
    fn seen(&self, row: usize, page: usize) -> [Range<usize>; 2] {
        let clip = |r: Range<usize>| {
            let start = r.start.clamp(page * PAGE, (page + 1) * PAGE) - page * PAGE;
            let end = r.end.clamp(page * PAGE, (page + 1) * PAGE) - page * PAGE;
            start..end.max(start)
        };
        let visible = self.visible[row].start.max(self.always)..self.visible[row].end;
        let (first, second) = (clip(0..self.always), clip(visible));
        if first.is_empty() {
            [second, 0..0]
        } else if first.end == second.start {
            [first.start..second.end, 0..0]
        } else {
            [first, second]
        }
    }
}

/// `out = softmax(scale q k^T) v` for all spans. Shapes: q and out `[rows, heads * head_dim]`.
///
/// # Panics
/// If the slices do not have these sizes or a row sees entries beyond its pages.
pub fn paged_forward(
    pool: &Pool,
    isa: Isa,
    shape: &PagedShape<'_>,
    spans: &[PagedSpan<'_>],
    q: &[f32],
    out: &mut [f32],
) {
    let width = shape.heads * shape.head_dim;
    assert!(shape.kv_heads > 0 && shape.heads.is_multiple_of(shape.kv_heads), "whole groups of heads");
    if let Some(bias) = shape.bias {
        bias.check(shape.heads);
    }
    assert_eq!(q.len(), out.len());
    for span in spans {
        assert_eq!(span.visible.len(), span.rows.len(), "bounds for each row");
        assert!(span.rows.end * width <= q.len(), "rows of q");
        let end = span.visible.iter().map(|r| r.end).max().unwrap_or(0).max(span.always);
        assert!(end <= span.pages.len() * PAGE, "entries inside the pages");
    }
    let mut tiles = Vec::new();
    for (s, span) in spans.iter().enumerate() {
        for kv_head in 0..shape.kv_heads {
            for first in (0..span.rows.len()).step_by(TILE_ROWS) {
                tiles.push(Tile { span: s, kv_head, first, count: TILE_ROWS.min(span.rows.len() - first) });
            }
        }
    }
    let out = Disjoint::new(out);
    let pages = spans.iter().map(|s| s.pages.len()).max().unwrap_or(0);
    if tiles.len() >= 4 * pool.threads() || pages <= 1 {
        pool.run(tiles.len(), &|i| {
            let tile = &tiles[i];
            let span = &spans[tile.span];
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.total.reset(shape, tile.count);
                for page in 0..span.pages.len() {
                    let mut partial = std::mem::take(&mut scratch.partial);
                    page_partial(isa, shape, span, tile, page, q, scratch, &mut partial);
                    scratch.total.merge(shape, &partial);
                    scratch.partial = partial;
                }
                scratch.total.write(shape, span, tile, &out);
            });
        });
        return;
    }
    // Few rows, long caches: a tile a page, then the merge.
    let work: Vec<(usize, usize)> =
        tiles.iter().enumerate().flat_map(|(i, t)| (0..spans[t.span].pages.len()).map(move |p| (i, p))).collect();
    let mut partials: Vec<Partial> = work.iter().map(|_| Partial::default()).collect();
    {
        let partials = Disjoint::new(&mut partials);
        pool.run(work.len(), &|w| {
            let (i, page) = work[w];
            // SAFETY: each tile of work has a partial of its own.
            let partial = &mut unsafe { partials.part(w..w + 1) }[0];
            SCRATCH.with_borrow_mut(|scratch| {
                page_partial(isa, shape, &spans[tiles[i].span], &tiles[i], page, q, scratch, partial);
            });
        });
    }
    let mut total = Partial::default();
    let mut next = partials.iter();
    for tile in &tiles {
        total.reset(shape, tile.count);
        for partial in next.by_ref().take(spans[tile.span].pages.len()) {
            total.merge(shape, partial);
        }
        total.write(shape, &spans[tile.span], tile, &out);
    }
}

/// Rows `first .. first + count` of a span, the query heads of one group.
struct Tile {
    span: usize,
    kv_head: usize,
    first: usize,
    count: usize,
}

/// What is known of some rows' attention after some entries: for each row and head of the group the
/// largest score, the sum of exponentials relative to it, and the values weighted by them.
#[derive(Default)]
struct Partial {
    max: Vec<f32>,
    sum: Vec<f32>,
    /// `[rows, group, padded head_dim]`.
    values: Vec<f32>,
}

fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(CHUNK)
}

impl Partial {
    fn reset(&mut self, shape: &PagedShape<'_>, rows: usize) {
        let n = rows * (shape.heads / shape.kv_heads);
        self.max.clear();
        self.max.resize(n, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(n, 0.0);
        self.values.clear();
        self.values.resize(n * padded(shape.head_dim), 0.0);
    }

    /// Adds what a later page gave.
    fn merge(&mut self, shape: &PagedShape<'_>, other: &Partial) {
        let width = padded(shape.head_dim);
        for i in 0..self.max.len() {
            if other.sum[i] == 0.0 {
                continue;
            }
            let ours = &mut self.values[i * width..(i + 1) * width];
            let theirs = &other.values[i * width..(i + 1) * width];
            if self.sum[i] == 0.0 {
                (self.max[i], self.sum[i]) = (other.max[i], other.sum[i]);
                ours.copy_from_slice(theirs);
                continue;
            }
            let top = self.max[i].max(other.max[i]);
            let (a, b) = (exp(self.max[i] - top), exp(other.max[i] - top));
            self.max[i] = top;
            self.sum[i] = self.sum[i] * a + other.sum[i] * b;
            for (v, w) in ours.iter_mut().zip(theirs) {
                *v = *v * a + *w * b;
            }
        }
    }

    fn write(&self, shape: &PagedShape<'_>, span: &PagedSpan<'_>, tile: &Tile, out: &Disjoint<'_, f32>) {
        let (group, dim) = (shape.heads / shape.kv_heads, shape.head_dim);
        for row in 0..tile.count {
            for g in 0..group {
                let i = row * group + g;
                let at = (span.rows.start + tile.first + row) * shape.heads * dim + (tile.kv_head * group + g) * dim;
                // SAFETY: row and head belong to this tile only.
                let to = unsafe { out.part(at..at + dim) };
                let factor = if self.sum[i] == 0.0 { 0.0 } else { 1.0 / self.sum[i] };
                for (o, v) in to.iter_mut().zip(&self.values[i * padded(dim)..]) {
                    *o = v * factor;
                }
            }
        }
    }
}

#[derive(Default)]
struct Scratch {
    /// A block as it lies in the page, widened.
    wide: Vec<f32>,
    /// Keys of a block, `[head_dim, BLOCK]`.
    keys: Vec<f32>,
    /// Values of a page, `[PAGE, padded head_dim]`.
    values: Vec<f32>,
    /// Scores, then exponentials, `[rows, group, PAGE]`.
    scores: Vec<f32>,
    partial: Partial,
    total: Partial,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn page_partial(
    isa: Isa,
    shape: &PagedShape<'_>,
    span: &PagedSpan<'_>,
    tile: &Tile,
    page: usize,
    q: &[f32],
    scratch: &mut Scratch,
    partial: &mut Partial,
) {
    let (group, dim) = (shape.heads / shape.kv_heads, shape.head_dim);
    let width = padded(dim);
    partial.reset(shape, tile.count);
    // Entries of the page that any row sees.
    let seen: Vec<[Range<usize>; 2]> = (0..tile.count).map(|r| span.seen(tile.first + r, page)).collect();
    let any = || seen.iter().flatten().filter(|r| !r.is_empty());
    let Some(start) = any().map(|r| r.start).min() else { return };
    let end = any().map(|r| r.end).max().unwrap_or(start);
    let blocks = start / BLOCK..end.div_ceil(BLOCK);

    scratch.wide.resize(BLOCK * dim, 0.0);
    scratch.keys.resize(BLOCK * dim, 0.0);
    scratch.values.resize(PAGE * width, 0.0);
    scratch.scores.resize(tile.count * group * PAGE, 0.0);
    for b in blocks.clone() {
        let at = (tile.kv_head * PAGE + b * BLOCK) * dim;
        span.pages[page].k.widen(at..at + BLOCK * dim, &mut scratch.wide);
        transpose(isa, &scratch.wide, dim, &mut scratch.keys);
        let values = &mut scratch.values[b * BLOCK * width..(b + 1) * BLOCK * width];
        if width == dim {
            span.pages[page].v.widen(at..at + BLOCK * dim, values);
        } else {
            span.pages[page].v.widen(at..at + BLOCK * dim, &mut scratch.wide);
            for (to, from) in values.chunks_exact_mut(width).zip(scratch.wide.chunks_exact(dim)) {
                to[..dim].copy_from_slice(from);
                to[dim..].fill(0.0);
            }
        }
        for (row, seen) in seen.iter().enumerate() {
            if seen.iter().all(|r| r.end <= b * BLOCK || r.start >= (b + 1) * BLOCK) {
                continue;
            }
            let at = (span.rows.start + tile.first + row) * shape.heads * dim + tile.kv_head * group * dim;
            let scores = &mut scratch.scores[row * group * PAGE..(row + 1) * group * PAGE];
            block_scores(isa, &q[at..at + group * dim], dim, &scratch.keys, &mut scores[b * BLOCK..]);
        }
    }
    for (row, seen) in seen.iter().enumerate() {
        if seen.iter().all(|r| r.is_empty()) {
            continue;
        }
        let n = row * group..(row + 1) * group;
        let scores = &mut scratch.scores[n.start * PAGE..n.end * PAGE];
        for (g, i) in n.clone().enumerate() {
            let scores = &mut scores[g * PAGE..(g + 1) * PAGE];
            let bias = shape.bias.map(|b| b.head(tile.kv_head * group + g));
            // Where the page's first entry stands in the head's numbers.
            let own = span.own + tile.first + row;
            let at = (page * PAGE) as isize - own as isize + shape.bias.map_or(0, |b| b.max) as isize;
            (partial.max[i], partial.sum[i]) = exponentials(isa, scores, seen, shape.scale, shape.softcap, bias, at);
        }
        let values = &mut partial.values[n.start * width..n.end * width];
        weighted_values(isa, scores, seen, &scratch.values, width, values);
    }
}

/// `[BLOCK, dim]` to `[dim, BLOCK]`.
fn transpose(isa: Isa, x: &[f32], dim: usize, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 && dim.is_multiple_of(8) {
        assert!(x.len() == BLOCK * dim && out.len() == BLOCK * dim);
        // SAFETY: the level says that the processor has AVX; both slices hold `BLOCK * dim` numbers.
        return unsafe { transpose_avx(x, dim, out) };
    }
    let _ = isa;
    for (j, row) in x.chunks_exact(dim).enumerate() {
        for (d, v) in row.iter().enumerate() {
            out[d * BLOCK + j] = *v;
        }
    }
}

/// # Safety
/// AVX; `dim` is a multiple of 8, `x` and `out` hold `BLOCK * dim` numbers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn transpose_avx(x: &[f32], dim: usize, out: &mut [f32]) {
    use std::arch::x86_64::{_mm256_loadu_ps, _mm256_storeu_ps};
    // SAFETY: all loads and stores are of 8 numbers inside the slices.
    unsafe {
        for j in (0..BLOCK).step_by(8) {
            for d in (0..dim).step_by(8) {
                let mut rows = [std::arch::x86_64::_mm256_setzero_ps(); 8];
                for (i, row) in rows.iter_mut().enumerate() {
                    *row = _mm256_loadu_ps(x.as_ptr().add((j + i) * dim + d));
                }
                let columns = crate::transpose::transpose8(rows);
                for (i, column) in columns.iter().enumerate() {
                    _mm256_storeu_ps(out.as_mut_ptr().add((d + i) * BLOCK + j), *column);
                }
            }
        }
    }
}

by_isa! {
    /// Scores of one block for the heads of a group: `sum_d q[g][d] * keys[d][j]`, in order of `d`. Head `g`'s
    /// scores go to `scores[g * PAGE ..][.. BLOCK]`.
    fn block_scores(q: &[f32], dim: usize, keys: &[f32], scores: &mut [f32]) {
        let heads = q.len() / dim;
        let mut g = 0;
        while g + 3 <= heads {
            some_scores::<3>(&q[g * dim..], dim, keys, &mut scores[g * PAGE..]);
            g += 3;
        }
        while g + 2 <= heads {
            some_scores::<2>(&q[g * dim..], dim, keys, &mut scores[g * PAGE..]);
            g += 2;
        }
        if g < heads {
            some_scores::<1>(&q[g * dim..], dim, keys, &mut scores[g * PAGE..]);
        }
    }
}

#[inline(always)]
fn some_scores<const N: usize>(q: &[f32], dim: usize, keys: &[f32], scores: &mut [f32]) {
    let mut acc = [[[0.0f32; 8]; BLOCK / 8]; N];
    let q: [&[f32]; N] = std::array::from_fn(|n| &q[n * dim..(n + 1) * dim]);
    for (d, keys) in keys.chunks_exact(BLOCK).enumerate().take(dim) {
        for n in 0..N {
            let q = q[n][d];
            for v in 0..BLOCK / 8 {
                for l in 0..8 {
                    acc[n][v][l] = keys[v * 8 + l].mul_add(q, acc[n][v][l]);
                }
            }
        }
    }
    for n in 0..N {
        scores[n * PAGE..n * PAGE + BLOCK].copy_from_slice(acc[n].as_flattened());
    }
}

by_isa! {
    /// Turns a page's seen scores into exponentials relative to their maximum; returns it and their sum.
    fn exponentials(
        scores: &mut [f32],
        seen: &[Range<usize>; 2],
        scale: f32,
        softcap: Option<f32>,
        bias: Option<&[f32]>,
        bias_at: isize,
    ) -> (f32, f32) {
        let mut top = f32::NEG_INFINITY;
        for range in seen {
            let scores = &mut scores[range.clone()];
            for s in scores.iter_mut() {
                *s *= scale;
            }
            if let Some(cap) = softcap {
                for s in scores.iter_mut() {
                    *s = cap * (*s / cap).tanh();
                }
            }
            if let Some(bias) = bias {
                add_bias(scores, bias, bias_at + range.start as isize);
            }
            top = top.max(max(scores));
        }
        let mut total = 0.0;
        for range in seen {
            let scores = &mut scores[range.clone()];
            for s in scores.iter_mut() {
                *s = exp(*s - top);
            }
            total += sum(scores);
        }
        (top, total)
    }
}

/// Adds numbers `at ..` of a head's bias to scores; below and beyond its ends stand its first and last.
#[inline(always)]
fn add_bias(scores: &mut [f32], bias: &[f32], at: isize) {
    let count = scores.len() as isize;
    let below = (-at).clamp(0, count) as usize;
    let inside = (bias.len() as isize - at).clamp(below as isize, count) as usize;
    for s in &mut scores[..below] {
        *s += bias[0];
    }
    if below < inside {
        for (s, b) in scores[below..inside].iter_mut().zip(&bias[(at + below as isize) as usize..]) {
            *s += b;
        }
    }
    for s in &mut scores[inside..] {
        *s += bias[bias.len() - 1];
    }
}

by_isa! {
    /// `sum_j p[g][j] * values[j]` over the seen entries in order, for the heads of a group.
    fn weighted_values(p: &[f32], seen: &[Range<usize>; 2], values: &[f32], width: usize, out: &mut [f32]) {
        let heads = p.len() / PAGE;
        let mut g = 0;
        while g + 3 <= heads {
            some_values::<3>(&p[g * PAGE..], seen, values, width, &mut out[g * width..]);
            g += 3;
        }
        while g + 2 <= heads {
            some_values::<2>(&p[g * PAGE..], seen, values, width, &mut out[g * width..]);
            g += 2;
        }
        if g < heads {
            some_values::<1>(&p[g * PAGE..], seen, values, width, &mut out[g * width..]);
        }
    }
}

#[inline(always)]
fn some_values<const N: usize>(p: &[f32], seen: &[Range<usize>; 2], values: &[f32], width: usize, out: &mut [f32]) {
    for c in (0..width).step_by(CHUNK) {
        let mut acc = [[[0.0f32; 8]; CHUNK / 8]; N];
        for range in seen {
            for j in range.clone() {
                let v: &[f32; CHUNK] = values[j * width + c..][..CHUNK].try_into().expect("a chunk");
                for n in 0..N {
                    let p = p[n * PAGE + j];
                    for i in 0..CHUNK / 8 {
                        for l in 0..8 {
                            acc[n][i][l] = v[i * 8 + l].mul_add(p, acc[n][i][l]);
                        }
                    }
                }
            }
        }
        for n in 0..N {
            out[n * width + c..n * width + c + CHUNK].copy_from_slice(acc[n].as_flattened());
        }
    }
}
