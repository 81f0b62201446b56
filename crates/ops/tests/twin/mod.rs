//! The operations by their definitions, in f64 and with plain loops: what the gradients are measured against.
#![allow(dead_code)] // Each test file uses its part.

use candle_core::{Device, Tensor, Var};
use porism_kernels::attention::Mask;
use porism_kernels::attention::dense::{Dense, DenseSpan};
use porism_kernels::rope::RopeLayout;
use porism_ops::GradientSum;

/// A row-major matrix of f64.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) v: Vec<f64>,
}

impl Matrix {
    pub(crate) fn new(rows: usize, cols: usize, v: Vec<f64>) -> Matrix {
        assert_eq!(rows * cols, v.len());
        Matrix { rows, cols, v }
    }

    pub(crate) fn row(&self, i: usize) -> &[f64] {
        &self.v[i * self.cols..(i + 1) * self.cols]
    }

    fn by_row(&self, f: impl Fn(&[f64]) -> Vec<f64>) -> Matrix {
        let v: Vec<f64> = (0..self.rows).flat_map(|i| f(self.row(i))).collect();
        Matrix::new(self.rows, v.len() / self.rows, v)
    }

    pub(crate) fn add(&self, other: &Matrix) -> Matrix {
        Matrix::new(self.rows, self.cols, self.v.iter().zip(&other.v).map(|(a, b)| a + b).collect())
    }

    pub(crate) fn scaled(&self, s: f64) -> Matrix {
        Matrix::new(self.rows, self.cols, self.v.iter().map(|v| v * s).collect())
    }

    /// `self w^T`.
    pub(crate) fn linear(&self, w: &Matrix) -> Matrix {
        self.by_row(|x| (0..w.rows).map(|o| x.iter().zip(w.row(o)).map(|(a, b)| a * b).sum()).collect())
    }

    pub(crate) fn rms_norm(&self, w: &Matrix, eps: f64) -> Matrix {
        self.by_row(|x| {
            let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
            x.iter().zip(&w.v).map(|(v, w)| v * w / (mean + eps).sqrt()).collect()
        })
    }

    pub(crate) fn silu_mul(&self, up: &Matrix) -> Matrix {
        let v = self.v.iter().zip(&up.v).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
        Matrix::new(self.rows, self.cols, v)
    }

    pub(crate) fn select(&self, ids: &[u32]) -> Matrix {
        Matrix::new(ids.len(), self.cols, ids.iter().flat_map(|&id| self.row(id as usize).to_vec()).collect())
    }

    pub(crate) fn replace(&self, part: &Matrix, ids: &[u32]) -> Matrix {
        let mut out = self.clone();
        for (i, &id) in ids.iter().enumerate() {
            out.v[id as usize * self.cols..(id as usize + 1) * self.cols].copy_from_slice(part.row(i));
        }
        out
    }

    pub(crate) fn log_softmax(&self) -> Matrix {
        self.by_row(|x| {
            let total = x.iter().map(|v| v.exp()).sum::<f64>().ln();
            x.iter().map(|v| v - total).collect()
        })
    }

    pub(crate) fn gather(&self, columns: &[u32]) -> Matrix {
        Matrix::new(self.rows, 1, columns.iter().enumerate().map(|(i, &c)| self.row(i)[c as usize]).collect())
    }

    pub(crate) fn cross_entropy(&self, targets: &[u32], weights: &[f32]) -> f64 {
        let picked = self.log_softmax().gather(targets).v;
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        picked.iter().zip(weights).map(|(l, &w)| -l * f64::from(w)).sum::<f64>() / total
    }

    pub(crate) fn kl(&self, teacher: &[f32]) -> f64 {
        let student = self.log_softmax().v;
        let terms = teacher.iter().map(|&t| f64::from(t)).zip(&student);
        let terms = terms.map(|(t, s)| if t == f64::NEG_INFINITY { 0.0 } else { t.exp() * (t - s) });
        terms.sum::<f64>() / self.rows as f64
    }

    pub(crate) fn rope(&self, layout: RopeLayout, positions: &[u32], frequencies: &[f32], head_dim: usize) -> Matrix {
        let mut out = self.clone();
        for (row, &position) in positions.iter().enumerate() {
            for head in 0..self.cols / head_dim {
                for (i, &frequency) in frequencies.iter().enumerate() {
                    let at = row * self.cols + head * head_dim;
                    let (a, b) = match layout {
                        RopeLayout::Adjacent => (at + 2 * i, at + 2 * i + 1),
                        RopeLayout::Halves => (at + i, at + i + frequencies.len()),
                        other => panic!("{other:?} has no twin"),
                    };
                    let angle = f64::from(position as f32 * frequency);
                    out.v[a] = self.v[a] * angle.cos() - self.v[b] * angle.sin();
                    out.v[b] = self.v[a] * angle.sin() + self.v[b] * angle.cos();
                }
            }
        }
        out
    }
}

/// Attention by its definition.
pub(crate) fn attention(mask: Mask, spec: &Dense, spans: &[DenseSpan], q: &Matrix, k: &Matrix, v: &Matrix) -> Matrix {
    let mut out = Matrix::new(q.rows, q.cols, vec![0.0; q.v.len()]);
    let hd = spec.head_dim;
    for span in spans {
        for (i, row) in span.queries.clone().enumerate() {
            let own = span.keys.len() - span.queries.len() + i;
            // Positions count without gaps here.
            let sees = |j: usize| match mask {
                Mask::Causal => j <= own,
                Mask::Window(w) => j < span.seeded || (j <= own && own - j < w),
                Mask::Full => true,
                other => panic!("{other:?} has no twin"),
            };
            for head in 0..spec.heads {
                let kv = head / (spec.heads / spec.kv_heads) * hd;
                let seen: Vec<usize> = (0..span.keys.len()).filter(|&j| sees(j)).map(|j| span.keys.start + j).collect();
                let query = &q.row(row)[head * hd..(head + 1) * hd];
                let weight = |j: &usize| {
                    let dot: f64 = query.iter().zip(&k.row(*j)[kv..]).map(|(a, b)| a * b).sum();
                    let score = dot * f64::from(spec.scale);
                    assert!(spec.bias.is_none(), "a bias has no twin");
                    spec.softcap.map_or(score, |c| f64::from(c) * (score / f64::from(c)).tanh()).exp()
                };
                let weights: Vec<f64> = seen.iter().map(weight).collect();
                let total: f64 = weights.iter().sum();
                for (&j, w) in seen.iter().zip(&weights) {
                    for d in 0..hd {
                        out.v[row * q.cols + head * hd + d] += w / total * v.row(j)[kv + d];
                    }
                }
            }
        }
    }
    out
}

/// Reproducible numbers (splitmix64), nearly normal.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn numbers(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| ((0..12).map(|_| self.uniform()).sum::<f64>() - 6.0) as f32).collect()
    }

    /// A trainable tensor.
    pub(crate) fn var(&mut self, rows: usize, cols: usize) -> Var {
        Var::from_vec(self.numbers(rows * cols), (rows, cols), &Device::Cpu).unwrap()
    }

    /// A tensor that nothing is learned of.
    pub(crate) fn constant(&mut self, rows: usize, cols: usize) -> Tensor {
        Tensor::from_vec(self.numbers(rows * cols), (rows, cols), &Device::Cpu).unwrap()
    }
}

/// A tensor `[rows, cols]` in f64.
pub(crate) fn matrix(t: &Tensor) -> Matrix {
    let (rows, cols) = t.dims2().unwrap();
    let v = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    Matrix::new(rows, cols, v.into_iter().map(f64::from).collect())
}

/// Asserts that two matrices agree within `tolerance * (1 + |want|)`.
#[track_caller]
pub(crate) fn assert_close(got: &Matrix, want: &Matrix, tolerance: f64, what: &str) {
    assert_eq!((got.rows, got.cols), (want.rows, want.cols), "{what}: shape");
    for (i, (g, w)) in got.v.iter().zip(&want.v).enumerate() {
        assert!((g - w).abs() <= tolerance * (1.0 + w.abs()), "{what}[{i}]: {g} where {w} was expected");
    }
}

/// Checks an operation of some tensors: its result against the twin, and the gradient of
/// `sum(result * r)` for a random r against the twin's central differences, for each input.
#[track_caller]
pub(crate) fn check_gradients(
    what: &str,
    inputs: &[&Var],
    op: impl Fn(&[Tensor]) -> Tensor,
    twin: impl Fn(&[Matrix]) -> Matrix,
) {
    check_gradients_and_sums(what, inputs, &vec![None; inputs.len()], op, twin);
}

/// [`check_gradients`], where the gradient of an input that has a sum is looked for there, and must not be on the tape.
#[track_caller]
pub(crate) fn check_gradients_and_sums(
    what: &str,
    inputs: &[&Var],
    sums: &[Option<&GradientSum>],
    op: impl Fn(&[Tensor]) -> Tensor,
    twin: impl Fn(&[Matrix]) -> Matrix,
) {
    let tensors: Vec<Tensor> = inputs.iter().map(|v| v.as_tensor().clone()).collect();
    let mut at: Vec<Matrix> = tensors.iter().map(matrix).collect();
    let y = op(&tensors);
    assert_close(&matrix(&y), &twin(&at), 3e-6, what);
    let (rows, cols) = y.dims2().unwrap();
    let r = Random(99).constant(rows, cols);
    let gradients = (y * &r).unwrap().sum_all().unwrap().backward().unwrap();
    let r = matrix(&r).v;
    let step = 1e-5;
    for i in 0..inputs.len() {
        let got = match (gradients.get(inputs[i]), sums[i]) {
            (Some(found), None) => matrix(found),
            (None, Some(sum)) => {
                let found = sum.take();
                Matrix::new(at[i].rows, at[i].cols, found.into_iter().map(f64::from).collect())
            }
            (found, _) => panic!("{what}: the gradient of input {i} on the tape: {}", found.is_some()),
        };
        let mut want = at[i].clone();
        for e in 0..want.v.len() {
            let here = at[i].v[e];
            let mut loss = |value: f64| {
                at[i].v[e] = value;
                twin(&at).v.iter().zip(&r).map(|(y, r)| y * r).sum::<f64>()
            };
            want.v[e] = (loss(here + step) - loss(here - step)) / (2.0 * step);
            at[i].v[e] = here;
        }
        assert_close(&got, &want, 1e-5, &format!("{what}: gradient of input {i}"));
    }
}
