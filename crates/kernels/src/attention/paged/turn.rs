//! The frame that blocks are kept in: heads turned by a Hadamard matrix before they are rounded.
//!
//! A few features of keys are much larger than the others and would set the scale of their blocks alone. The
//! turned features are sums of all, of like size (QuaRot, Ashkboos et al. 2024). The matrix is orthogonal and
//! its own inverse: scores are the same if the queries are turned too, and the weighted values are turned back
//! once at the end. It has the order of the largest power of two in `head_dim`, 256 at most.

use crate::lanes::by_isa;

/// Features that are turned together at most.
pub(super) const WIDEST: usize = 256;

/// The matrix's order for heads of `head_dim` features.
pub(super) fn width(head_dim: usize) -> usize {
    if head_dim == 0 { 1 } else { (1 << head_dim.trailing_zeros()).min(WIDEST) }
}

by_isa! {
    /// Turns each `width` numbers, a power of two, in place.
    pub(super) fn turn(values: &mut [f32], width: usize) {
        let factor = 1.0 / (width as f32).sqrt();
        for values in values.chunks_exact_mut(width) {
            let mut step = 1;
            while step < width {
                for pair in values.chunks_exact_mut(2 * step) {
                    let (first, second) = pair.split_at_mut(step);
                    for (a, b) in first.iter_mut().zip(second) {
                        (*a, *b) = (*a + *b, *a - *b);
                    }
                }
                step *= 2;
            }
            for v in values.iter_mut() {
                *v *= factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::testing::{Numbers, assert_close, wide};

    #[test]
    fn turning_is_the_matrix_and_its_own_inverse() {
        for head_dim in [1, 32, 96, 80, 256, 512] {
            let width = width(head_dim);
            let x = Numbers::new(3).normal(2 * head_dim);
            // Sylvester's matrix: the sign of entry (i, j) is the parity of the bits that both have.
            let entry = |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
            let want: Vec<f64> = (0..x.len())
                .map(|i| {
                    let run = wide(&x[i / width * width..][..width]);
                    run.iter().enumerate().map(|(j, v)| entry(i % width, j) * v).sum::<f64>() / (width as f64).sqrt()
                })
                .collect();
            let mut reference = x.clone();
            turn(Isa::Scalar, &mut reference, width);
            assert_close(&reference, &want, 1e-6, "turned");
            for isa in Isa::available() {
                let mut turned = x.clone();
                turn(isa, &mut turned, width);
                assert_eq!(turned, reference, "{}", isa.name());
                turn(isa, &mut turned, width);
                assert_close(&turned, &wide(&x), 1e-6, "turned twice");
            }
        }
    }
}
