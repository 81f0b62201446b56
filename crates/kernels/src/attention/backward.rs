//! The backward of [`dense_forward`](super::dense::dense_forward): dq, dk and dv from the log-sum-exp,
//! without a stored matrix of probabilities (FlashAttention, Dao et al. 2022, appendix B.4).
//!
//! With `P = e^(S - lse)` and `D = rowsum(dO * O)`: `dV = P^T dO`, `dS = P * (dO V^T - D)`,
//! `dQ = scale * dS K`, `dK = scale * dS^T Q`; a soft cap multiplies dS by `1 - (S / cap)^2`. A tile walks over
//! blocks of keys and, within one, over the blocks of rows that see any of them: S and dO V^T are computed once for
//! all three gradients. dK and dV of a block of keys are complete when its rows have passed, those of heads that
//! share a key head one after the other. dQ grows in a buffer of the tile's own; a long span is two tiles, cut by
//! its length, whose buffers are added in the end. Buffers are of a few heads at a time.

use std::cell::RefCell;
use std::ops::Range;

use super::dense::{Dense, DenseSpan, ask_ahead, pack_panel, padded};
use super::sight::{SIGHT, Sight};
use super::weigh::{bias_at, exponent};
use crate::disjoint::{Disjoint, for_rows};
use crate::exp::exp2;
use crate::gemm::{COLS, Start, Strided, multiply};
use crate::lanes::{by_isa, dot};
use crate::{Isa, Pool};

/// Rows of a block.
const ROWS: usize = SIGHT;
/// Keys of a block.
const KEYS: usize = 128;
/// Numbers that the buffers of dQ may take together (8 MB), unless the threads need more to be busy.
const BUFFERS: usize = 2 << 20;
/// Pairs of blocks that are worth a second tile.
const PARTED: usize = 16;

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
    let DenseGradients { mut dq, mut dk, mut dv } = gradients;
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
    for d in [&mut dq, &mut dk, &mut dv].into_iter().flatten() {
        d.fill(0.0);
    }
    let mut pulls = vec![0.0; lse.len()];
    for_rows(pool, spec.heads, &mut pulls, |first, rows| {
        for (i, pull) in rows.iter_mut().enumerate() {
            let at = first * spec.q_width() + i * spec.head_dim;
            *pull = row_dot(isa, &dout[at..at + spec.head_dim], &out[at..at + spec.head_dim]);
        }
    });
    let (wide, group) = (padded(spec.head_dim), spec.group());
    let dq = dq.map(Disjoint::new);
    let (dk, dv) = (dk.map(Disjoint::new), dv.map(Disjoint::new));
    let inputs = Inputs { isa, spec, q, k, v, lse, dout, pulls: &pulls };
    // Each unit is a span and a key head, its blocks of keys in one or two parts.
    let units: Vec<(&DenseSpan, usize, Vec<Range<usize>>)> = spans
        .iter()
        .flat_map(|span| {
            let parts = parts(span);
            (0..spec.kv_heads).map(move |head| (span, head, parts.clone()))
        })
        .collect();
    let mut buffers = Vec::new();
    let mut begin = 0;
    while begin < units.len() {
        let (mut end, mut tiles, mut numbers) = (begin, Vec::new(), 0);
        while let Some((span, head, parts)) = units.get(end) {
            let size = if dq.is_some() { span.queries.len() * group * wide } else { 0 };
            if end > begin && tiles.len() >= pool.threads() && numbers + parts.len() * size > BUFFERS {
                break;
            }
            for part in parts {
                tiles.push((*span, *head, part.clone(), numbers..numbers + size));
                numbers += size;
            }
            end += 1;
        }
        buffers.clear();
        buffers.resize(numbers, 0.0);
        {
            let buffers = Disjoint::new(&mut buffers);
            pool.run(tiles.len(), &|tile| {
                let (span, head, blocks, buffer) = tiles[tile].clone();
                // SAFETY: each tile has a buffer of its own.
                let dq = dq.is_some().then(|| unsafe { buffers.part(buffer) });
                inputs.run(span, head, blocks, dq, dk.as_ref(), dv.as_ref());
            });
        }
        if let Some(dq) = &dq {
            let mut first = 0;
            for (span, head, parts) in &units[begin..end] {
                let size = span.queries.len() * wide;
                pool.run(group, &|g| {
                    for (i, row) in span.queries.clone().enumerate() {
                        let at = row * spec.q_width() + (head * group + g) * spec.head_dim;
                        // SAFETY: each tile has its own head.
                        let out = unsafe { dq.part(at..at + spec.head_dim) };
                        for part in 0..parts.len() {
                            let from = first + (part * group + g) * size + i * wide;
                            out.iter_mut().zip(&buffers[from..]).for_each(|(o, &b)| *o += b);
                        }
                    }
                });
                first += parts.len() * group * size;
            }
        }
        begin = end;
    }
}

/// The blocks of a span's keys, in two parts of about the same work if there is enough of it.
fn parts(span: &DenseSpan) -> Vec<Range<usize>> {
    let blocks = span.keys.len().div_ceil(KEYS);
    let sights: Vec<Sight> = sights(span);
    let work = |block: usize| {
        let keys = block * KEYS..span.keys.len().min((block + 1) * KEYS);
        sights.iter().filter(|s| !s.part(&keys).is_empty()).count()
    };
    let total: usize = (0..blocks).map(work).sum();
    let (mut cut, mut before) = (0, 0);
    while cut < blocks && (total < PARTED || 2 * before < total) {
        before += work(cut);
        cut += 1;
    }
    let mut parts = vec![0..cut, cut..blocks];
    parts.retain(|part| !part.is_empty());
    parts
}

/// What each block of rows sees.
fn sights(span: &DenseSpan) -> Vec<Sight> {
    let rows = span.queries.len();
    (0..rows).step_by(ROWS).map(|r| Sight::new(span, r..rows.min(r + ROWS))).collect()
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What a thread works in: a block of keys and a block of rows, all features filled up with zeros.
#[derive(Default)]
struct Scratch {
    /// Keys and values as panels `[head_dim, 16]`.
    k_panels: Vec<f32>,
    v_panels: Vec<f32>,
    /// Keys `[128, features]`.
    k: Vec<f32>,
    /// Queries and the gradient of the output, `[64, features]`.
    q: Vec<f32>,
    dout: Vec<f32>,
    /// Probabilities and the gradient of the scores, `[64, 128]`.
    p: Vec<f32>,
    ds: Vec<f32>,
    /// Gradients of the keys and values, `[128, features]`.
    dk: Vec<f32>,
    dv: Vec<f32>,
}

struct Inputs<'a> {
    isa: Isa,
    spec: &'a Dense,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    lse: &'a [f32],
    dout: &'a [f32],
    pulls: &'a [f32],
}

impl Inputs<'_> {
    /// Some blocks of a span's keys of one key head; `dq` is `[heads of the group, queries, features]`.
    fn run(
        &self,
        span: &DenseSpan,
        head: usize,
        blocks: Range<usize>,
        mut dq: Option<&mut [f32]>,
        dk_out: Option<&Disjoint<'_, f32>>,
        dv_out: Option<&Disjoint<'_, f32>>,
    ) {
        let &Inputs { isa, spec, q, k, v, dout, .. } = self;
        let (head_dim, wide, kv_width) = (spec.head_dim, padded(spec.head_dim), spec.kv_width());
        let sights = sights(span);
        let mut scratch = SCRATCH.take();
        scratch.reset(head_dim);
        for block in blocks {
            let keys = block * KEYS..span.keys.len().min((block + 1) * KEYS);
            let count = keys.len();
            let at = (span.keys.start + keys.start) * kv_width + head * head_dim;
            scratch.set_keys(head_dim, count, &k[at..], &v[at..], kv_width);
            for member in 0..spec.group() {
                let head = head * spec.group() + member;
                for (r, sight) in sights.iter().enumerate() {
                    if sight.part(&keys).is_empty() {
                        continue;
                    }
                    let first = r * ROWS;
                    let rows = ROWS.min(span.queries.len() - first);
                    let at = (span.queries.start + first) * spec.q_width() + head * head_dim;
                    copy_rows(&q[at..], spec.q_width(), rows, head_dim, &mut scratch.q);
                    copy_rows(&dout[at..], spec.q_width(), rows, head_dim, &mut scratch.dout);
                    let full = sight.is_full(&keys);
                    let step = Step { inputs: self, span, head, first, rows, keys: keys.clone(), sight, full };
                    let slopes = dq.is_some() || dk_out.is_some();
                    step.slopes(&mut scratch, slopes);
                    let Scratch { q, dout, k, p, ds, dk, dv, .. } = &mut scratch;
                    for panel in step.panels() {
                        // Of the panel's keys all, of the rows those that see any.
                        let seen = step.rows_of(&panel);
                        if seen.is_empty() {
                            continue;
                        }
                        let (from, size) = (panel.start, (panel.len(), wide, seen.len()));
                        let corner = seen.start * KEYS + from;
                        let to = from * wide;
                        if dv_out.is_some() {
                            let dout = (&dout[seen.start * wide..], wide);
                            let p = Strided::transposed(&p[corner..], KEYS);
                            multiply(isa, Start::Add, size, p, dout, (&mut dv[to..], wide));
                        }
                        if dk_out.is_some() {
                            let q = (&q[seen.start * wide..], wide);
                            let ds = Strided::transposed(&ds[corner..], KEYS);
                            multiply(isa, Start::Add, size, ds, q, (&mut dk[to..], wide));
                        }
                    }
                    if let Some(dq) = dq.as_deref_mut() {
                        let at = (member * span.queries.len() + first) * wide;
                        let size = (rows, wide, count);
                        let ds = Strided::rows(ds, KEYS);
                        multiply(isa, Start::Add, size, ds, (k, wide), (&mut dq[at..], wide));
                    }
                }
            }
            for (out, sums) in [(dk_out, &mut scratch.dk), (dv_out, &mut scratch.dv)] {
                let Some(out) = out else { continue };
                for (key, sums) in keys.clone().zip(sums.chunks_exact(wide)) {
                    let at = (span.keys.start + key) * kv_width + head * head_dim;
                    // SAFETY: each tile has its own head of its own keys.
                    unsafe { out.part(at..at + head_dim) }.copy_from_slice(&sums[..head_dim]);
                }
                sums.fill(0.0);
            }
        }
        SCRATCH.set(scratch);
    }
}

impl Scratch {
    fn reset(&mut self, head_dim: usize) {
        let wide = padded(head_dim);
        for (part, size) in [
            (&mut self.k_panels, KEYS * head_dim),
            (&mut self.v_panels, KEYS * head_dim),
            (&mut self.k, KEYS * wide),
            (&mut self.q, ROWS * wide),
            (&mut self.dout, ROWS * wide),
            (&mut self.p, ROWS * KEYS),
            (&mut self.ds, ROWS * KEYS),
            (&mut self.dk, KEYS * wide),
            (&mut self.dv, KEYS * wide),
        ] {
            part.clear();
            part.resize(size, 0.0);
        }
    }

    /// `count` keys and values, the rows of `k` and `v`.
    fn set_keys(&mut self, head_dim: usize, count: usize, k: &[f32], v: &[f32], stride: usize) {
        copy_rows(k, stride, count, head_dim, &mut self.k);
        for (panels, from) in [(&mut self.k_panels, k), (&mut self.v_panels, v)] {
            for (panel, key) in panels.chunks_exact_mut(head_dim * COLS).zip((0..count).step_by(COLS)) {
                pack_panel(&from[key * stride..], stride, COLS.min(count - key), panel);
            }
        }
    }
}

/// Rows of `head_dim` numbers, `stride` apart, to rows of [`padded`] numbers.
fn copy_rows(from: &[f32], stride: usize, rows: usize, head_dim: usize, to: &mut [f32]) {
    for (row, to) in to.chunks_exact_mut(padded(head_dim)).enumerate().take(rows) {
        to[..head_dim].copy_from_slice(&from[row * stride..row * stride + head_dim]);
        ask_ahead(from, (row + rows) * stride, head_dim);
    }
}

/// A block of rows against a block of keys.
struct Step<'a> {
    inputs: &'a Inputs<'a>,
    span: &'a DenseSpan,
    head: usize,
    /// The first row, counted within the span, and how many there are.
    first: usize,
    rows: usize,
    /// Counted within the span.
    keys: Range<usize>,
    sight: &'a Sight,
    /// Whether all rows see all keys.
    full: bool,
}

impl Step<'_> {
    /// The keys in pieces that have the same rows, counted within the block.
    fn panels(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (count, step) = (self.keys.len(), if self.full { KEYS } else { COLS });
        (0..count).step_by(step).map(move |k| k..count.min(k + step))
    }

    /// The rows between which all lie that see any key of a panel.
    fn rows_of(&self, panel: &Range<usize>) -> Range<usize> {
        if self.full {
            return 0..self.rows;
        }
        let (from, to) = ((self.keys.start + panel.start) as u32, (self.keys.start + panel.end) as u32);
        let Sight { first, last, seeded, .. } = self.sight;
        let sees = |&row: &usize| (from as usize) < *seeded || (first[row].max(from) < last[row].min(to));
        let start = (0..self.rows).find(sees).unwrap_or(0);
        start..(0..self.rows).rfind(sees).map_or(start, |row| row + 1)
    }

    /// Probabilities and, if wanted, the gradient of the raw scores; zero where nothing is seen.
    fn slopes(&self, scratch: &mut Scratch, wanted: bool) {
        let &Step { inputs, span, head, first, rows, ref keys, sight, full } = self;
        let &Inputs { isa, spec, lse, pulls, .. } = inputs;
        let Scratch { k_panels, v_panels, q, dout, p, ds, .. } = scratch;
        let (head_dim, wide) = (spec.head_dim, padded(spec.head_dim));
        for panel in (0..keys.len()).step_by(COLS) {
            let seen = self.rows_of(&(panel..keys.len().min(panel + COLS)));
            let (size, corner) = ((seen.len(), COLS, head_dim), seen.start * KEYS + panel);
            for (rows, panels, to) in [(&*q, &*k_panels, &mut *p), (&*dout, &*v_panels, &mut *ds)] {
                let rows = Strided::rows(&rows[seen.start * wide..], wide);
                multiply(isa, Start::Zero, size, rows, (&panels[panel * head_dim..], COLS), (&mut to[corner..], KEYS));
                if !wanted {
                    break;
                }
            }
        }
        for row in 0..rows {
            let at = (span.queries.start + first + row) * spec.heads + head;
            // A row that sees nothing has no sum; whatever it is, its weights are hidden.
            let total = if lse[at] == f32::NEG_INFINITY { 0.0 } else { lse[at] * std::f32::consts::LOG2_E };
            let (Some(p), Some(ds)) = (p[row * KEYS..].first_chunk_mut(), ds[row * KEYS..].first_chunk_mut()) else {
                continue;
            };
            if spec.is_shaped() {
                let distance = keys.start as isize - span.own(first + row);
                shaped(isa, spec.scale, spec.softcap, spec.head_bias(head), distance, total, pulls[at], p, ds);
            } else {
                plain(isa, spec.factor(), spec.scale, total, pulls[at], p, ds);
            }
            if !full {
                hide(isa, sight, row, keys.start as u32, p, ds);
            }
        }
    }
}

by_isa! {
    fn row_dot(a: &[f32], b: &[f32]) -> f32 {
        dot(a, b)
    }
}

by_isa! {
    /// Raw scores of a row to probabilities, and `dO V^T` to the raw scores' gradient.
    fn plain(factor: f32, scale: f32, total: f32, pull: f32, p: &mut [f32; KEYS], ds: &mut [f32; KEYS]) {
        for (p, d) in p.iter_mut().zip(ds) {
            *p = exp2(p.mul_add(factor, -total));
            *d = (*d - pull) * scale * *p;
        }
    }
}

by_isa! {
    /// As [`plain`] for scores that are capped or biased; the first key lies `distance` behind the row's own.
    fn shaped(
        scale: f32,
        softcap: Option<f32>,
        bias: Option<&[f32]>,
        distance: isize,
        total: f32,
        pull: f32,
        p: &mut [f32; KEYS],
        ds: &mut [f32; KEYS],
    ) {
        for (key, (p, d)) in p.iter_mut().zip(ds).enumerate() {
            let slope = match softcap {
                None => scale,
                Some(cap) => {
                    let t = (*p * scale / cap).tanh();
                    scale * (1.0 - t * t)
                }
            };
            *p = exp2(exponent(*p, scale, softcap, bias_at(bias, distance + key as isize)) - total);
            *d = (*d - pull) * slope * *p;
        }
    }
}

by_isa! {
    /// Sets to zero what a row does not see; `start` is the first key.
    fn hide(sight: &Sight, row: usize, start: u32, p: &mut [f32; KEYS], ds: &mut [f32; KEYS]) {
        for (key, (p, d)) in p.iter_mut().zip(ds).enumerate() {
            let seen = sight.sees(row, start + key as u32);
            *p = if seen { *p } else { 0.0 };
            *d = if seen { *d } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dense::dense_forward;
    use super::super::dense::tests::{Case, cases, random_cases};
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
        for case in cases(100, 16).into_iter().chain(random_cases(16)) {
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
