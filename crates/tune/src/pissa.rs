//! PiSSA: an adapter that begins with a weight's largest singular directions (Meng et al. 2024).
//!
//! The paper splits `W` into `s B A`, which is trained, and what is left, which is frozen. What is left is `W - s B0 A0` with the
//! first A and B; instead of writing that into a dense copy, the base stays as the file has it and a second, frozen pair takes
//! `s B0 A0` away. The model computes the same, its base may be packed in blocks, and at the end both pairs together are an
//! ordinary adapter of twice the rank for the unchanged base.

use porism_formats::Weight;
use porism_kernels::linear::backward::backward_input;
use porism_kernels::linear::{MatrixRef, forward_f32};
use porism_ops::OpContext;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Result;

/// Directions beyond the rank that the iteration carries along (Halko et al. 2011, section 4.2).
const OVERSAMPLED: usize = 8;
/// Times that the subspace is multiplied with `W^T W`.
const ITERATIONS: usize = 8;

/// A `[rank, in]` and B `[out, rank]` with `scale * B A` the best approximation of `weight` `[out, in]` of that rank; both share
/// a singular value's root. By subspace iteration from a seed: the same for the same weight, whatever the threads.
///
/// # Errors
/// The factors cannot be made weights.
pub fn principal(context: &OpContext, weight: &Weight, rank: usize, scale: f32, seed: u64) -> Result<(Weight, Weight)> {
    let OpContext { pool, isa } = context;
    let (out, inputs) = (weight.rows(), weight.cols());
    let carried = (rank + OVERSAMPLED).min(out.min(inputs));
    let matrix = MatrixRef { bytes: weight.bytes(), block: weight.block(), rows: out, cols: inputs };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // Rows are vectors: those of `right` live among the inputs, those of `left` among the outputs.
    let mut right: Vec<f32> = (0..carried * inputs).map(|_| random.random_range(-1.0..1.0)).collect();
    let mut left = vec![0.0f32; carried * out];
    for _ in 0..ITERATIONS {
        forward_f32(pool, *isa, matrix, &right, &mut left);
        orthonormalize(&mut left, out);
        backward_input(pool, *isa, matrix, &left, &mut right);
        orthonormalize(&mut right, inputs);
    }
    forward_f32(pool, *isa, matrix, &right, &mut left);
    orthonormalize(&mut left, out);
    backward_input(pool, *isa, matrix, &left, &mut right);
    // Now W is nearly `left^T right`: the eigenvectors of `right right^T` turn it into singular vectors.
    let gram: Vec<f64> = (0..carried * carried)
        .map(|i| dot(row(&right, i / carried, inputs), row(&right, i % carried, inputs)))
        .collect();
    let (squares, vectors) = eigen(gram, carried);
    let mut order: Vec<usize> = (0..carried).collect();
    order.sort_by(|&x, &y| squares[y].total_cmp(&squares[x]));
    let (mut a, mut b) = (vec![0.0f32; rank * inputs], vec![0.0f32; out * rank]);
    for (place, &which) in order.iter().take(rank).enumerate() {
        let value = squares[which].max(0.0).sqrt();
        if value == 0.0 {
            continue;
        }
        let root = (value / f64::from(scale)).sqrt();
        let turned = |rows: &[f32], width: usize, at: usize| -> f64 {
            (0..carried).map(|j| vectors[j * carried + which] * f64::from(rows[j * width + at])).sum()
        };
        for (at, to) in a[place * inputs..(place + 1) * inputs].iter_mut().enumerate() {
            *to = (root / value * turned(&right, inputs, at)) as f32;
        }
        for at in 0..out {
            b[at * rank + place] = (root * turned(&left, out, at)) as f32;
        }
    }
    Ok((Weight::from_f32(&a, rank, inputs)?, Weight::from_f32(&b, out, rank)?))
}

fn row(rows: &[f32], i: usize, width: usize) -> &[f32] {
    &rows[i * width..(i + 1) * width]
}

fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// Gram and Schmidt's method, twice for each row; a row that depends on those before it becomes zero.
fn orthonormalize(rows: &mut [f32], width: usize) {
    for i in 0..rows.len() / width {
        let (before, rest) = rows.split_at_mut(i * width);
        let own = &mut rest[..width];
        let length = dot(own, own).sqrt();
        for _ in 0..2 {
            for other in before.chunks_exact(width) {
                let along = dot(own, other) as f32;
                own.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
            }
        }
        let left = dot(own, own).sqrt();
        let factor = if left > 1e-6 * length { (1.0 / left) as f32 } else { 0.0 };
        own.iter_mut().for_each(|v| *v *= factor);
    }
}

/// Eigenvalues of a symmetric matrix and its eigenvectors as columns, by Jacobi's rotations.
fn eigen(mut m: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
    for _ in 0..60 {
        let beside: f64 = (0..n * n).filter(|i| i / n != i % n).map(|i| m[i] * m[i]).sum();
        let all: f64 = m.iter().map(|v| v * v).sum();
        if beside <= 1e-28 * all {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if m[p * n + q] == 0.0 {
                    continue;
                }
                let half = (m[q * n + q] - m[p * n + p]) / (2.0 * m[p * n + q]);
                let tangent = half.signum() / (half.abs() + (half * half + 1.0).sqrt());
                let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
                let sine = tangent * cosine;
                let turn = |x: &mut f64, y: &mut f64| (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
                for k in 0..n {
                    let (mut x, mut y) = (m[k * n + p], m[k * n + q]);
                    turn(&mut x, &mut y);
                    (m[k * n + p], m[k * n + q]) = (x, y);
                    let (mut x, mut y) = (vectors[k * n + p], vectors[k * n + q]);
                    turn(&mut x, &mut y);
                    (vectors[k * n + p], vectors[k * n + q]) = (x, y);
                }
                for k in 0..n {
                    let (mut x, mut y) = (m[p * n + k], m[q * n + k]);
                    turn(&mut x, &mut y);
                    (m[p * n + k], m[q * n + k]) = (x, y);
                }
            }
        }
    }
    ((0..n).map(|i| m[i * n + i]).collect(), vectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row `k` of the orthonormal cosine transform of length n.
    fn cosine(k: usize, n: usize) -> Vec<f64> {
        let norm = if k == 0 { 1.0 / n as f64 } else { 2.0 / n as f64 }.sqrt();
        (0..n).map(|i| norm * (std::f64::consts::PI * (i as f64 + 0.5) * k as f64 / n as f64).cos()).collect()
    }

    /// A matrix that is made of known singular vectors: the first `rank` of them must come back.
    #[test]
    fn the_largest_directions_are_found() {
        let (out, inputs, rank, scale) = (48, 80, 5, 2.0);
        let values: Vec<f64> = (0..30).map(|i| 3.0 * 0.8f64.powi(i)).collect();
        let made = |most: usize| -> Vec<f32> {
            let mut dense = vec![0.0f64; out * inputs];
            for (k, value) in values.iter().enumerate().take(most) {
                let (u, v) = (cosine((k * 7) % out, out), cosine((k * 11) % inputs, inputs));
                for (i, dense) in dense.iter_mut().enumerate() {
                    *dense += value * u[i / inputs] * v[i % inputs];
                }
            }
            dense.into_iter().map(|v| v as f32).collect()
        };
        let weight = Weight::from_f32(&made(30), out, inputs).unwrap();
        let (a, b) = principal(&OpContext::new(2), &weight, rank, scale, 1).unwrap();
        assert_eq!(((a.rows(), a.cols()), (b.rows(), b.cols())), ((rank, inputs), (out, rank)));
        let (a, b) = (a.to_f32(), b.to_f32());
        let want = made(rank);
        for i in 0..out {
            for j in 0..inputs {
                let found: f32 = (0..rank).map(|r| scale * b[i * rank + r] * a[r * inputs + j]).sum();
                assert!((found - want[i * inputs + j]).abs() < 2e-4, "{i}, {j}: {found}");
            }
        }
        // Both factors take the root of a value, less the scale.
        for (k, value) in values.iter().enumerate().take(rank) {
            let length = dot(row(&a, k, inputs), row(&a, k, inputs));
            assert!((length - value / f64::from(scale)).abs() < 1e-3, "{k}: {length}");
        }
    }

    #[test]
    fn a_matrix_of_nothing_begins_with_nothing() {
        let weight = Weight::from_f32(&[0.0; 12], 3, 4).unwrap();
        let (a, b) = principal(&OpContext::new(1), &weight, 2, 1.0, 0).unwrap();
        assert!(a.to_f32().iter().chain(&b.to_f32()).all(|&v| v == 0.0));
    }
}
