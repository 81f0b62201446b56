//! RMSNorm of rows: `y = x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich 2019), and its backward.

use crate::disjoint::{for_columns, for_rows};
use crate::lanes::{by_isa, dot, dot3};
use crate::{Isa, Pool};

/// Normalizes each row of x `[rows, width]` into `out` of the same shape; `weight` has `width` factors.
///
/// # Panics
/// If the lengths do not fit.
pub fn rms_norm(pool: &Pool, isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width) && out.len() == x.len(), "rms_norm: lengths do not fit");
    for_rows(pool, width, out, |first, rows| {
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            let at = (first + i) * width;
            rms_norm_row(isa, &x[at..at + width], weight, eps, row);
        }
    });
}

/// `1 / sqrt(mean(x^2) + eps)`.
#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

by_isa! {
    /// [`rms_norm`] of one row; the three slices have one length.
    pub fn rms_norm_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        assert!(x.len() == weight.len() && x.len() == out.len(), "rms_norm_row: lengths differ");
        let inverse = inverse_rms(x, eps);
        for ((o, &x), &w) in out.iter_mut().zip(x).zip(weight) {
            *o = x * inverse * w;
        }
    }
}

/// Gradients of [`rms_norm`], written into what is given: `dx` `[rows, width]` and `dweight` `[width]`.
///
/// With `r = 1 / sqrt(mean(x^2) + eps)`:
/// `dx_i = r * w_i * dy_i - x_i * r^3 / width * sum_j(w_j * dy_j * x_j)` and
/// `dweight_i = sum over rows of dy_i * x_i * r`.
///
/// # Panics
/// If the lengths do not fit.
pub fn rms_norm_backward(
    pool: &Pool,
    isa: Isa,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    dy: &[f32],
    dx: Option<&mut [f32]>,
    dweight: Option<&mut [f32]>,
) {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width) && dy.len() == x.len(), "rms_norm_backward: lengths do not fit");
    if let Some(dx) = dx {
        assert_eq!(dx.len(), x.len(), "rms_norm_backward: dx");
        for_rows(pool, width, dx, |first, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                let at = (first + i) * width;
                input_gradient(isa, &x[at..at + width], weight, eps, &dy[at..at + width], row);
            }
        });
    }
    if let Some(dweight) = dweight {
        assert_eq!(dweight.len(), width, "rms_norm_backward: dweight");
        let mut inverses = vec![0.0; x.len() / width];
        for_rows(pool, 1, &mut inverses, |first, part| {
            inverses_of_rows(isa, &x[first * width..(first + part.len()) * width], width, eps, part);
        });
        for_columns(pool, dweight, |first, part| weight_gradient(isa, x, dy, &inverses, width, first, part));
    }
}

by_isa! {
    fn input_gradient(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
        let inverse = inverse_rms(x, eps);
        let pull = dot3(weight, dy, x) * (inverse * inverse * inverse / x.len() as f32);
        for (((d, &x), &w), &dy) in dx.iter_mut().zip(x).zip(weight).zip(dy) {
            *d = (inverse * w).mul_add(dy, -(x * pull));
        }
    }
}

by_isa! {
    fn inverses_of_rows(x: &[f32], width: usize, eps: f32, out: &mut [f32]) {
        for (o, row) in out.iter_mut().zip(x.chunks_exact(width)) {
            *o = inverse_rms(row, eps);
        }
    }
}

by_isa! {
    /// Sums `dy * x * inverse` over all rows, in their order, for the columns `first..first + out.len()`.
    fn weight_gradient(x: &[f32], dy: &[f32], inverses: &[f32], width: usize, first: usize, out: &mut [f32]) {
        out.fill(0.0);
        for (row, &inverse) in inverses.iter().enumerate() {
            let at = row * width + first..row * width + first + out.len();
            for ((o, &x), &dy) in out.iter_mut().zip(&x[at.clone()]).zip(&dy[at]) {
                *o = (dy * inverse).mul_add(x, *o);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, finite_differences, wide};

    const EPS: f32 = 1e-5;

    fn twin(x: &[f64], weight: &[f64]) -> Vec<f64> {
        x.chunks_exact(weight.len())
            .flat_map(|row| {
                let mean = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
                let inverse = 1.0 / (mean + f64::from(EPS)).sqrt();
                row.iter().zip(weight).map(|(v, w)| v * inverse * w).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn forward_is_the_f64_twin_for_odd_and_even_widths() {
        let pool = Pool::new(2);
        for (rows, width) in [(1, 1), (3, 7), (5, 64), (40, 577)] {
            let mut numbers = Numbers::new(1);
            let (x, w) = (numbers.normal(rows * width), numbers.normal(width));
            let mut out = vec![0.0; x.len()];
            rms_norm(&pool, Isa::detect(), &x, &w, EPS, &mut out);
            assert_close(&out, &twin(&wide(&x), &wide(&w)), 1e-6, "rms_norm");
        }
    }

    #[test]
    fn backward_is_the_finite_difference() {
        let pool = Pool::new(2);
        let (rows, width) = (3, 37);
        let mut numbers = Numbers::new(2);
        let (x, w, dy) = (numbers.normal(rows * width), numbers.normal(width), numbers.normal(rows * width));
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; width]);
        rms_norm_backward(&pool, Isa::detect(), &x, &w, EPS, &dy, Some(&mut dx), Some(&mut dw));
        let loss = |x: &[f64], w: &[f64]| twin(x, w).iter().zip(wide(&dy)).map(|(y, d)| y * d).sum::<f64>();
        let (x64, w64) = (wide(&x), wide(&w));
        assert_close(&dx, &finite_differences(&x, |x| loss(x, &w64)), 2e-6, "dx");
        assert_close(&dw, &finite_differences(&w, |w| loss(&x64, w)), 2e-6, "dweight");
    }

    #[test]
    fn bits_depend_on_the_row_alone() {
        let (rows, width) = (33, 300);
        let mut numbers = Numbers::new(3);
        let (x, w, dy) = (numbers.normal(rows * width), numbers.normal(width), numbers.normal(rows * width));
        let run = |isa: Isa, threads: usize, x: &[f32], dy: &[f32]| {
            let pool = Pool::new(threads);
            let (mut y, mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; width]);
            rms_norm(&pool, isa, x, &w, EPS, &mut y);
            rms_norm_backward(&pool, isa, x, &w, EPS, dy, Some(&mut dx), Some(&mut dw));
            (y, dx, dw)
        };
        let want = run(Isa::Scalar, 1, &x, &dy);
        for isa in Isa::available() {
            assert_eq!(run(isa, 2, &x, &dy), want, "{}", isa.name());
            let alone = run(isa, 1, &x[5 * width..6 * width], &dy[5 * width..6 * width]);
            assert_eq!(alone.0, want.0[5 * width..6 * width]);
            assert_eq!(alone.1, want.1[5 * width..6 * width]);
        }
    }
}
