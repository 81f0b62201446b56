//! A plain f32 matrix product on slices, `C = A B` or `C += A B`: what projections, their backward and attention
//! are made of, after they have cut their work into tiles that stay in a cache.
//!
//! Each element of the product is one sum over the inner index in order, by fused multiply-add, from zero or from
//! what C held. So its bits depend on its row of A and its column of B alone, and a caller that cuts a long inner
//! index into fixed pieces gets a blocked sum. B and C are row-major; A may be strided either way, which makes
//! the transposed product free.

#[cfg(target_arch = "x86_64")]
mod kernel;
#[cfg(target_arch = "x86_64")]
mod wide;

use crate::Isa;

/// Rows of a register tile.
pub(crate) const ROWS: usize = 6;
/// Columns of a register tile; B and C have a whole number of them.
pub(crate) const COLS: usize = 16;

/// What the sums begin with and where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Zero; C is overwritten.
    Zero,
    /// C: each sum is continued as if it had never stopped.
    Resume,
    /// Zero; the sum is added to C.
    Add,
}

/// A matrix whose element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a> Strided<'a> {
    /// Row-major, `stride` numbers from row to row.
    pub(crate) fn rows(data: &'a [f32], stride: usize) -> Strided<'a> {
        Strided { data, row_stride: stride, col_stride: 1 }
    }

    /// The transpose of a row-major matrix.
    pub(crate) fn transposed(data: &'a [f32], stride: usize) -> Strided<'a> {
        Strided { data, row_stride: 1, col_stride: stride }
    }
}

/// `C[m, n]` from `A[m, k] B[k, n]`; row `p` of B starts at `b[p * b_stride]`, row `i` of C at `c[i * c_stride]`.
///
/// # Panics
/// If `n` is not a multiple of 16, a slice is too short or the rows of C overlap.
pub(crate) fn multiply(
    isa: Isa,
    start: Start,
    (m, n, k): (usize, usize, usize),
    a: Strided<'_>,
    (b, b_stride): (&[f32], usize),
    (c, c_stride): (&mut [f32], usize),
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        end(m, c_stride, n) <= c.len() as u128 && (m == 1 || c_stride >= n),
        "gemm: C is too short for {m} x {n} at stride {c_stride}, or its rows overlap"
    );
    let to = c.as_mut_ptr();
    // SAFETY: all of C's elements exist, and nobody else has them.
    unsafe { product(isa, start, (m, n, k), a, (b, b_stride), (to, c_stride), (to, c_stride)) }
}

/// [`multiply`] with sums that come from one place and go to another, whose rows others may write between.
///
/// # Panics
/// If `n` is not a multiple of 16 or a slice is too short.
///
/// # Safety
/// `n` numbers behind each `to.0 + i * to.1` exist, and nobody else reads or writes them meanwhile.
pub(crate) unsafe fn multiply_into(
    isa: Isa,
    start: Start,
    (m, n, k): (usize, usize, usize),
    a: Strided<'_>,
    b: (&[f32], usize),
    (from, from_stride): (&[f32], usize),
    to: (*mut f32, usize),
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        start == Start::Zero || end(m, from_stride, n) <= from.len() as u128,
        "gemm: the sums are too short for {m} x {n} at stride {from_stride}"
    );
    // SAFETY: the sums were just checked; the rest as the caller promises.
    unsafe { product(isa, start, (m, n, k), a, b, (from.as_ptr(), from_stride), to) }
}

/// Where the last of `rows` rows ends. In wide arithmetic: the vector build relies on it for its pointers.
fn end(rows: usize, stride: usize, last: usize) -> u128 {
    (rows as u128 - 1) * stride as u128 + last as u128
}

/// # Safety
/// There is at least one row and one column. `n` numbers exist behind each `c.0 + i * c.1`, which nobody else has, and,
/// unless sums begin with zero and are not added to any, behind each `from.0 + i * from.1`. Either both are the same or they do not overlap.
unsafe fn product(
    isa: Isa,
    start: Start,
    (m, n, k): (usize, usize, usize),
    a: Strided<'_>,
    (b, b_stride): (&[f32], usize),
    (from, from_row): (*const f32, usize),
    (c, c_row): (*mut f32, usize),
) {
    assert!(
        n.is_multiple_of(COLS)
            && (k == 0
                || end(m, a.row_stride, 0) + end(k, a.col_stride, 0) < a.data.len() as u128
                    && end(k, b_stride, n) <= b.len() as u128),
        "gemm: a slice is too short for {m} x {n} x {k}"
    );
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 && std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        let tile = kernel::Tile {
            k,
            a: a.data.as_ptr(),
            a_row: a.row_stride,
            a_col: a.col_stride,
            b: b.as_ptr(),
            b_row: b_stride,
            from,
            from_row,
            c,
            c_row,
        };
        let avx512 = isa >= Isa::Avx2Vnni && std::arch::is_x86_feature_detected!("avx512f");
        // SAFETY: the processor was just found to have the features; A and B were checked, and the caller promises
        // the rest.
        unsafe {
            match start {
                Start::Zero if avx512 => wide::tiles::<{ kernel::ZERO }>(tile, m, n),
                Start::Resume if avx512 => wide::tiles::<{ kernel::RESUME }>(tile, m, n),
                Start::Add if avx512 => wide::tiles::<{ kernel::ADD }>(tile, m, n),
                Start::Zero => kernel::tiles::<{ kernel::ZERO }>(tile, m, n),
                Start::Resume => kernel::tiles::<{ kernel::RESUME }>(tile, m, n),
                Start::Add => kernel::tiles::<{ kernel::ADD }>(tile, m, n),
            }
        }
        return;
    }
    let _ = isa;
    for i in 0..m {
        for j in 0..n {
            // SAFETY: the caller promises that it exists, where sums are begun with or added to something.
            let before = if start == Start::Zero { 0.0 } else { unsafe { *from.add(i * from_row + j) } };
            let mut sum = if start == Start::Resume { before } else { 0.0 };
            for p in 0..k {
                sum = a.data[i * a.row_stride + p * a.col_stride].mul_add(b[p * b_stride + j], sum);
            }
            // SAFETY: the caller promises that it exists.
            unsafe { *c.add(i * c_row + j) = if start == Start::Add { before + sum } else { sum } };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close};

    #[test]
    fn every_edge_agrees_with_f64_and_with_the_scalar_build() {
        let sizes =
            [(1, 16, 1), (6, 16, 7), (7, 32, 9), (13, 48, 33), (5, 16, 64), (11, 64, 2), (10, 16, 0), (3, 32, 4)];
        let starts = [Start::Zero, Start::Resume, Start::Add];
        for ((m, n, k), start) in sizes.into_iter().chain((1..=19).map(|m| (m, 16, 3))).zip(starts.into_iter().cycle())
        {
            let mut numbers = Numbers::new(1);
            let (a, b, c) = (numbers.normal(m * k), numbers.normal(k * (n + 3)), numbers.normal(m * (n + 2)));
            // The same A, stored as its transpose.
            let mut at = vec![0.0; m * k];
            for i in 0..m {
                for p in 0..k {
                    at[p * m + i] = a[i * k + p];
                }
            }
            let mut want: Vec<f64> = c.iter().map(|&v| f64::from(v)).collect();
            for i in 0..m {
                for j in 0..n {
                    let want = &mut want[i * (n + 2) + j];
                    *want = if start == Start::Zero { 0.0 } else { *want };
                    for p in 0..k {
                        *want += f64::from(a[i * k + p]) * f64::from(b[p * (n + 3) + j]);
                    }
                }
            }
            let run = |isa, a: Strided<'_>| {
                let mut c = c.clone();
                multiply(isa, start, (m, n, k), a, (&b, n + 3), (&mut c, n + 2));
                c
            };
            let scalar = run(Isa::Scalar, Strided::rows(&a, k));
            assert_close(&scalar, &want, 2e-6, "product");
            for isa in Isa::available() {
                assert_eq!(run(isa, Strided::rows(&a, k)), scalar, "{} {m}x{n}x{k}", isa.name());
                assert_eq!(run(isa, Strided::transposed(&at, m)), scalar, "{} {m}x{n}x{k}", isa.name());
            }
        }
    }

    #[test]
    fn a_resumed_sum_never_stopped() {
        let (m, n, k) = (7, 16, 50);
        let mut numbers = Numbers::new(2);
        let (a, b) = (numbers.normal(m * k), numbers.normal(k * n));
        for isa in Isa::available() {
            let (mut whole, mut parts) = (vec![0.0; m * n], vec![0.0; m * n]);
            multiply(isa, Start::Zero, (m, n, k), Strided::rows(&a, k), (&b, n), (&mut whole, n));
            multiply(isa, Start::Zero, (m, n, 21), Strided::rows(&a, k), (&b, n), (&mut parts, n));
            multiply(
                isa,
                Start::Resume,
                (m, n, k - 21),
                Strided::rows(&a[21..], k),
                (&b[21 * n..], n),
                (&mut parts, n),
            );
            assert_eq!(whole, parts, "{}", isa.name());
        }
    }
}
