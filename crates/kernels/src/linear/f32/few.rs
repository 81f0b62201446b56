//! One to four tokens: memory-bound. The weights of some strips are turned, so that a lane is a row, and laid into a few
//! kilobytes; then these are multiplied side by side. Turning keeps the shuffle units busy, and multiplying waits for
//! itself: apart, the processor does both at once.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::super::ahead::ask;
use super::super::strip::{LANES, OutPtr, StripTile, store, strip_rows};
use super::decode::{Decode, decode_panel};
use super::{MatrixRef, PANEL_COLS};

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

/// `T` tokens (the last one repeated if there are fewer). The sums of one strip wait for each other; those of
/// several, side by side, hide the wait, as far as there are registers.
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
    let end = tile.first + tile.count;
    let mut first = tile.first;
    while first < end {
        let side = match T {
            1 | 2 if end - first >= 4 => 4,
            4 if end - first >= 2 => 2,
            _ => 1,
        };
        // The weights after these, which are asked for meanwhile.
        let strip_bytes = LANES * w.row_bytes();
        let after = if first + side < end { Some(w.bytes[(first + side) * strip_bytes..].as_ptr()) } else { next };
        let group = Group { w, first, x, tokens, out, after };
        // SAFETY: passed on; these strips are the tile's.
        unsafe {
            match side {
                4 => group.run::<D, T, 4>(),
                2 => group.run::<D, T, 2>(),
                _ => group.run::<D, T, 1>(),
            }
        }
        first += side;
    }
}

/// Strips `first ..`, side by side.
struct Group<'a> {
    w: &'a MatrixRef<'a>,
    first: usize,
    x: &'a [f32],
    tokens: usize,
    out: OutPtr,
    after: Option<*const u8>,
}

impl Group<'_> {
    /// `S` strips and `T` tokens.
    ///
    /// # Safety
    /// As [`tile`], from within a function that has the features; the strips exist.
    #[inline(always)]
    unsafe fn run<D: Decode, const T: usize, const S: usize>(&self) {
        let Group { w, first, x, tokens, out, after } = *self;
        let row_bytes = w.row_bytes();
        let (whole, rest) = (w.cols / PANEL_COLS, w.cols % PANEL_COLS);
        // SAFETY: blocks and tokens are inside the checked sizes; the strips are the caller's; a prefetch may name
        // any address.
        unsafe {
            let mut xs = [x.as_ptr(); T];
            for (t, x) in xs.iter_mut().enumerate() {
                *x = x.add(t.min(tokens - 1) * w.cols);
            }
            let mut rows = [[std::ptr::null(); LANES]; S];
            for (s, rows) in rows.iter_mut().enumerate() {
                *rows = strip_rows(w, first + s);
            }
            let mut acc = [[_mm256_setzero_ps(); T]; S];
            let mut laid = [const { MaybeUninit::<D::Laid>::uninit() }; S];
            // Many rows are read side by side, which no hardware prefetcher follows.
            let mut ahead = after.unwrap_or(std::ptr::null());
            let step = if after.is_some() { S * LANES * row_bytes / w.cols.div_ceil(PANEL_COLS).max(1) } else { 0 };
            for b in 0..whole {
                ahead = ask(ahead, step);
                for (laid, rows) in laid.iter_mut().zip(&rows) {
                    D::lay(rows, b, laid.as_mut_ptr());
                }
                for k in 0..PANEL_COLS {
                    for (laid, acc) in laid.iter().zip(&mut acc) {
                        let weight = D::input(laid.as_ptr(), k);
                        for (x, sum) in xs.iter().zip(acc.iter_mut()) {
                            let x = _mm256_broadcast_ss(&*x.add(b * PANEL_COLS + k));
                            *sum = _mm256_fmadd_ps(weight, x, *sum);
                        }
                    }
                }
            }
            if rest > 0 {
                let mut panel = [_mm256_setzero_ps(); PANEL_COLS];
                for (rows, acc) in rows.iter().zip(&mut acc) {
                    decode_panel::<D>(rows, row_bytes, whole, rest, panel.as_mut_ptr(), 1);
                    for (k, &weight) in panel.iter().enumerate().take(rest) {
                        for (x, sum) in xs.iter().zip(acc.iter_mut()) {
                            let x = _mm256_broadcast_ss(&*x.add(whole * PANEL_COLS + k));
                            *sum = _mm256_fmadd_ps(weight, x, *sum);
                        }
                    }
                }
            }
            for (s, acc) in acc.iter().enumerate() {
                for (t, &sum) in acc.iter().enumerate().take(tokens) {
                    store(w, first + s, t, sum, out);
                }
            }
        }
    }
}
