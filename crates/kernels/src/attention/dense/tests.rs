//! Attention and its backward's cases against the definition in f64.

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
            Mask::Window(w) => j <= own && ((positions[own - span.seeded] - positions[j - span.seeded]) as usize) < w,
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
    let masks = [Mask::Causal, Mask::Window(5), Mask::Full, Mask::Causal, Mask::Around(3), Mask::Full, Mask::Causal];
    for (i, mask) in masks.into_iter().enumerate() {
        // Distances within a bias and beyond it.
        let bias = (i >= 5)
            .then(|| Arc::new(RelativeBias { heads: 4, max: 6, table: Numbers::new(50 + i as u64).normal(4 * 13) }));
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

/// Shapes at random: heads of 32 to 256, groups, windows shorter and longer than the sequence, lengths about the tiles'.
pub(crate) fn random_cases(count: usize) -> impl Iterator<Item = Case> {
    let mut numbers = Numbers::new(2026);
    (0..count).map(move |_| {
        let head_dim = [32, 40, 64, 80, 96, 128, 160, 256][numbers.below(8)];
        let (kv_heads, group) = (1 + numbers.below(3), 1 + numbers.below(4));
        let (before, rows) = ([0, 3, 70][numbers.below(3)], 1 + numbers.below(100));
        let mask = match numbers.below(5) {
            0 => Mask::Full,
            1 => Mask::Window(1 + numbers.below(20)),
            2 => Mask::Window(rows + before + 1 + numbers.below(200)),
            3 => Mask::Around(1 + numbers.below(150)),
            _ => Mask::Causal,
        };
        let positions: Vec<u32> = (0..(before + rows) as u32).collect();
        let (scale, softcap) = (1.0 / (head_dim as f32).sqrt(), (numbers.below(3) == 0).then_some(3.0));
        let spec = Dense { heads: kv_heads * group, kv_heads, head_dim, scale, softcap, bias: None };
        let spans = vec![DenseSpan::new(mask, 0..rows, 0..before + rows, 0, &positions)];
        let (q, k) = (numbers.normal(rows * spec.q_width()), numbers.normal((before + rows) * spec.kv_width()));
        let v = numbers.normal(k.len());
        Case { mask, positions: vec![positions], spec, spans, q, k, v }
    })
}

#[test]
fn random_shapes_agree_with_the_definition() {
    for case in random_cases(40) {
        let (want, want_lse) = case.twin(&wide(&case.q), &wide(&case.k), &wide(&case.v));
        let (out, lse) = run(Isa::detect(), 2, &case);
        assert_close(&out, &want, 3e-6, "out");
        assert_close(&lse, &want_lse, 1e-6, "lse");
        assert!(run(Isa::Scalar, 1, &case) == (out, lse), "{:?} {:?}", case.spec, case.mask);
    }
}
