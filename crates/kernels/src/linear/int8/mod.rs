//! The int8 product: quants of a block format times int8 activations.
//!
//! For output `o` and token `t`, over groups `g` of a row in order:
//! `acc = fma(float(sum q x), scale_w * scale_x, acc)`, and for formats with a minimum
//! `acc = fma(min, scale_x * sum x, acc)` once for each minimum of 32 inputs. The integer sums are exact, whatever their
//! order, so all levels give the same bits, and so do the two ways of taking them: [`few`] tokens are multiplied along
//! the rows, from registers; [`many`] share weights that are unpacked once, a row in each lane.

#[cfg(target_arch = "x86_64")]
mod few;
#[cfg(target_arch = "x86_64")]
mod many;
#[cfg(target_arch = "x86_64")]
mod sums;

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
            (Isa::Avx2Vnni, true) => return few::vnni::<F>(weight, tile, x, out),
            (Isa::Avx2Vnni, false) => return many::vnni::<F>(weight, tile, x, out),
            (Isa::Avx2, true) => return few::avx2::<F>(weight, tile, x, out),
            (Isa::Avx2, false) => return many::avx2::<F>(weight, tile, x, out),
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
