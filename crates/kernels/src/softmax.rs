//! Softmax, log-softmax and log-sum-exp of rows, and their backwards.
//!
//! Each row's maximum is subtracted first, so nothing overflows. Sums of exponentials are taken in
//! f32 over stretches of a fixed length and added up in f64, since a vocabulary has 10^5 entries.

use crate::disjoint::for_rows;
use crate::exp::exp;
use crate::lanes::{by_isa, dot, max, sum};
use crate::{Isa, Pool};

/// Elements summed in f32 before the sum goes into f64.
pub(crate) const STRETCH: usize = 1024;

/// The largest entry `m` of a row and `log(sum_i e^(x_i - m))`. The two are kept apart because
/// `(x - m) - log_sum` is exact to the last place where `x - (m + log_sum)` has lost the bits that m takes.
/// An empty row, or one of negative infinities, gives negative infinity and zero.
#[inline(always)]
pub(crate) fn max_and_log_sum(x: &[f32]) -> (f32, f32) {
    let top = max(x);
    if top == f32::NEG_INFINITY {
        return (top, 0.0);
    }
    let mut terms = [0.0f32; STRETCH];
    let mut total = 0.0f64;
    for stretch in x.chunks(STRETCH) {
        let terms = &mut terms[..stretch.len()];
        for (t, &x) in terms.iter_mut().zip(stretch) {
            *t = exp(x - top);
        }
        total += f64::from(sum(terms));
    }
    (top, total.ln() as f32)
}

by_isa! {
    /// `log(sum_i e^x_i)` of one row; negative infinity if the row is empty or all its entries are.
    pub fn log_sum_exp_row(x: &[f32]) -> f32 {
        let (top, log_sum) = max_and_log_sum(x);
        top + log_sum
    }
}

by_isa! {
    /// Softmax of one row in place: `x_i = e^x_i / sum_j e^x_j`. A row of negative infinities becomes zero.
    pub fn softmax_row(x: &mut [f32]) {
        let top = max(x);
        if top == f32::NEG_INFINITY {
            x.fill(0.0);
            return;
        }
        let mut total = 0.0f64;
        for stretch in x.chunks_mut(STRETCH) {
            for v in stretch.iter_mut() {
                *v = exp(*v - top);
            }
            total += f64::from(sum(stretch));
        }
        let factor = (1.0 / total) as f32;
        for v in x.iter_mut() {
            *v *= factor;
        }
    }
}

by_isa! {
    /// `out = x - log_sum_exp(x)` of one row.
    pub fn log_softmax_row(x: &[f32], out: &mut [f32]) {
        let (top, log_sum) = max_and_log_sum(x);
        for (o, &x) in out.iter_mut().zip(x) {
            *o = (x - top) - log_sum;
        }
    }
}

by_isa! {
    fn log_softmax_row_backward(y: &[f32], dy: &[f32], dx: &mut [f32]) {
        let mut total = 0.0f64;
        for stretch in dy.chunks(STRETCH) {
            total += f64::from(sum(stretch));
        }
        let total = total as f32;
        for ((d, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
            *d = exp(y).mul_add(-total, dy);
        }
    }
}

by_isa! {
    fn softmax_row_backward(y: &[f32], dy: &[f32], dx: &mut [f32]) {
        let mut mean = 0.0f64;
        for (y, dy) in y.chunks(STRETCH).zip(dy.chunks(STRETCH)) {
            mean += f64::from(dot(y, dy));
        }
        let mean = mean as f32;
        for ((d, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
            *d = y * (dy - mean);
        }
    }
}

/// Softmax of each row of x `[rows, width]`, in place.
///
/// # Panics
/// If the length is no multiple of the width.
pub fn softmax(pool: &Pool, isa: Isa, width: usize, x: &mut [f32]) {
    assert!(width > 0 && x.len().is_multiple_of(width), "softmax: lengths do not fit");
    for_rows(pool, width, x, |_, rows| rows.chunks_exact_mut(width).for_each(|row| softmax_row(isa, row)));
}

/// The gradient of [`softmax`] from its result y: `dx = y * (dy - sum_j(y_j * dy_j))`.
///
/// # Panics
/// If the lengths do not fit.
pub fn softmax_backward(pool: &Pool, isa: Isa, width: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    by_rows(pool, width, y, dy, dx, |y, dy, dx| softmax_row_backward(isa, y, dy, dx));
}

/// Log-softmax of each row of x `[rows, width]`.
///
/// # Panics
/// If the lengths do not fit.
pub fn log_softmax(pool: &Pool, isa: Isa, width: usize, x: &[f32], out: &mut [f32]) {
    by_rows(pool, width, x, x, out, |x, _, out| log_softmax_row(isa, x, out));
}

/// The gradient of [`log_softmax`] from its result y: `dx = dy - e^y * sum_j(dy_j)`.
///
/// # Panics
/// If the lengths do not fit.
pub fn log_softmax_backward(pool: &Pool, isa: Isa, width: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    by_rows(pool, width, y, dy, dx, |y, dy, dx| log_softmax_row_backward(isa, y, dy, dx));
}

/// Log-sum-exp of each row of x `[rows, width]` into `out` `[rows]`.
///
/// # Panics
/// If the lengths do not fit.
pub fn log_sum_exp(pool: &Pool, isa: Isa, width: usize, x: &[f32], out: &mut [f32]) {
    assert!(width > 0 && x.len() == out.len() * width, "log_sum_exp: lengths do not fit");
    let parts = crate::disjoint::Disjoint::new(out);
    pool.run(x.len() / width, &|row| {
        // SAFETY: each tile writes the one number of its own row.
        let part = unsafe { parts.part(row..row + 1) };
        part[0] = log_sum_exp_row(isa, &x[row * width..(row + 1) * width]);
    });
}

/// Calls `f(a row, b row, out row)` for each row, shared among the threads.
fn by_rows(
    pool: &Pool,
    width: usize,
    a: &[f32],
    b: &[f32],
    out: &mut [f32],
    f: impl Fn(&[f32], &[f32], &mut [f32]) + Sync,
) {
    assert!(
        width > 0 && out.len().is_multiple_of(width) && a.len() == out.len() && b.len() == out.len(),
        "softmax: lengths do not fit"
    );
    for_rows(pool, width, out, |first, rows| {
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            let at = (first + i) * width..(first + i + 1) * width;
            f(&a[at.clone()], &b[at], row);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, finite_differences, wide};

    fn twin_log_softmax(x: &[f64], width: usize) -> Vec<f64> {
        x.chunks_exact(width)
            .flat_map(|row| {
                let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total = top + row.iter().map(|v| (v - top).exp()).sum::<f64>().ln();
                row.iter().map(|v| v - total).collect::<Vec<_>>()
            })
            .collect()
    }

    fn twin_softmax(x: &[f64], width: usize) -> Vec<f64> {
        twin_log_softmax(x, width).iter().map(|v| v.exp()).collect()
    }

    #[test]
    fn forward_is_the_f64_twin() {
        let pool = Pool::new(2);
        for (rows, width) in [(1, 1), (3, 5), (2, 1024), (2, 49_152)] {
            let x: Vec<f32> = Numbers::new(1).normal(rows * width).iter().map(|v| 5.0 * v + 30.0).collect();
            let want = twin_log_softmax(&wide(&x), width);
            let mut out = vec![0.0; x.len()];
            log_softmax(&pool, Isa::detect(), width, &x, &mut out);
            assert_close(&out, &want, 3e-7, "log_softmax");
            let mut out = x.clone();
            softmax(&pool, Isa::detect(), width, &mut out);
            assert_close(&out, &want.iter().map(|v| v.exp()).collect::<Vec<_>>(), 1e-6, "softmax");
            let mut totals = vec![0.0; rows];
            log_sum_exp(&pool, Isa::detect(), width, &x, &mut totals);
            let want: Vec<f64> = (0..rows).map(|r| f64::from(x[r * width]) - want[r * width]).collect();
            assert_close(&totals, &want, 2e-7, "log_sum_exp");
        }
    }

    #[test]
    fn masked_and_huge_entries() {
        let isa = Isa::detect();
        let mut x = [1e30, f32::NEG_INFINITY, 1e30, -1e30];
        assert_eq!(log_sum_exp_row(isa, &x), 1e30);
        softmax_row(isa, &mut x);
        assert_eq!(x, [0.5, 0.0, 0.5, 0.0]);
        let mut masked = [f32::NEG_INFINITY; 3];
        assert_eq!(log_sum_exp_row(isa, &masked), f32::NEG_INFINITY);
        softmax_row(isa, &mut masked);
        assert_eq!(masked, [0.0; 3]);
        assert!(log_sum_exp_row(isa, &[f32::NAN, 1.0]).is_nan());
    }

    #[test]
    fn backward_is_the_finite_difference() {
        let pool = Pool::new(2);
        let (rows, width) = (3, 19);
        let mut numbers = Numbers::new(2);
        let (x, dy) = (numbers.normal(rows * width), numbers.normal(rows * width));
        let along = |y: Vec<f64>| y.iter().zip(wide(&dy)).map(|(y, d)| y * d).sum::<f64>();
        let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        log_softmax(&pool, Isa::detect(), width, &x, &mut y);
        log_softmax_backward(&pool, Isa::detect(), width, &y, &dy, &mut dx);
        let want = finite_differences(&x, |x| along(twin_log_softmax(x, width)));
        assert_close(&dx, &want, 2e-6, "log_softmax dx");
        y.copy_from_slice(&x);
        softmax(&pool, Isa::detect(), width, &mut y);
        softmax_backward(&pool, Isa::detect(), width, &y, &dy, &mut dx);
        let want = finite_differences(&x, |x| along(twin_softmax(x, width)));
        assert_close(&dx, &want, 2e-6, "softmax dx");
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let mut numbers = Numbers::new(3);
        let (x, dy) = (numbers.normal(3 * 1531), numbers.normal(3 * 1531));
        let run = |isa, threads| {
            let pool = Pool::new(threads);
            let mut out = [vec![0.0; x.len()], x.clone(), vec![0.0; x.len()]];
            let [logs, probabilities, dx] = &mut out;
            log_softmax(&pool, isa, 1531, &x, logs);
            softmax(&pool, isa, 1531, probabilities);
            log_softmax_backward(&pool, isa, 1531, logs, &dy, dx);
            out
        };
        let want = run(Isa::Scalar, 1);
        for isa in Isa::available() {
            assert!(run(isa, 2) == want, "{}", isa.name());
        }
    }
}
