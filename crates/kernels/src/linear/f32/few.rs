//! One to four tokens: memory-bound, so weights go from memory to registers once and are multiplied there.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::super::strip::{LANES, OutPtr, StripTile, store, strip_rows};
use super::decode::{Decode, decode_panel};
use super::{MatrixRef, PANEL_COLS};

/// Strips that are walked side by side, at most: the sums of one wait for each other, those of four hide the wait.
const SIDE: usize = 4;
/// Bytes that are walked side by side, unless a single strip has more: with long rows a strip takes so long to
/// arrive that the wait does not matter, and what is fetched ahead must still be in the cache when its turn comes.
const SIDE_BYTES: usize = 12 << 10;

/// The weights at `next` are those that this thread will probably want after the tile.
///
/// # Safety
/// AVX2, FMA and F16C; sizes fit; 1 to 4 tokens; the tile's rows of `out` belong to the caller.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tile<D: Decode>(
    w: &MatrixRef<'_>,
    tile: StripTile,
    x: &[f32],
    tokens: usize,
    out: OutPtr,
    next: Option<*const u8>,
) {
    // SAFETY: passed on.
    unsafe {
        match tokens {
            1 => strips::<D, 1>(w, tile, x, tokens, out, next),
            2 => strips::<D, 2>(w, tile, x, tokens, out, next),
            _ => strips::<D, 4>(w, tile, x, tokens, out, next),
        }
    }
}

/// `T` tokens (the last one repeated if there are fewer).
///
/// # Safety
/// As [`tile`], from within a function that has the features.
#[inline(always)]
unsafe fn strips<D: Decode, const T: usize>(
    w: &MatrixRef<'_>,
    tile: StripTile,
    x: &[f32],
    tokens: usize,
    out: OutPtr,
    next: Option<*const u8>,
) {
    let row_bytes = w.row_bytes();
    let (whole, rest) = (w.cols / PANEL_COLS, w.cols % PANEL_COLS);
    let end = tile.first + tile.count;
    // SAFETY: blocks and tokens are inside the checked sizes; the tile owns its rows; a prefetch may name any
    // address.
    unsafe {
        let mut xs = [x.as_ptr(); T];
        for (t, x) in xs.iter_mut().enumerate() {
            *x = x.add(t.min(tokens - 1) * w.cols);
        }
        let mut first = tile.first;
        while first < end {
            // Not known to the compiler, which would unroll the loops over strips and run out of registers.
            let side = (SIDE_BYTES / (LANES * row_bytes).max(1)).clamp(1, SIDE).min(end - first);
            let mut rows = [[std::ptr::null(); LANES]; SIDE];
            for (s, rows) in rows.iter_mut().enumerate().take(side) {
                *rows = strip_rows(w, first + s);
            }
            let mut acc = [[_mm256_setzero_ps(); T]; SIDE];
            // Many rows are read side by side, which no hardware prefetcher follows: the strips after these ones
            // are asked for meanwhile.
            let after = if first + side < end { Some(rows[0][0].wrapping_add(side * LANES * row_bytes)) } else { next };
            let mut ahead = after.unwrap_or(std::ptr::null());
            let step = if after.is_some() { side * LANES * row_bytes / w.cols.div_ceil(PANEL_COLS).max(1) } else { 0 };
            for b in 0..whole {
                let until = ahead.wrapping_add(step);
                while ahead < until {
                    _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                    ahead = ahead.wrapping_add(64);
                }
                let mut pieces = [const { MaybeUninit::uninit() }; SIDE];
                for (piece, rows) in pieces.iter_mut().zip(&rows).take(side) {
                    piece.write(D::piece(rows, b));
                }
                for i in 0..PANEL_COLS / 8 {
                    let at = b * PANEL_COLS + 8 * i;
                    for (piece, acc) in pieces.iter().zip(&mut acc).take(side) {
                        let weights = D::eight(piece.assume_init_ref(), i);
                        let mut sums = *acc;
                        for (j, weight) in weights.into_iter().enumerate() {
                            for (x, sum) in xs.iter().zip(sums.iter_mut()) {
                                *sum = _mm256_fmadd_ps(weight, _mm256_broadcast_ss(&*x.add(at + j)), *sum);
                            }
                        }
                        *acc = sums;
                    }
                }
            }
            if rest > 0 {
                let mut panel = [_mm256_setzero_ps(); PANEL_COLS];
                for (rows, acc) in rows.iter().zip(&mut acc).take(side) {
                    decode_panel::<D>(rows, row_bytes, whole, rest, panel.as_mut_ptr(), 1);
                    for (k, &weight) in panel.iter().enumerate().take(rest) {
                        for (x, sum) in xs.iter().zip(acc.iter_mut()) {
                            let x = _mm256_broadcast_ss(&*x.add(whole * PANEL_COLS + k));
                            *sum = _mm256_fmadd_ps(weight, x, *sum);
                        }
                    }
                }
            }
            for (s, acc) in acc.iter().enumerate().take(side) {
                for (t, &sum) in acc.iter().enumerate().take(tokens) {
                    store(w, first + s, t, sum, out);
                }
            }
            first += side;
        }
    }
}
