//! What is known of some rows' attention after some pages, and how later pages are added to it.

use super::turn;
use super::{CHUNK, PagedShape, PagedSpan, Tile};
use crate::Isa;
use crate::disjoint::Disjoint;
use crate::exp::exp;

/// Numbers of a head with the padding.
pub(super) fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(CHUNK)
}

/// What is known of some rows' attention after some entries: for each row and head of the group the
/// largest score, the sum of exponentials relative to it, and the values weighted by them.
#[derive(Default)]
pub(super) struct Partial {
    pub(super) max: Vec<f32>,
    pub(super) sum: Vec<f32>,
    /// `[rows, group, padded head_dim]`.
    pub(super) values: Vec<f32>,
}

impl Partial {
    pub(super) fn reset(&mut self, shape: &PagedShape<'_>, rows: usize) {
        let n = rows * (shape.heads / shape.kv_heads);
        self.max.clear();
        self.max.resize(n, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(n, 0.0);
        self.values.clear();
        self.values.resize(n * padded(shape.head_dim), 0.0);
    }

    /// Adds what a later page gave.
    pub(super) fn merge(&mut self, shape: &PagedShape<'_>, other: &Partial) {
        let width = padded(shape.head_dim);
        for i in 0..self.max.len() {
            if other.sum[i] == 0.0 {
                continue;
            }
            let ours = &mut self.values[i * width..(i + 1) * width];
            let theirs = &other.values[i * width..(i + 1) * width];
            if self.sum[i] == 0.0 {
                (self.max[i], self.sum[i]) = (other.max[i], other.sum[i]);
                ours.copy_from_slice(theirs);
                continue;
            }
            let top = self.max[i].max(other.max[i]);
            let (a, b) = (exp(self.max[i] - top), exp(other.max[i] - top));
            self.max[i] = top;
            self.sum[i] = self.sum[i] * a + other.sum[i] * b;
            for (v, w) in ours.iter_mut().zip(theirs) {
                *v = *v * a + *w * b;
            }
        }
    }

    pub(super) fn write(
        &self,
        isa: Isa,
        shape: &PagedShape<'_>,
        span: &PagedSpan<'_>,
        tile: &Tile,
        out: &Disjoint<'_, f32>,
    ) {
        let (group, dim) = (shape.heads / shape.kv_heads, shape.head_dim);
        let turned = span.turned_values();
        for row in 0..tile.count {
            for g in 0..group {
                let i = row * group + g;
                let at = (span.rows.start + tile.first + row) * shape.heads * dim + (tile.kv_head * group + g) * dim;
                // SAFETY: row and head belong to this tile only.
                let to = unsafe { out.part(at..at + dim) };
                let factor = if self.sum[i] == 0.0 { 0.0 } else { 1.0 / self.sum[i] };
                for (o, v) in to.iter_mut().zip(&self.values[i * padded(dim)..]) {
                    *o = v * factor;
                }
                if turned {
                    turn::turn(isa, to, turn::width(dim));
                }
            }
        }
    }
}
