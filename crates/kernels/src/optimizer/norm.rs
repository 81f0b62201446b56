//! The sum of squares that a gradient's norm is the root of, and the scaling that clips it.

use super::{TILE, for_tiles};
use crate::disjoint::{Disjoint, for_rows};
use crate::lanes::{LANES, by_isa};
use crate::{Isa, Pool};

/// `sum_i x_i^2` in f64, where every square is exact. The order is cut by the length only.
pub fn sum_of_squares(pool: &Pool, isa: Isa, x: &[f32]) -> f64 {
    let mut sums = vec![0.0; x.len().div_ceil(TILE)];
    let places = Disjoint::new(&mut sums);
    for_tiles(pool, x.len(), |at| {
        let tile = at.start / TILE;
        // SAFETY: each tile has a sum of its own, and the pool runs each tile once.
        let sum = unsafe { places.part(tile..tile + 1) };
        sum[0] = squares_of_part(isa, &x[at]);
    });
    sums.iter().sum()
}

by_isa! {
    fn squares_of_part(x: &[f32]) -> f64 {
        let mut acc = [0.0f64; LANES];
        let (vectors, rest) = x.as_chunks::<LANES>();
        for x in vectors {
            for l in 0..LANES {
                acc[l] += f64::from(x[l]) * f64::from(x[l]);
            }
        }
        for (acc, &x) in acc.iter_mut().zip(rest) {
            *acc += f64::from(x) * f64::from(x);
        }
        let [a, b, c, d, e, f, g, h] = acc;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

/// `x *= factor`, element by element.
pub fn scale(pool: &Pool, isa: Isa, factor: f32, x: &mut [f32]) {
    for_rows(pool, 1, x, |_, part| scale_part(isa, factor, part));
}

by_isa! {
    fn scale_part(factor: f32, x: &mut [f32]) {
        for x in x.iter_mut() {
            *x *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Numbers;

    #[test]
    fn the_sum_is_right_at_every_remainder_and_the_same_everywhere() {
        for n in [0, 1, 7, 8, 9, 4095, 4096, 4097, 30_001] {
            let x = Numbers::new(n as u64).normal(n);
            let want: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
            let got = sum_of_squares(&Pool::new(1), Isa::Scalar, &x);
            assert!((got - want).abs() <= 1e-14 * want * (n as f64).sqrt(), "n {n}: {got} and {want}");
            for isa in Isa::available() {
                assert_eq!(sum_of_squares(&Pool::new(3), isa, &x).to_bits(), got.to_bits(), "{} n {n}", isa.name());
            }
        }
    }

    #[test]
    fn large_numbers_do_not_overflow() {
        assert!(sum_of_squares(&Pool::new(1), Isa::detect(), &[3e38, 2e38]).is_finite());
    }

    #[test]
    fn scaling_rounds_once() {
        let x = Numbers::new(1).normal(9001);
        for isa in Isa::available() {
            let mut scaled = x.clone();
            scale(&Pool::new(2), isa, 0.3, &mut scaled);
            let want = x.iter().map(|&v| (f64::from(v) * f64::from(0.3f32)) as f32);
            assert!(scaled.iter().copied().eq(want), "{}", isa.name());
        }
    }
}
