//! The exponential function in plain arithmetic, which the compiler turns into vector code.
//!
//! `e^x = 2^n * e^r` with `n = round(x / ln 2)` and `|r| <= ln 2 / 2`; `e^r` is a polynomial of degree
//! six whose relative error is below 3.1e-9 before rounding (coefficients: minimax fit of
//! `(e^r - 1 - r) / r^2` by reweighted least squares, rounded to f32).

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// The upper bits of ln 2: times any whole number below 2^9 it is exact.
const LN2_HIGH: f32 = 0.693_359_4;
/// ln 2 minus its upper bits.
const LN2_LOW: f32 = -2.121_944_4e-4;
/// 1.5 * 2^23: adding it rounds to a whole number and leaves that number in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `e^x`. Relative error below 1.2e-7 (one unit in the last place) where the result is a normal
/// number; smaller results lose bits as f32 itself does, then are zero; above 88.72 it is infinite.
/// NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Beyond these the result is zero or infinite anyway. Written so that NaN passes.
    let x = if x > 90.0 { 90.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    let shifted = x.mul_add(LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let q = 1.381_458_7e-3f32
        .mul_add(r, 8.368_717e-3)
        .mul_add(r, 4.166_839e-2)
        .mul_add(r, 0.166_665_21)
        .mul_add(r, 0.499_999_94);
    let p = (r * r).mul_add(q, r) + 1.0;
    // Two factors, since 2^n alone leaves the range of f32 where the result does not.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// `2^x` for `x` up to 127: relative error below 1.2e-7 down to -126; below, an error below 1.2e-38, and zero from
/// -127 on. NaN stays NaN. Cheaper than [`exp`]: for weights of attention, whose exponents are not above zero.
///
/// `2^r` for `|r| <= 1/2` is a polynomial of degree six whose relative error is below 1.6e-8 before rounding
/// (coefficients: minimax fit of `(2^r - 1) / r` by reweighted least squares, rounded to f32).
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    let x = if x < -127.0 { -127.0 } else { x };
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    let p = 1.535_336_2e-4f32
        .mul_add(r, 1.339_887_5e-3)
        .mul_add(r, 9.618_437e-3)
        .mul_add(r, 5.550_332_4e-2)
        .mul_add(r, 0.240_226_48)
        .mul_add(r, std::f32::consts::LN_2)
        .mul_add(r, 1.0);
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// `2^n` for `-126 <= n <= 127`.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::lanes::by_isa;

    by_isa! {
        fn exp_all(x: &[f32], out: &mut [f32]) {
            for (o, &x) in out.iter_mut().zip(x) {
                *o = exp(x);
            }
        }
    }

    #[test]
    fn within_one_unit_of_the_last_place_over_the_whole_range() {
        let isa = Isa::detect();
        let mut worst = 0.0f64;
        // Every 61st float of either sign: 35 million values.
        let mut bits = 0u32;
        while f32::from_bits(bits) < 88.72 {
            let x: Vec<f32> = (0..4096)
                .flat_map(|i| {
                    let v = f32::from_bits(bits + i * 61);
                    [v, -v]
                })
                .filter(|v| (-87.3..88.72).contains(v))
                .collect();
            let mut got = vec![0.0; x.len()];
            exp_all(isa, &x, &mut got);
            for (&x, &got) in x.iter().zip(&got) {
                let want = f64::from(x).exp();
                worst = worst.max((f64::from(got) - want).abs() / want);
            }
            bits += 4096 * 61;
        }
        assert!(worst < 1.2e-7, "relative error {worst:e}");
    }

    by_isa! {
        fn exp2_all(x: &[f32], out: &mut [f32]) {
            for (o, &x) in out.iter_mut().zip(x) {
                *o = exp2(x);
            }
        }
    }

    #[test]
    fn powers_of_two_are_within_their_error_on_every_level() {
        let x: Vec<f32> = (0..3_000_000).map(|i| 1.0 - i as f32 * 4.4e-5).collect();
        let mut want = vec![0.0; x.len()];
        exp2_all(Isa::Scalar, &x, &mut want);
        for (&x, &got) in x.iter().zip(&want) {
            let exact = f64::from(x).exp2();
            let error = (f64::from(got) - exact).abs();
            let bound = if x >= -126.0 { 1.2e-7 * exact } else { 1.2e-38 };
            assert!(error <= bound, "2^{x}: {got:e} where {exact:e} was expected");
        }
        for isa in Isa::available() {
            let mut got = vec![0.0; x.len()];
            exp2_all(isa, &x, &mut got);
            assert!(got.iter().zip(&want).all(|(g, w)| g.to_bits() == w.to_bits()), "{}", isa.name());
        }
        assert_eq!([0.0, -1.0, -127.0, -1e9, f32::NEG_INFINITY].map(exp2), [1.0, 0.5, 0.0, 0.0, 0.0]);
        assert!(exp2(f32::NAN).is_nan());
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        // Subnormal results, in units of the smallest number.
        for x in [-88.0f32, -95.0, -100.0, -103.0] {
            let error = f64::from(exp(x)) - f64::from(x).exp();
            assert!(error.abs() <= f64::from(f32::from_bits(1)), "exp({x})");
        }
        assert_eq!(sigmoid(-1000.0), 0.0);
        assert_eq!(sigmoid(1000.0), 1.0);
        assert_eq!(sigmoid(0.0), 0.5);
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let x: Vec<f32> = (0..10_001).map(|i| (i as f32 - 5000.0) * 0.021).collect();
        let mut want = vec![0.0; x.len()];
        exp_all(Isa::Scalar, &x, &mut want);
        for isa in Isa::available() {
            let mut got = vec![0.0; x.len()];
            exp_all(isa, &x, &mut got);
            assert!(got.iter().zip(&want).all(|(g, w)| g.to_bits() == w.to_bits()), "{}", isa.name());
        }
    }
}
