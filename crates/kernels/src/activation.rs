//! The non-linearity of a feed-forward network, gated (`act(gate) * up`) or plain, and its backward.

use crate::disjoint::{for_rows, for_rows2};
use crate::erf::erf;
use crate::exp::{exp, sigmoid};
use crate::{Isa, Pool};

/// The non-linearity on the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// `x * sigmoid(x)` (SwiGLU, Shazeer 2020).
    Silu,
    /// `x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) / 2` (Hendrycks and Gimpel 2016; GeGLU).
    GeluTanh,
    /// `x * (1 + erf(x / sqrt(2))) / 2` (Hendrycks and Gimpel 2016; BERT).
    GeluErf,
    /// `1 / (1 + e^-x)`: gates of shared experts.
    Sigmoid,
}

/// `2 * sqrt(2 / pi)`: `(1 + tanh(z)) / 2` is `sigmoid(2 z)`.
const GELU_SLOPE: f32 = 1.595_769_2;
const GELU_CUBE: f32 = 0.044_715;

#[inline(always)]
fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// `silu` and its derivative `s * (1 + x * (1 - s))` with `s = sigmoid(x)`.
#[inline(always)]
fn silu_slope(x: f32) -> (f32, f32) {
    let s = sigmoid(x);
    (x * s, s * x.mul_add(1.0 - s, 1.0))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    x * sigmoid(GELU_SLOPE * x * (GELU_CUBE * x).mul_add(x, 1.0))
}

/// `gelu_tanh` and its derivative `s + x * s * (1 - s) * u'` with `s = sigmoid(u)`.
#[inline(always)]
fn gelu_tanh_slope(x: f32) -> (f32, f32) {
    let s = sigmoid(GELU_SLOPE * x * (GELU_CUBE * x).mul_add(x, 1.0));
    let inner = GELU_SLOPE * (3.0 * GELU_CUBE * x).mul_add(x, 1.0);
    (x * s, (x * s * (1.0 - s)).mul_add(inner, s))
}

/// `x * Phi(x)` with the normal distribution's Phi.
#[inline(always)]
fn gelu_erf(x: f32) -> f32 {
    x * 0.5f32.mul_add(erf(x * std::f32::consts::FRAC_1_SQRT_2), 0.5)
}

/// `gelu_erf` and its derivative `Phi(x) + x * phi(x)`.
#[inline(always)]
fn gelu_erf_slope(x: f32) -> (f32, f32) {
    /// `1 / sqrt(2 pi)`.
    const DENSITY: f32 = 0.398_942_3;
    let phi = 0.5f32.mul_add(erf(x * std::f32::consts::FRAC_1_SQRT_2), 0.5);
    (x * phi, (x * DENSITY).mul_add(exp(-0.5 * x * x), phi))
}

/// `sigmoid` and its derivative `s * (1 - s)`.
#[inline(always)]
fn sigmoid_slope(x: f32) -> (f32, f32) {
    let s = sigmoid(x);
    (s, s * (1.0 - s))
}

/// The four loops of a non-linearity: gated and plain, each with its backward.
macro_rules! loops {
    ($module:ident, $value:ident, $slope:ident) => {
        mod $module {
            use super::{$slope, $value};
            use crate::lanes::by_isa;

            by_isa! {
                pub(super) fn mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
                    for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
                        *o = $value(g) * u;
                    }
                }
            }

            by_isa! {
                pub(super) fn mul_slopes(
                    gate: &[f32],
                    up: &[f32],
                    dy: &[f32],
                    dgate: &mut [f32],
                    dup: &mut [f32],
                ) {
                    for ((((dg, du), &g), &u), &dy) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dy) {
                        let (value, slope) = $slope(g);
                        *dg = dy * u * slope;
                        *du = dy * value;
                    }
                }
            }

            by_isa! {
                pub(super) fn alone(x: &[f32], out: &mut [f32]) {
                    for (o, &x) in out.iter_mut().zip(x) {
                        *o = $value(x);
                    }
                }
            }

            by_isa! {
                pub(super) fn slopes(x: &[f32], dy: &[f32], dx: &mut [f32]) {
                    for ((d, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                        *d = dy * $slope(x).1;
                    }
                }
            }
        }
    };
}

loops!(silu_loops, silu, silu_slope);
loops!(gelu_tanh_loops, gelu_tanh, gelu_tanh_slope);
loops!(gelu_erf_loops, gelu_erf, gelu_erf_slope);
loops!(sigmoid_loops, sigmoid, sigmoid_slope);

/// `out = act(gate) * up`, element by element.
///
/// # Panics
/// If the lengths differ.
pub fn act_mul(pool: &Pool, isa: Isa, activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len(), "act_mul: lengths differ");
    for_rows(pool, 1, out, |first, part| {
        let at = first..first + part.len();
        let (gate, up) = (&gate[at.clone()], &up[at]);
        match activation {
            Activation::Silu => silu_loops::mul(isa, gate, up, part),
            Activation::GeluTanh => gelu_tanh_loops::mul(isa, gate, up, part),
            Activation::GeluErf => gelu_erf_loops::mul(isa, gate, up, part),
            Activation::Sigmoid => sigmoid_loops::mul(isa, gate, up, part),
        }
    });
}

/// Gradients of [`act_mul`]: `dgate = dy * up * act'(gate)` and `dup = dy * act(gate)`.
///
/// # Panics
/// If the lengths differ.
pub fn act_mul_backward(
    pool: &Pool,
    isa: Isa,
    activation: Activation,
    gate: &[f32],
    up: &[f32],
    dy: &[f32],
    dgate: &mut [f32],
    dup: &mut [f32],
) {
    let n = gate.len();
    assert!([up.len(), dy.len(), dgate.len(), dup.len()] == [n; 4], "act_mul_backward: lengths differ");
    for_rows2(pool, 1, dgate, 1, dup, |first, dgate, dup| {
        let at = first..first + dgate.len();
        let (gate, up, dy) = (&gate[at.clone()], &up[at.clone()], &dy[at]);
        match activation {
            Activation::Silu => silu_loops::mul_slopes(isa, gate, up, dy, dgate, dup),
            Activation::GeluTanh => gelu_tanh_loops::mul_slopes(isa, gate, up, dy, dgate, dup),
            Activation::GeluErf => gelu_erf_loops::mul_slopes(isa, gate, up, dy, dgate, dup),
            Activation::Sigmoid => sigmoid_loops::mul_slopes(isa, gate, up, dy, dgate, dup),
        }
    });
}

/// `out = act(x)`, element by element.
///
/// # Panics
/// If the lengths differ.
pub fn act(pool: &Pool, isa: Isa, activation: Activation, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "act: lengths differ");
    for_rows(pool, 1, out, |first, part| {
        let x = &x[first..first + part.len()];
        match activation {
            Activation::Silu => silu_loops::alone(isa, x, part),
            Activation::GeluTanh => gelu_tanh_loops::alone(isa, x, part),
            Activation::GeluErf => gelu_erf_loops::alone(isa, x, part),
            Activation::Sigmoid => sigmoid_loops::alone(isa, x, part),
        }
    });
}

/// The gradient of [`act`]: `dx = dy * act'(x)`.
///
/// # Panics
/// If the lengths differ.
pub fn act_backward(pool: &Pool, isa: Isa, activation: Activation, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(x.len() == dx.len() && dy.len() == dx.len(), "act_backward: lengths differ");
    for_rows(pool, 1, dx, |first, dx| {
        let at = first..first + dx.len();
        let (x, dy) = (&x[at.clone()], &dy[at]);
        match activation {
            Activation::Silu => silu_loops::slopes(isa, x, dy, dx),
            Activation::GeluTanh => gelu_tanh_loops::slopes(isa, x, dy, dx),
            Activation::GeluErf => gelu_erf_loops::slopes(isa, x, dy, dx),
            Activation::Sigmoid => sigmoid_loops::slopes(isa, x, dy, dx),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, finite_differences, wide};

    const ALL: [Activation; 4] = [Activation::Silu, Activation::GeluTanh, Activation::GeluErf, Activation::Sigmoid];

    fn twin(activation: Activation, gate: &[f64], up: &[f64]) -> Vec<f64> {
        let act = |x: f64| match activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }
            // Phi by Simpson's rule, from -10 where it is zero.
            Activation::GeluErf => {
                let (n, from) = (2000, -10.0f64);
                let h = (x.clamp(-9.9, 9.9) - from) / f64::from(n);
                let density = |i: i32| (-(from + f64::from(i) * h).powi(2) / 2.0).exp();
                let inner: f64 = (1..n).map(|i| f64::from(2 + 2 * (i % 2)) * density(i)).sum();
                x * h / 3.0 * (density(0) + inner + density(n)) / (2.0 * std::f64::consts::PI).sqrt()
            }
        };
        gate.iter().zip(up).map(|(&g, &u)| act(g) * u).collect()
    }

    #[test]
    fn forward_is_the_f64_twin() {
        let mut numbers = Numbers::new(1);
        let gate: Vec<f32> = numbers.normal(3_001).iter().map(|v| 4.0 * v).collect();
        let up = numbers.normal(gate.len());
        for activation in ALL {
            let mut out = vec![0.0; gate.len()];
            act_mul(&Pool::new(2), Isa::detect(), activation, &gate, &up, &mut out);
            assert_close(&out, &twin(activation, &wide(&gate), &wide(&up)), 5e-7, "act_mul");
            act(&Pool::new(2), Isa::detect(), activation, &gate, &mut out);
            assert_close(&out, &twin(activation, &wide(&gate), &vec![1.0; gate.len()]), 5e-7, "act");
        }
    }

    #[test]
    fn saturated_gates_are_finite() {
        for activation in [Activation::Silu, Activation::GeluTanh, Activation::GeluErf] {
            let (gate, ones) = ([-1e4f32, -200.0, 200.0, 1e4], [1.0f32; 4]);
            let (mut out, mut dgate, mut dup) = ([0.0; 4], [0.0; 4], [0.0; 4]);
            let pool = Pool::new(1);
            act_mul(&pool, Isa::detect(), activation, &gate, &ones, &mut out);
            act_mul_backward(&pool, Isa::detect(), activation, &gate, &ones, &ones, &mut dgate, &mut dup);
            assert_eq!(out, [0.0, 0.0, 200.0, 1e4]);
            assert_eq!(dgate, [0.0, 0.0, 1.0, 1.0]);
        }
    }

    #[test]
    fn backward_is_the_finite_difference() {
        let mut numbers = Numbers::new(2);
        let gate: Vec<f32> = numbers.normal(101).iter().map(|v| 2.0 * v).collect();
        let (up, dy) = (numbers.normal(101), numbers.normal(101));
        for activation in ALL {
            let (mut dgate, mut dup) = (vec![0.0; 101], vec![0.0; 101]);
            let pool = Pool::new(2);
            act_mul_backward(&pool, Isa::detect(), activation, &gate, &up, &dy, &mut dgate, &mut dup);
            let loss =
                |g: &[f64], u: &[f64]| twin(activation, g, u).iter().zip(wide(&dy)).map(|(y, d)| y * d).sum::<f64>();
            let (g64, u64) = (wide(&gate), wide(&up));
            assert_close(&dgate, &finite_differences(&gate, |g| loss(g, &u64)), 2e-6, "dgate");
            assert_close(&dup, &finite_differences(&up, |u| loss(&g64, u)), 2e-6, "dup");
            act_backward(&pool, Isa::detect(), activation, &gate, &dy, &mut dgate);
            let ones = vec![1.0; 101];
            assert_close(&dgate, &finite_differences(&gate, |g| loss(g, &ones)), 2e-6, "dx");
        }
    }

    #[test]
    fn every_level_and_thread_count_gives_the_same_bits() {
        let mut numbers = Numbers::new(3);
        let (gate, up, dy) = (numbers.normal(9001), numbers.normal(9001), numbers.normal(9001));
        for activation in ALL {
            let run = |isa, threads| {
                let pool = Pool::new(threads);
                let mut out = [vec![0.0; 9001], vec![0.0; 9001], vec![0.0; 9001]];
                let [y, dgate, dup] = &mut out;
                act_mul(&pool, isa, activation, &gate, &up, y);
                act_mul_backward(&pool, isa, activation, &gate, &up, &dy, dgate, dup);
                out
            };
            let want = run(Isa::Scalar, 1);
            for isa in Isa::available() {
                assert!(run(isa, 2) == want, "{activation:?} {}", isa.name());
            }
        }
    }
}
