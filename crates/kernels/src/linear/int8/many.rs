//! More than two tokens: two strips are unpacked into a buffer, a row in each lane, and multiplied with all tokens; so many
//! inputs at a time that the buffer stays in the first cache.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::super::MatrixRef;
use super::super::ahead::{AHEAD, ask_for};
use super::super::panel::{Format, PANEL_COLS, Panel, each_panel};
use super::super::strip::{LANES, OutPtr, StripTile, load, store, strip_rows};
use super::QuantizedRows;
use super::sums::{entries, keeps_offset, offset, scale, scaled_sum};

entries!(tile);

/// A panel in a strip's buffer: 8 vectors of quants, then the scales, then the minima.
#[derive(Clone, Copy)]
struct Stored(*const __m256i);
/// Vectors of a stored panel.
const STORED: usize = 12;

/// Stores a panel, as much of it as the format has.
///
/// # Safety
/// AVX; there is room for [`STORED`] vectors.
#[inline(always)]
unsafe fn keep<F: Format>(panel: &Panel, to: *mut __m256i) {
    // SAFETY: as the caller promises.
    unsafe {
        for (i, q) in panel.lanes().iter().enumerate() {
            _mm256_store_si256(to.add(i), *q);
        }
        for g in 0..F::GROUPS {
            _mm256_store_si256(to.add(8 + g), _mm256_castps_si256(panel.scales.scales[g]));
            if F::HAS_MIN {
                _mm256_store_si256(to.add(10 + g), _mm256_castps_si256(panel.scales.mins[g]));
            }
        }
    }
}

impl Stored {
    #[inline(always)]
    unsafe fn quants(&self, i: usize) -> __m256i {
        // SAFETY: `i` is below 8, inside the stored panel.
        unsafe { _mm256_load_si256(self.0.add(i)) }
    }
    #[inline(always)]
    unsafe fn scale(&self, group: usize) -> __m256 {
        // SAFETY: vectors 8 and 9 are the scales.
        unsafe { _mm256_castsi256_ps(_mm256_load_si256(self.0.add(8 + group))) }
    }
    #[inline(always)]
    unsafe fn min(&self, group: usize) -> __m256 {
        // SAFETY: vectors 10 and 11 are the minima.
        unsafe { _mm256_castsi256_ps(_mm256_load_si256(self.0.add(10 + group))) }
    }
}

/// Adds 32 inputs of `S` strips and `T` tokens to the accumulators.
///
/// # Safety
/// The enclosing function has the features; tokens `first .. first + T` and block `b` exist.
#[inline(always)]
unsafe fn accumulate<F: Format, const VNNI: bool, const S: usize, const T: usize>(
    w: &[Stored; S],
    x: &QuantizedRows,
    first: usize,
    b: usize,
    acc: &mut [[__m256; T]; S],
) {
    let blocks = x.cols() / PANEL_COLS;
    let quads = 8 / F::GROUPS;
    // SAFETY: the caller promises that the tokens and the block exist.
    unsafe {
        let mut at = [0; T];
        let mut quants = [std::ptr::null::<i32>(); T];
        let mut scales = [_mm256_setzero_ps(); T];
        for t in 0..T {
            at[t] = (first + t) * blocks + b;
            quants[t] = x.quants.as_ptr().add(at[t] * PANEL_COLS).cast();
            scales[t] = scale(x, at[t]);
        }
        for g in 0..F::GROUPS {
            let mut sums = [[_mm256_setzero_si256(); T]; S];
            if VNNI {
                for i in g * quads..(g + 1) * quads {
                    for t in 0..T {
                        let v = _mm256_set1_epi32(quants[t].add(i).read_unaligned());
                        for s in 0..S {
                            sums[s][t] = _mm256_dpbusd_epi32(sums[s][t], w[s].quants(i), v);
                        }
                    }
                }
            } else if F::RUN == 0 {
                // A pair of 8-bit products may not fit 16 bits: use |q| times x with q's sign, which does.
                for i in g * quads..(g + 1) * quads {
                    for (w, sums) in w.iter().zip(&mut sums) {
                        let signed = _mm256_xor_si256(w.quants(i), _mm256_set1_epi8(-128));
                        let magnitude = _mm256_abs_epi8(signed);
                        for (sum, quants) in sums.iter_mut().zip(quants) {
                            let v = _mm256_set1_epi32(quants.add(i).read_unaligned());
                            let pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(v, signed));
                            let quads = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                            *sum = _mm256_add_epi32(*sum, quads);
                        }
                    }
                }
            } else {
                let mut i = g * quads;
                while i < (g + 1) * quads {
                    let mut pairs = [[_mm256_setzero_si256(); T]; S];
                    let run = if F::RUN < quads { F::RUN } else { quads };
                    for i in i..i + run {
                        let q: [__m256i; S] = std::array::from_fn(|s| w[s].quants(i));
                        for t in 0..T {
                            let v = _mm256_set1_epi32(quants[t].add(i).read_unaligned());
                            for s in 0..S {
                                pairs[s][t] = _mm256_add_epi16(pairs[s][t], _mm256_maddubs_epi16(q[s], v));
                            }
                        }
                    }
                    for (sum, pairs) in sums.as_flattened_mut().iter_mut().zip(pairs.as_flattened()) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(*pairs, _mm256_set1_epi16(1)));
                    }
                    i += run;
                }
            }
            for t in 0..T {
                if keeps_offset::<F>(VNNI) {
                    let offset = offset::<F>(x, at[t], g);
                    for sums in &mut sums {
                        sums[t] = _mm256_sub_epi32(sums[t], offset);
                    }
                }
                for s in 0..S {
                    let scale = _mm256_mul_ps(w[s].scale(g), scales[t]);
                    acc[s][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[s][t]), scale, acc[s][t]);
                }
            }
        }
        if F::HAS_MIN {
            for t in 0..T {
                for g in 0..F::GROUPS {
                    let sum = scaled_sum::<F>(x, at[t], g, scales[t]);
                    for s in 0..S {
                        acc[s][t] = _mm256_fmadd_ps(w[s].min(g), sum, acc[s][t]);
                    }
                }
            }
        }
    }
}

/// Panels of a strip that are unpacked at a time: those of two strips fill half of the first cache.
const CHUNK: usize = 24;

/// # Safety
/// As [`avx2`], from within a function that has the features.
#[inline(always)]
unsafe fn tile<F: Format, const VNNI: bool>(w: &MatrixRef<'_>, tile: StripTile, x: &QuantizedRows, out: OutPtr) {
    let mut buffer = [MaybeUninit::<__m256i>::uninit(); 2 * CHUNK * STORED];
    let panels: *mut __m256i = buffer.as_mut_ptr().cast();
    let blocks = w.cols / PANEL_COLS;
    let end = tile.first + tile.count;
    let mut strip = tile.first;
    // SAFETY: chunks are whole blocks of the format; the buffer holds the panels of a chunk of two strips; the
    // rest is passed on.
    unsafe {
        while strip < end {
            let strips = (end - strip).min(2);
            for first in (0..blocks).step_by(CHUNK) {
                let count = (blocks - first).min(CHUNK);
                for s in 0..strips {
                    unpack::<F>(w, strip + s, first, count, panels.add(s * CHUNK * STORED));
                }
                let chunk = Chunk { w, strip, panels, first, count };
                if strips == 2 {
                    chunk.tokens::<F, VNNI, 2>(x, out);
                } else {
                    chunk.tokens::<F, VNNI, 1>(x, out);
                }
            }
            strip += strips;
        }
    }
}

/// Panels `first .. first + count` of a strip, stored one after the other.
///
/// # Safety
/// AVX2 and F16C; the panels exist and are whole blocks, and there is room.
#[inline(always)]
unsafe fn unpack<F: Format>(w: &MatrixRef<'_>, strip: usize, first: usize, count: usize, to: *mut __m256i) {
    let rows = strip_rows(w, strip);
    let panels = w.cols / PANEL_COLS;
    let panel_bytes = LANES * w.row_bytes() / panels;
    let mut ahead = rows[0].wrapping_add(AHEAD + first * panel_bytes);
    // SAFETY: as the caller promises.
    unsafe {
        for b in 0..count / F::PANELS {
            ahead = ask_for::<F>(ahead);
            let block = first / F::PANELS + b;
            let header = F::header(&rows, block);
            each_panel!(F, J => {
                let panel = F::panel(&rows, block, &header, J);
                keep::<F>(&panel, to.add((F::PANELS * b + J) * STORED));
            });
        }
    }
}

/// Some inputs of one or two strips, unpacked.
struct Chunk<'a> {
    w: &'a MatrixRef<'a>,
    strip: usize,
    /// Of strip `s` from `s * CHUNK * STORED` on.
    panels: *const __m256i,
    /// Panels `first .. first + count` of the strips.
    first: usize,
    count: usize,
}

impl Chunk<'_> {
    /// `S` strips times all tokens, as many at a time as there are registers for.
    ///
    /// # Safety
    /// As [`tile`].
    #[inline(always)]
    unsafe fn tokens<F: Format, const VNNI: bool, const S: usize>(&self, x: &QuantizedRows, out: OutPtr) {
        let mut token = 0;
        // SAFETY: passed on.
        unsafe {
            if VNNI && S == 2 {
                while token + 6 <= x.tokens() {
                    self.some::<F, VNNI, S, 6>(x, token, out);
                    token += 6;
                }
            }
            while token + 2 <= x.tokens() {
                self.some::<F, VNNI, S, 2>(x, token, out);
                token += 2;
            }
            if token < x.tokens() {
                self.some::<F, VNNI, S, 1>(x, token, out);
            }
        }
    }

    /// # Safety
    /// As [`tile`]; tokens `token .. token + T` exist.
    #[inline(always)]
    unsafe fn some<F: Format, const VNNI: bool, const S: usize, const T: usize>(
        &self,
        x: &QuantizedRows,
        token: usize,
        out: OutPtr,
    ) {
        let w = self.w;
        // SAFETY: the panels of `S` strips were stored, and the tokens exist. A sum goes on where the chunk
        // before left it in the output.
        unsafe {
            let mut acc = [[_mm256_setzero_ps(); T]; S];
            if self.first > 0 {
                for (s, acc) in acc.iter_mut().enumerate() {
                    for (t, acc) in acc.iter_mut().enumerate() {
                        *acc = load(w, self.strip + s, token + t, out);
                    }
                }
            }
            for b in 0..self.count {
                let mut sides = [Stored(self.panels); S];
                for (s, side) in sides.iter_mut().enumerate() {
                    side.0 = self.panels.add((s * CHUNK + b) * STORED);
                }
                accumulate::<F, VNNI, S, T>(&sides, x, token, self.first + b, &mut acc);
            }
            for (s, acc) in acc.iter().enumerate() {
                for (t, &acc) in acc.iter().enumerate() {
                    store(w, self.strip + s, token + t, acc, out);
                }
            }
        }
    }
}
