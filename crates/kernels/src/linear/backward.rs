//! The backward of `y = x W^T`: `dx = dy W` straight from the packed weights, and `dW = dy^T x`.
//!
//! The dense matrix never exists: a tile of `dx` owns some strips of 32 columns for all tokens and walks down the rows
//! of W, decoding a piece of a strip that fits the first-level cache at a time; the strips share the piece of dy, which
//! stays in the second one. Each weight is decoded once for all tokens (a few times where the weight is so narrow that
//! tokens are shared out as well). Sums over rows (and over tokens, for dW) are blocked at lengths that depend on the
//! number of rows (of tokens) only, so a token's gradient does not depend on the others.

use std::cell::RefCell;

use super::f32::{decode_rows, with_decode};
use super::panel::PANEL_COLS;
use super::{MatrixRef, ahead};
use crate::disjoint::Disjoint;
use crate::gemm::{COLS, ROWS, Start, Strided, multiply, multiply_into};
use crate::{Isa, Pool};

/// Rows of W decoded at a time, at most: 20 KB for 32 columns.
const PIECE: usize = 160;
/// Tokens that are worth a tile of their own.
const TOKEN_PART: usize = 48;
/// Sums of dx that a tile keeps, in numbers: a third of a second-level cache of 512 KB.
const SUMS: usize = 40 << 10;
/// Rows of dW in a tile, a multiple of [`ROWS`].
const OUT_ROWS: usize = 192;
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
    let group = strips_together(strips, part, if parts == 1 { pool.threads() } else { strips });
    let groups = strips.div_ceil(group);
    let pieces = rows.div_ceil(PIECE).max(1);
    let length = rows.div_ceil(pieces).next_multiple_of(8).max(8);
    let row_bytes = weight.row_bytes();
    let strip_bytes = row_bytes * PANEL_COLS / cols.next_multiple_of(PANEL_COLS);
    let out = Disjoint::new(dx);
    pool.run(groups * parts, &|tile| {
        let first_token = tile / groups * part;
        let tile_tokens = tokens.min(first_token + part).saturating_sub(first_token);
        let first = tile % groups * group;
        let strips = first..strips.min(first + group);
        if tile_tokens == 0 {
            return;
        }
        let [mut piece, unused, mut sums] = SCRATCH.take();
        piece.resize(piece.len().max(length * PANEL_COLS), 0.0);
        sums.clear();
        sums.resize(tile_tokens * PANEL_COLS * strips.len(), 0.0);
        let strip_sums = tile_tokens * PANEL_COLS;
        for row in (0..rows).step_by(length) {
            let count = length.min(rows - row);
            for (strip, sums) in strips.clone().zip(sums.chunks_exact_mut(strip_sums)) {
                with_decode!(block, D => decode_rows::<D>(isa, &weight, row, count, strip, &mut piece));
                let whole = (strip + 1) * PANEL_COLS <= cols;
                let factor = (&piece[..], PANEL_COLS);
                // What is decoded next is on its way while this is multiplied.
                let (next, next_rows) = match strip + 1 < strips.end {
                    true => (strip + 1, row..row + count),
                    false => (strips.start, row + count..rows.min(row + count + length)),
                };
                for (part, token) in (0..tile_tokens).step_by(TOKEN_PART).enumerate() {
                    for row in next_rows.clone().skip(part).step_by(tile_tokens.div_ceil(TOKEN_PART)) {
                        ahead::ask(weight.bytes[row * row_bytes + next * strip_bytes..].as_ptr(), strip_bytes);
                    }
                    let number = TOKEN_PART.min(tile_tokens - token);
                    let from = Strided::rows(&dy[(first_token + token) * rows + row..], rows);
                    let size = (number, PANEL_COLS, count);
                    let sums = &mut sums[token * PANEL_COLS..][..number * PANEL_COLS];
                    if whole && row + count == rows {
                        // SAFETY: each tile has a rectangle of dx of its own.
                        unsafe {
                            let to = out.start().add((first_token + token) * cols + strip * PANEL_COLS);
                            multiply_into(isa, Start::Add, size, from, factor, (sums, PANEL_COLS), (to, cols));
                        }
                    } else {
                        multiply(isa, Start::Add, size, from, factor, (sums, PANEL_COLS));
                    }
                }
            }
        }
        for (strip, sums) in strips.zip(sums.chunks_exact(strip_sums)) {
            let (first, last) = (strip * PANEL_COLS, cols.min((strip + 1) * PANEL_COLS));
            if rows > 0 && last - first == PANEL_COLS {
                continue;
            }
            for (token, sums) in (first_token..).zip(sums.chunks_exact(PANEL_COLS)) {
                // SAFETY: each tile has a rectangle of dx of its own.
                unsafe { out.part(token * cols + first..token * cols + last) }.copy_from_slice(&sums[..last - first]);
            }
        }
        SCRATCH.set([piece, unused, sums]);
    });
}

/// Strips of dx in a tile: as many as let the threads end together and keep their sums in the second-level cache.
fn strips_together(strips: usize, tokens: usize, threads: usize) -> usize {
    let most = (SUMS / (tokens * PANEL_COLS)).clamp(1, strips);
    let rounds = |group: usize| strips.div_ceil(group).div_ceil(threads) * group;
    (1..=most).rev().min_by_key(|&group| rounds(group)).unwrap_or(1)
}

/// `dW += dy^T x`. Shapes: dy `[m, rows]`, x `[m, cols]`, dW `[rows, cols]`, which several passes can add to.
///
/// # Panics
/// If the slices do not have these sizes.
pub fn backward_weight(pool: &Pool, isa: Isa, rows: usize, cols: usize, dy: &[f32], x: &[f32], dweight: &mut [f32]) {
    let tokens = x.len().checked_div(cols).unwrap_or(0);
    assert!(
        x.len() == tokens * cols && dy.len() == tokens * rows && dweight.len() == rows * cols,
        "backward_weight: lengths do not fit"
    );
    let col_tiles = cols.div_ceil(OUT_COLS);
    // Half the size where the threads would not end together.
    let few = rows.div_ceil(OUT_ROWS) * col_tiles < 8 * pool.threads();
    let out_rows = if few { OUT_ROWS / 2 } else { OUT_ROWS };
    let out = Disjoint::new(dweight);
    pool.run(rows.div_ceil(out_rows) * col_tiles, &|tile| {
        let (row, col) = (tile / col_tiles * out_rows, tile % col_tiles * OUT_COLS);
        let (height, width) = (out_rows.min(rows - row), OUT_COLS.min(cols - col));
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
            let dw = unsafe { out.part(at..at + width) };
            dw.iter_mut().zip(sums).for_each(|(dw, sum)| *dw += sum);
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
    // Some rows at a time, which stay in the first-level cache while all panels take from them.
    for first in (0..count).step_by(PACKED) {
        let some = first..count.min(first + PACKED);
        for (panel, column) in panels.chunks_exact_mut(count * N).zip(columns.clone().step_by(N)) {
            let width = N.min(columns.end - column);
            for (i, to) in some.clone().zip(&mut panel.as_chunks_mut::<N>().0[some.clone()]) {
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
}

/// Rows that [`pack`] reads at a time: one from each way of the first-level cache, if their distance is a power of two.
const PACKED: usize = 8;

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
            let mut dw = vec![0.0; rows * cols];
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
            let mut twice = dw.clone();
            backward_weight(&pool, Isa::detect(), rows, cols, &dy, &x, &mut twice);
            assert!(twice.iter().zip(&dw).all(|(twice, once)| *twice == once + once), "dW of two passes");
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
        assert_eq!(dw, [1.0; 6]);
    }
}
