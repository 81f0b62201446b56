//! The backward of `y = x W^T`: `dx = dy W` straight from the packed weights, and `dW = dy^T x`.
//!
//! The dense matrix never exists: a tile of `dx` owns 32 columns for all tokens and walks down the rows of W,
//! decoding a piece that fits the first-level cache at a time. Each weight is decoded once for all tokens (a few
//! times where the weight is so narrow that tokens are shared out as well). Sums over rows (and over tokens, for
//! dW) are blocked at lengths that depend on the number of rows (of tokens) only, so a token's gradient does not
//! depend on the others.

use std::cell::RefCell;

use super::MatrixRef;
use super::f32::{decode_rows, with_decode};
use super::panel::PANEL_COLS;
use crate::disjoint::Disjoint;
use crate::gemm::{COLS, ROWS, Start, Strided, multiply};
use crate::{Isa, Pool};

/// Rows of W decoded at a time, at most: 20 KB for 32 columns.
const PIECE: usize = 160;
/// Tokens that are worth a tile of their own.
const TOKEN_PART: usize = 48;
/// Rows of dW in a tile, a multiple of [`ROWS`].
const OUT_ROWS: usize = 96;
/// Columns of dW in a tile.
const OUT_COLS: usize = 192;
/// Tokens summed at a time into dW.
const TOKENS: usize = 256;

thread_local! {
    /// A piece of each factor, and the sums of the tile that this thread works on.
    static SCRATCH: RefCell<[Vec<f32>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

/// `dx = dy W`. Shapes: dy `[m, rows]`, dx `[m, cols]` (overwritten).
///
/// # Panics
/// If the slices do not have these sizes.
pub fn backward_input(pool: &Pool, isa: Isa, weight: MatrixRef<'_>, dy: &[f32], dx: &mut [f32]) {
    weight.check();
    let MatrixRef { block, rows, cols, .. } = weight;
    let tokens = dx.len().checked_div(cols).unwrap_or(0);
    assert!(dx.len() == tokens * cols && dy.len() == tokens * rows, "backward_input: lengths do not fit");
    if tokens == 0 {
        return;
    }
    // A narrow weight has few strips of columns; its tokens are shared out too. No sum is cut by it.
    let strips = cols.div_ceil(PANEL_COLS);
    let parts = (4 * pool.threads()).div_ceil(strips).min(tokens.div_ceil(TOKEN_PART));
    let part = tokens.div_ceil(parts);
    let pieces = rows.div_ceil(PIECE).max(1);
    let length = rows.div_ceil(pieces).next_multiple_of(8).max(8);
    let out = Disjoint::new(dx);
    pool.run(strips * parts, &|tile| {
        let (strip, token) = (tile % strips, tile / strips * part);
        let end = tokens.min(token + part);
        if token >= end {
            return;
        }
        let [mut piece, mut unused, mut sums] = SCRATCH.take();
        piece.resize(piece.len().max(length * PANEL_COLS), 0.0);
        sums.clear();
        sums.resize((end - token) * PANEL_COLS, 0.0);
        for row in (0..rows).step_by(length) {
            let count = length.min(rows - row);
            with_decode!(block, D => decode_rows::<D>(isa, &weight, row, count, strip, &mut piece));
            let dy = Strided::rows(&dy[token * rows + row..], rows);
            let size = (end - token, PANEL_COLS, count);
            multiply(isa, Start::Add, size, dy, (&piece, PANEL_COLS), (&mut sums, PANEL_COLS));
        }
        let (first, last) = (strip * PANEL_COLS, cols.min((strip + 1) * PANEL_COLS));
        for (token, sums) in (token..end).zip(sums.chunks_exact(PANEL_COLS)) {
            // SAFETY: each tile has a rectangle of dx of its own.
            unsafe { out.part(token * cols + first..token * cols + last) }.copy_from_slice(&sums[..last - first]);
        }
        unused.clear();
        SCRATCH.set([piece, unused, sums]);
    });
}

/// `dW = dy^T x`. Shapes: dy `[m, rows]`, x `[m, cols]`, dW `[rows, cols]` (overwritten).
///
/// # Panics
/// If the slices do not have these sizes.
pub fn backward_weight(pool: &Pool, isa: Isa, rows: usize, cols: usize, dy: &[f32], x: &[f32], dweight: &mut [f32]) {
    let tokens = x.len().checked_div(cols).unwrap_or(0);
    assert!(
        x.len() == tokens * cols && dy.len() == tokens * rows && dweight.len() == rows * cols,
        "backward_weight: lengths do not fit"
    );
    let (row_tiles, col_tiles) = (rows.div_ceil(OUT_ROWS), cols.div_ceil(OUT_COLS));
    let out = Disjoint::new(dweight);
    pool.run(row_tiles * col_tiles, &|tile| {
        let (row, col) = (tile / col_tiles * OUT_ROWS, tile % col_tiles * OUT_COLS);
        let (height, width) = (OUT_ROWS.min(rows - row), OUT_COLS.min(cols - col));
        let padded = width.next_multiple_of(COLS);
        let [mut left, mut right, mut sums] = SCRATCH.take();
        sums.clear();
        sums.resize(height * padded, 0.0);
        left.resize(left.len().max(OUT_ROWS * TOKENS), 0.0);
        right.resize(right.len().max(OUT_COLS * TOKENS), 0.0);
        for token in (0..tokens).step_by(TOKENS) {
            let count = TOKENS.min(tokens - token);
            pack::<ROWS>(&dy[token * rows..], rows, row..row + height, count, &mut left);
            pack::<COLS>(&x[token * cols..], cols, col..col + width, count, &mut right);
            for j in (0..padded).step_by(COLS) {
                let right = (&right[j * count..], COLS);
                for i in (0..height).step_by(ROWS) {
                    let left = Strided::transposed(&left[i * count..(i + ROWS) * count], ROWS);
                    let size = (ROWS.min(height - i), COLS, count);
                    multiply(isa, Start::Add, size, left, right, (&mut sums[i * padded + j..], padded));
                }
            }
        }
        for (i, sums) in sums.chunks_exact(padded).enumerate() {
            let at = (row + i) * cols + col;
            // SAFETY: each tile has a rectangle of dW of its own.
            unsafe { out.part(at..at + width) }.copy_from_slice(&sums[..width]);
        }
        SCRATCH.set([left, right, sums]);
    });
}

/// Columns of the first `count` rows of a row-major matrix as panels `[count, N]`, one after the other; the last
/// panel is filled up with zeros.
fn pack<const N: usize>(
    from: &[f32],
    stride: usize,
    columns: std::ops::Range<usize>,
    count: usize,
    panels: &mut [f32],
) {
    for (panel, column) in panels.chunks_exact_mut(count * N).zip(columns.clone().step_by(N)) {
        let width = N.min(columns.end - column);
        for (i, to) in panel.as_chunks_mut::<N>().0.iter_mut().enumerate() {
            let from = &from[i * stride + column..];
            match from.first_chunk::<N>() {
                Some(from) if width == N => *to = *from,
                _ => {
                    to[..width].copy_from_slice(&from[..width]);
                    to[width..].fill(0.0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Numbers;
    use crate::{BlockType, block};

    /// A sum of products against f64, within a few roundings of its terms' size.
    #[track_caller]
    fn assert_sum(got: f32, terms: impl Iterator<Item = (f32, f32)>, what: &str) {
        let (mut want, mut size) = (0.0, 0.0);
        for (a, b) in terms {
            let term = f64::from(a) * f64::from(b);
            want += term;
            size += term.abs();
        }
        assert!((f64::from(got) - want).abs() <= 5e-7 * size, "{what}: {got} where {want} was expected");
    }

    /// A weight of each type made of random bytes whose decoded values are finite and of modest size.
    fn random_weight(kind: BlockType, rows: usize, cols: usize) -> Vec<u8> {
        let values: Vec<f32> = Numbers::new(5).normal(rows * cols).iter().map(|v| 0.3 * v).collect();
        let mut bytes = Vec::new();
        match kind {
            BlockType::F32 => values.iter().for_each(|v| bytes.extend(v.to_le_bytes())),
            BlockType::F16 => values.iter().for_each(|&v| bytes.extend(half::f16::from_f32(v).to_le_bytes())),
            BlockType::BF16 => values.iter().for_each(|&v| bytes.extend(half::bf16::from_f32(v).to_le_bytes())),
            _ => {
                let mut numbers = Numbers::new(6);
                bytes.extend((0..kind.row_bytes(cols).unwrap() * rows).map(|_| numbers.below(256) as u8));
                // Every f16 in a block is a small scale, so that no block decodes to infinity.
                for block in bytes.chunks_exact_mut(kind.block_bytes()) {
                    crate::testing::set_scales(kind, block, || 0.002 + 0.004 * numbers.uniform() as f32);
                }
            }
        }
        bytes
    }

    #[test]
    fn dx_from_packed_weights_of_every_type_is_the_dense_product() {
        let pool = Pool::new(2);
        for kind in BlockType::ALL {
            let (tokens, rows) = (70, 131);
            let cols = if kind.is_dense() { 77 } else { 3 * kind.block_len() };
            let bytes = random_weight(kind, rows, cols);
            let mut w = vec![0.0; rows * cols];
            block::dequantize(kind, &bytes, &mut w);
            assert!(w.iter().all(|v| v.is_finite()), "{kind}");
            let weight = MatrixRef { bytes: &bytes, block: kind, rows, cols };
            let dy = Numbers::new(7).normal(tokens * rows);
            let mut dx = vec![1.0; tokens * cols];
            backward_input(&pool, Isa::detect(), weight, &dy, &mut dx);
            for t in 0..tokens {
                for c in 0..cols {
                    let terms = (0..rows).map(|r| (dy[t * rows + r], w[r * cols + c]));
                    assert_sum(dx[t * cols + c], terms, &format!("{kind} dx[{t}][{c}]"));
                }
            }
            for isa in Isa::available() {
                let mut again = vec![0.0; tokens * cols];
                backward_input(&Pool::new(1), isa, weight, &dy, &mut again);
                assert_eq!(again, dx, "{kind} {}", isa.name());
            }
            let mut alone = vec![0.0; cols];
            backward_input(&pool, Isa::detect(), weight, &dy[4 * rows..5 * rows], &mut alone);
            assert_eq!(alone, dx[4 * cols..5 * cols], "{kind}: a token alone");
        }
    }

    #[test]
    fn dw_is_the_dense_product() {
        let pool = Pool::new(2);
        for (tokens, rows, cols) in [(1, 1, 1), (300, 200, 70), (5, 13, 130)] {
            let mut numbers = Numbers::new(8);
            let (dy, x) = (numbers.normal(tokens * rows), numbers.normal(tokens * cols));
            let mut dw = vec![1.0; rows * cols];
            backward_weight(&pool, Isa::detect(), rows, cols, &dy, &x, &mut dw);
            for r in 0..rows {
                for c in 0..cols {
                    let terms = (0..tokens).map(|t| (dy[t * rows + r], x[t * cols + c]));
                    assert_sum(dw[r * cols + c], terms, &format!("dW[{r}][{c}]"));
                }
            }
            for isa in Isa::available() {
                let mut again = vec![0.0; rows * cols];
                backward_weight(&Pool::new(1), isa, rows, cols, &dy, &x, &mut again);
                assert_eq!(again, dw, "{}", isa.name());
            }
        }
    }

    #[test]
    fn nothing_comes_of_no_tokens_or_no_rows() {
        let pool = Pool::new(2);
        let empty = MatrixRef { bytes: &[], block: BlockType::F32, rows: 0, cols: 3 };
        let mut dx = [1.0; 6];
        backward_input(&pool, Isa::detect(), empty, &[], &mut dx);
        assert_eq!(dx, [0.0; 6]);
        let mut dw = [1.0; 6];
        backward_weight(&pool, Isa::detect(), 2, 3, &[], &[], &mut dw);
        assert_eq!(dw, [0.0; 6]);
    }
}
