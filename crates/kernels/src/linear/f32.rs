//! The exact product: weights of any type decoded to f32, times f32 activations.
//!
//! For output `o` and token `t`: `acc = fma(w[o][k], x[t][k], acc)` over `k` in order. Quants decode as
//! `scale * (q - ZERO)`, then `+ min`, each rounded on its own, which is ggml's decoding bit for bit.

use half::{bf16, f16};

use super::panel::{Format, PANEL_COLS, with_format};
use super::strip::{LANES, OutPtr, StripTile, strip_tiles};
use super::{MatrixRef, Product};
#[cfg(target_arch = "x86_64")]
use crate::transpose::transpose8;
use crate::{BlockType, Isa, Pool};

/// Runs all products; sizes are checked by the caller.
pub(super) fn run(pool: &Pool, isa: Isa, x: &[f32], tokens: usize, products: &mut [Product<'_>]) {
    if tokens == 0 {
        return;
    }
    let strips: usize = products.iter().map(|p| p.weight.rows.div_ceil(LANES)).sum();
    // Few tokens need several strips at once to fill the multiply-add pipeline.
    let per_tile = if tokens <= 4 { (strips / (8 * pool.threads())).clamp(1, 64).next_multiple_of(8) } else { 2 };
    let tiles = strip_tiles(products, per_tile);
    let outs: Vec<OutPtr> = products.iter_mut().map(|p| OutPtr(p.out.as_mut_ptr())).collect();
    let products: &[Product<'_>] = products;
    pool.run(tiles.len(), &|i| {
        let tile = tiles[i];
        let (weight, out) = (&products[tile.product].weight, outs[tile.product]);
        match weight.block {
            BlockType::F32 => dispatch::<DenseF32>(isa, weight, tile, x, tokens, out),
            BlockType::F16 => dispatch::<DenseF16>(isa, weight, tile, x, tokens, out),
            BlockType::BF16 => dispatch::<DenseBF16>(isa, weight, tile, x, tokens, out),
            other => with_format!(other, F => dispatch::<Quants<F>>(isa, weight, tile, x, tokens, out)),
        }
    });
}

/// A type that decodes to f32 panels.
trait Decode {
    /// Up to 32 weights of a row, from input `32 * block`.
    fn decode_row(row: &[u8], block: usize, out: &mut [f32]);

    /// The first `n` of 32 inputs of 8 rows; input `k` goes to `out[k * stride]`, a lane a row.
    ///
    /// # Safety
    /// AVX2 and F16C; each pointer starts a row with at least `32 * block + n` weights; `out` has room.
    #[cfg(target_arch = "x86_64")]
    unsafe fn decode_panel(
        rows: &[*const u8; 8],
        block: usize,
        n: usize,
        out: *mut std::arch::x86_64::__m256,
        stride: usize,
    );
}

struct Quants<F>(std::marker::PhantomData<F>);

impl<F: Format> Decode for Quants<F> {
    fn decode_row(row: &[u8], block: usize, out: &mut [f32]) {
        let b = F::unpack_row(row, block);
        for (k, v) in out.iter_mut().enumerate() {
            let scale = b.scales[k / (PANEL_COLS / F::GROUPS)];
            *v = scale * (i32::from(b.quants[k]) - F::ZERO) as f32;
            if F::HAS_MIN {
                *v += b.mins[k / (PANEL_COLS / F::GROUPS)];
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn decode_panel(
        rows: &[*const u8; 8],
        block: usize,
        _n: usize,
        out: *mut std::arch::x86_64::__m256,
        stride: usize,
    ) {
        use std::arch::x86_64::*;
        // SAFETY: rows of block formats are whole panels; the caller gives room for 32 vectors.
        unsafe {
            let panel = F::unpack_panel(rows, block);
            let byte = _mm256_set1_epi32(255);
            for (i, &q) in panel.quants.iter().enumerate() {
                let scale = panel.scales[i / (8 / F::GROUPS)];
                for j in 0..4 {
                    let q = _mm256_and_si256(_mm256_srl_epi32(q, _mm_cvtsi32_si128(8 * j as i32)), byte);
                    let q = _mm256_sub_epi32(q, _mm256_set1_epi32(F::ZERO));
                    let mut v = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(q));
                    if F::HAS_MIN {
                        v = _mm256_add_ps(v, panel.mins[i / (8 / F::GROUPS)]);
                    }
                    *out.add((4 * i + j) * stride) = v;
                }
            }
        }
    }
}

macro_rules! dense {
    ($name:ident, $bytes:literal, $decode:expr) => {
        struct $name;
        impl Decode for $name {
            fn decode_row(row: &[u8], block: usize, out: &mut [f32]) {
                let at = $bytes * PANEL_COLS * block;
                for (v, b) in out.iter_mut().zip(row[at..].chunks_exact($bytes)) {
                    *v = $decode(b);
                }
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn decode_panel(
                rows: &[*const u8; 8],
                block: usize,
                n: usize,
                out: *mut std::arch::x86_64::__m256,
                stride: usize,
            ) {
                let at = $bytes * PANEL_COLS * block;
                // SAFETY: each row holds `n` weights from there on, and the caller gives room for them.
                unsafe {
                    let mut k = 0;
                    while k + 8 <= n {
                        let v = rows.map(|r| load8::<$bytes>(r.add(at + $bytes * k), stringify!($name) == "DenseBF16"));
                        for (i, v) in transpose8(v).into_iter().enumerate() {
                            *out.add((k + i) * stride) = v;
                        }
                        k += 8;
                    }
                    for k in k..n {
                        let lane = rows.map(|r| $decode(std::slice::from_raw_parts(r.add(at + $bytes * k), $bytes)));
                        *out.add(k * stride) = std::arch::x86_64::_mm256_loadu_ps(lane.as_ptr());
                    }
                }
            }
        }
    };
}
dense!(DenseF32, 4, |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
dense!(DenseF16, 2, |b: &[u8]| f16::from_le_bytes([b[0], b[1]]).to_f32());
dense!(DenseBF16, 2, |b: &[u8]| bf16::from_le_bytes([b[0], b[1]]).to_f32());

/// Eight consecutive dense weights as f32.
///
/// # Safety
/// AVX2 and F16C; eight weights of `BYTES` bytes lie at `p`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn load8<const BYTES: usize>(p: *const u8, brain: bool) -> std::arch::x86_64::__m256 {
    use std::arch::x86_64::*;
    // SAFETY: as the caller promises.
    unsafe {
        if BYTES == 4 {
            _mm256_loadu_ps(p.cast())
        } else if brain {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))
        } else {
            _mm256_cvtph_ps(_mm_loadu_si128(p.cast()))
        }
    }
}

fn dispatch<D: Decode>(isa: Isa, weight: &MatrixRef<'_>, tile: StripTile, x: &[f32], tokens: usize, out: OutPtr) {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 {
        // SAFETY: the level says that the processor has AVX2, FMA and F16C; sizes were checked on entry, and
        // this tile is the only one that writes its rows of `out`.
        return unsafe { x86::tile::<D>(weight, tile, x, tokens, out) };
    }
    let _ = isa;
    scalar::<D>(weight, tile, x, tokens, out);
}

fn scalar<D: Decode>(weight: &MatrixRef<'_>, tile: StripTile, x: &[f32], tokens: usize, out: OutPtr) {
    let (rows, cols) = (weight.rows, weight.cols);
    let mut w = vec![0.0f32; cols];
    for row in tile.first * LANES..((tile.first + tile.count) * LANES).min(rows) {
        let bytes = &weight.bytes[row * weight.row_bytes()..(row + 1) * weight.row_bytes()];
        for (b, part) in w.chunks_mut(PANEL_COLS).enumerate() {
            D::decode_row(bytes, b, part);
        }
        for token in 0..tokens {
            let x = &x[token * cols..(token + 1) * cols];
            let acc = w.iter().zip(x).fold(0.0f32, |acc, (w, x)| w.mul_add(*x, acc));
            // SAFETY: row and token are inside the output, and this tile owns the row.
            unsafe { *out.0.add(token * rows + row) = acc };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::cell::RefCell;

    use super::super::strip::{OutPtr, StripTile, store, strip_rows};
    use super::{Decode, MatrixRef, PANEL_COLS};

    thread_local! {
        /// Decoded strips of the tile that this thread works on: input-major, a vector a strip.
        static STRIPS: RefCell<Vec<__m256>> = const { RefCell::new(Vec::new()) };
    }

    /// # Safety
    /// AVX2, FMA and F16C; sizes fit; the tile's rows of `out` belong to the caller.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn tile<D: Decode>(w: &MatrixRef<'_>, tile: StripTile, x: &[f32], tokens: usize, out: OutPtr) {
        // SAFETY: passed on; groups of strips stay inside the tile.
        unsafe {
            let mut s = tile.first;
            let end = tile.first + tile.count;
            if tokens <= 4 {
                while s + 8 <= end {
                    few::<D, 8>(w, s, x, tokens, out);
                    s += 8;
                }
            }
            while s + 2 <= end {
                if tokens <= 4 {
                    few::<D, 2>(w, s, x, tokens, out)
                } else {
                    many::<D, 2>(w, s, x, tokens, out)
                }
                s += 2;
            }
            if s < end {
                if tokens <= 4 { few::<D, 1>(w, s, x, tokens, out) } else { many::<D, 1>(w, s, x, tokens, out) }
            }
        }
    }

    /// `S` strips, 32 inputs at a time from a small buffer, token after token.
    #[inline(always)]
    unsafe fn few<D: Decode, const S: usize>(w: &MatrixRef<'_>, first: usize, x: &[f32], tokens: usize, out: OutPtr) {
        let rows: [[*const u8; 8]; S] = std::array::from_fn(|s| strip_rows(w, first + s));
        // SAFETY: panels lie inside the rows; the buffer holds 32 inputs of `S` strips; at most 4 tokens.
        unsafe {
            let mut panel = [[_mm256_setzero_ps(); S]; PANEL_COLS];
            let mut acc = [[_mm256_setzero_ps(); S]; 4];
            for b in 0..w.cols.div_ceil(PANEL_COLS) {
                let n = (w.cols - b * PANEL_COLS).min(PANEL_COLS);
                for (s, rows) in rows.iter().enumerate() {
                    D::decode_panel(rows, b, n, panel.as_mut_ptr().cast::<__m256>().add(s), S);
                }
                for (t, acc) in acc.iter_mut().enumerate().take(tokens) {
                    let x = x.as_ptr().add(t * w.cols + b * PANEL_COLS);
                    let mut sums = *acc;
                    for (k, panel) in panel.iter().enumerate().take(n) {
                        let v = _mm256_broadcast_ss(&*x.add(k));
                        for s in 0..S {
                            sums[s] = _mm256_fmadd_ps(panel[s], v, sums[s]);
                        }
                    }
                    *acc = sums;
                }
            }
            for (t, acc) in acc.iter().enumerate().take(tokens) {
                for (s, &acc) in acc.iter().enumerate() {
                    store(w, first + s, t, acc, out);
                }
            }
        }
    }

    /// `S` strips decoded whole into a buffer, then six tokens at a time.
    #[inline(always)]
    unsafe fn many<D: Decode, const S: usize>(w: &MatrixRef<'_>, first: usize, x: &[f32], tokens: usize, out: OutPtr) {
        // Taken, not borrowed: a closure would be a function of its own, without the vector instructions.
        let mut buffer = STRIPS.take();
        let padded = w.cols.next_multiple_of(PANEL_COLS);
        if buffer.len() < padded * S {
            // SAFETY: AVX, as the caller promises.
            buffer.resize(padded * S, unsafe { _mm256_setzero_ps() });
        }
        let panels = buffer.as_mut_ptr();
        // SAFETY: the buffer holds all inputs of `S` strips.
        unsafe {
            for s in 0..S {
                let rows = strip_rows(w, first + s);
                for b in 0..w.cols.div_ceil(PANEL_COLS) {
                    let n = (w.cols - b * PANEL_COLS).min(PANEL_COLS);
                    D::decode_panel(&rows, b, n, panels.add(b * PANEL_COLS * S + s), S);
                }
            }
            let mut t = 0;
            while t + 6 <= tokens {
                product::<S, 6>(w, first, panels, x, t, out);
                t += 6;
            }
            while t < tokens {
                product::<S, 1>(w, first, panels, x, t, out);
                t += 1;
            }
        }
        STRIPS.set(buffer);
    }

    #[inline(always)]
    unsafe fn product<const S: usize, const T: usize>(
        w: &MatrixRef<'_>,
        first: usize,
        panels: *const __m256,
        x: &[f32],
        token: usize,
        out: OutPtr,
    ) {
        // SAFETY: `cols` inputs of `S` strips were decoded, and tokens `token .. token + T` exist.
        unsafe {
            let x: [*const f32; T] = std::array::from_fn(|t| x.as_ptr().add((token + t) * w.cols));
            let mut acc = [[_mm256_setzero_ps(); S]; T];
            for k in 0..w.cols {
                let p: [__m256; S] = std::array::from_fn(|s| *panels.add(k * S + s));
                for t in 0..T {
                    let v = _mm256_broadcast_ss(&*x[t].add(k));
                    for s in 0..S {
                        acc[t][s] = _mm256_fmadd_ps(p[s], v, acc[t][s]);
                    }
                }
            }
            for (t, acc) in acc.iter().enumerate() {
                for (s, &acc) in acc.iter().enumerate() {
                    store(w, first + s, token + t, acc, out);
                }
            }
        }
    }
}
