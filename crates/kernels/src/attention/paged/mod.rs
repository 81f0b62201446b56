//! Attention over a paged cache: the CPU executor's forward.
//!
//! A sequence's keys and values lie in pages of [`PAGE`] entries. A page is worked off as a whole: scores
//! of all its visible entries, their maximum, exponentials and weighted values; then the pages' partial
//! results are merged in order (the online softmax of FlashAttention, Dao et al. 2022, at page
//! granularity). A row's arithmetic thus depends on its own bounds only. When there are few rows the pages
//! are shared out among the threads, when there are many the rows are; the bits are the same.
//!
//! Query heads of one group share each key and value block that is widened to f32.

mod arithmetic;
mod kv;
mod page;
mod partial;
mod turn;

use std::cell::RefCell;
use std::ops::Range;

use self::page::{Scratch, page_partial};
use self::partial::Partial;
use super::{RelativeBias, Visible};
use crate::disjoint::{Disjoint, for_rows};
use crate::{Isa, Pool};

pub use self::kv::{KV_BLOCK, KvSlice, Q4Block, Q8Block, decode_q4, decode_q8, encode_q4, encode_q8};

/// Entries of a page.
pub const PAGE: usize = 256;
/// Entries widened at a time.
const BLOCK: usize = 32;
/// Rows of a sequence that one tile works on.
const TILE_ROWS: usize = 16;
/// Values of a head are padded to a multiple of this.
const CHUNK: usize = 32;

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
        assert!(
            span.pages.iter().all(|p| p.k.is_blocks() == k && p.v.is_blocks() == v),
            "the pages of a sequence are all blocks or all plain numbers"
        );
        assert!(span.visible.end() <= span.pages.len() * PAGE, "entries inside the pages");
    }
    let mut tiles = Vec::new();
    for (s, span) in spans.iter().enumerate() {
        for kv_head in 0..shape.kv_heads {
            for first in (0..span.rows.len()).step_by(TILE_ROWS) {
                tiles.push(Tile { span: s, kv_head, first, count: TILE_ROWS.min(span.rows.len() - first) });
            }
        }
    }
    // Queries for turned keys.
    let mut turned = Vec::new();
    if spans.iter().any(PagedSpan::turned_keys) {
        turned.extend_from_slice(q);
        for_rows(pool, width, &mut turned, |_, rows| turn::turn(isa, rows, turn::width(shape.head_dim)));
    }
    let queries = |span: &PagedSpan<'_>| if span.turned_keys() { turned.as_slice() } else { q };
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
                    page_partial(isa, shape, span, tile, page, queries(span), scratch, &mut partial);
                    scratch.total.merge(shape, &partial);
                    scratch.partial = partial;
                }
                scratch.total.write(isa, shape, span, tile, &out);
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
                let span = &spans[tiles[i].span];
                page_partial(isa, shape, span, &tiles[i], page, queries(span), scratch, partial);
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
        total.write(isa, shape, &spans[tile.span], tile, &out);
    }
}

/// Rows `first .. first + count` of a span, the query heads of one group.
struct Tile {
    span: usize,
    kv_head: usize,
    first: usize,
    count: usize,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}
