//! The int8 product: quants of a block format times int8 activations.
//!
//! For output `o` and token `t`, over groups `g` of a row in order:
//! `acc = fma(float(sum q x), scale_w * scale_x, acc)`, and for formats with a minimum
//! `acc = fma(min, scale_x * sum x, acc)` once for each minimum of 32 inputs. The integer sums are exact on every level, so all levels give
//! the same bits. One or two tokens go straight from unpacked registers; more tokens share two strips that are
//! unpacked once into a buffer, so many inputs at a time that it stays in the first cache.

use super::panel::{Format, PANEL_COLS, with_format};
use super::strip::{LANES, OutPtr, StripTile, strip_tiles};
use super::{Product, QuantizedRows};
use crate::{Isa, Pool};

/// Tokens up to which a strip is multiplied from registers and not through a buffer.
const FEW_TOKENS: usize = 2;
/// Tokens up to which reading the weights takes longer than multiplying.
const SMALL_BATCH: usize = 16;

/// Runs all products; sizes are checked by the caller.
pub(super) fn run(pool: &Pool, isa: Isa, x: &QuantizedRows, products: &mut [Product<'_>]) {
    if x.tokens() == 0 {
        return;
    }
    let few = x.tokens() <= FEW_TOKENS;
    let strips: usize = products.iter().map(|p| p.weight.rows.div_ceil(LANES)).sum();
    // Large enough to be worth a counter increment, small enough that the threads end together; pairs of strips.
    let per_tile = if x.tokens() <= SMALL_BATCH { (strips / (32 * pool.threads())).clamp(1, 32) * 2 } else { 2 };
    let tiles = strip_tiles(products, per_tile);
    let outs: Vec<OutPtr> = products.iter_mut().map(|p| OutPtr(p.out.as_mut_ptr())).collect();
    let products: &[Product<'_>] = products;
    pool.run(tiles.len(), &|i| {
        let tile = tiles[i];
        let (weight, out) = (&products[tile.product].weight, outs[tile.product]);
        with_format!(weight.block, F => dispatch::<F>(isa, weight, tile, x, out, few));
    });
}

fn dispatch<F: Format>(
    isa: Isa,
    weight: &super::MatrixRef<'_>,
    tile: StripTile,
    x: &QuantizedRows,
    out: OutPtr,
    few: bool,
) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the level says that the processor has the instructions; sizes were checked on entry, and
    // this tile is the only one that writes its rows of `out`.
    unsafe {
        match (isa, few) {
            (Isa::Avx2Vnni, true) => return x86::vnni_few::<F>(weight, tile, x, out),
            (Isa::Avx2Vnni, false) => return x86::vnni_many::<F>(weight, tile, x, out),
            (Isa::Avx2, true) => return x86::avx2_few::<F>(weight, tile, x, out),
            (Isa::Avx2, false) => return x86::avx2_many::<F>(weight, tile, x, out),
            (Isa::Scalar, _) => {}
        }
    }
    let _ = (isa, few);
    scalar::<F>(weight, tile, x, out);
}

fn scalar<F: Format>(weight: &super::MatrixRef<'_>, tile: StripTile, x: &QuantizedRows, out: OutPtr) {
    let (rows, blocks) = (weight.rows, weight.cols / PANEL_COLS);
    for row in tile.first * LANES..((tile.first + tile.count) * LANES).min(rows) {
        let bytes = &weight.bytes[row * weight.row_bytes()..(row + 1) * weight.row_bytes()];
        for token in 0..x.tokens() {
            let mut acc = 0.0f32;
            for b in 0..blocks {
                let w = F::unpack_row(bytes, b);
                let at = token * blocks + b;
                let quants = &x.quants[at * PANEL_COLS..(at + 1) * PANEL_COLS];
                let group = PANEL_COLS / F::GROUPS;
                for g in 0..F::GROUPS {
                    let sum: i32 = (g * group..(g + 1) * group)
                        .map(|i| (i32::from(w.quants[i]) - F::ZERO) * i32::from(quants[i]))
                        .sum();
                    acc = (sum as f32).mul_add(w.scales[g] * x.scales[at], acc);
                }
                if F::HAS_MIN && F::GROUPS == 1 {
                    acc = w.mins[0].mul_add(x.scaled_sums[at], acc);
                } else if F::HAS_MIN {
                    for (g, min) in w.mins.iter().enumerate() {
                        acc = min.mul_add(x.scales[at] * x.sums[2 * at + g] as f32, acc);
                    }
                }
            }
            // SAFETY: row and token are inside the output, and this tile owns the row.
            unsafe { *out.0.add(token * rows + row) = acc };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::mem::MaybeUninit;

    use super::super::MatrixRef;
    use super::super::panel::{Format, PANEL_COLS, Panel};
    use super::super::strip::{LANES, OutPtr, StripTile, load, store, strip_rows};
    use super::QuantizedRows;

    macro_rules! entry {
        ($name:ident, $body:ident, $vnni:literal, $features:literal) => {
            /// # Safety
            /// The processor has the features, sizes fit, and the tile's rows of `out` belong to the caller.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name<F: Format>(w: &MatrixRef<'_>, tile: StripTile, x: &QuantizedRows, out: OutPtr) {
                // SAFETY: passed on.
                unsafe { $body::<F, $vnni>(w, tile, x, out) }
            }
        };
    }
    entry!(avx2_few, few, false, "avx2,fma,f16c");
    entry!(avx2_many, many, false, "avx2,fma,f16c");
    entry!(vnni_few, few, true, "avx2,fma,f16c,avx512f,avx512vl,avx512vnni");
    entry!(vnni_many, many, true, "avx2,fma,f16c,avx512f,avx512vl,avx512vnni");

    /// The weights' side of 32 inputs of one strip, wherever it lies.
    trait Side {
        unsafe fn quants(&self, i: usize) -> __m256i;
        unsafe fn scale(&self, group: usize) -> __m256;
        unsafe fn min(&self, group: usize) -> __m256;
    }

    impl Side for Panel {
        #[inline(always)]
        unsafe fn quants(&self, i: usize) -> __m256i {
            self.quants[i]
        }
        #[inline(always)]
        unsafe fn scale(&self, group: usize) -> __m256 {
            self.scales[group]
        }
        #[inline(always)]
        unsafe fn min(&self, group: usize) -> __m256 {
            self.mins[group]
        }
    }

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
            for (i, q) in panel.quants.iter().enumerate() {
                _mm256_store_si256(to.add(i), *q);
            }
            for g in 0..F::GROUPS {
                _mm256_store_si256(to.add(8 + g), _mm256_castps_si256(panel.scales[g]));
                if F::HAS_MIN {
                    _mm256_store_si256(to.add(10 + g), _mm256_castps_si256(panel.mins[g]));
                }
            }
        }
    }

    impl Side for Stored {
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

    /// The tokens' side: where their blocks lie.
    struct Tokens<'a> {
        x: &'a QuantizedRows,
        first: usize,
    }

    /// Adds 32 inputs of `S` strips and `T` tokens to the accumulators.
    ///
    /// # Safety
    /// The enclosing function has the features; `first + T` tokens and block `b` exist.
    #[inline(always)]
    unsafe fn accumulate<F: Format, const VNNI: bool, const S: usize, const T: usize>(
        w: &[impl Side; S],
        tokens: &Tokens<'_>,
        b: usize,
        acc: &mut [[__m256; T]; S],
    ) {
        let x = tokens.x;
        let blocks = x.cols() / PANEL_COLS;
        let quads = 8 / F::GROUPS;
        // SAFETY: the caller promises that the tokens and the block exist.
        unsafe {
            let at: [usize; T] = std::array::from_fn(|t| (tokens.first + t) * blocks + b);
            let quants: [*const i32; T] = std::array::from_fn(|t| x.quants.as_ptr().add(at[t] * PANEL_COLS).cast());
            let scales: [__m256; T] = std::array::from_fn(|t| _mm256_broadcast_ss(&*x.scales.as_ptr().add(at[t])));
            for g in 0..F::GROUPS {
                let mut sums = [[_mm256_setzero_si256(); T]; S];
                if VNNI {
                    // Two chains, since each link waits for the one before.
                    let mut others = [[_mm256_setzero_si256(); T]; S];
                    let mut i = g * quads;
                    while i < (g + 1) * quads {
                        let q: [[__m256i; 2]; S] = std::array::from_fn(|s| [w[s].quants(i), w[s].quants(i + 1)]);
                        for t in 0..T {
                            let v = _mm256_set1_epi32(quants[t].add(i).read_unaligned());
                            let next = _mm256_set1_epi32(quants[t].add(i + 1).read_unaligned());
                            for s in 0..S {
                                sums[s][t] = _mm256_dpbusd_epi32(sums[s][t], q[s][0], v);
                                if S * T <= 2 {
                                    others[s][t] = _mm256_dpbusd_epi32(others[s][t], q[s][1], next);
                                } else {
                                    sums[s][t] = _mm256_dpbusd_epi32(sums[s][t], q[s][1], next);
                                }
                            }
                        }
                        i += 2;
                    }
                    if S * T <= 2 {
                        for (sum, other) in sums.as_flattened_mut().iter_mut().zip(others.as_flattened()) {
                            *sum = _mm256_add_epi32(*sum, *other);
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
                    if F::ZERO != 0 && (VNNI || F::RUN != 0) {
                        let total = if F::GROUPS == 2 {
                            _mm256_set1_epi32(*x.sums.as_ptr().add(2 * at[t] + g))
                        } else {
                            _mm256_set1_epi32(*x.totals.as_ptr().add(at[t]))
                        };
                        let offset = if F::ZERO.count_ones() == 1 {
                            _mm256_sll_epi32(total, _mm_cvtsi32_si128(F::ZERO.trailing_zeros() as i32))
                        } else {
                            _mm256_mullo_epi32(total, _mm256_set1_epi32(F::ZERO))
                        };
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
                        let sum = if F::GROUPS == 1 {
                            _mm256_broadcast_ss(&*x.scaled_sums.as_ptr().add(at[t]))
                        } else {
                            let sum = _mm256_set1_epi32(*x.sums.as_ptr().add(2 * at[t] + g));
                            _mm256_mul_ps(scales[t], _mm256_cvtepi32_ps(sum))
                        };
                        for s in 0..S {
                            acc[s][t] = _mm256_fmadd_ps(w[s].min(g), sum, acc[s][t]);
                        }
                    }
                }
            }
        }
    }

    /// How far ahead of its use a weight is asked for, into the second cache: some hundred nanoseconds of reading at
    /// full speed, and not beyond what the cache can hold.
    const PREFETCH: usize = 16 << 10;

    /// `$step` with `$panel` standing for each panel of a block in turn, as a constant.
    macro_rules! each_panel {
        ($format:ident, $panel:ident => $step:expr) => {
            each_panel!($format, $panel => $step; 0 1 2 3 4 5 6 7)
        };
        ($format:ident, $panel:ident => $step:expr; $($j:literal)*) => {
            $(if $j < $format::PANELS {
                const $panel: usize = $j;
                $step
            })*
        };
    }

    /// One or two tokens, each weight unpacked to registers and used at once.
    ///
    /// # Safety
    /// As [`avx2_few`].
    #[inline(always)]
    unsafe fn few<F: Format, const VNNI: bool>(w: &MatrixRef<'_>, tile: StripTile, x: &QuantizedRows, out: OutPtr) {
        // SAFETY: passed on.
        unsafe {
            match x.tokens() {
                1 => few_tokens::<F, VNNI, 1>(w, tile, x, out),
                _ => few_tokens::<F, VNNI, 2>(w, tile, x, out),
            }
        }
    }

    #[inline(always)]
    unsafe fn few_tokens<F: Format, const VNNI: bool, const T: usize>(
        w: &MatrixRef<'_>,
        tile: StripTile,
        x: &QuantizedRows,
        out: OutPtr,
    ) {
        let tokens = Tokens { x, first: 0 };
        let blocks = w.cols / PANEL_COLS / F::PANELS;
        let block_bytes = LANES * w.row_bytes() / blocks;
        for strip in tile.first..tile.first + tile.count {
            let rows = strip_rows(w, strip);
            // SAFETY: blocks and tokens are inside the checked sizes; the tile owns its rows; a prefetch may
            // name any address.
            unsafe {
                let mut acc = [[_mm256_setzero_ps(); T]; 1];
                let mut ahead = rows[0].wrapping_add(PREFETCH);
                for b in 0..blocks {
                    // Eight rows are read side by side, which no hardware prefetcher follows.
                    let next = ahead.wrapping_add(block_bytes);
                    while ahead < next {
                        _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                        ahead = ahead.wrapping_add(64);
                    }
                    let header = F::header(&rows, b);
                    each_panel!(F, J => {
                        let panel = F::panel::<J>(&rows, b, &header);
                        accumulate::<F, VNNI, 1, T>(&[panel], &tokens, F::PANELS * b + J, &mut acc);
                    });
                }
                for (t, &acc) in acc[0].iter().enumerate() {
                    store(w, strip, t, acc, out);
                }
            }
        }
    }

    /// Panels of a strip that are unpacked at a time: those of two strips fill half of the first cache.
    const CHUNK: usize = 24;

    /// Many tokens: two strips are unpacked into a buffer, then multiplied with all of them.
    ///
    /// # Safety
    /// As [`avx2_many`].
    #[inline(always)]
    unsafe fn many<F: Format, const VNNI: bool>(w: &MatrixRef<'_>, tile: StripTile, x: &QuantizedRows, out: OutPtr) {
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
        let mut ahead = rows[0].wrapping_add(PREFETCH + first * panel_bytes);
        // SAFETY: as the caller promises; a prefetch may name any address.
        unsafe {
            for b in 0..count / F::PANELS {
                let next = ahead.wrapping_add(F::PANELS * panel_bytes);
                while ahead < next {
                    _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                    ahead = ahead.wrapping_add(64);
                }
                let block = first / F::PANELS + b;
                let header = F::header(&rows, block);
                each_panel!(F, J => {
                    let panel = F::panel::<J>(&rows, block, &header);
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
        /// As [`avx2_many`].
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
        /// As [`avx2_many`]; tokens `token .. token + T` exist.
        #[inline(always)]
        unsafe fn some<F: Format, const VNNI: bool, const S: usize, const T: usize>(
            &self,
            x: &QuantizedRows,
            token: usize,
            out: OutPtr,
        ) {
            let w = self.w;
            let tokens = Tokens { x, first: token };
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
                    accumulate::<F, VNNI, S, T>(&sides, &tokens, self.first + b, &mut acc);
                }
                for (s, acc) in acc.iter().enumerate() {
                    for (t, &acc) in acc.iter().enumerate() {
                        store(w, self.strip + s, token + t, acc, out);
                    }
                }
            }
        }
    }
}
