//! Soft capping: `cap * tanh(x / cap)` (Gemma 2), and its backward.

use crate::disjoint::for_rows;
use crate::exp::sigmoid;
use crate::lanes::by_isa;
use crate::{Isa, Pool};

/// `tanh(x)`: `2 sigmoid(2x) - 1`, absolute error below 2e-7.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    2.0f32.mul_add(sigmoid(2.0 * x), -1.0)
}

/// `x = cap * tanh(x / cap)`, in place.
pub fn softcap(pool: &Pool, isa: Isa, cap: f32, x: &mut [f32]) {
    for_rows(pool, 1, x, |_, part| capped(isa, cap, part));
}

/// The gradient of [`softcap`] from its result y: `dx = dy * (1 - (y / cap)^2)`.
///
/// # Panics
/// If the lengths differ.
pub fn softcap_backward(pool: &Pool, isa: Isa, cap: f32, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(y.len() == dx.len() && dy.len() == dx.len(), "softcap_backward: lengths differ");
    for_rows(pool, 1, dx, |first, dx| {
        let at = first..first + dx.len();
        slopes(isa, cap, &y[at.clone()], &dy[at], dx);
    });
}

by_isa! {
    fn capped(cap: f32, x: &mut [f32]) {
        let inverse = 1.0 / cap;
        for x in x {
            *x = cap * tanh(*x * inverse);
        }
    }
}

by_isa! {
    fn slopes(cap: f32, y: &[f32], dy: &[f32], dx: &mut [f32]) {
        let inverse = 1.0 / cap;
        for ((d, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
            let t = y * inverse;
            *d = dy * (-t).mul_add(t, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, finite_differences, wide};

    #[test]
    fn forward_and_backward_are_the_f64_twins() {
        let (cap, pool) = (3.0f32, Pool::new(2));
        let mut numbers = Numbers::new(1);
        let x: Vec<f32> = numbers.normal(1001).iter().map(|v| 4.0 * v).collect();
        let dy = numbers.normal(x.len());
        let twin = |x: &[f64]| x.iter().map(|x| 3.0 * (x / 3.0).tanh()).collect::<Vec<_>>();
        let mut first = None;
        for isa in Isa::available() {
            let mut y = x.clone();
            softcap(&pool, isa, cap, &mut y);
            assert_close(&y, &twin(&wide(&x)), 1e-6, "softcap");
            let mut dx = vec![0.0; x.len()];
            softcap_backward(&pool, isa, cap, &y, &dy, &mut dx);
            let loss = |x: &[f64]| twin(x).iter().zip(wide(&dy)).map(|(y, d)| y * d).sum::<f64>();
            assert_close(&dx, &finite_differences(&x, loss), 2e-6, "dx");
            assert!(first.get_or_insert((y.clone(), dx.clone())) == &(y, dx), "{}", isa.name());
        }
    }
}
