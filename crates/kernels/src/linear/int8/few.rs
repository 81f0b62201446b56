//! One or two tokens: memory-bound, so weights go from memory to registers once and are multiplied there.
//!
//! Products run along the rows: a vector of two rows' quants meets the inputs as they lie, and the sums of eight rows are
//! brought together after it, which takes fewer shuffles than to bring the quants together before.

use std::arch::x86_64::*;

use super::super::MatrixRef;
use super::super::ahead::{AHEAD, ask_for};
use super::super::panel::{Format, PANEL_COLS, Scales, each_panel};
use super::super::strip::{OutPtr, StripTile, store, strip_rows};
use super::QuantizedRows;
use super::sums::{entries, keeps_offset, offset, scale, scaled_sum};

entries!(tile);

/// # Safety
/// As [`avx2`], from within a function that has the features.
#[inline(always)]
unsafe fn tile<F: Format, const VNNI: bool>(w: &MatrixRef<'_>, tile: StripTile, x: &QuantizedRows, out: OutPtr) {
    // SAFETY: passed on.
    unsafe {
        match x.tokens() {
            1 => tokens::<F, VNNI, 1>(w, tile, x, out),
            _ => tokens::<F, VNNI, 2>(w, tile, x, out),
        }
    }
}

#[inline(always)]
unsafe fn tokens<F: Format, const VNNI: bool, const T: usize>(
    w: &MatrixRef<'_>,
    tile: StripTile,
    x: &QuantizedRows,
    out: OutPtr,
) {
    let panels = w.cols / PANEL_COLS;
    let blocks = panels / F::PANELS;
    for strip in tile.first..tile.first + tile.count {
        let rows = strip_rows(w, strip);
        let mut ahead = rows[0].wrapping_add(AHEAD);
        // SAFETY: blocks and tokens are inside the checked sizes; the tile owns its rows.
        unsafe {
            let mut acc = [_mm256_setzero_ps(); T];
            for b in 0..blocks {
                ahead = ask_for::<F>(ahead);
                let header = F::header(&rows, b);
                let first = F::PANELS * b;
                each_panel!(F, J => {
                    if J.is_multiple_of(F::SHARE) {
                        let mut sums = [[[_mm256_setzero_si256(); 2]; 4]; T];
                        // Not as a loop, whose number of turns would not be known soon enough.
                        dots::<F, VNNI, T>(&rows, b, &header, J, 0, x, first + J, &mut sums);
                        if F::GROUPS == 2 {
                            dots::<F, VNNI, T>(&rows, b, &header, J, 1, x, first + J, &mut sums);
                        }
                        for k in 0..F::SHARE {
                            let scales = F::scales(&rows, b, &header, J + k);
                            for (t, (acc, sums)) in acc.iter_mut().zip(&sums).enumerate() {
                                *acc = add::<F, VNNI>(sums[k], &scales, x, t * panels + first + J + k, *acc);
                            }
                        }
                    }
                });
            }
            for (t, &acc) in acc.iter().enumerate() {
                store(w, strip, t, acc, out);
            }
        }
    }
}

/// The integer sums of group `g` of the panels from `j` on of a block, [`Format::SHARE`] of them, into `sums[token][panel][g]`; `at`
/// is the first token's block of activations for the first of them.
///
/// # Safety
/// The enclosing function has the features, and the blocks exist.
#[inline(always)]
#[expect(clippy::too_many_arguments)]
unsafe fn dots<F: Format, const VNNI: bool, const T: usize>(
    rows: &[*const u8; 8],
    block: usize,
    header: &F::Header,
    j: usize,
    g: usize,
    x: &QuantizedRows,
    at: usize,
    sums: &mut [[[__m256i; 2]; 4]; T],
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut quads = [[[_mm256_setzero_si256(); 4]; 4]; T];
        for i in 0..4 {
            let zero = [_mm256_setzero_si256(); 4];
            let (first, last) = match (F::GROUPS, g) {
                (1, _) => (F::vectors(rows, block, header, j, i), F::vectors(rows, block, header, j, 4 + i)),
                (_, 0) => (F::vectors(rows, block, header, j, i), zero),
                _ => (zero, F::vectors(rows, block, header, j, 4 + i)),
            };
            for (t, quads) in quads.iter_mut().enumerate() {
                for k in 0..F::SHARE {
                    let at = t * (x.cols() / PANEL_COLS) + at + k;
                    let inputs = x.quants.as_ptr().add(at * PANEL_COLS);
                    let x = _mm256_broadcastsi128_si256(_mm_loadu_si128(inputs.cast()));
                    let y = _mm256_broadcastsi128_si256(_mm_loadu_si128(inputs.add(16).cast()));
                    quads[k][i] = match (F::GROUPS, g) {
                        (1, _) => both::<F, VNNI>(first[k], x, last[k], y),
                        (_, 0) => one::<F, VNNI>(first[k], x),
                        _ => one::<F, VNNI>(last[k], y),
                    };
                }
            }
        }
        for (quads, sums) in quads.iter().zip(sums) {
            for k in 0..F::SHARE {
                sums[k][g] = together::<F>(quads[k]);
            }
        }
    }
}

/// Adds the products of a panel with the block of activations `at`.
///
/// # Safety
/// The enclosing function has the features, and the block exists.
#[inline(always)]
unsafe fn add<F: Format, const VNNI: bool>(
    sums: [__m256i; 2],
    scales: &Scales,
    x: &QuantizedRows,
    at: usize,
    mut acc: __m256,
) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe {
        let scale = scale(x, at);
        for g in 0..F::GROUPS {
            let mut sums = sums[g];
            if keeps_offset::<F>(VNNI) {
                sums = _mm256_sub_epi32(sums, offset::<F>(x, at, g));
            }
            acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(scales.scales[g], scale), acc);
        }
        if F::HAS_MIN {
            for g in 0..F::GROUPS {
                acc = _mm256_fmadd_ps(scales.mins[g], scaled_sum::<F>(x, at, g, scale), acc);
            }
        }
        acc
    }
}

/// Sums of four products each.
///
/// # Safety
/// The enclosing function has the features.
#[inline(always)]
unsafe fn one<F: Format, const VNNI: bool>(q: __m256i, x: __m256i) -> __m256i {
    // SAFETY: register operations only.
    unsafe {
        if VNNI {
            _mm256_dpbusd_epi32(_mm256_setzero_si256(), q, x)
        } else {
            _mm256_madd_epi16(pairs::<F>(q, x), _mm256_set1_epi16(1))
        }
    }
}

/// Sums of eight products each, four of either.
///
/// # Safety
/// As [`one`].
#[inline(always)]
unsafe fn both<F: Format, const VNNI: bool>(p: __m256i, x: __m256i, q: __m256i, y: __m256i) -> __m256i {
    // SAFETY: register operations only.
    unsafe {
        if VNNI {
            _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(_mm256_setzero_si256(), p, x), q, y)
        } else if F::RUN >= 2 {
            let pairs = _mm256_add_epi16(pairs::<F>(p, x), pairs::<F>(q, y));
            _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
        } else {
            _mm256_add_epi32(one::<F, VNNI>(p, x), one::<F, VNNI>(q, y))
        }
    }
}

/// Sums of two products each, in 16 bits.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn pairs<F: Format>(q: __m256i, x: __m256i) -> __m256i {
    // SAFETY: register operations only.
    unsafe {
        if F::RUN == 0 {
            // A pair of 8-bit products may not fit: use |q| times x with q's sign, which does.
            let signed = _mm256_xor_si256(q, _mm256_set1_epi8(-128));
            _mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(x, signed))
        } else {
            _mm256_maddubs_epi16(q, x)
        }
    }
}

/// Whether sums of that many products fit 16 bits.
const fn fits<F: Format>(products: i32) -> bool {
    let largest = match F::RUN {
        0 => 255,
        1 => 127,
        2 => 63,
        4 => 31,
        _ => 15,
    };
    largest * 127 * products <= i16::MAX as i32
}

/// The sums of four dwords each: dword `i` of either half is that of the half of vector `i`.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn together<F: Format>([a, b, c, d]: [__m256i; 4]) -> __m256i {
    // SAFETY: register operations only.
    unsafe {
        if const { fits::<F>(16 / F::GROUPS as i32) } {
            let ones = _mm256_set1_epi16(1);
            let ab = _mm256_madd_epi16(_mm256_packs_epi32(a, b), ones);
            let cd = _mm256_madd_epi16(_mm256_packs_epi32(c, d), ones);
            _mm256_madd_epi16(_mm256_packs_epi32(ab, cd), ones)
        } else {
            let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
        }
    }
}
