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

use super::{Mask, RelativeBias};
use crate::disjoint::Disjoint;
use crate::exp::exp2;
use crate::gemm::{COLS, Start, Strided, multiply};
use crate::lanes::by_isa;
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

/// Rows that a [`Sight`] describes, at most.
pub(super) const SIGHT: usize = 64;

/// What some rows see of a span's keys.
pub(super) struct Sight {
    /// For each row its first key and one past its last; rows that are not there repeat the last one.
    pub(super) first: [u32; SIGHT],
    pub(super) last: [u32; SIGHT],
    /// Seeded keys, which all rows see.
    pub(super) seeded: usize,
    /// The keys between which all that is seen lies, besides the seeded ones.
    hull: Range<usize>,
    /// The keys that every row sees, besides the seeded ones.
    common: Range<usize>,
}

impl Sight {
    /// Of rows of a span's queries, counted within the span.
    pub(super) fn new(span: &DenseSpan, rows: Range<usize>) -> Sight {
        let seen = &span.visible[rows];
        let at = |i: usize| seen.get(i).or(seen.last());
        let first = std::array::from_fn(|i| at(i).map_or(0, |r| r.start as u32));
        let last = std::array::from_fn(|i| at(i).map_or(0, |r| r.end as u32));
        let bound = |f: fn(&Range<usize>) -> usize| seen.iter().map(f);
        let seeing = || seen.iter().filter(|r| !r.is_empty());
        let hull = seeing().map(|r| r.start).min().unwrap_or(0)..seeing().map(|r| r.end).max().unwrap_or(0);
        let common = bound(|r| r.start).max().unwrap_or(0)..bound(|r| r.end).min().unwrap_or(0);
        Sight { first, last, seeded: span.seeded, hull, common }
    }

    /// The part of `keys` outside which no row sees any.
    pub(super) fn part(&self, keys: &Range<usize>) -> Range<usize> {
        let seeded = keys.start..keys.end.min(self.seeded);
        let seen = keys.start.max(self.hull.start)..keys.end.min(self.hull.end);
        match (seeded.is_empty(), seen.is_empty()) {
            (true, true) => keys.start..keys.start,
            (true, false) => seen,
            (false, true) => seeded,
            (false, false) => seeded.start.min(seen.start)..seeded.end.max(seen.end),
        }
    }

    /// Whether every row sees all of `keys`.
    pub(super) fn is_full(&self, keys: &Range<usize>) -> bool {
        keys.end <= self.seeded || self.common.start <= keys.start.max(self.seeded) && keys.end <= self.common.end
    }

    /// Whether row `row` sees `key`.
    #[inline(always)]
    pub(super) fn sees(&self, row: usize, key: u32) -> bool {
        (key as usize) < self.seeded || (self.first[row] <= key && key < self.last[row])
    }
}

/// What a score is multiplied by to become an exponent of two, taken from its row's largest. `tops` are in units of
/// the scores.
#[inline(always)]
fn base(top: f32, factor: f32) -> f32 {
    // A row that sees nothing: any finite number keeps the differences defined.
    if top == f32::NEG_INFINITY { 0.0 } else { top * factor }
}

/// Raw scores to exponents of two: scaled, capped, biased. Only for heads that do more than to scale.
#[inline(always)]
pub(super) fn exponent(score: f32, scale: f32, softcap: Option<f32>, bias: f32) -> f32 {
    let scaled = match softcap {
        None => score * scale,
        // The library's tanh: capped scores are rare, and a product of exponentials loses bits near zero.
        Some(cap) => cap * (score * scale / cap).tanh(),
    };
    (scaled + bias) * std::f32::consts::LOG2_E
}

/// What a head's bias says of an entry that lies `distance` behind the row's own.
#[inline(always)]
pub(super) fn bias_at(bias: Option<&[f32]>, distance: isize) -> f32 {
    bias.map_or(0.0, |bias| {
        let max = (bias.len() / 2) as isize;
        bias[(distance.clamp(-max, max) + max) as usize]
    })
}

by_isa! {
    /// [`exponent`]s in place of raw scores `[keys, 16]`; the first key lies `distance` behind the first row's own.
    fn shape(scale: f32, softcap: Option<f32>, bias: Option<&[f32]>, distance: isize, scores: &mut [f32]) {
        for (key, row) in scores.as_chunks_mut::<COLS>().0.iter_mut().enumerate() {
            for (column, s) in row.iter_mut().enumerate() {
                *s = exponent(*s, scale, softcap, bias_at(bias, distance + key as isize - column as isize));
            }
        }
    }
}

by_isa! {
    /// Turns scores `[keys, 16]` of one tile of keys into weights relative to the largest score of each column so
    /// far, and says what earlier sums of the column are to be multiplied by.
    fn weigh(
        factor: f32,
        panel: &Sight,
        keys: Range<usize>,
        tops: &mut [f32; COLS],
        sums: &mut [f32; COLS],
        scores: &mut [f32],
    ) -> [f32; COLS] {
        let rows = scores.as_chunks_mut::<COLS>().0;
        if !panel.is_full(&keys) {
            for (key, row) in keys.zip(rows.iter_mut()) {
                for (column, s) in row.iter_mut().enumerate() {
                    *s = if panel.sees(column, key as u32) { *s } else { f32::NEG_INFINITY };
                }
            }
        }
        let mut top = *tops;
        for row in rows.iter() {
            for l in 0..COLS {
                top[l] = if row[l] > top[l] { row[l] } else { top[l] };
            }
        }
        let (mut from, mut grown, mut sum) = ([0.0; COLS], [0.0; COLS], [0.0f32; COLS]);
        for l in 0..COLS {
            from[l] = base(top[l], factor);
            grown[l] = exp2(tops[l].mul_add(factor, -from[l]));
        }
        for row in rows.iter_mut() {
            for l in 0..COLS {
                row[l] = exp2(row[l].mul_add(factor, -from[l]));
                sum[l] += row[l];
            }
        }
        for l in 0..COLS {
            sums[l] = sums[l].mul_add(grown[l], sum[l]);
        }
        *tops = top;
        grown
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, wide};

    /// Spans under a mask, with the numbers.
    pub(crate) struct Case {
        pub(crate) mask: Mask,
        /// Of each span's keys but the seeded ones.
        pub(crate) positions: Vec<Vec<u32>>,
        pub(crate) spec: Dense,
        pub(crate) spans: Vec<DenseSpan>,
        pub(crate) q: Vec<f32>,
        pub(crate) k: Vec<f32>,
        pub(crate) v: Vec<f32>,
    }

    impl Case {
        /// Whether query `i` of span `s` sees the span's key `j`, by the mask's definition.
        fn sees(&self, s: usize, i: usize, j: usize) -> bool {
            let (span, positions) = (&self.spans[s], &self.positions[s]);
            let own = span.keys.len() - span.queries.len() + i;
            if j < span.seeded {
                return true;
            }
            match self.mask {
                Mask::Causal => j <= own,
                Mask::Window(w) => {
                    j <= own && ((positions[own - span.seeded] - positions[j - span.seeded]) as usize) < w
                }
                Mask::Full => true,
                Mask::Around(w) => (positions[own - span.seeded].abs_diff(positions[j - span.seeded]) as usize) < w,
            }
        }

        /// Attention by its definition in f64: (out, lse).
        pub(crate) fn twin(&self, q: &[f64], k: &[f64], v: &[f64]) -> (Vec<f64>, Vec<f64>) {
            let spec = &self.spec;
            let (hd, qw, kw) = (spec.head_dim, spec.q_width(), spec.kv_width());
            let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; q.len() / hd]);
            for (s, span) in self.spans.iter().enumerate() {
                for (i, row) in span.queries.clone().enumerate() {
                    let seen: Vec<usize> = (0..span.keys.len()).filter(|&j| self.sees(s, i, j)).collect();
                    for head in 0..spec.heads {
                        let query = &q[row * qw + head * hd..][..hd];
                        let at = |j: usize| (span.keys.start + j) * kw + head / (spec.heads / spec.kv_heads) * hd;
                        let score = |&j: &usize| {
                            let s: f64 = query.iter().zip(&k[at(j)..]).map(|(a, b)| a * b).sum::<f64>();
                            let s = s * f64::from(spec.scale);
                            let s = spec.softcap.map_or(s, |c| f64::from(c) * (s / f64::from(c)).tanh());
                            let own = span.keys.len() - span.queries.len() + i;
                            s + spec.bias.as_ref().map_or(0.0, |b| {
                                let index = (j as i64 - own as i64 + b.max as i64).clamp(0, 2 * b.max as i64);
                                f64::from(b.table[head * (2 * b.max + 1) + index as usize])
                            })
                        };
                        let weights: Vec<f64> = seen.iter().map(|j| score(j).exp()).collect();
                        let total: f64 = weights.iter().sum();
                        lse[row * spec.heads + head] = total.ln();
                        for (&j, w) in seen.iter().zip(&weights) {
                            for d in 0..hd {
                                out[row * qw + head * hd + d] += w / total * v[at(j) + d];
                            }
                        }
                    }
                }
            }
            (out, lse)
        }
    }

    /// Two sequences, the second with earlier keys, a gap in its positions and a seeded prefix, under every
    /// kind of mask.
    pub(crate) fn cases(long: usize, head_dim: usize) -> Vec<Case> {
        let mut cases = Vec::new();
        let masks =
            [Mask::Causal, Mask::Window(5), Mask::Full, Mask::Causal, Mask::Around(3), Mask::Full, Mask::Causal];
        for (i, mask) in masks.into_iter().enumerate() {
            // Distances within a bias and beyond it.
            let bias = (i >= 5).then(|| {
                Arc::new(RelativeBias { heads: 4, max: 6, table: Numbers::new(50 + i as u64).normal(4 * 13) })
            });
            let softcap = [3, 6].contains(&i).then_some(2.0);
            let spec = Dense { heads: 4, kv_heads: 2, head_dim, scale: 0.3, softcap, bias };
            let positions: Vec<Vec<u32>> = vec![(0..long as u32).collect(), (0..10).chain(13..17).collect()];
            let spans = vec![
                DenseSpan::whole(mask, 0..long),
                DenseSpan::new(mask, long..long + 7, long..long + 17, 3, &positions[1]),
            ];
            let mut numbers = Numbers::new(i as u64);
            let (q, k) = (numbers.normal((long + 7) * 4 * head_dim), numbers.normal((long + 17) * 2 * head_dim));
            let v = numbers.normal(k.len());
            cases.push(Case { mask, positions, spec, spans, q, k, v });
        }
        cases
    }

    fn run(isa: Isa, threads: usize, case: &Case) -> (Vec<f32>, Vec<f32>) {
        let (mut out, mut lse) = (vec![0.0; case.q.len()], vec![0.0; case.q.len() / case.spec.head_dim]);
        let pool = Pool::new(threads);
        dense_forward(&pool, isa, &case.spec, &case.spans, &case.q, &case.k, &case.v, &mut out, &mut lse);
        (out, lse)
    }

    #[test]
    fn every_mask_agrees_with_the_definition() {
        for (long, head_dim) in [(1, 16), (70, 16), (33, 20)] {
            for case in cases(long, head_dim) {
                let (want, want_lse) = case.twin(&wide(&case.q), &wide(&case.k), &wide(&case.v));
                let (out, lse) = run(Isa::detect(), 2, &case);
                assert_close(&out, &want, 2e-6, "out");
                assert_close(&lse, &want_lse, 1e-6, "lse");
                for isa in Isa::available() {
                    assert_eq!(run(isa, 1, &case), (out.clone(), lse.clone()), "{}", isa.name());
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_feel_its_neighbours() {
        for case in cases(70, 16) {
            let (out, lse) = run(Isa::detect(), 2, &case);
            if matches!(case.mask, Mask::Full | Mask::Around(_)) {
                continue;
            }
            // The first 45 rows alone, and row 40 as a continuation of 40 known keys.
            let (qw, kw) = (case.spec.q_width(), case.spec.kv_width());
            let part = |queries: Range<usize>, keys: usize| {
                let positions: Vec<u32> = (0..keys as u32).collect();
                let case = Case {
                    mask: case.mask,
                    positions: Vec::new(),
                    spec: case.spec.clone(),
                    spans: vec![DenseSpan::new(case.mask, 0..queries.len(), 0..keys, 0, &positions)],
                    q: case.q[queries.start * qw..queries.end * qw].to_vec(),
                    k: case.k[..keys * kw].to_vec(),
                    v: case.v[..keys * kw].to_vec(),
                };
                run(Isa::detect(), 2, &case)
            };
            let (head, head_lse) = part(0..45, 45);
            assert_eq!(head[..], out[..45 * qw]);
            assert_eq!(head_lse[..], lse[..45 * 4]);
            let (one, _) = part(40..41, 41);
            assert_eq!(one[..], out[40 * qw..41 * qw]);
        }
    }

    #[test]
    fn a_row_that_sees_nothing_is_zero() {
        let mut case = cases(4, 16).remove(1);
        case.spans = vec![DenseSpan::whole(Mask::Window(0), 0..4)];
        let (out, lse) = run(Isa::detect(), 1, &case);
        assert!(out.iter().all(|&v| v == 0.0));
        assert!(lse[..16].iter().all(|&v| v == f32::NEG_INFINITY));
    }
}
