//! Rows of small matrices: checked, put in another order, stacked, transposed.

use std::ops::Range;
use std::sync::Arc;

use porism_formats::Weight;
use porism_kernels::block::dequantize;

use crate::Result;

/// Whether all numbers are finite.
pub(super) fn finite(weight: &Weight) -> bool {
    let mut row = vec![0.0; weight.cols()];
    weight.bytes().chunks_exact(weight.row_bytes().max(1)).all(|bytes| {
        dequantize(weight.block(), bytes, &mut row);
        row.iter().all(|v| v.is_finite())
    })
}

/// The matrix whose row `i` is row `order[i]`. Rows stay whole, so this works on any block type.
pub(super) fn ordered(weight: &Weight, order: &[usize]) -> Result<Weight> {
    let (bytes, row) = (weight.bytes(), weight.row_bytes());
    let moved: Vec<u8> = order.iter().flat_map(|&r| &bytes[r * row..(r + 1) * row]).copied().collect();
    let end = moved.len();
    Ok(Weight::new(Arc::new(moved), 0..end, weight.block(), order.len(), weight.cols())?)
}

/// The same of one row's elements.
pub(super) fn ordered_elements(weight: &Weight, order: &[usize]) -> Result<Weight> {
    let values = weight.to_f32();
    let moved: Vec<f32> = order.iter().map(|&i| values[i]).collect();
    Ok(Weight::from_f32(&moved, 1, moved.len())?)
}

/// The order that undoes another.
pub(super) fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    for (i, &row) in order.iter().enumerate() {
        inverse[row] = i;
    }
    inverse
}

/// Some elements of one row.
pub(super) fn elements(weight: &Weight, range: Range<usize>) -> Result<Weight> {
    let values = &weight.to_f32()[range];
    Ok(Weight::from_f32(values, 1, values.len())?)
}

/// Matrices of the same width, one below the other.
pub(super) fn stacked(parts: &[&Weight]) -> Result<Weight> {
    let (Some(first), rows) = (parts.first(), parts.iter().map(|p| p.rows()).sum()) else {
        return Ok(Weight::from_f32(&[], 0, 0)?);
    };
    if parts.iter().any(|p| p.block() != first.block()) {
        let values: Vec<f32> = parts.iter().flat_map(|p| p.to_f32()).collect();
        return Ok(Weight::from_f32(&values, rows, first.cols())?);
    }
    let bytes: Vec<u8> = parts.iter().flat_map(|p| p.bytes()).copied().collect();
    let end = bytes.len();
    Ok(Weight::new(Arc::new(bytes), 0..end, first.block(), rows, first.cols())?)
}

/// Rows and columns exchanged, in f32.
pub(super) fn transposed(weight: &Weight) -> Result<Weight> {
    let (rows, cols) = (weight.rows(), weight.cols());
    let values = weight.to_f32();
    let mut turned = vec![0.0; values.len()];
    for (r, row) in values.chunks_exact(cols.max(1)).enumerate() {
        for (c, &v) in row.iter().enumerate() {
            turned[c * rows + r] = v;
        }
    }
    Ok(Weight::from_f32(&turned, cols, rows)?)
}
