//! LayerNorm of rows: `y = (x - mean) / sqrt(variance + eps) * weight + bias` (Ba, Kiros and Hinton 2016), and its
//! backward.

use crate::disjoint::{for_columns, for_rows};
use crate::lanes::{by_isa, dot, dot3, sum};
use crate::{Isa, Pool};

/// Normalizes each row of x `[rows, width]` into `out` of the same shape; `weight` and `bias` have `width` numbers.
///
/// # Panics
/// If the lengths do not fit.
pub fn layer_norm(pool: &Pool, isa: Isa, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len();
    assert!(
        width > 0 && bias.len() == width && x.len().is_multiple_of(width) && out.len() == x.len(),
        "layer_norm: lengths do not fit"
    );
    for_rows(pool, width, out, |first, rows| {
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            let at = (first + i) * width;
            normalize_row(isa, &x[at..at + width], weight, bias, eps, row);
        }
    });
}

/// Mean and `1 / sqrt(variance + eps)` of a row; `centred` receives `x - mean`.
#[inline(always)]
fn moments(x: &[f32], eps: f32, centred: &mut [f32]) -> f32 {
    let mean = sum(x) / x.len() as f32;
    for (c, &x) in centred.iter_mut().zip(x) {
        *c = x - mean;
    }
    1.0 / (dot(centred, centred) / x.len() as f32 + eps).sqrt()
}

by_isa! {
    fn normalize_row(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        let inverse = moments(x, eps, out);
        for ((o, &w), &b) in out.iter_mut().zip(weight).zip(bias) {
            *o = (*o * inverse).mul_add(w, b);
        }
    }
}

/// What [`layer_norm_backward`] writes: each where it is wanted.
#[derive(Debug, Default)]
pub struct LayerNormGradients<'a> {
    /// `[rows, width]`.
    pub dx: Option<&'a mut [f32]>,
    /// `[width]`.
    pub dweight: Option<&'a mut [f32]>,
    /// `[width]`.
    pub dbias: Option<&'a mut [f32]>,
}

/// Gradients of [`layer_norm`]. With `n = (x - mean) * r`, `r = 1 / sqrt(variance + eps)` and `g = w * dy`:
/// `dx = r * (g - mean(g) - n * mean(g * n))`, `dweight = sum over rows of dy * n`, `dbias = sum over rows of dy`.
///
/// # Panics
/// If the lengths do not fit.
pub fn layer_norm_backward(
    pool: &Pool,
    isa: Isa,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    dy: &[f32],
    gradients: LayerNormGradients<'_>,
) {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width) && dy.len() == x.len(), "layer_norm_backward: lengths");
    let LayerNormGradients { dx, dweight, dbias } = gradients;
    if let Some(dx) = dx {
        assert_eq!(dx.len(), x.len(), "layer_norm_backward: dx");
        for_rows(pool, width, dx, |first, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                let at = (first + i) * width;
                input_gradient(isa, &x[at..at + width], weight, eps, &dy[at..at + width], row);
            }
        });
    }
    if let Some(dweight) = dweight {
        let (ones, zeros) = (vec![1.0; width], vec![0.0; width]);
        let mut normed = vec![0.0; x.len()];
        layer_norm(pool, isa, x, &ones, &zeros, eps, &mut normed);
        assert_eq!(dweight.len(), width, "layer_norm_backward: dweight");
        for_columns(pool, dweight, |first, out| sum_products(isa, &normed, dy, width, first, out));
    }
    if let Some(dbias) = dbias {
        assert_eq!(dbias.len(), width, "layer_norm_backward: dbias");
        for_columns(pool, dbias, |first, out| sum_rows(isa, dy, width, first, out));
    }
}

by_isa! {
    fn input_gradient(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
        let inverse = moments(x, eps, dx);
        let width = x.len() as f32;
        let mean = dot(weight, dy) / width;
        let pull = dot3(weight, dy, dx) * (inverse * inverse / width);
        for ((d, &w), &dy) in dx.iter_mut().zip(weight).zip(dy) {
            *d = inverse * (-*d).mul_add(pull, w.mul_add(dy, -mean));
        }
    }
}

by_isa! {
    /// Sums `a * b` over all rows, in their order, for the columns `first..first + out.len()`.
    fn sum_products(a: &[f32], b: &[f32], width: usize, first: usize, out: &mut [f32]) {
        out.fill(0.0);
        for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
            for ((o, &a), &b) in out.iter_mut().zip(&a[first..]).zip(&b[first..]) {
                *o = a.mul_add(b, *o);
            }
        }
    }
}

by_isa! {
    /// Sums all rows, in their order, for the columns `first..first + out.len()`.
    fn sum_rows(x: &[f32], width: usize, first: usize, out: &mut [f32]) {
        out.fill(0.0);
        for row in x.chunks_exact(width) {
            for (o, &x) in out.iter_mut().zip(&row[first..]) {
                *o += x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, finite_differences, wide};

    const EPS: f32 = 1e-5;

    fn twin(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        x.chunks_exact(weight.len())
            .flat_map(|row| {
                let mean = row.iter().sum::<f64>() / row.len() as f64;
                let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / row.len() as f64;
                let inverse = 1.0 / (variance + f64::from(EPS)).sqrt();
                row.iter().zip(weight).zip(bias).map(|((v, w), b)| (v - mean) * inverse * w + b).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn forward_is_the_f64_twin() {
        let pool = Pool::new(2);
        for (rows, width) in [(1, 1), (3, 7), (5, 64), (40, 577)] {
            let mut numbers = Numbers::new(1);
            let x: Vec<f32> = numbers.normal(rows * width).iter().map(|v| v + 3.0).collect();
            let (w, b) = (numbers.normal(width), numbers.normal(width));
            let mut out = vec![0.0; x.len()];
            layer_norm(&pool, Isa::detect(), &x, &w, &b, EPS, &mut out);
            assert_close(&out, &twin(&wide(&x), &wide(&w), &wide(&b)), 2e-6, "layer_norm");
        }
    }

    #[test]
    fn backward_is_the_finite_difference() {
        let pool = Pool::new(2);
        let (rows, width) = (3, 37);
        let mut numbers = Numbers::new(2);
        let (x, w, b) = (numbers.normal(rows * width), numbers.normal(width), numbers.normal(width));
        let dy = numbers.normal(rows * width);
        let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; width], vec![0.0; width]);
        let wanted = LayerNormGradients { dx: Some(&mut dx), dweight: Some(&mut dw), dbias: Some(&mut db) };
        layer_norm_backward(&pool, Isa::detect(), &x, &w, EPS, &dy, wanted);
        let loss =
            |x: &[f64], w: &[f64], b: &[f64]| twin(x, w, b).iter().zip(wide(&dy)).map(|(y, d)| y * d).sum::<f64>();
        let (x64, w64, b64) = (wide(&x), wide(&w), wide(&b));
        assert_close(&dx, &finite_differences(&x, |x| loss(x, &w64, &b64)), 2e-6, "dx");
        assert_close(&dw, &finite_differences(&w, |w| loss(&x64, w, &b64)), 2e-6, "dweight");
        assert_close(&db, &finite_differences(&b, |b| loss(&x64, &w64, b)), 2e-6, "dbias");
    }

    #[test]
    fn bits_depend_on_the_row_alone() {
        let (rows, width) = (33, 300);
        let mut numbers = Numbers::new(3);
        let (x, w, b) = (numbers.normal(rows * width), numbers.normal(width), numbers.normal(width));
        let run = |isa: Isa, threads: usize, x: &[f32]| {
            let pool = Pool::new(threads);
            let (mut y, mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; width]);
            layer_norm(&pool, isa, x, &w, &b, EPS, &mut y);
            let wanted = LayerNormGradients { dx: Some(&mut dx), dweight: Some(&mut dw), dbias: None };
            layer_norm_backward(&pool, isa, x, &w, EPS, x, wanted);
            (y, dx, dw)
        };
        let want = run(Isa::Scalar, 1, &x);
        for isa in Isa::available() {
            assert_eq!(run(isa, 2, &x), want, "{}", isa.name());
            let alone = run(isa, 1, &x[5 * width..6 * width]);
            assert_eq!(alone.0, want.0[5 * width..6 * width]);
            assert_eq!(alone.1, want.1[5 * width..6 * width]);
        }
    }
}
