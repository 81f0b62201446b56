//! Products with the matrices of a low-rank pair, `C += A B` with B as it lies: few columns or a short inner index, which are
//! not worth being decoded into panels.

use crate::disjoint::Disjoint;
use crate::gemm::{COLS, Start, Strided, multiply};
use crate::{Isa, Pool};

/// Rows of C in a tile: whole register tiles.
const ROWS: usize = 48;

/// `C += A B`. Shapes: A `[m, inner]`, B `[inner, n]`, C `[m, n]`. An element of C becomes itself plus one sum over the inner
/// index in order.
///
/// # Panics
/// If the slices do not have these sizes.
pub fn add_product(pool: &Pool, isa: Isa, inner: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    let (Some(m), Some(n)) = (a.len().checked_div(inner), b.len().checked_div(inner)) else { return };
    assert!(a.len() == m * inner && b.len() == n * inner && c.len() == m * n, "add_product: lengths do not fit");
    let whole = n / COLS * COLS;
    let out = Disjoint::new(c);
    pool.run(m.div_ceil(ROWS), &|tile| {
        let rows = tile * ROWS..m.min((tile + 1) * ROWS);
        let a = &a[rows.start * inner..rows.end * inner];
        // SAFETY: each tile has rows of its own.
        let c = unsafe { out.part(rows.start * n..rows.end * n) };
        multiply(isa, Start::Add, (rows.len(), whole, inner), Strided::rows(a, inner), (b, n), (c, n));
        for (a, c) in a.chunks_exact(inner).zip(c.chunks_exact_mut(n.max(1))) {
            for (j, c) in c.iter_mut().enumerate().skip(whole) {
                *c += a.iter().zip(b.chunks_exact(n)).fold(0.0f32, |sum, (a, b)| a.mul_add(b[j], sum));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close};

    #[test]
    fn it_is_added_to_what_is_there() {
        for (m, inner, n) in [(1, 1, 1), (50, 16, 48), (97, 3, 70), (5, 8, 7), (0, 4, 16), (3, 2, 0), (7, 300, 16)] {
            let mut numbers = Numbers::new(9);
            let (a, b, c) = (numbers.normal(m * inner), numbers.normal(inner * n), numbers.normal(m * n));
            let element = |i: usize, j: usize| {
                let product = |p: usize| f64::from(a[i * inner + p]) * f64::from(b[p * n + j]);
                f64::from(c[i * n + j]) + (0..inner).map(product).sum::<f64>()
            };
            let want: Vec<f64> = (0..m * n).map(|at| element(at / n, at % n)).collect();
            let mut first = None;
            for isa in Isa::available() {
                for threads in [1, 2] {
                    let mut sum = c.clone();
                    add_product(&Pool::new(threads), isa, inner, &a, &b, &mut sum);
                    assert_close(&sum, &want, 1e-5, "sums");
                    assert_eq!(first.get_or_insert_with(|| sum.clone()), &sum, "{} {m}x{inner}x{n}", isa.name());
                }
            }
        }
        let mut c = [1.0, 2.0];
        add_product(&Pool::new(1), Isa::detect(), 0, &[], &[], &mut c);
        assert_eq!(c, [1.0, 2.0]);
    }
}
