//! Sums of activations: a residual, an adapter's contribution.

use crate::disjoint::for_rows;
use crate::lanes::by_isa;
use crate::{Isa, Pool};

/// `out = a + factor * b`, element by element, in one rounding.
///
/// # Panics
/// If the lengths differ.
pub fn add_scaled(pool: &Pool, isa: Isa, a: &[f32], factor: f32, b: &[f32], out: &mut [f32]) {
    assert!(a.len() == b.len() && a.len() == out.len(), "add_scaled: lengths differ");
    for_rows(pool, 1, out, |first, part| {
        let at = first..first + part.len();
        add_part(isa, &a[at.clone()], factor, &b[at], part);
    });
}

/// `a += b`, element by element.
///
/// # Panics
/// If the lengths differ.
pub fn add_to(pool: &Pool, isa: Isa, a: &mut [f32], b: &[f32]) {
    // Once a number is the number itself: the sum is rounded as a plain one.
    add_scaled_to(pool, isa, a, 1.0, b);
}

/// `a += factor * b`, element by element, in one rounding.
///
/// # Panics
/// If the lengths differ.
pub fn add_scaled_to(pool: &Pool, isa: Isa, a: &mut [f32], factor: f32, b: &[f32]) {
    assert_eq!(a.len(), b.len(), "add_scaled_to: lengths differ");
    for_rows(pool, 1, a, |first, part| add_scaled_to_part(isa, factor, &b[first..first + part.len()], part));
}

by_isa! {
    fn add_scaled_to_part(factor: f32, b: &[f32], a: &mut [f32]) {
        for (a, &b) in a.iter_mut().zip(b) {
            *a = factor.mul_add(b, *a);
        }
    }
}

by_isa! {
    fn add_part(a: &[f32], factor: f32, b: &[f32], out: &mut [f32]) {
        for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *o = factor.mul_add(b, a);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Numbers;

    #[test]
    fn every_level_rounds_once() {
        let mut numbers = Numbers::new(1);
        let (a, b) = (numbers.normal(9001), numbers.normal(9001));
        // A product of two f32 is exact in f64, and so nearly is the sum: one rounding remains.
        let want: Vec<f32> =
            a.iter().zip(&b).map(|(&a, &b)| (f64::from(a) + f64::from(0.3f32) * f64::from(b)) as f32).collect();
        for isa in Isa::available() {
            let mut out = vec![0.0; a.len()];
            add_scaled(&Pool::new(2), isa, &a, 0.3, &b, &mut out);
            assert_eq!(out, want, "{}", isa.name());
            let mut onto = a.clone();
            add_scaled_to(&Pool::new(2), isa, &mut onto, 0.3, &b);
            assert_eq!(onto, want, "{}", isa.name());
            let mut sum = a.clone();
            add_to(&Pool::new(2), isa, &mut sum, &b);
            assert!(sum.iter().zip(a.iter().zip(&b)).all(|(s, (a, b))| *s == a + b), "{}", isa.name());
        }
    }
}
