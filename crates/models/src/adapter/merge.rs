//! Merging: the dense weight that a projection with an adapter stands for, a strip of rows at a time.

use std::ops::Range;
use std::sync::Arc;

use porism_formats::Weight;
use porism_kernels::block::dequantize;
use porism_kernels::linear::forward_f32;
use porism_kernels::{BlockType, Isa, Pool};

use super::{matrix, rows};
use crate::linear::{AdapterId, DeltaKind, Linear};
use crate::{Error, Result};

/// Rows at a time where all are wanted.
const STRIP: usize = 256;

/// What one delta does to the weight's rows.
enum Change {
    /// Adds `scale * B A`; A is kept transposed, `[in, rank]`.
    Add { a: Weight, b: Weight, scale: f32 },
    /// Multiplies each row by its factor.
    Rows(Vec<f32>),
}

/// A projection with the deltas of one adapter, to be merged.
pub struct Merge<'a> {
    weight: &'a Weight,
    changes: Vec<Change>,
    columns: Vec<Vec<f32>>,
}

impl<'a> Merge<'a> {
    /// The projection's weight with the deltas of an adapter. The model's own biases stay what they are.
    ///
    /// # Errors
    /// A delta does not fit, or cannot be merged into a weight: a bias, a scale behind a bias.
    pub fn new(linear: &'a Linear, id: AdapterId) -> Result<Merge<'a>> {
        let wrong = |what: &str| Error::Delta { site: linear.site.to_string(), what: what.to_owned() };
        let (out, inputs) = (linear.out_features(), linear.in_features());
        let mut merge = Merge { weight: &linear.weight, changes: Vec::new(), columns: Vec::new() };
        let mut biased = false;
        for delta in &linear.deltas {
            biased |= matches!(delta.kind, DeltaKind::Bias(_));
            if delta.adapter != Some(id) {
                continue;
            }
            match &delta.kind {
                DeltaKind::LowRank { a, b, scale } => {
                    if a.cols() != inputs || b.rows() != out || b.cols() != a.rows() {
                        return Err(wrong("A and B are of other shapes than the weight"));
                    }
                    merge.changes.push(Change::Add { a: rows::transposed(a)?, b: b.clone(), scale: *scale });
                }
                DeltaKind::OutputScale(scale) => {
                    if biased {
                        return Err(wrong("it multiplies a bias too, which a weight cannot take up"));
                    }
                    if scale.len() != out {
                        return Err(wrong("a factor for each output is needed"));
                    }
                    merge.changes.push(Change::Rows(scale.to_f32()));
                }
                DeltaKind::InputScale(scale) => {
                    if scale.len() != inputs {
                        return Err(wrong("a factor for each input is needed"));
                    }
                    merge.columns.push(scale.to_f32());
                }
                DeltaKind::Bias(_) => return Err(wrong("a bias cannot be merged into a weight")),
            }
        }
        Ok(merge)
    }

    /// Rows `range` of the merged weight, `[rows, in]`.
    ///
    /// # Errors
    /// The weight has no such rows.
    pub fn rows(&self, pool: &Pool, isa: Isa, range: Range<usize>, into: &mut Vec<f32>) -> Result<()> {
        let inputs = self.weight.cols();
        let strip = self.weight.slice_rows(range.clone())?;
        into.resize(strip.len(), 0.0);
        dequantize(strip.block(), strip.bytes(), into);
        for change in &self.changes {
            match change {
                Change::Add { a, b, scale } => {
                    let b = b.slice_rows(range.clone())?.to_f32();
                    let mut product = vec![0.0; into.len()];
                    forward_f32(pool, isa, matrix(a), &b, &mut product);
                    into.iter_mut().zip(product).for_each(|(w, p)| *w = scale.mul_add(p, *w));
                }
                Change::Rows(factors) => {
                    for (row, factor) in into.chunks_exact_mut(inputs).zip(&factors[range.clone()]) {
                        row.iter_mut().for_each(|w| *w *= factor);
                    }
                }
            }
        }
        for factors in &self.columns {
            for row in into.chunks_exact_mut(inputs) {
                row.iter_mut().zip(factors).for_each(|(w, f)| *w *= f);
            }
        }
        Ok(())
    }
}

/// The merged weight, `[out, in]` in f32, made strip by strip.
///
/// # Errors
/// As [`Merge::new`].
pub fn merged(pool: &Pool, isa: Isa, linear: &Linear, id: AdapterId) -> Result<Weight> {
    let merge = Merge::new(linear, id)?;
    let (out, inputs) = (linear.out_features(), linear.in_features());
    let mut bytes = Vec::with_capacity(out * inputs * 4);
    let mut strip = Vec::new();
    for start in (0..out).step_by(STRIP) {
        merge.rows(pool, isa, start..(start + STRIP).min(out), &mut strip)?;
        bytes.extend(strip.iter().flat_map(|v| v.to_le_bytes()));
    }
    let end = bytes.len();
    Ok(Weight::new(Arc::new(bytes), 0..end, BlockType::F32, out, inputs)?)
}
