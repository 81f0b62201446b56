//! Five tokens and more: a panel of 16 outputs is decoded once, piece by piece, and multiplied in register tiles
//! with all tokens.
//!
//! A piece of the panel stays in the first-level cache while the tokens pass by; between two pieces the sums rest
//! in a buffer, which does not change them.

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::super::strip::{LANES, OutPtr, StripTile, strip_rows};
use super::decode::{Decode, decode_panel};
use super::{MatrixRef, PANEL_COLS, PANEL_STRIPS};
use crate::Isa;
use crate::gemm::{COLS, Start, Strided, multiply};

/// Inputs of a piece, at most: 20 KB of 32, which leaves room for six tokens.
const PIECE: usize = 320;

thread_local! {
    /// The piece of a panel that this thread works on, input-major, and the sums of all tokens.
    static SCRATCH: RefCell<(Vec<__m256>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// # Safety
/// AVX2, FMA and F16C; sizes fit; the tile has at most two strips; its rows of `out` belong to the caller.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tile<D: Decode>(
    isa: Isa,
    w: &MatrixRef<'_>,
    tile: StripTile,
    x: &[f32],
    tokens: usize,
    out: OutPtr,
) {
    // Taken, not borrowed: a closure would be a function of its own, without the vector instructions.
    let (mut piece, mut sums) = SCRATCH.take();
    piece.resize(PIECE * PANEL_STRIPS, _mm256_setzero_ps());
    // No inputs: a sum of nothing.
    sums.resize(tokens * COLS, 0.0);
    if w.cols == 0 {
        sums.fill(0.0);
    }
    let pieces = w.cols.div_ceil(PIECE);
    let length = w.cols.div_ceil(pieces.max(1)).next_multiple_of(PANEL_COLS);
    let row_bytes = w.row_bytes();
    // SAFETY: the buffer holds the most inputs of a piece, of two strips; the rest as the caller promises.
    unsafe {
        for p in 0..pieces {
            let (from, to) = (p * length, w.cols.min((p + 1) * length));
            for s in 0..PANEL_STRIPS {
                // A strip that is not there repeats the last one.
                let rows = strip_rows(w, tile.first + s.min(tile.count - 1));
                for k in (from..to).step_by(PANEL_COLS) {
                    let at = piece.as_mut_ptr().add((k - from) * PANEL_STRIPS + s);
                    decode_panel::<D>(&rows, row_bytes, k / PANEL_COLS, PANEL_COLS.min(to - k), at, PANEL_STRIPS);
                }
            }
            let start = if p == 0 { Start::Zero } else { Start::Resume };
            let panel = std::slice::from_raw_parts(piece.as_ptr().cast::<f32>(), PIECE * COLS);
            let x = Strided::rows(&x[from..], w.cols);
            multiply(isa, start, (tokens, COLS, to - from), x, (panel, COLS), (&mut sums, COLS));
        }
        let first = tile.first * LANES;
        let width = (tile.count * LANES).min(w.rows - first);
        for (t, sums) in sums.chunks_exact(COLS).enumerate().take(tokens) {
            let to = out.0.add(t * w.rows + first);
            if width == COLS {
                _mm256_storeu_ps(to, _mm256_loadu_ps(sums.as_ptr()));
                _mm256_storeu_ps(to.add(LANES), _mm256_loadu_ps(sums.as_ptr().add(LANES)));
            } else {
                std::ptr::copy_nonoverlapping(sums.as_ptr(), to, width);
            }
        }
    }
    SCRATCH.set((piece, sums));
}
