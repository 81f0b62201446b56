//! The gated non-linearity of a feed-forward network, `act(gate) * up`, and its backward.

use crate::disjoint::{for_rows, for_rows2};
use crate::exp::sigmoid;
use crate::lanes::by_isa;
use crate::{Isa, Pool};

/// The non-linearity on the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// `x * sigmoid(x)` (SwiGLU, Shazeer 2020).
    Silu,
    /// `x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) / 2` (Hendrycks and Gimpel 2016; GeGLU).
    GeluTanh,
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

by_isa! {
    fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *o = silu(g) * u;
        }
    }
}

by_isa! {
    fn gelu_tanh_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *o = gelu_tanh(g) * u;
        }
    }
}

by_isa! {
    fn silu_mul_slopes(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        for ((((dg, du), &g), &u), &dy) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dy) {
            let (value, slope) = silu_slope(g);
            *dg = dy * u * slope;
            *du = dy * value;
        }
    }
}

by_isa! {
    fn gelu_tanh_mul_slopes(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        for ((((dg, du), &g), &u), &dy) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dy) {
            let (value, slope) = gelu_tanh_slope(g);
            *dg = dy * u * slope;
            *du = dy * value;
        }
    }
}

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
            Activation::Silu => silu_mul(isa, gate, up, part),
            Activation::GeluTanh => gelu_tanh_mul(isa, gate, up, part),
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
            Activation::Silu => silu_mul_slopes(isa, gate, up, dy, dgate, dup),
            Activation::GeluTanh => gelu_tanh_mul_slopes(isa, gate, up, dy, dgate, dup),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_close, finite_differences, wide};

    const BOTH: [Activation; 2] = [Activation::Silu, Activation::GeluTanh];

    fn twin(activation: Activation, gate: &[f64], up: &[f64]) -> Vec<f64> {
        let act = |x: f64| match activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }
        };
        gate.iter().zip(up).map(|(&g, &u)| act(g) * u).collect()
    }

    #[test]
    fn forward_is_the_f64_twin() {
        let mut numbers = Numbers::new(1);
        let gate: Vec<f32> = numbers.normal(10_001).iter().map(|v| 4.0 * v).collect();
        let up = numbers.normal(gate.len());
        for activation in BOTH {
            let mut out = vec![0.0; gate.len()];
            act_mul(&Pool::new(2), Isa::detect(), activation, &gate, &up, &mut out);
            assert_close(&out, &twin(activation, &wide(&gate), &wide(&up)), 5e-7, "act_mul");
        }
    }

    #[test]
    fn saturated_gates_are_finite() {
        for activation in BOTH {
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
        for activation in BOTH {
            let (mut dgate, mut dup) = (vec![0.0; 101], vec![0.0; 101]);
            let pool = Pool::new(2);
            act_mul_backward(&pool, Isa::detect(), activation, &gate, &up, &dy, &mut dgate, &mut dup);
            let loss =
                |g: &[f64], u: &[f64]| twin(activation, g, u).iter().zip(wide(&dy)).map(|(y, d)| y * d).sum::<f64>();
            let (g64, u64) = (wide(&gate), wide(&up));
            assert_close(&dgate, &finite_differences(&gate, |g| loss(g, &u64)), 2e-6, "dgate");
            assert_close(&dup, &finite_differences(&up, |u| loss(&g64, u)), 2e-6, "dup");
        }
    }

    #[test]
    fn every_level_and_thread_count_gives_the_same_bits() {
        let mut numbers = Numbers::new(3);
        let (gate, up, dy) = (numbers.normal(9001), numbers.normal(9001), numbers.normal(9001));
        for activation in BOTH {
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
