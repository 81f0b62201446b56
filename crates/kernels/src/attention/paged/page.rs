//! One page of a sequence for one tile of rows: its visible entries, widened block by block.

use std::ops::Range;

use super::arithmetic::{block_scores, exponentials, transpose, weighted_values};
use super::partial::{Partial, padded};
use super::{BLOCK, PAGE, PagedShape, PagedSpan, Tile};
use crate::Isa;

#[derive(Default)]
pub(super) struct Scratch {
    /// A block as it lies in the page, widened.
    wide: Vec<f32>,
    /// Keys of a block, `[head_dim, BLOCK]`.
    keys: Vec<f32>,
    /// Values of a page, `[PAGE, padded head_dim]`.
    values: Vec<f32>,
    /// Scores, then exponentials, `[rows, group, PAGE]`.
    scores: Vec<f32>,
    /// What the rows see of a page, and where each row's part of that ends.
    seen: Vec<Range<usize>>,
    ends: Vec<usize>,
    pub(super) partial: Partial,
    pub(super) total: Partial,
}

/// Works off the entries of a page that the rows of a tile see; `partial` is overwritten.
pub(super) fn page_partial(
    isa: Isa,
    shape: &PagedShape<'_>,
    span: &PagedSpan<'_>,
    tile: &Tile,
    page: usize,
    q: &[f32],
    scratch: &mut Scratch,
    partial: &mut Partial,
) {
    let (group, dim) = (shape.heads / shape.kv_heads, shape.head_dim);
    let width = padded(dim);
    partial.reset(shape, tile.count);
    // Entries of the page that each row sees, and that any row sees.
    let seen = &mut scratch.seen;
    seen.clear();
    scratch.ends.clear();
    for r in 0..tile.count {
        seen.extend(span.seen(tile.first + r, page));
        scratch.ends.push(seen.len());
    }
    let Some(start) = seen.iter().map(|r| r.start).min() else { return };
    let end = seen.iter().map(|r| r.end).max().unwrap_or(start);
    let blocks = start / BLOCK..end.div_ceil(BLOCK);

    scratch.wide.resize(BLOCK * dim, 0.0);
    scratch.keys.resize(BLOCK * dim, 0.0);
    scratch.values.resize(PAGE * width, 0.0);
    scratch.scores.resize(tile.count * group * PAGE, 0.0);
    for b in blocks.clone() {
        let at = (tile.kv_head * PAGE + b * BLOCK) * dim;
        span.pages[page].k.widen(isa, at..at + BLOCK * dim, &mut scratch.wide);
        transpose(isa, &scratch.wide, dim, &mut scratch.keys);
        let values = &mut scratch.values[b * BLOCK * width..(b + 1) * BLOCK * width];
        if width == dim {
            span.pages[page].v.widen(isa, at..at + BLOCK * dim, values);
        } else {
            span.pages[page].v.widen(isa, at..at + BLOCK * dim, &mut scratch.wide);
            for (to, from) in values.chunks_exact_mut(width).zip(scratch.wide.chunks_exact(dim)) {
                to[..dim].copy_from_slice(from);
                to[dim..].fill(0.0);
            }
        }
        for row in 0..tile.count {
            if row_of(&scratch.seen, &scratch.ends, row)
                .iter()
                .all(|r| r.end <= b * BLOCK || r.start >= (b + 1) * BLOCK)
            {
                continue;
            }
            let at = (span.rows.start + tile.first + row) * shape.heads * dim + tile.kv_head * group * dim;
            let scores = &mut scratch.scores[row * group * PAGE..(row + 1) * group * PAGE];
            block_scores(isa, &q[at..at + group * dim], dim, &scratch.keys, &mut scores[b * BLOCK..]);
        }
    }
    for row in 0..tile.count {
        let seen = row_of(&scratch.seen, &scratch.ends, row);
        if seen.is_empty() {
            continue;
        }
        let n = row * group..(row + 1) * group;
        let scores = &mut scratch.scores[n.start * PAGE..n.end * PAGE];
        for (g, i) in n.clone().enumerate() {
            let scores = &mut scores[g * PAGE..(g + 1) * PAGE];
            let bias = shape.bias.map(|b| b.head(tile.kv_head * group + g));
            // Where the page's first entry stands in the head's numbers.
            let own = span.own + tile.first + row;
            let at = (page * PAGE) as isize - own as isize + shape.bias.map_or(0, |b| b.max) as isize;
            (partial.max[i], partial.sum[i]) = exponentials(isa, scores, seen, shape.scale, shape.softcap, bias, at);
        }
        let values = &mut partial.values[n.start * width..n.end * width];
        weighted_values(isa, scores, seen, &scratch.values, width, values);
    }
}

/// A row's part of the ranges.
fn row_of<'a>(seen: &'a [Range<usize>], ends: &[usize], row: usize) -> &'a [Range<usize>] {
    &seen[row.checked_sub(1).map_or(0, |before| ends[before])..ends[row]]
}
