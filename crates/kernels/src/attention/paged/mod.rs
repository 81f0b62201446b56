//! Attention over a paged cache: the CPU executor's forward.
//!
//! A sequence's keys and values lie in pages of [`PAGE`] entries. A page is worked off as a whole: scores
//! of all its visible entries, their maximum, exponentials and weighted values; then the pages' partial
//! results are merged in order (the online softmax of FlashAttention, Dao et al. 2022, at page
//! granularity). A row's arithmetic thus depends on its own bounds only. When there are few rows the pages
//! are shared out among the threads, when there are many the rows are; the bits are the same.
//!
//! Keys lie in panels of 32 entries by feature, so that a vector holds one feature of eight entries and nothing is
//! transposed to be read; values lie by entry. The query heads of a group, and many rows, share what is read.

mod entries;
mod kv;
mod page;
mod partial;
mod scores;
mod softmax;
mod turn;
mod values;
mod vector;

use std::cell::RefCell;
use std::ops::Range;

use self::page::{Scratch, page_partial, reads_in_place, take_queries};
use self::partial::Partial;
use super::{RelativeBias, Visible};
use crate::disjoint::Disjoint;
use crate::{Isa, Pool};

pub use self::entries::{PageMut, read_entries, write_entries};
pub use self::kv::{KV_BLOCK, KvSlice, KvSliceMut, Q4Tile, Q8Tile};

/// Entries of a page.
pub const PAGE: usize = 256;
/// Entries of a panel of keys.
const BLOCK: usize = 32;
/// Lines, rows times heads of a group, that one tile works on at most: enough to be worth widening a page for.
const TILE_LINES: usize = 96;

/// Numbers of a head with the padding that sums over values have.
fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(16)
}

/// How heads of this many features are attended to, for reports.
pub fn path(head_dim: usize) -> &'static str {
    if reads_in_place(head_dim) {
        "keys and values read in place"
    } else {
        "keys read in place, values widened and padded to a multiple of 16 features"
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
    /// For each row, the entries it sees.
    pub visible: Visible,
}

impl PagedSpan<'_> {
    /// Whether the keys are turned, as blocks are.
    fn turned_keys(&self) -> bool {
        self.pages.first().is_some_and(|p| p.k.is_blocks())
    }

    /// Whether the values are turned, as blocks are.
    fn turned_values(&self) -> bool {
        self.pages.first().is_some_and(|p| p.v.is_blocks())
    }

    /// What row `row` of the span sees of page `page`, as entries of the page.
    fn seen(&self, row: usize, page: usize) -> impl Iterator<Item = Range<usize>> {
        let (start, end) = (page * PAGE, (page + 1) * PAGE);
        let inside = move |r: &Range<usize>| r.start.max(start) - start..r.end.min(end) - start;
        self.visible.row(row).iter().filter(move |r| r.start < end && r.end > start).map(inside)
    }
}

/// `out = softmax(scale q k^T) v` for all spans. Shapes: q and out `[rows, heads * head_dim]`.
///
/// # Panics
/// If the slices do not have these sizes, a row sees entries beyond its pages, or the pages hold blocks that
/// `head_dim` is no multiple of, or blocks beside plain numbers.
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
        assert!(
            shape.head_dim.is_multiple_of(KV_BLOCK) || !span.pages.iter().any(|p| p.k.is_blocks() || p.v.is_blocks()),
            "heads of {} numbers do not fill blocks of {KV_BLOCK}",
            shape.head_dim
        );
        let (k, v) = (span.turned_keys(), span.turned_values());
        let numbers = shape.kv_heads * PAGE * shape.head_dim;
        assert!(
            span.pages.iter().all(|p| p.k.numbers() == numbers && p.v.numbers() == numbers),
            "pages of {} heads of {} numbers",
            shape.kv_heads,
            shape.head_dim
        );
        assert!(
            span.pages.iter().all(|p| p.k.is_blocks() == k && p.v.is_blocks() == v),
            "the pages of a sequence are all blocks or all plain numbers"
        );
        assert!(span.visible.end() <= span.pages.len() * PAGE, "entries inside the pages");
    }
    let out = Disjoint::new(out);
    PLAN.with_borrow_mut(|plan| plan.run(pool, isa, shape, spans, q, &out));
}

/// Rows `first .. first + count` of a span, the query heads of one group.
struct Tile {
    span: usize,
    kv_head: usize,
    first: usize,
    count: usize,
    /// The pages that any of the rows sees something of.
    pages: Range<usize>,
}

/// What is to be done, and the results of parts of it; kept for the next call.
#[derive(Default)]
struct Plan {
    tiles: Vec<Tile>,
    /// Tiles and pages, where these are shared out, and where the result of each goes.
    work: Vec<(usize, usize, usize)>,
    partials: Vec<f32>,
}

impl Plan {
    fn run(
        &mut self,
        pool: &Pool,
        isa: Isa,
        shape: &PagedShape<'_>,
        spans: &[PagedSpan<'_>],
        q: &[f32],
        out: &Disjoint<'_, f32>,
    ) {
        let (group, dim) = (shape.heads / shape.kv_heads, shape.head_dim);
        let rows = (TILE_LINES / group).max(1);
        let Plan { tiles, work, partials } = self;
        tiles.clear();
        for (s, span) in spans.iter().enumerate() {
            for first in (0..span.rows.len()).step_by(rows) {
                let count = rows.min(span.rows.len() - first);
                let seen = || (first..first + count).flat_map(|row| span.visible.row(row));
                let start = seen().map(|r| r.start / PAGE).min().unwrap_or(0);
                let end = seen().map(|r| r.end.div_ceil(PAGE)).max().unwrap_or(0);
                for kv_head in 0..shape.kv_heads {
                    tiles.push(Tile { span: s, kv_head, first, count, pages: start..end.max(start) });
                }
            }
        }
        let whole = pool.threads() == 1 || tiles.len() >= 4 * pool.threads();
        if whole || tiles.iter().all(|t| t.pages.len() <= 1) {
            // The longest first, so that none is left alone at the end.
            tiles.sort_by_key(|t| std::cmp::Reverse(t.count * t.pages.len()));
            pool.run(tiles.len(), &|i| {
                let tile = &tiles[i];
                let span = &spans[tile.span];
                let lines = tile.count * group;
                let numbers = Partial::numbers(lines, dim);
                SCRATCH.with_borrow_mut(|(scratch, partials)| {
                    partials.resize(2 * numbers, 0.0);
                    let (total, next) = partials.split_at_mut(numbers);
                    let mut total = Partial::new(total, lines);
                    let mut next = Partial::new(&mut next[..numbers], lines);
                    take_queries(isa, shape, span, tile, q, scratch);
                    total.clear();
                    for page in tile.pages.clone() {
                        page_partial(isa, shape, span, tile, page, scratch, &mut next);
                        total.merge(isa, &next);
                    }
                    total.write(isa, shape, span, tile, out);
                });
            });
            return;
        }
        // Few rows, long caches: a tile a page, then the merge.
        work.clear();
        let mut end = 0;
        for (i, tile) in tiles.iter().enumerate() {
            for page in tile.pages.clone() {
                work.push((i, page, end));
                end += Partial::numbers(tile.count * group, dim);
            }
        }
        partials.resize(end, 0.0);
        {
            let partials = Disjoint::new(partials);
            pool.run(work.len(), &|w| {
                let (i, page, at) = work[w];
                let (tile, span) = (&tiles[i], &spans[tiles[i].span]);
                let lines = tile.count * group;
                // SAFETY: each piece of work has numbers of its own.
                let numbers = unsafe { partials.part(at..at + Partial::numbers(lines, dim)) };
                SCRATCH.with_borrow_mut(|(scratch, _)| {
                    take_queries(isa, shape, span, tile, q, scratch);
                    page_partial(isa, shape, span, tile, page, scratch, &mut Partial::new(numbers, lines));
                });
            });
        }
        let mut rest = partials.as_mut_slice();
        for tile in tiles.iter() {
            let lines = tile.count * group;
            let numbers = Partial::numbers(lines, dim);
            let (of_tile, after) = rest.split_at_mut(numbers * tile.pages.len());
            rest = after;
            let mut of_tile = of_tile.chunks_exact_mut(numbers).map(|numbers| Partial::new(numbers, lines));
            let mut none = vec![0.0; if tile.pages.is_empty() { numbers } else { 0 }];
            let mut total = of_tile.next().unwrap_or_else(|| Partial::new(&mut none, lines));
            of_tile.for_each(|next| total.merge(isa, &next));
            total.write(isa, shape, &spans[tile.span], tile, out);
        }
    }
}

thread_local! {
    static PLAN: RefCell<Plan> = RefCell::default();
    static SCRATCH: RefCell<(Scratch, Vec<f32>)> = RefCell::default();
}
