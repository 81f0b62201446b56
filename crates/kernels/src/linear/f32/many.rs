//! Five tokens and more: a panel of 32 outputs is decoded once, piece by piece, and multiplied in register tiles
//! with all tokens.
//!
//! A piece of the panel stays in the first-level cache while the tokens pass by; between two pieces the sums rest
//! in a buffer, which does not change them. The last piece's tiles write the outputs, whose lines come from far away,
//! while the next ones are multiplied. The weights of the next piece are asked for meanwhile.

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::super::ahead::ask;
use super::super::strip::{LANES, OutPtr, StripTile, strip_rows};
use super::decode::{Decode, decode_panel};
use super::{MatrixRef, PANEL_COLS, PANEL_STRIPS};
use crate::Isa;
use crate::gemm::{COLS, Start, Strided, multiply, multiply_into};

/// Inputs of a piece, at most: 20 KB of 32, which leaves room for six tokens.
const PIECE: usize = 160;
/// Outputs of a panel.
const WIDE: usize = PANEL_STRIPS * LANES;
/// Tokens between two requests for weights.
const TOKENS: usize = 48;

thread_local! {
    /// The piece of a panel that this thread works on, input-major, and the sums of all tokens.
    static SCRATCH: RefCell<(Vec<__m256>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// # Safety
/// AVX2, FMA and F16C; sizes fit; the tile has at most four strips; its rows of `out` belong to the caller.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tile<D: Decode>(
    isa: Isa,
    w: &MatrixRef<'_>,
    tile: StripTile,
    x: &[f32],
    tokens: usize,
    out: OutPtr,
    next: Option<*const u8>,
) {
    // Taken, not borrowed: a closure would be a function of its own, without the vector instructions.
    let (mut piece, mut sums) = SCRATCH.take();
    piece.resize(PIECE * PANEL_STRIPS, _mm256_setzero_ps());
    sums.resize(tokens * WIDE, 0.0);
    let first = tile.first * LANES;
    let width = (tile.count * LANES).min(w.rows - first);
    // A part of a register tile is multiplied whole, and not written as such.
    let strips = tile.count.next_multiple_of(COLS / LANES);
    let whole = width == strips * LANES;
    // No inputs: one sum of nothing.
    let pieces = w.cols.div_ceil(PIECE).max(1);
    let length = w.cols.div_ceil(pieces).next_multiple_of(PANEL_COLS);
    let row_bytes = w.row_bytes();
    // SAFETY: the buffer holds the most inputs of a piece, of four strips; the rest as the caller promises.
    unsafe {
        let to = out.0.add(first);
        for p in 0..pieces {
            let (from, end) = (p * length, w.cols.min((p + 1) * length));
            for s in 0..strips {
                // A strip that is not there repeats the last one.
                let rows = strip_rows(w, tile.first + s.min(tile.count - 1));
                for k in (from..end).step_by(PANEL_COLS) {
                    let at = piece.as_mut_ptr().add((k - from) * PANEL_STRIPS + s);
                    decode_panel::<D>(&rows, row_bytes, k / PANEL_COLS, PANEL_COLS.min(end - k), at, PANEL_STRIPS);
                }
            }
            let last = p + 1 == pieces;
            let start = if p == 0 { Start::Zero } else { Start::Resume };
            let panel = (std::slice::from_raw_parts(piece.as_ptr().cast::<f32>(), PIECE * WIDE), WIDE);
            // What comes next of each row: this panel's next piece, or the next panel's first.
            let begin = if last {
                next
            } else {
                Some(strip_rows(w, tile.first)[0].wrapping_add(row_bytes * end / w.cols.max(1)))
            };
            let bytes = row_bytes * length / w.cols.max(1);
            for (part, token) in (0..tokens).step_by(TOKENS).enumerate() {
                if let Some(begin) = begin {
                    for row in (part..strips * LANES).step_by(tokens.div_ceil(TOKENS)) {
                        ask(begin.wrapping_add(row * row_bytes), bytes);
                    }
                }
                let count = TOKENS.min(tokens - token);
                let x = Strided::rows(&x[token * w.cols + from..], w.cols);
                let size = (count, strips * LANES, end - from);
                let sums = &mut sums[token * WIDE..(token + count) * WIDE];
                if last && whole {
                    multiply_into(isa, start, size, x, panel, (sums, WIDE), (to.add(token * w.rows), w.rows));
                } else {
                    multiply(isa, start, size, x, panel, (sums, WIDE));
                }
            }
        }
        if !whole {
            for (t, sums) in sums.chunks_exact(WIDE).enumerate().take(tokens) {
                std::ptr::copy_nonoverlapping(sums.as_ptr(), to.add(t * w.rows), width);
            }
        }
    }
    SCRATCH.set((piece, sums));
}
