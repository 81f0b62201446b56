//! The backward of [`dense_forward`](super::dense::dense_forward): dq, dk and dv from the log-sum-exp,
//! without a stored matrix of probabilities (FlashAttention, Dao et al. 2022, appendix B.4).
//!
//! With `P = e^(S - lse)` and `D = rowsum(dO * O)`: `dV = P^T dO`, `dS = P * (dO V^T - D)`,
//! `dQ = scale * dS K`, `dK = scale * dS^T Q`; a soft cap multiplies dS by `1 - (S / cap)^2`. A tile is
//! a span and a query head; it walks over blocks of rows and adds up dK and dV of its head. Heads that
//! share a key head are summed afterwards, in their order.

use super::dense::{Block, Dense, DenseSpan, ROWS, finish_scores};
use crate::disjoint::{Disjoint, for_rows};
use crate::exp::exp;
use crate::gemm::{Strided, multiply_add};
use crate::lanes::{by_isa, dot};
use crate::{Isa, Pool};

/// Where the gradients go, each overwritten: dq in q's shape, dk and dv in k's. What is not wanted is
/// not computed.
#[derive(Debug, Default)]
pub struct DenseGradients<'a> {
    /// `[tokens, heads * head_dim]`.
    pub dq: Option<&'a mut [f32]>,
    /// `[entries, kv_heads * head_dim]`.
    pub dk: Option<&'a mut [f32]>,
    /// `[entries, kv_heads * head_dim]`.
    pub dv: Option<&'a mut [f32]>,
}

/// Gradients of attention. `out` and `lse` are the forward's results, `dout` has out's shape. Rows outside
/// the spans get zeros.
///
/// # Panics
/// If the lengths do not fit or the spans are not ascending and apart.
pub fn dense_backward(
    pool: &Pool,
    isa: Isa,
    spec: &Dense,
    spans: &[DenseSpan],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    gradients: DenseGradients<'_>,
) {
    spec.check(spans, q, k, v);
    let DenseGradients { dq, dk, dv } = gradients;
    let fits = |d: &Option<&mut [f32]>, n: usize| d.as_ref().is_none_or(|d| d.len() == n);
    assert!(
        out.len() == q.len()
            && dout.len() == q.len()
            && lse.len() == q.len() / spec.head_dim
            && fits(&dq, q.len())
            && fits(&dk, k.len())
            && fits(&dv, v.len()),
        "attention: lengths do not fit"
    );
    // dk and dv of each query head, laid out like q.
    let entries = k.len() / spec.kv_width();
    let mut dk_heads = vec![0.0; if dk.is_some() { entries * spec.q_width() } else { 0 }];
    let mut dv_heads = vec![0.0; if dv.is_some() { entries * spec.q_width() } else { 0 }];
    let mut dq = dq;
    if let Some(dq) = dq.as_deref_mut() {
        dq.fill(0.0);
    }
    {
        let dq = dq.map(Disjoint::new);
        let dk_heads = dk.is_some().then(|| Disjoint::new(&mut dk_heads));
        let dv_heads = dv.is_some().then(|| Disjoint::new(&mut dv_heads));
        pool.run(spans.len() * spec.heads, &|tile| {
            let (span, head) = (&spans[tile / spec.heads], tile % spec.heads);
            let work = Tile { isa, spec, span, head, q, k, v, out, lse, dout };
            work.run(dq.as_ref(), dk_heads.as_ref(), dv_heads.as_ref());
        });
    }
    for (sum, heads) in [(dk, &dk_heads), (dv, &dv_heads)] {
        if let Some(sum) = sum {
            add_groups(pool, spec, heads, sum);
        }
    }
}

struct Tile<'a> {
    isa: Isa,
    spec: &'a Dense,
    span: &'a DenseSpan,
    head: usize,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    dout: &'a [f32],
}

impl Tile<'_> {
    fn run(
        &self,
        dq: Option<&Disjoint<'_, f32>>,
        dk_heads: Option<&Disjoint<'_, f32>>,
        dv_heads: Option<&Disjoint<'_, f32>>,
    ) {
        let &Tile { isa, spec, span, head, q, k, v, out, lse, dout } = self;
        let (q_width, kv_width, head_dim) = (spec.q_width(), spec.kv_width(), spec.head_dim);
        let (q_at, kv_at) = (head * head_dim, head / spec.group() * head_dim);
        let sums = |wanted: bool| vec![0.0; if wanted { span.keys.len() * head_dim } else { 0 }];
        let (mut dk, mut dv) = (sums(dk_heads.is_some()), sums(dv_heads.is_some()));
        let (mut p, mut ds) = (Vec::new(), Vec::new());
        for first in (0..span.queries.len()).step_by(ROWS) {
            let block = Block::new(span, first);
            let (rows, keys, width) = (block.rows.clone(), block.keys.clone(), block.width);
            if keys.is_empty() {
                continue;
            }
            let (mut totals, mut pulls) = ([0.0; ROWS], [0.0; ROWS]);
            for (i, row) in rows.clone().enumerate() {
                let at = row * q_width + q_at..row * q_width + q_at + head_dim;
                totals[i] = lse[row * spec.heads + head];
                pulls[i] = row_dot(isa, &dout[at.clone()], &out[at]);
            }
            block.scores(isa, spec, head, q, k, &mut p);
            if dq.is_some() || dk_heads.is_some() {
                block.products(isa, spec, head, dout, v, &mut ds);
                slopes(isa, &block, spec.scale, spec.softcap, spec.head_bias(head), &totals, &pulls, &mut p, &mut ds);
            } else {
                probabilities(isa, &block, spec.scale, spec.softcap, spec.head_bias(head), &totals, &mut p);
            }
            // Where the block's keys begin in the tile's sums.
            let skip = (keys.start - span.keys.start) * head_dim;
            let q_rows = rows.start * q_width + q_at;
            if let Some(dq) = dq {
                let mut sum = vec![0.0; rows.len() * head_dim];
                let (a, b) = (Strided::transposed(&ds, width), &k[keys.start * kv_width + kv_at..]);
                multiply_add(isa, rows.len(), head_dim, keys.len(), a, b, kv_width, &mut sum, head_dim);
                for (row, sum) in rows.clone().zip(sum.chunks_exact(head_dim)) {
                    let at = row * q_width + q_at;
                    // SAFETY: each tile has its own head of its own rows.
                    unsafe { dq.part(at..at + head_dim) }.copy_from_slice(sum);
                }
            }
            if dk_heads.is_some() {
                let (a, b) = (Strided::rows(&ds, width), &q[q_rows..]);
                multiply_add(isa, keys.len(), head_dim, rows.len(), a, b, q_width, &mut dk[skip..], head_dim);
            }
            if dv_heads.is_some() {
                let (a, b) = (Strided::rows(&p, width), &dout[q_rows..]);
                multiply_add(isa, keys.len(), head_dim, rows.len(), a, b, q_width, &mut dv[skip..], head_dim);
            }
        }
        for (heads, sums) in [(dk_heads, &dk), (dv_heads, &dv)] {
            let Some(heads) = heads else { continue };
            for (key, sum) in span.keys.clone().zip(sums.chunks_exact(head_dim)) {
                let at = key * q_width + q_at;
                // SAFETY: each tile has its own head of its own span's keys.
                unsafe { heads.part(at..at + head_dim) }.copy_from_slice(sum);
            }
        }
    }
}

/// Sums the query heads that share a key head.
fn add_groups(pool: &Pool, spec: &Dense, heads: &[f32], sum: &mut [f32]) {
    let (q_width, kv_width, head_dim, group) = (spec.q_width(), spec.kv_width(), spec.head_dim, spec.group());
    for_rows(pool, kv_width, sum, |first, rows| {
        for (i, row) in rows.chunks_exact_mut(kv_width).enumerate() {
            let heads = &heads[(first + i) * q_width..(first + i + 1) * q_width];
            for (out, group) in row.chunks_exact_mut(head_dim).zip(heads.chunks_exact(group * head_dim)) {
                out.fill(0.0);
                for head in group.chunks_exact(head_dim) {
                    out.iter_mut().zip(head).for_each(|(o, &h)| *o += h);
                }
            }
        }
    });
}

by_isa! {
    fn row_dot(a: &[f32], b: &[f32]) -> f32 {
        dot(a, b)
    }
}

by_isa! {
    /// Raw scores `[keys, width]` to probabilities, in place.
    fn probabilities(
        block: &Block,
        scale: f32,
        softcap: Option<f32>,
        bias: Option<&[f32]>,
        totals: &[f32; ROWS],
        p: &mut [f32],
    ) {
        for (key, row) in p.chunks_exact_mut(block.width).enumerate() {
            finish_scores(row, scale, softcap);
            block.add_bias(key, row, bias);
            for (s, &total) in row.iter_mut().zip(totals) {
                *s = exp(*s - total);
            }
            block.hide(key, row, 0.0);
        }
    }
}

by_isa! {
    /// Raw scores to probabilities, and `dO V^T` to the raw scores' gradient, in place.
    fn slopes(
        block: &Block,
        scale: f32,
        softcap: Option<f32>,
        bias: Option<&[f32]>,
        totals: &[f32; ROWS],
        pulls: &[f32; ROWS],
        p: &mut [f32],
        ds: &mut [f32],
    ) {
        let rows = p.chunks_exact_mut(block.width).zip(ds.chunks_exact_mut(block.width));
        for (key, (p, ds)) in rows.enumerate() {
            finish_scores(p, scale, softcap);
            if let Some(cap) = softcap {
                for (d, (&s, &pull)) in ds.iter_mut().zip(p.iter().zip(pulls)) {
                    *d = (*d - pull) * (scale * (1.0 - (s / cap) * (s / cap)));
                }
            } else {
                for (d, &pull) in ds.iter_mut().zip(pulls) {
                    *d = (*d - pull) * scale;
                }
            }
            block.add_bias(key, p, bias);
            for (s, &total) in p.iter_mut().zip(totals) {
                *s = exp(*s - total);
            }
            block.hide(key, p, 0.0);
            for (d, &p) in ds.iter_mut().zip(p.iter()) {
                *d *= p;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dense::dense_forward;
    use super::super::dense::tests::{Case, cases};
    use super::*;
    use crate::testing::{Numbers, assert_close, finite_differences, wide};

    fn gradients(isa: Isa, threads: usize, case: &Case, dout: &[f32]) -> [Vec<f32>; 3] {
        let Case { spec, spans, q, k, v, .. } = case;
        let pool = Pool::new(threads);
        let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; q.len() / spec.head_dim]);
        dense_forward(&pool, isa, spec, spans, q, k, v, &mut out, &mut lse);
        let mut got = [vec![1.0; q.len()], vec![1.0; k.len()], vec![1.0; v.len()]];
        let [dq, dk, dv] = &mut got;
        let wanted = DenseGradients { dq: Some(dq), dk: Some(dk), dv: Some(dv) };
        dense_backward(&pool, isa, spec, spans, q, k, v, &out, &lse, dout, wanted);
        got
    }

    #[test]
    fn backward_is_the_finite_difference_under_every_mask() {
        for case in cases(9, 4) {
            let dout = Numbers::new(77).normal(case.q.len());
            let got = gradients(Isa::detect(), 2, &case, &dout);
            let (q, k, v) = (wide(&case.q), wide(&case.k), wide(&case.v));
            let loss = |q: &[f64], k: &[f64], v: &[f64]| {
                let (out, _) = case.twin(q, k, v);
                out.iter().zip(wide(&dout)).map(|(o, d)| o * d).sum::<f64>()
            };
            assert_close(&got[0], &finite_differences(&case.q, |q| loss(q, &k, &v)), 5e-6, "dq");
            assert_close(&got[1], &finite_differences(&case.k, |k| loss(&q, k, &v)), 5e-6, "dk");
            assert_close(&got[2], &finite_differences(&case.v, |v| loss(&q, &k, v)), 5e-6, "dv");
        }
    }

    #[test]
    fn long_spans_agree_along_a_direction() {
        // Several blocks of rows: the derivative along one random direction, in f64.
        for case in cases(100, 16) {
            let mut numbers = Numbers::new(78);
            let dout = numbers.normal(case.q.len());
            let got = gradients(Isa::detect(), 2, &case, &dout);
            let along = [numbers.normal(case.q.len()), numbers.normal(case.k.len()), numbers.normal(case.v.len())];
            let at = |t: f64| {
                let moved = |x: &[f32], d: &[f32]| -> Vec<f64> {
                    x.iter().zip(d).map(|(&x, &d)| f64::from(x) + t * f64::from(d)).collect()
                };
                let (q, k, v) = (moved(&case.q, &along[0]), moved(&case.k, &along[1]), moved(&case.v, &along[2]));
                let (out, _) = case.twin(&q, &k, &v);
                out.iter().zip(wide(&dout)).map(|(o, d)| o * d).sum::<f64>()
            };
            let want = (at(1e-5) - at(-1e-5)) / 2e-5;
            let got: f64 =
                got.iter().zip(&along).flat_map(|(g, d)| wide(g).into_iter().zip(wide(d))).map(|(g, d)| g * d).sum();
            assert!((got - want).abs() < 1e-5 * want.abs().max(100.0), "{got} where {want} was expected");
        }
    }

    #[test]
    fn wanting_less_changes_nothing_and_levels_agree() {
        for case in cases(40, 16) {
            let Case { spec, spans, q, k, v, .. } = &case;
            let dout = Numbers::new(79).normal(q.len());
            let want = gradients(Isa::Scalar, 1, &case, &dout);
            for isa in Isa::available() {
                assert!(gradients(isa, 2, &case, &dout) == want, "{}", isa.name());
            }
            let pool = Pool::new(2);
            let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; q.len() / spec.head_dim]);
            dense_forward(&pool, Isa::detect(), spec, spans, q, k, v, &mut out, &mut lse);
            for only in 0..3 {
                let mut got = vec![0.0; want[only].len()];
                let mut wanted = DenseGradients::default();
                *[&mut wanted.dq, &mut wanted.dk, &mut wanted.dv][only] = Some(&mut got);
                dense_backward(&pool, Isa::detect(), spec, spans, q, k, v, &out, &lse, &dout, wanted);
                assert!(got == want[only], "gradient {only} alone");
            }
        }
    }
}
