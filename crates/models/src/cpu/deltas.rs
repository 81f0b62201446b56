//! Deltas on the CPU executor: what a projection's adapters add to its base, span by span.

use std::ops::Range;

use porism_formats::Weight;
use porism_kernels::linear::forward_f32;
use porism_kernels::{Isa, Pool};

use super::rows::Shelf;
use super::{Rows, matrix};
use crate::batch::Batch;
use crate::linear::{Delta, DeltaKind, Linear};
use crate::{Error, Result};

/// Whether any delta of the projection changes its input.
pub(super) fn scales_input(linear: &Linear) -> bool {
    linear.deltas.iter().any(|d| matches!(d.kind, DeltaKind::InputScale(_)))
}

/// The rows that a delta applies to, as runs.
fn rows_of(delta: &Delta, batch: &Batch) -> Vec<Range<usize>> {
    match delta.adapter {
        None => std::iter::once(0..batch.len()).collect(),
        Some(_) => batch.spans.iter().filter(|s| s.adapter == delta.adapter).map(|s| s.rows.clone()).collect(),
    }
}

/// Applies the input scales to a copy of the input, `[tokens, in]`.
pub(super) fn scale_input(linear: &Linear, x: &mut [f32], batch: &Batch) -> Result<()> {
    let width = linear.in_features();
    for delta in &linear.deltas {
        if let DeltaKind::InputScale(scale) = &delta.kind {
            let scale = vector(linear, scale, width)?;
            for_rows(delta, batch, x, width, |x| x.iter_mut().zip(&scale).for_each(|(x, s)| *x *= s));
        }
    }
    Ok(())
}

/// Applies the other deltas, in order.
pub(super) fn apply(
    pool: &Pool,
    isa: Isa,
    linear: &Linear,
    x: &Rows,
    out: &mut Rows,
    batch: &Batch,
    shelf: &Shelf,
) -> Result<()> {
    let (inputs, outputs) = (linear.in_features(), linear.out_features());
    for delta in &linear.deltas {
        match &delta.kind {
            DeltaKind::InputScale(_) => {}
            DeltaKind::OutputScale(scale) => {
                let scale = vector(linear, scale, outputs)?;
                for_rows(delta, batch, out.data_mut(), outputs, |y| {
                    y.iter_mut().zip(&scale).for_each(|(y, s)| *y *= s);
                });
            }
            DeltaKind::Bias(bias) => {
                let bias = vector(linear, bias, outputs)?;
                for_rows(delta, batch, out.data_mut(), outputs, |y| {
                    y.iter_mut().zip(&bias).for_each(|(y, b)| *y += b);
                });
            }
            DeltaKind::LowRank { a, b, scale } => {
                let rank = a.rows();
                if a.cols() != inputs || b.rows() != outputs || b.cols() != rank {
                    return Err(wrong(linear, format!("A is {a:?}, B is {b:?}, for {outputs} x {inputs}")));
                }
                for rows in rows_of(delta, batch) {
                    let x = &x.data()[rows.start * inputs..rows.end * inputs];
                    let mut inner = shelf.rows(rows.len(), rank);
                    forward_f32(pool, isa, matrix(a), x, inner.data_mut());
                    let mut outer = shelf.rows(rows.len(), outputs);
                    forward_f32(pool, isa, matrix(b), inner.data(), outer.data_mut());
                    let y = &mut out.data_mut()[rows.start * outputs..rows.end * outputs];
                    y.iter_mut().zip(outer.data()).for_each(|(y, d)| *y = scale.mul_add(*d, *y));
                }
            }
        }
    }
    Ok(())
}

fn for_rows(delta: &Delta, batch: &Batch, data: &mut [f32], width: usize, change: impl Fn(&mut [f32])) {
    for rows in rows_of(delta, batch) {
        data[rows.start * width..rows.end * width].chunks_exact_mut(width).for_each(&change);
    }
}

fn vector(linear: &Linear, weight: &Weight, len: usize) -> Result<Vec<f32>> {
    if weight.len() != len {
        return Err(wrong(linear, format!("{weight:?} for {len} features")));
    }
    Ok(weight.to_f32())
}

fn wrong(linear: &Linear, what: String) -> Error {
    Error::Delta { site: linear.site.to_string(), what }
}
