//! Attention over whole spans held in plain `[tokens, heads * head_dim]` slices: the forward pass of the
//! tape, which keeps the log-sum-exp of each row for the backward ([`super::backward`]).
//!
//! A tile is one head and a block of 32 query rows. Its scores lie transposed, `[keys, 32]`, so that a
//! vector lane is a query: maxima and sums run down the keys in order, lane by lane, and neither K nor V
//! is ever transposed. Memory is one block of scores a thread, linear in the length of the span.

use std::ops::Range;
use std::sync::Arc;

use super::{Mask, RelativeBias};
use crate::disjoint::Disjoint;
use crate::exp::exp;
use crate::gemm::{Strided, multiply_add};
use crate::lanes::by_isa;
use crate::{Isa, Pool};

/// Query rows of a tile.
pub(super) const ROWS: usize = 32;

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

/// One head's block of query rows: what a tile works on.
pub(super) struct Block {
    /// Rows of q.
    pub(super) rows: Range<usize>,
    /// Rows of k and v that at least one of them sees.
    pub(super) keys: Range<usize>,
    /// Columns of the scores: `rows`, filled up to a multiple of 16.
    pub(super) width: usize,
    /// For each column the first and one past the last visible key, and the number of seeded keys, all
    /// counted from `keys.start`.
    first: [u32; ROWS],
    last: [u32; ROWS],
    seeded: usize,
    /// The keys that every column sees.
    common: Range<usize>,
    /// How far the first key lies behind column 0's own entry: their distance, negative if before it.
    distance: isize,
}

impl Block {
    /// Rows `first .. first + 32` (counted within the span) of a span, as far as it reaches.
    pub(super) fn new(span: &DenseSpan, first: usize) -> Block {
        let end = span.queries.len().min(first + ROWS);
        let seen = &span.visible[first..end];
        let start = match span.seeded {
            0 => seen.iter().map(|r| r.start).min().unwrap_or(0),
            _ => 0,
        };
        let stop = seen.iter().map(|r| r.end).max().unwrap_or(0).max(start).max(span.seeded);
        // Columns without a row repeat the last one; nobody reads them.
        let bound = |f: fn(&Range<usize>) -> usize| {
            std::array::from_fn(|i| (seen.get(i).or(seen.last()).map_or(start, f) - start) as u32)
        };
        let (firsts, lasts): ([u32; ROWS], [u32; ROWS]) = (bound(|r| r.start), bound(|r| r.end));
        let common = firsts.into_iter().max().unwrap_or(0) as usize..lasts.into_iter().min().unwrap_or(0) as usize;
        Block {
            rows: span.queries.start + first..span.queries.start + end,
            keys: span.keys.start + start..span.keys.start + stop,
            width: (end - first).next_multiple_of(16),
            first: firsts,
            last: lasts,
            seeded: span.seeded,
            common,
            distance: start as isize - (span.keys.len() as isize - span.queries.len() as isize + first as isize),
        }
    }

    /// Scores `[keys, width]` of one head, not yet scaled: `K Q^T`.
    pub(super) fn scores(&self, isa: Isa, spec: &Dense, head: usize, q: &[f32], k: &[f32], scores: &mut Vec<f32>) {
        self.products(isa, spec, head, q, k, scores);
    }

    /// `A B^T` as `[keys, width]`: A has rows of k's shape, B rows of q's. Also `V dO^T` of the backward.
    pub(super) fn products(&self, isa: Isa, spec: &Dense, head: usize, b: &[f32], a: &[f32], out: &mut Vec<f32>) {
        let (q_width, kv_width, head_dim) = (spec.q_width(), spec.kv_width(), spec.head_dim);
        let mut transposed = vec![0.0; head_dim * self.width];
        for (i, row) in self.rows.clone().enumerate() {
            let at = row * q_width + head * head_dim;
            for (d, &v) in b[at..at + head_dim].iter().enumerate() {
                transposed[d * self.width + i] = v;
            }
        }
        out.clear();
        out.resize(self.keys.len() * self.width, 0.0);
        if self.keys.is_empty() {
            return;
        }
        let a = Strided::rows(&a[self.keys.start * kv_width + head / spec.group() * head_dim..], kv_width);
        multiply_add(isa, self.keys.len(), self.width, head_dim, a, &transposed, self.width, out, self.width);
    }

    /// Adds what a head's bias says of `key` (counted from `keys.start`) to its scores.
    #[inline(always)]
    pub(super) fn add_bias(&self, key: usize, row: &mut [f32], bias: Option<&[f32]>) {
        let Some(bias) = bias else { return };
        let max = (bias.len() / 2) as isize;
        for (column, s) in row.iter_mut().enumerate() {
            let distance = self.distance + key as isize - column as isize;
            *s += bias[(distance.clamp(-max, max) + max) as usize];
        }
    }

    /// Sets the scores of `key` (counted from `keys.start`) that are not seen to `hidden`.
    #[inline(always)]
    pub(super) fn hide(&self, key: usize, row: &mut [f32], hidden: f32) {
        if key < self.seeded || self.common.contains(&key) {
            return;
        }
        let key = key as u32;
        for ((s, &first), &last) in row.iter_mut().zip(&self.first).zip(&self.last) {
            *s = if first <= key && key < last { *s } else { hidden };
        }
    }
}

/// Scaled and capped scores.
#[inline(always)]
pub(super) fn finish_scores(row: &mut [f32], scale: f32, softcap: Option<f32>) {
    match softcap {
        None => row.iter_mut().for_each(|s| *s *= scale),
        // The library's tanh: capped scores are rare, and a product of exponentials loses bits near zero.
        Some(cap) => row.iter_mut().for_each(|s| *s = cap * (*s * scale / cap).tanh()),
    }
}

/// Every (span, head, first row of a block), the unit of work.
pub(super) fn blocks(spec: &Dense, spans: &[DenseSpan]) -> Vec<(usize, usize, usize)> {
    let mut tiles = Vec::new();
    for (s, span) in spans.iter().enumerate() {
        for head in 0..spec.heads {
            tiles.extend((0..span.queries.len()).step_by(ROWS).map(|first| (s, head, first)));
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
    let (q_width, kv_width, head_dim) = (spec.q_width(), spec.kv_width(), spec.head_dim);
    assert!(
        out.len() == q.len() && lse.len() == q.len() / head_dim,
        "attention: out is as large as q, lse [tokens, heads]"
    );
    let tiles = blocks(spec, spans);
    let (out, lse) = (Disjoint::new(out), Disjoint::new(lse));
    pool.run(tiles.len(), &|tile| {
        let (span, head, first) = tiles[tile];
        let block = Block::new(&spans[span], first);
        let mut scores = Vec::new();
        block.scores(isa, spec, head, q, k, &mut scores);
        let (totals, sums) = softmax_columns(isa, &block, spec.scale, spec.softcap, spec.head_bias(head), &mut scores);
        let mut result = vec![0.0; block.rows.len() * head_dim];
        if !block.keys.is_empty() {
            let p = Strided::transposed(&scores, block.width);
            let v = &v[block.keys.start * kv_width + head / spec.group() * head_dim..];
            multiply_add(isa, block.rows.len(), head_dim, block.keys.len(), p, v, kv_width, &mut result, head_dim);
        }
        for (i, row) in block.rows.clone().enumerate() {
            let at = row * q_width + head * head_dim;
            // SAFETY: each tile has its own head of its own rows.
            let (out, lse) = unsafe {
                (out.part(at..at + head_dim), lse.part(row * spec.heads + head..row * spec.heads + head + 1))
            };
            let factor = if sums[i] > 0.0 { 1.0 / sums[i] } else { 0.0 };
            out.iter_mut().zip(&result[i * head_dim..]).for_each(|(o, &r)| *o = r * factor);
            lse[0] = totals[i];
        }
    });
}

by_isa! {
    /// Turns raw scores `[keys, width]` into `e^(score - max)`; gives each column's log-sum-exp and the
    /// sum that its probabilities are still to be divided by.
    fn softmax_columns(
        block: &Block,
        scale: f32,
        softcap: Option<f32>,
        bias: Option<&[f32]>,
        scores: &mut [f32],
    ) -> ([f32; ROWS], [f32; ROWS]) {
        let mut top = [f32::NEG_INFINITY; ROWS];
        for (key, row) in scores.chunks_exact_mut(block.width).enumerate() {
            finish_scores(row, scale, softcap);
            block.add_bias(key, row, bias);
            block.hide(key, row, f32::NEG_INFINITY);
            for (t, &s) in top.iter_mut().zip(row.iter()) {
                *t = if s > *t { s } else { *t };
            }
        }
        // A row that sees nothing: any finite number keeps the differences defined.
        let base = top.map(|t| if t == f32::NEG_INFINITY { 0.0 } else { t });
        let mut sums = [0.0f32; ROWS];
        for row in scores.chunks_exact_mut(block.width) {
            for ((s, &b), sum) in row.iter_mut().zip(&base).zip(&mut sums) {
                *s = exp(*s - b);
                *sum += *s;
            }
        }
        let mut totals = [0.0; ROWS];
        for ((total, &b), &sum) in totals.iter_mut().zip(&base).zip(&sums) {
            *total = (f64::from(b) + f64::from(sum).ln()) as f32;
        }
        (totals, sums)
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
