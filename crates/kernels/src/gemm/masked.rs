//! `C += A B` with any number of columns, by masked loads at the edge.

use super::Strided;
use crate::Isa;

/// `C[m, n] += A[m, k] B[k, n]`; row `p` of B starts at `b[p * b_stride]`, row `i` of C at `c[i * c_stride]`.
///
/// # Panics
/// If a slice is too short or the rows of C overlap.
pub(crate) fn multiply_add(
    isa: Isa,
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
    // In wide arithmetic: the vector build relies on it for its pointers.
    let end = |rows: usize, stride: usize, last: usize| (rows as u128 - 1) * stride as u128 + last as u128;
    assert!(
        end(m, a.row_stride, 0) + end(k, a.col_stride, 0) < a.data.len() as u128
            && end(k, b_stride, n) <= b.len() as u128
            && end(m, c_stride, n) <= c.len() as u128,
        "gemm: a slice is too short for {m} x {n} x {k}"
    );
    assert!(m == 1 || c_stride >= n, "gemm: rows of {n} overlap at stride {c_stride}");
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 && std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the processor was just found to have both features, and the assertions above are what
        // the vector build asks for.
        unsafe { x86::multiply_add(m, n, k, a, b, b_stride, c, c_stride) };
        return;
    }
    let _ = isa;
    for i in 0..m {
        for j in 0..n {
            let mut sum = 0.0f32;
            for p in 0..k {
                sum = a.data[i * a.row_stride + p * a.col_stride].mul_add(b[p * b_stride + j], sum);
            }
            c[i * c_stride + j] += sum;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Strided;

    /// Rows of C that stay in registers with 16 columns: 12 of 16 vector registers.
    const TILE_ROWS: usize = 6;
    const LANES: usize = 8;

    /// Pointers to where a tile begins, and the distances between rows.
    #[derive(Clone, Copy)]
    struct Tile {
        k: usize,
        a: *const f32,
        a_row: usize,
        a_col: usize,
        b: *const f32,
        b_row: usize,
        c: *mut f32,
        c_row: usize,
        /// All bits set in the lanes of the last vector of columns that exist.
        lanes: __m256i,
    }

    /// # Safety
    /// AVX2 and FMA; every element that m, n, k and the strides name lies inside its slice.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn multiply_add(
        m: usize,
        n: usize,
        k: usize,
        a: Strided<'_>,
        b: &[f32],
        b_stride: usize,
        c: &mut [f32],
        c_stride: usize,
    ) {
        let mut j = 0;
        while j < n {
            let width = (2 * LANES).min(n - j);
            let last = (width - 1) % LANES + 1;
            let [l0, l1, l2, l3, l4, l5, l6, l7] = std::array::from_fn(|l| if l < last { -1 } else { 0 });
            let lanes = _mm256_setr_epi32(l0, l1, l2, l3, l4, l5, l6, l7);
            let mut i = 0;
            while i < m {
                let height = TILE_ROWS.min(m - i);
                // SAFETY: element (i, j) of each matrix exists, as the caller promises, and the tile's
                // height, width and lanes end where the matrices do.
                unsafe {
                    let tile = Tile {
                        k,
                        a: a.data.as_ptr().add(i * a.row_stride),
                        a_row: a.row_stride,
                        a_col: a.col_stride,
                        b: b.as_ptr().add(j),
                        b_row: b_stride,
                        c: c.as_mut_ptr().add(i * c_stride + j),
                        c_row: c_stride,
                        lanes,
                    };
                    match height {
                        6 => tile.columns::<6>(width),
                        5 => tile.columns::<5>(width),
                        4 => tile.columns::<4>(width),
                        3 => tile.columns::<3>(width),
                        2 => tile.columns::<2>(width),
                        _ => tile.columns::<1>(width),
                    }
                }
                i += height;
            }
            j += width;
        }
    }

    impl Tile {
        /// # Safety
        /// As [`Tile::run`]; the tile has `width` columns.
        #[inline]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn columns<const M: usize>(self, width: usize) {
            // SAFETY: as the caller promises.
            unsafe {
                match width {
                    16 => self.run::<M, 2, false>(),
                    9..16 => self.run::<M, 2, true>(),
                    8 => self.run::<M, 1, false>(),
                    _ => self.run::<M, 1, true>(),
                }
            }
        }

        /// M rows by V vectors of C; with MASKED the last vector has only the tile's lanes.
        ///
        /// # Safety
        /// AVX2 and FMA; the M rows, the k inner elements and the columns exist in all three matrices.
        #[inline]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn run<const M: usize, const V: usize, const MASKED: bool>(self) {
            let Tile { k, a, a_row, a_col, b, b_row, c, c_row, lanes } = self;
            let mut acc = [[_mm256_setzero_ps(); V]; M];
            // SAFETY: as the caller promises; masked lanes are neither read nor written.
            unsafe {
                for p in 0..k {
                    let at = b.add(p * b_row);
                    let mut row = [_mm256_setzero_ps(); V];
                    for (v, row) in row.iter_mut().enumerate() {
                        *row = if MASKED && v + 1 == V {
                            _mm256_maskload_ps(at.add(v * LANES), lanes)
                        } else {
                            _mm256_loadu_ps(at.add(v * LANES))
                        };
                    }
                    for (i, acc) in acc.iter_mut().enumerate() {
                        let a = _mm256_broadcast_ss(&*a.add(i * a_row + p * a_col));
                        for (acc, b) in acc.iter_mut().zip(row) {
                            *acc = _mm256_fmadd_ps(a, b, *acc);
                        }
                    }
                }
                for (i, acc) in acc.into_iter().enumerate() {
                    for (v, acc) in acc.into_iter().enumerate() {
                        let at = c.add(i * c_row + v * LANES);
                        if MASKED && v + 1 == V {
                            _mm256_maskstore_ps(at, lanes, _mm256_add_ps(_mm256_maskload_ps(at, lanes), acc));
                        } else {
                            _mm256_storeu_ps(at, _mm256_add_ps(_mm256_loadu_ps(at), acc));
                        }
                    }
                }
            }
        }
    }
}
