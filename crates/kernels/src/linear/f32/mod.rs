//! The exact product: weights of any type decoded to f32, times f32 activations.
//!
//! For output `o` and token `t`: `acc = fma(w[o][k], x[t][k], acc)` over `k` in order. Quants decode as
//! `scale * (q - ZERO)`, then `+ min`, each rounded on its own, which is ggml's decoding bit for bit. A vector
//! lane is an output, so this order costs nothing, and it is the same for one token ([`few`]), for hundreds
//! ([`many`]) and without vectors (here).

pub(super) mod decode;
#[cfg(target_arch = "x86_64")]
mod few;
pub(super) mod four_bit;
#[cfg(target_arch = "x86_64")]
mod many;
mod rows;

pub(super) use decode::{Decode, with_decode};
pub(super) use rows::decode_rows;

use super::panel::PANEL_COLS;
use super::strip::{LANES, OutPtr, StripTile, strip_tiles};
use super::{MatrixRef, Product};
use crate::{Isa, Pool};

/// Tokens up to which weights are multiplied as they are decoded, and not by way of a buffer.
const FEW_TOKENS: usize = 4;
/// Strips in a tile of many tokens, at most: two register tiles share their activations.
const PANEL_STRIPS: usize = 4;

/// Runs all products; sizes are checked by the caller.
pub(super) fn run(pool: &Pool, isa: Isa, x: &[f32], tokens: usize, products: &mut [Product<'_>]) {
    if tokens == 0 {
        return;
    }
    let strips: usize = products.iter().map(|p| p.weight.rows.div_ceil(LANES)).sum();
    // Few tokens read several strips side by side; a tile is large enough to be worth a counter increment and
    // small enough that the threads end together.
    let per_tile = match tokens {
        ..=FEW_TOKENS => (strips / (8 * pool.threads())).clamp(1, 64).next_multiple_of(4),
        // Half as many where the threads would not end together.
        _ if strips < 8 * PANEL_STRIPS * pool.threads() => PANEL_STRIPS / 2,
        _ => PANEL_STRIPS,
    };
    let tiles = strip_tiles(products, per_tile);
    let outs: Vec<OutPtr> = products.iter_mut().map(|p| OutPtr(p.out.as_mut_ptr())).collect();
    let products: &[Product<'_>] = products;
    pool.run(tiles.len(), &|i| {
        let tile = tiles[i];
        let (weight, out) = (&products[tile.product].weight, outs[tile.product]);
        // A thread takes neighbouring tiles one after the other.
        let next = tiles.get(i + 1).map(|t| start_of(&products[t.product].weight, t.first));
        with_decode!(weight.block, D => dispatch::<D>(isa, weight, tile, x, tokens, out, next));
    });
}

/// Where a strip's weights begin.
fn start_of(weight: &MatrixRef<'_>, strip: usize) -> *const u8 {
    weight.bytes[strip * LANES * weight.row_bytes()..].as_ptr()
}

fn dispatch<D: Decode>(
    isa: Isa,
    weight: &MatrixRef<'_>,
    tile: StripTile,
    x: &[f32],
    tokens: usize,
    out: OutPtr,
    next: Option<*const u8>,
) {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 {
        // SAFETY: the level says that the processor has AVX2, FMA and F16C; sizes were checked on entry, and
        // this tile is the only one that writes its rows of `out`.
        unsafe {
            match tokens {
                ..=FEW_TOKENS => few::tile::<D>(weight, tile, x, tokens, out, next),
                _ => many::tile::<D>(isa, weight, tile, x, tokens, out, next),
            }
        }
        return;
    }
    let _ = (isa, next);
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
