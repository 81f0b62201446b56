//! Steps of optimizers, element by element, and what clipping needs of a gradient.
//!
//! Settings are f64, as in PyTorch, where a factor like `1 - beta2` is computed before it is rounded to f32. Values,
//! gradients and moments are flat f32 slices of one tensor each; a state that is all zeros is a new one. A step that
//! is given a NaN leaves one behind: who calls looks at the gradient's norm first.

mod adamw;
mod adamw8bit;
mod dynamic;
mod norm;
mod sgd;

use std::ops::Range;

use crate::Pool;
use crate::disjoint::Disjoint;

pub use adamw::{AdamW, adamw};
pub use adamw8bit::{Moments8bit, adamw8bit};
pub use dynamic::dynamic_map;
pub use norm::{scale, sum_of_squares};
pub use sgd::{Sgd, sgd};

/// Elements of a quantized moment that share a scale (Dettmers et al. 2022 use 2048; bitsandbytes 256).
pub const BLOCK: usize = 256;

/// Elements that a thread works on at a time: whole blocks.
const TILE: usize = 16 * BLOCK;

/// The elements of each tile of a tensor of `len`, in order of tiles; the tiles are shared among the threads.
fn for_tiles(pool: &Pool, len: usize, work: impl Fn(Range<usize>) + Sync) {
    pool.run(len.div_ceil(TILE), &|tile| work(tile * TILE..len.min((tile + 1) * TILE)));
}

/// Cuts slices of one length into the same tiles, and calls `work` with each tile and its part of every slice.
fn for_parts<const N: usize>(
    pool: &Pool,
    slices: [&mut [f32]; N],
    work: impl Fn(Range<usize>, [&mut [f32]; N]) + Sync,
) {
    let len = slices.first().map_or(0, |s| s.len());
    let slices = slices.map(Disjoint::new);
    for_tiles(pool, len, |at| {
        // SAFETY: each tile has elements of its own, and the pool runs each tile once.
        let parts = std::array::from_fn(|i| unsafe { slices[i].part(at.clone()) });
        work(at, parts);
    });
}
