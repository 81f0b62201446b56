//! What is known of some rows' attention after some pages, and how later pages are added to it.

use super::softmax::exp2;
use super::turn;
use super::{PagedShape, PagedSpan, Tile, padded};
use crate::Isa;
use crate::disjoint::Disjoint;
use crate::lanes::by_isa;

/// For each line, a row and a head of its group, the largest score, the sum of exponentials relative to it, and the
/// values weighted by them.
pub(super) struct Partial<'a> {
    pub(super) max: &'a mut [f32],
    pub(super) sum: &'a mut [f32],
    /// `[lines][padded head_dim]`.
    pub(super) values: &'a mut [f32],
}

impl<'a> Partial<'a> {
    /// Numbers that a partial result of `lines` lines takes.
    pub(super) fn numbers(lines: usize, head_dim: usize) -> usize {
        lines * (2 + padded(head_dim))
    }

    /// A partial result that lives in `numbers`; its contents are what they are.
    pub(super) fn new(numbers: &'a mut [f32], lines: usize) -> Partial<'a> {
        let (max, rest) = numbers.split_at_mut(lines);
        let (sum, values) = rest.split_at_mut(lines);
        Partial { max, sum, values }
    }

    /// Nothing seen yet.
    pub(super) fn clear(&mut self) {
        self.max.fill(f32::NEG_INFINITY);
        self.sum.fill(0.0);
    }

    /// Adds what a later page gave.
    pub(super) fn merge(&mut self, isa: Isa, other: &Partial<'_>) {
        let width = self.values.len().checked_div(self.max.len()).unwrap_or(0);
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
            let (a, b) = (exp2(self.max[i] - top), exp2(other.max[i] - top));
            self.max[i] = top;
            self.sum[i] = self.sum[i] * a + other.sum[i] * b;
            blend(isa, ours, a, theirs, b);
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
                if self.sum[i] == 0.0 {
                    to.fill(0.0);
                    continue;
                }
                let factor = 1.0 / self.sum[i];
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

by_isa! {
    /// `ours = ours * a + theirs * b`.
    fn blend(ours: &mut [f32], a: f32, theirs: &[f32], b: f32) {
        for (v, w) in ours.iter_mut().zip(theirs) {
            *v = *v * a + *w * b;
        }
    }
}
