//! Attention over whole spans held in plain `[tokens, heads * head_dim]` slices: the forward pass of the
//! tape, which keeps the log-sum-exp of each row for the backward ([`super::backward`]).
//!
//! FlashAttention (Dao et al. 2022): a tile is one head and a block of query rows, and walks over tiles of keys with
//! an online softmax. Scores lie transposed, `[keys, 16]`, so that a vector lane is a query: maxima and sums
//! run down the keys in order, lane by lane, and neither K nor V is ever transposed. What no row of a panel of 16
//! sees is not computed. Memory is a few tiles a thread, whatever the length of the span.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::sight::Sight;
use super::weigh::{base, shape, weigh};
use super::{Mask, RelativeBias};
use crate::disjoint::Disjoint;
use crate::gemm::{COLS, Start, Strided, multiply};
use crate::{Isa, Pool};

/// Query rows of a tile: K and V are copied to contiguous memory once for so many.
const BLOCK: usize = 384;
/// Keys of a tile.
const KEYS: usize = 64;
/// Panels of 16 queries that pass over K, then over V, while these lie in the first-level cache.
const SIDE: usize = 3;

/// The shape of an attention step over plain slices.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of it, and `heads / kv_heads` neighbours share one.
    pub kv_heads: usize,
    /// Features a head.
    pub head_dim: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// Added to the scores last. It gets no gradient.
    pub bias: Option<Arc<RelativeBias>>,
}

/// The rows of one sequence and what they see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenseSpan {
    /// Rows of q.
    pub queries: Range<usize>,
    /// Rows of k and v, in order; the last ones are the queries' own.
    pub keys: Range<usize>,
    /// How many of the first keys belong to no token and are seen by every row (a trained prefix).
    pub seeded: usize,
    /// For each query the keys that it sees besides the seeded ones, counted from the span's first key.
    pub visible: Vec<Range<usize>>,
}

impl DenseSpan {
    /// A span under a mask. `positions` are those of all keys but the seeded ones, in ascending order.
    ///
    /// # Panics
    /// If there is not one position for each key that is not seeded, or there are fewer of those than queries.
    pub fn new(mask: Mask, queries: Range<usize>, keys: Range<usize>, seeded: usize, positions: &[u32]) -> DenseSpan {
        assert!(
            positions.len() + seeded == keys.len() && positions.len() >= queries.len(),
            "attention: {} positions and {seeded} seeds for {} keys of {} rows",
            positions.len(),
            keys.len(),
            queries.len()
        );
        let before = positions.len() - queries.len();
        let visible = (before..positions.len())
            .map(|own| mask.visible(positions, own))
            .map(|seen| seeded + seen.start..seeded + seen.end)
            .collect();
        DenseSpan { queries, keys, seeded, visible }
    }

    /// A whole sequence at positions 0, 1, ..: each row of q has its key and value in the same row.
    pub fn whole(mask: Mask, rows: Range<usize>) -> DenseSpan {
        let positions: Vec<u32> = (0..rows.len() as u32).collect();
        DenseSpan::new(mask, rows.clone(), rows, 0, &positions)
    }

    /// The key of a query, counted from the span's first.
    pub(super) fn own(&self, query: usize) -> isize {
        self.keys.len() as isize - self.queries.len() as isize + query as isize
    }

    /// Whether every count fits: one visible range for each query, inside the keys.
    pub fn is_sound(&self) -> bool {
        let DenseSpan { queries, keys, seeded, visible } = self;
        queries.start <= queries.end
            && keys.start <= keys.end
            && *seeded <= keys.len()
            && visible.len() == queries.len()
            && visible.iter().all(|r| r.start <= r.end && r.end <= keys.len())
    }
}

impl Dense {
    /// Query heads that share a key head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Numbers in a row of q.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Numbers in a row of k or v.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Whether scores are more than scaled.
    pub(super) fn is_shaped(&self) -> bool {
        self.softcap.is_some() || self.bias.is_some() || self.scale <= 0.0
    }

    /// What scores (shaped ones, where they are) are multiplied by to become exponents of two.
    pub(super) fn factor(&self) -> f32 {
        if self.is_shaped() { 1.0 } else { self.scale * std::f32::consts::LOG2_E }
    }

    /// The bias of one head, if there is any.
    pub(super) fn head_bias(&self, head: usize) -> Option<&[f32]> {
        self.bias.as_deref().map(|bias| bias.head(head))
    }

    pub(super) fn check(&self, spans: &[DenseSpan], q: &[f32], k: &[f32], v: &[f32]) {
        assert!(
            self.head_dim > 0 && self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads) && self.heads > 0,
            "attention: {} heads over {} key heads of {}",
            self.heads,
            self.kv_heads,
            self.head_dim
        );
        if let Some(bias) = &self.bias {
            bias.check(self.heads);
        }
        assert!(
            q.len().is_multiple_of(self.q_width()) && k.len().is_multiple_of(self.kv_width()) && k.len() == v.len(),
            "attention: lengths do not fit"
        );
        let (mut q_end, mut k_end) = (0, 0);
        for span in spans {
            assert!(
                span.is_sound() && span.queries.start >= q_end && span.keys.start >= k_end,
                "attention: span of rows {:?} and keys {:?} overlaps another or sees what is not there",
                span.queries,
                span.keys
            );
            (q_end, k_end) = (span.queries.end, span.keys.end);
        }
        assert!(
            q_end * self.q_width() <= q.len() && k_end * self.kv_width() <= k.len(),
            "attention: a span lies outside the rows"
        );
    }
}

/// Every (span, head, first row of a block), the unit of work.
fn blocks(spec: &Dense, spans: &[DenseSpan]) -> Vec<(usize, usize, usize)> {
    let mut tiles = Vec::new();
    for (s, span) in spans.iter().enumerate() {
        for head in 0..spec.heads {
            tiles.extend((0..span.queries.len()).step_by(BLOCK).map(|first| (s, head, first)));
        }
    }
    tiles
}

/// `out = softmax(scale * Q K^T) V` for every span, and the log-sum-exp of each row's scores.
///
/// Shapes: q and out `[tokens, heads * head_dim]`, k and v `[entries, kv_heads * head_dim]`, lse
/// `[tokens, heads]`. Rows outside the spans are left as they are. A row that sees nothing gives zeros
/// and a log-sum-exp of negative infinity.
///
/// # Panics
/// If the lengths do not fit or the spans are not ascending and apart.
pub fn dense_forward(
    pool: &Pool,
    isa: Isa,
    spec: &Dense,
    spans: &[DenseSpan],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
) {
    spec.check(spans, q, k, v);
    assert!(
        out.len() == q.len() && lse.len() == q.len() / spec.head_dim,
        "attention: out is as large as q, lse [tokens, heads]"
    );
    let tiles = blocks(spec, spans);
    let (out, lse) = (Disjoint::new(out), Disjoint::new(lse));
    pool.run(tiles.len(), &|tile| {
        let (span, head, first) = tiles[tile];
        let mut scratch = SCRATCH.take();
        Tile { isa, spec, span: &spans[span], head, first }.run(q, k, v, &mut scratch);
        let span = &spans[span];
        for (i, row) in (first..span.queries.len().min(first + BLOCK)).enumerate() {
            let row = span.queries.start + row;
            let at = row * spec.q_width() + head * spec.head_dim;
            // SAFETY: each tile has its own head of its own rows.
            let (out, lse) = unsafe {
                (out.part(at..at + spec.head_dim), lse.part(row * spec.heads + head..row * spec.heads + head + 1))
            };
            let (top, sum) = (scratch.tops[i], scratch.sums[i]);
            let factor = if sum > 0.0 { 1.0 / sum } else { 0.0 };
            let sums = &scratch.out[i * padded(spec.head_dim)..];
            out.iter_mut().zip(sums).for_each(|(o, &r)| *o = r * factor);
            let base = f64::from(base(top, spec.factor()));
            lse[0] = (base * std::f64::consts::LN_2 + f64::from(sum).ln()) as f32;
        }
        SCRATCH.set(scratch);
    });
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What a thread works in: linear in the block and the head, whatever the length of the span.
#[derive(Default)]
struct Scratch {
    /// The queries as panels `[head_dim, 16]`.
    q: Vec<f32>,
    /// A tile of keys, `[64, head_dim]`.
    k: Vec<f32>,
    /// A tile of values, `[64, padded head_dim]`.
    v: Vec<f32>,
    /// Scores of three panels, `[64, 16]` each.
    scores: Vec<f32>,
    /// Sums of weighted values, `[384, padded head_dim]`.
    out: Vec<f32>,
    /// The largest score of each row so far, and the sum of its weights relative to it.
    tops: Vec<f32>,
    sums: Vec<f32>,
}

/// A head's features, filled up to whole register tiles.
pub(super) fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(COLS)
}

/// `count` rows, `stride` apart, as a panel `[features, 16]`; columns without a row are left as they are.
pub(super) fn pack_panel(from: &[f32], stride: usize, count: usize, panel: &mut [f32]) {
    for (d, to) in panel.as_chunks_mut::<COLS>().0.iter_mut().enumerate() {
        for (row, to) in to.iter_mut().enumerate().take(count) {
            *to = from[row * stride + d];
        }
    }
}

struct Tile<'a> {
    isa: Isa,
    spec: &'a Dense,
    span: &'a DenseSpan,
    head: usize,
    first: usize,
}

impl Tile<'_> {
    fn run(&self, q: &[f32], k: &[f32], v: &[f32], scratch: &mut Scratch) {
        let &Tile { isa, spec, span, head, first } = self;
        let (head_dim, wide) = (spec.head_dim, padded(spec.head_dim));
        let rows = BLOCK.min(span.queries.len() - first);
        let panels: Vec<Sight> =
            (first..first + rows).step_by(COLS).map(|r| Sight::new(span, r..(r + COLS).min(first + rows))).collect();
        let Scratch { q: q_panels, k: k_tile, v: v_tile, scores, out, tops, sums } = scratch;
        q_panels.clear();
        q_panels.resize(panels.len() * head_dim * COLS, 0.0);
        for (p, panel) in q_panels.chunks_exact_mut(head_dim * COLS).enumerate() {
            let at = (span.queries.start + first + p * COLS) * spec.q_width() + head * head_dim;
            pack_panel(&q[at..], spec.q_width(), COLS.min(rows - p * COLS), panel);
        }
        k_tile.resize(KEYS * head_dim, 0.0);
        v_tile.clear();
        v_tile.resize(KEYS * wide, 0.0);
        scores.resize(SIDE * KEYS * COLS, 0.0);
        out.clear();
        out.resize(panels.len() * COLS * wide, 0.0);
        tops.clear();
        tops.resize(panels.len() * COLS, f32::NEG_INFINITY);
        sums.clear();
        sums.resize(panels.len() * COLS, 0.0);
        // Tiles of keys are counted from the span's first, so that a row's sums do not depend on its block.
        for start in (0..span.keys.len()).step_by(KEYS) {
            let keys = start..span.keys.len().min(start + KEYS);
            if panels.iter().all(|p| p.part(&keys).is_empty()) {
                continue;
            }
            for (i, key) in keys.clone().enumerate() {
                let at = (span.keys.start + key) * spec.kv_width() + head / spec.group() * head_dim;
                k_tile[i * head_dim..(i + 1) * head_dim].copy_from_slice(&k[at..at + head_dim]);
                v_tile[i * wide..i * wide + head_dim].copy_from_slice(&v[at..at + head_dim]);
                ask_ahead(k, at + KEYS * spec.kv_width(), head_dim);
                ask_ahead(v, at + KEYS * spec.kv_width(), head_dim);
            }
            for (s, side) in panels.chunks(SIDE).enumerate() {
                for (p, panel) in side.iter().enumerate() {
                    let part = panel.part(&keys);
                    if part.is_empty() {
                        continue;
                    }
                    let at = (s * SIDE + p) * COLS;
                    let q = (&q_panels[at * head_dim..], COLS);
                    let from = part.start - start;
                    let scores = &mut scores[(p * KEYS + from) * COLS..(p * KEYS + from + part.len()) * COLS];
                    let keys = Strided::rows(&k_tile[from * head_dim..], head_dim);
                    multiply(isa, Start::Zero, (part.len(), COLS, head_dim), keys, q, (scores, COLS));
                    if spec.is_shaped() {
                        let distance = part.start as isize - span.own(first + at);
                        shape(isa, spec.scale, spec.softcap, spec.head_bias(head), distance, scores);
                    }
                    let (Some(tops), Some(sums)) = (tops[at..].first_chunk_mut(), sums[at..].first_chunk_mut()) else {
                        continue;
                    };
                    let grown = weigh(isa, spec.factor(), panel, part, tops, sums, scores);
                    for (row, factor) in out[at * wide..].chunks_exact_mut(wide).zip(grown) {
                        if factor != 1.0 {
                            row.iter_mut().for_each(|o| *o *= factor);
                        }
                    }
                }
                for (p, panel) in side.iter().enumerate() {
                    let part = panel.part(&keys);
                    if part.is_empty() {
                        continue;
                    }
                    let (at, from) = ((s * SIDE + p) * COLS, part.start - start);
                    let weights = Strided::transposed(&scores[(p * KEYS + from) * COLS..(p + 1) * KEYS * COLS], COLS);
                    let values = (&v_tile[from * wide..], wide);
                    let size = (COLS.min(rows - at), wide, part.len());
                    multiply(isa, Start::Add, size, weights, values, (&mut out[at * wide..], wide));
                }
            }
        }
    }
}

/// Asks for `count` numbers from `at` on that will be wanted soon: rows of one head lie apart, and no hardware
/// prefetcher follows them.
#[inline(always)]
pub(super) fn ask_ahead(from: &[f32], at: usize, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in from.get(at..at + count).unwrap_or_default().chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, and the address is a number's.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    let _ = (from, at, count);
}

#[cfg(test)]
pub(super) mod tests;
