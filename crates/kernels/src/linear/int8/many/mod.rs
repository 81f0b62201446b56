//! More than two tokens: two strips are unpacked into a buffer, a row in each lane, and multiplied with all tokens; so many
//! inputs at a time that the buffer stays in the first cache.

mod narrow;
mod wide;

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::super::MatrixRef;
use super::super::ahead::{AHEAD, ask_for};
use super::super::panel::{Format, PANEL_COLS, Panel, each_panel};
use super::super::strip::{LANES, OutPtr, StripTile, load, store, strip_rows};
use super::QuantizedRows;
use super::sums::entries;

entries!(tile);

/// Strips in the buffer; vectors of the same place in both lie side by side.
const STRIPS: usize = 2;
/// Where a stored panel has its scales, behind 8 vectors of quants.
const SCALES: usize = 8;
/// Where it has its minima.
const MINS: usize = 10;
/// Vectors of a stored panel, in each strip.
const STORED: usize = 12;
/// Panels of a strip that are unpacked at a time: those of two strips fill half of the first cache.
const CHUNK: usize = 24;

/// What two strips are unpacked into.
#[repr(align(64))]
struct Buffer([MaybeUninit<__m256i>; STRIPS * CHUNK * STORED]);

/// # Safety
/// As [`avx2`], from within a function that has the features.
#[inline(always)]
unsafe fn tile<F: Format, const VNNI: bool>(w: &MatrixRef<'_>, tile: StripTile, x: &QuantizedRows, out: OutPtr) {
    let mut buffer = Buffer([const { MaybeUninit::uninit() }; STRIPS * CHUNK * STORED]);
    let panels: *mut __m256i = buffer.0.as_mut_ptr().cast();
    let blocks = w.cols / PANEL_COLS;
    let end = tile.first + tile.count;
    let mut strip = tile.first;
    // SAFETY: chunks are whole blocks of the format; the buffer holds the panels of a chunk of two strips; the
    // rest is passed on.
    unsafe {
        while strip < end {
            let strips = (end - strip).min(STRIPS);
            for first in (0..blocks).step_by(CHUNK) {
                let count = (blocks - first).min(CHUNK);
                for s in 0..STRIPS {
                    // A strip without a neighbour stands in both places.
                    unpack::<F>(w, strip + s.min(strips - 1), first, count, panels.add(s));
                }
                let chunk = Chunk { w, strip, strips, panels, first, count };
                if VNNI {
                    chunk.wide::<F>(x, out);
                } else if strips == 2 {
                    chunk.narrow::<F, 2>(x, out);
                } else {
                    chunk.narrow::<F, 1>(x, out);
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
                keep::<F>(&panel, to.add((F::PANELS * b + J) * STRIPS * STORED));
            });
        }
    }
}

/// Stores a panel, as much of it as the format has.
///
/// # Safety
/// AVX2; there is room for [`STORED`] vectors, [`STRIPS`] apart.
#[inline(always)]
unsafe fn keep<F: Format>(panel: &Panel, to: *mut __m256i) {
    // SAFETY: as the caller promises.
    unsafe {
        for (i, q) in panel.lanes().iter().enumerate() {
            _mm256_store_si256(to.add(i * STRIPS), *q);
        }
        for g in 0..F::GROUPS {
            _mm256_store_si256(to.add((SCALES + g) * STRIPS), _mm256_castps_si256(panel.scales.scales[g]));
            if F::HAS_MIN {
                _mm256_store_si256(to.add((MINS + g) * STRIPS), _mm256_castps_si256(panel.scales.mins[g]));
            }
        }
    }
}

/// Some inputs of one or two strips, unpacked.
struct Chunk<'a> {
    w: &'a MatrixRef<'a>,
    strip: usize,
    strips: usize,
    panels: *const __m256i,
    /// Panels `first .. first + count` of the strips.
    first: usize,
    count: usize,
}

impl Chunk<'_> {
    /// Panel `b` of the chunk.
    #[inline(always)]
    fn panel(&self, b: usize) -> *const __m256i {
        self.panels.wrapping_add(b * STRIPS * STORED)
    }

    /// All tokens, as many at a time as there are registers for.
    ///
    /// # Safety
    /// As [`vnni`].
    #[inline(always)]
    unsafe fn wide<F: Format>(&self, x: &QuantizedRows, out: OutPtr) {
        let mut token = 0;
        // SAFETY: passed on.
        unsafe {
            while token + 12 <= x.tokens() {
                self.sixteen_rows::<F, 12>(x, token, out);
                token += 12;
            }
            while token + 4 <= x.tokens() {
                self.sixteen_rows::<F, 4>(x, token, out);
                token += 4;
            }
            while token < x.tokens() {
                self.sixteen_rows::<F, 1>(x, token, out);
                token += 1;
            }
        }
    }

    /// # Safety
    /// As [`vnni`]; tokens `token .. token + T` exist.
    #[inline(always)]
    unsafe fn sixteen_rows<F: Format, const T: usize>(&self, x: &QuantizedRows, token: usize, out: OutPtr) {
        let &Chunk { w, strip, strips, .. } = self;
        // SAFETY: the panels were stored, and the tokens exist. A sum goes on where the chunk before left it in
        // the output; a strip without a neighbour uses one half.
        unsafe {
            let mut acc = [_mm512_setzero_ps(); T];
            if self.first > 0 {
                for (t, acc) in acc.iter_mut().enumerate() {
                    let lower = load(w, strip, token + t, out);
                    let upper = load(w, strip + strips - 1, token + t, out);
                    *acc = join(lower, upper);
                }
            }
            for b in 0..self.count {
                wide::accumulate::<F, T>(wide::Panels(self.panel(b).cast()), x, token, self.first + b, &mut acc);
            }
            for (t, &acc) in acc.iter().enumerate() {
                store(w, strip, token + t, _mm512_castps512_ps256(acc), out);
                if strips == STRIPS {
                    let upper = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(acc));
                    store(w, strip + 1, token + t, _mm256_castpd_ps(upper), out);
                }
            }
        }
    }

    /// As [`Chunk::wide`], with vectors of 8 rows.
    ///
    /// # Safety
    /// As [`avx2`].
    #[inline(always)]
    unsafe fn narrow<F: Format, const S: usize>(&self, x: &QuantizedRows, out: OutPtr) {
        let mut token = 0;
        // SAFETY: passed on.
        unsafe {
            // Sums of one kind leave registers for a third token.
            while matches!(F::RUN, 0 | 8) && token + 3 <= x.tokens() {
                self.eight_rows::<F, S, 3>(x, token, out);
                token += 3;
            }
            while token + 2 <= x.tokens() {
                self.eight_rows::<F, S, 2>(x, token, out);
                token += 2;
            }
            if token < x.tokens() {
                self.eight_rows::<F, S, 1>(x, token, out);
            }
        }
    }

    /// # Safety
    /// As [`avx2`]; tokens `token .. token + T` exist.
    #[inline(always)]
    unsafe fn eight_rows<F: Format, const S: usize, const T: usize>(
        &self,
        x: &QuantizedRows,
        token: usize,
        out: OutPtr,
    ) {
        let &Chunk { w, strip, .. } = self;
        let quads = std::hint::black_box(8 / F::GROUPS);
        // SAFETY: as in `sixteen_rows`.
        unsafe {
            let mut acc = [[_mm256_setzero_ps(); T]; S];
            if self.first > 0 {
                for (s, acc) in acc.iter_mut().enumerate() {
                    for (t, acc) in acc.iter_mut().enumerate() {
                        *acc = load(w, strip + s, token + t, out);
                    }
                }
            }
            for b in 0..self.count {
                let mut sides = [narrow::Panel(self.panel(b)); S];
                for (s, side) in sides.iter_mut().enumerate() {
                    side.0 = side.0.add(s);
                }
                narrow::accumulate::<F, S, T>(&sides, x, token, self.first + b, quads, &mut acc);
            }
            for (s, acc) in acc.iter().enumerate() {
                for (t, &acc) in acc.iter().enumerate() {
                    store(w, strip + s, token + t, acc, out);
                }
            }
        }
    }
}

/// Two strips' sums of a token in one vector.
///
/// # Safety
/// AVX-512 F.
#[inline(always)]
unsafe fn join(lower: __m256, upper: __m256) -> __m512 {
    // SAFETY: register operations only.
    unsafe {
        let lower = _mm512_castpd256_pd512(_mm256_castps_pd(lower));
        _mm512_castpd_ps(_mm512_insertf64x4::<1>(lower, _mm256_castps_pd(upper)))
    }
}
