//! The exponentials of a page's scores, to base two: the factor `log2 e` is part of the queries' scale.

use std::ops::Range;

use super::vector::{Kernel, Plain, Vector, run};
use crate::Isa;
use crate::lanes::by_isa;
use crate::softcap::tanh;

/// 1.5 * 2^23: adding it rounds to a whole number and leaves that number in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;

/// `2^r` on `[-1/2, 1/2]`, relative error 1.1e-7: minimax fit of `(2^r - 1) / r` by reweighted least squares,
/// rounded to f32. The second is near ln 2, but the best for a curve of this degree.
#[allow(clippy::approx_constant)]
pub(super) const CURVE: [f32; 6] = [1.0, 0.693_147, 0.240_222_42, 0.055_507_336, 0.009_671_513, 0.001_326_472_7];

/// `2^x` for one number up to zero, with the bits of the vectors.
pub(super) fn exp2(x: f32) -> f32 {
    let mut out = [0.0; 8];
    // SAFETY: plain code on an array of eight.
    unsafe { Plain::splat(x).exp2().store(out.as_mut_ptr()) };
    out[0]
}

by_isa! {
    /// `cap * tanh(score / cap)` of scores to base e, which become scores to base two.
    pub(super) fn capped(scores: &mut [f32], cap: f32) {
        let (inverse, top) = (1.0 / cap, cap * std::f32::consts::LOG2_E);
        for s in scores {
            *s = top * tanh(*s * inverse);
        }
    }
}

by_isa! {
    /// Adds numbers `at ..` of a head's bias to scores; below and beyond its ends stand its first and last.
    pub(super) fn add_bias(scores: &mut [f32], bias: &[f32], at: isize) {
        let count = scores.len() as isize;
        let below = (-at).clamp(0, count) as usize;
        let inside = (bias.len() as isize - at).clamp(below as isize, count) as usize;
        let base = std::f32::consts::LOG2_E;
        for s in &mut scores[..below] {
            *s = base.mul_add(bias[0], *s);
        }
        if below < inside {
            for (s, b) in scores[below..inside].iter_mut().zip(&bias[(at + below as isize) as usize..]) {
                *s = base.mul_add(*b, *s);
            }
        }
        for s in &mut scores[inside..] {
            *s = base.mul_add(bias[bias.len() - 1], *s);
        }
    }
}

/// Turns the seen scores of a line into powers of two relative to their maximum; returns it and their sum.
pub(super) fn exponentials(isa: Isa, scores: &mut [f32], seen: &[Range<usize>]) -> (f32, f32) {
    // SAFETY: the kernel slices the scores as any other code does.
    unsafe { run(isa, Exponentials { scores, seen }) }
}

struct Exponentials<'a> {
    scores: &'a mut [f32],
    seen: &'a [Range<usize>],
}

/// Running sums, enough to hide the latency of an addition.
const GROUPS: usize = 4;

impl Kernel for Exponentials<'_> {
    type Out = (f32, f32);

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> (f32, f32) {
        // SAFETY: eight numbers of a slice of eight behind each pointer.
        unsafe {
            let mut top = V::splat(f32::NEG_INFINITY);
            for range in self.seen {
                let (whole, rest) = self.scores[range.clone()].as_chunks::<8>();
                for x in whole {
                    top = V::load(x.as_ptr()).max(top);
                }
                let mut last = [f32::NEG_INFINITY; 8];
                last[..rest.len()].copy_from_slice(rest);
                top = V::load(last.as_ptr()).max(top);
            }
            let mut lanes = [0.0f32; 8];
            top.store(lanes.as_mut_ptr());
            let mut max = lanes[0];
            for &l in &lanes[1..] {
                max = if l > max { l } else { max };
            }
            let top = V::splat(max);
            let mut total = 0.0;
            for range in self.seen {
                let (blocks, rest) = self.scores[range.clone()].as_chunks_mut::<{ 8 * GROUPS }>();
                let mut sums = [V::splat(0.0); GROUPS];
                for block in blocks {
                    let at = block.as_mut_ptr();
                    for (g, sum) in sums.iter_mut().enumerate() {
                        let p = V::load(at.add(8 * g)).sub(top).exp2();
                        p.store(at.add(8 * g));
                        *sum = sum.add(p);
                    }
                }
                for (part, sum) in rest.chunks_mut(8).zip(&mut sums) {
                    let mut lanes = [0.0f32; 8];
                    lanes[..part.len()].copy_from_slice(part);
                    V::load(lanes.as_ptr()).sub(top).exp2().store(lanes.as_mut_ptr());
                    part.copy_from_slice(&lanes[..part.len()]);
                    lanes[part.len()..].fill(0.0);
                    *sum = sum.add(V::load(lanes.as_ptr()));
                }
                let mut v = [0.0f32; 8];
                sums[0].add(sums[1]).add(sums[2].add(sums[3])).store(v.as_mut_ptr());
                total += ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
            }
            (max, total)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Numbers;

    #[test]
    fn powers_of_two_over_their_range() {
        let mut worst = 0.0f64;
        for i in 0..2_000_000 {
            let x = -(i as f32) * 6.2e-5;
            let want = f64::from(x).exp2();
            worst = worst.max((f64::from(exp2(x)) - want).abs() / want);
        }
        assert!(worst < 2e-7, "{worst:e}");
        assert_eq!(exp2(0.0), 1.0);
        assert_eq!(exp2(-3.0), 0.125);
        assert_eq!(exp2(f32::NEG_INFINITY), exp2(-125.0));
        assert!(exp2(f32::NAN).is_nan());
    }

    #[test]
    fn seen_scores_become_powers_and_others_stay() {
        for n in [1usize, 7, 8, 31, 32, 33, 100, 256] {
            let scores: Vec<f32> = Numbers::new(n as u64).normal(256).iter().map(|s| 8.0 * s).collect();
            for (cut, start) in [(0, 0), (n / 3, n / 2), (0, 5.min(n - 1))] {
                let seen = [0..cut, start..n];
                let top = seen.iter().cloned().flatten().map(|i| scores[i]).fold(f32::NEG_INFINITY, f32::max);
                let want = |i: usize| (f64::from(scores[i]) - f64::from(top)).exp2();
                let sum: f64 = seen.iter().cloned().flatten().map(want).sum();
                let mut first = None;
                for isa in Isa::available() {
                    let mut got = scores.clone();
                    let (max, total) = exponentials(isa, &mut got, &seen);
                    assert_eq!(max, top);
                    assert!((f64::from(total) - sum).abs() < 1e-6 * sum, "{total} for {sum}");
                    for i in 0..256 {
                        if seen.iter().any(|r| r.contains(&i)) {
                            assert!((f64::from(got[i]) - want(i)).abs() < 2e-6, "{} for {}", got[i], want(i));
                        } else {
                            assert_eq!(got[i], scores[i]);
                        }
                    }
                    assert!(first.get_or_insert((got.clone(), total)) == &(got, total), "{}", isa.name());
                }
            }
        }
    }
}
