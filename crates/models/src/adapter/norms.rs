//! The lengths of the rows of `W + s B A` without that matrix (DoRA; Liu et al. 2024, equation 5):
//!
//! ```text
//! |W_i + s B_i A|^2 = |W_i|^2 + 2 s (W A^T)_i . B_i + s^2 B_i (A A^T) B_i^T
//! ```
//!
//! The first summand is the base's and does not change; the others are products with the few rows of A.

use porism_formats::Weight;
use porism_kernels::block::dequantize;
use porism_kernels::linear::forward_f32;
use porism_kernels::{Isa, Pool};

use super::matrix;
use crate::{Error, Result};

/// The squared lengths of a base weight's rows, from which those of the adapted weight follow at each step of training.
#[derive(Clone, Debug)]
pub struct DoraNorms {
    squares: Vec<f64>,
}

impl DoraNorms {
    /// Reads the base once, row by row.
    pub fn new(weight: &Weight) -> DoraNorms {
        let mut row = vec![0.0f32; weight.cols()];
        let rows = weight.bytes().chunks_exact(weight.row_bytes().max(1));
        let squares = rows.map(|bytes| {
            dequantize(weight.block(), bytes, &mut row);
            row.iter().map(|&v| f64::from(v) * f64::from(v)).sum()
        });
        DoraNorms { squares: squares.collect() }
    }

    /// The lengths of the rows of `W + scale * B A`, `out` numbers. Shapes: the weight that [`DoraNorms::new`] read
    /// `[out, in]`, a `[rank, in]`, b `[out, rank]`.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn norms(&self, pool: &Pool, isa: Isa, weight: &Weight, a: &[f32], b: &[f32], scale: f32) -> Result<Vec<f32>> {
        let (out, inputs) = (weight.rows(), weight.cols());
        let rank = a.len() / inputs.max(1);
        if rank == 0 || a.len() != rank * inputs || b.len() != out * rank || self.squares.len() != out {
            let what = format!("{} numbers in A and {} in B for {out} x {inputs}", a.len(), b.len());
            return Err(Error::Delta { site: "DoRA's norms".into(), what });
        }
        let mut along = vec![0.0; rank * out];
        forward_f32(pool, isa, matrix(weight), a, &mut along);
        let mut gram = vec![0.0; rank * rank];
        forward_f32(pool, isa, matrix(&Weight::from_f32(a, rank, inputs)?), a, &mut gram);
        let mut turned = vec![0.0; out * rank];
        forward_f32(pool, isa, matrix(&Weight::from_f32(&gram, rank, rank)?), b, &mut turned);
        let s = f64::from(scale);
        let norm = |i: usize| {
            let (b, turned) = (&b[i * rank..(i + 1) * rank], &turned[i * rank..(i + 1) * rank]);
            let dot = |other: &mut dyn Iterator<Item = f32>| -> f64 {
                b.iter().zip(other).map(|(b, o)| f64::from(*b) * f64::from(o)).sum()
            };
            let cross = dot(&mut (0..rank).map(|r| along[r * out + i]));
            let own = dot(&mut turned.iter().copied());
            // Rounding may leave a row of nothing a little below nothing.
            (self.squares[i] + 2.0 * s * cross + s * s * own).max(0.0).sqrt() as f32
        };
        Ok((0..out).map(norm).collect())
    }
}
