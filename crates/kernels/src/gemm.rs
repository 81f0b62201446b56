//! A plain f32 matrix product on slices, `C += A B`: what the backward passes of projections and of
//! attention are made of, after they have cut their work into tiles.
//!
//! Each element of the product is one sum over the inner index in order, by fused multiply-add from
//! zero, which is then added to C. So its bits depend on its row of A and its column of B alone, and a
//! caller that cuts a long inner index into fixed pieces gets a blocked sum. B and C are row-major;
//! A may be strided either way, which makes the transposed product free.

use crate::lanes::by_isa;

/// Rows and columns of C that stay in registers: 6 x 16 f32 are 12 of AVX2's 16 vector registers.
const TILE_ROWS: usize = 6;
const TILE_COLS: usize = 16;

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

by_isa! {
    /// `C[m, n] += A[m, k] B[k, n]`; row `p` of B starts at `b[p * b_stride]`, row `i` of C at `c[i * c_stride]`.
    ///
    /// # Panics
    /// If a slice is too short.
    pub(crate) fn multiply_add(
        m: usize,
        n: usize,
        k: usize,
        a: Strided<'_>,
        b: &[f32],
        b_stride: usize,
        c: &mut [f32],
        c_stride: usize,
    ) {
        if m == 0 || n == 0 || k == 0 {
            return;
        }
        assert!((m - 1) * a.row_stride + (k - 1) * a.col_stride < a.data.len(), "gemm: A is too short");
        assert!((k - 1) * b_stride + n <= b.len(), "gemm: B is too short");
        assert!((m - 1) * c_stride + n <= c.len(), "gemm: C is too short");
        let mut j = 0;
        while j < n {
            let width = TILE_COLS.min(n - j);
            let mut i = 0;
            while i < m {
                let height = TILE_ROWS.min(m - i);
                let (a_at, c_at) = (&a.data[i * a.row_stride..], &mut c[i * c_stride + j..]);
                let strides = (a.row_stride, a.col_stride, b_stride, c_stride);
                match (height, width) {
                    (6, TILE_COLS) => tile::<6>(k, a_at, &b[j..], c_at, strides),
                    (5, TILE_COLS) => tile::<5>(k, a_at, &b[j..], c_at, strides),
                    (4, TILE_COLS) => tile::<4>(k, a_at, &b[j..], c_at, strides),
                    (3, TILE_COLS) => tile::<3>(k, a_at, &b[j..], c_at, strides),
                    (2, TILE_COLS) => tile::<2>(k, a_at, &b[j..], c_at, strides),
                    (1, TILE_COLS) => tile::<1>(k, a_at, &b[j..], c_at, strides),
                    _ => edge(height, width, k, a_at, &b[j..], c_at, strides),
                }
                i += height;
            }
            j += width;
        }
    }
}

type Strides = (usize, usize, usize, usize);

/// `M` rows by 16 columns of C, in registers.
#[inline(always)]
fn tile<const M: usize>(k: usize, a: &[f32], b: &[f32], c: &mut [f32], strides: Strides) {
    let (a_row, a_col, b_row, c_row) = strides;
    let mut acc = [[0.0f32; TILE_COLS]; M];
    for p in 0..k {
        let b: &[f32; TILE_COLS] = b[p * b_row..].first_chunk().expect("the length of B was checked");
        for (i, acc) in acc.iter_mut().enumerate() {
            let a = a[i * a_row + p * a_col];
            for l in 0..TILE_COLS {
                acc[l] = a.mul_add(b[l], acc[l]);
            }
        }
    }
    for (i, acc) in acc.iter().enumerate() {
        for (c, v) in c[i * c_row..i * c_row + TILE_COLS].iter_mut().zip(acc) {
            *c += v;
        }
    }
}

/// The last columns, fewer than 16, one element after the other.
#[inline(always)]
fn edge(m: usize, n: usize, k: usize, a: &[f32], b: &[f32], c: &mut [f32], strides: Strides) {
    let (a_row, a_col, b_row, c_row) = strides;
    for i in 0..m {
        let mut acc = [0.0f32; TILE_COLS];
        for p in 0..k {
            let a = a[i * a_row + p * a_col];
            for (acc, &b) in acc.iter_mut().zip(&b[p * b_row..p * b_row + n]) {
                *acc = a.mul_add(b, *acc);
            }
        }
        for (c, v) in c[i * c_row..i * c_row + n].iter_mut().zip(acc) {
            *c += v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::testing::{Numbers, assert_close};

    #[test]
    fn every_edge_agrees_with_f64_and_with_the_scalar_build() {
        for (m, n, k) in [(1, 1, 1), (6, 16, 7), (7, 17, 9), (13, 40, 33), (5, 15, 64), (11, 64, 2)] {
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
                    for p in 0..k {
                        want[i * (n + 2) + j] += f64::from(a[i * k + p]) * f64::from(b[p * (n + 3) + j]);
                    }
                }
            }
            let run = |isa, a: Strided<'_>| {
                let mut c = c.clone();
                multiply_add(isa, m, n, k, a, &b, n + 3, &mut c, n + 2);
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
}
