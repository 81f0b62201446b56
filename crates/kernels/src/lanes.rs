//! Eight-lane sums of fixed order, and the macro that compiles a kernel's body for each [`Isa`].
//!
//! A floating-point sum depends on its order. The order here is cut by the length of the slice and by
//! nothing else: four groups of eight running sums, folded by one fixed tree. The plain and the
//! vector build of a body therefore give the same bits, and so does every machine. Products enter a
//! sum by fused multiply-add in both builds: a single instruction with FMA, a correct but slow
//! library call without.
//!
//! [`Isa`]: crate::Isa

/// Defines `fn name(isa, ..)` whose body is compiled twice, for the baseline and for AVX2 with FMA.
macro_rules! by_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name(isa: $crate::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                if isa >= $crate::Isa::Avx2
                    && std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("fma")
                {
                    // SAFETY: the processor was just found to have both features.
                    return unsafe { avx2($($arg),*) };
                }
            }
            let _ = isa;
            body($($arg),*)
        }
    };
}
pub(crate) use by_isa;

/// Lanes of one vector.
pub(crate) const LANES: usize = 8;
/// Running vectors of a sum: enough to hide the latency of an addition.
const GROUPS: usize = 4;

type Lanes = [f32; LANES];

/// Folds running sums by a fixed tree.
#[inline(always)]
fn fold(acc: [Lanes; GROUPS], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut v = [0.0; LANES];
    for l in 0..LANES {
        v[l] = combine(combine(acc[0][l], acc[1][l]), combine(acc[2][l], acc[3][l]));
    }
    let (a, b) = (combine(v[0], v[4]), combine(v[1], v[5]));
    let (c, d) = (combine(v[2], v[6]), combine(v[3], v[7]));
    combine(combine(a, c), combine(b, d))
}

/// `x`, filled up with `fill` to a whole vector.
#[inline(always)]
fn padded(x: &[f32], fill: f32) -> Lanes {
    let mut v = [fill; LANES];
    v[..x.len()].copy_from_slice(x);
    v
}

/// `acc_l = a_l * b_l + acc_l`.
#[inline(always)]
fn multiply_add(acc: &mut Lanes, a: &Lanes, b: &Lanes) {
    for l in 0..LANES {
        acc[l] = a[l].mul_add(b[l], acc[l]);
    }
}

/// `sum_i a_i * b_i`; the slices have one length.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    let mut acc = [[0.0; LANES]; GROUPS];
    let (a_blocks, a_rest) = a.as_chunks::<{ LANES * GROUPS }>();
    let (b_blocks, b_rest) = b.as_chunks::<{ LANES * GROUPS }>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        let vectors = x.as_chunks::<LANES>().0.iter().zip(y.as_chunks::<LANES>().0);
        for (acc, (x, y)) in acc.iter_mut().zip(vectors) {
            multiply_add(acc, x, y);
        }
    }
    for (acc, (x, y)) in acc.iter_mut().zip(a_rest.chunks(LANES).zip(b_rest.chunks(LANES))) {
        multiply_add(acc, &padded(x, 0.0), &padded(y, 0.0));
    }
    fold(acc, |p, q| p + q)
}

#[inline(always)]
fn product(a: &Lanes, b: &Lanes) -> Lanes {
    let mut v = [0.0; LANES];
    for l in 0..LANES {
        v[l] = a[l] * b[l];
    }
    v
}

/// `sum_i a_i * b_i * c_i`; the slices have one length.
#[inline(always)]
pub(crate) fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    debug_assert!(a.len() == b.len() && b.len() == c.len());
    let mut acc = [[0.0; LANES]; GROUPS];
    let (a_blocks, a_rest) = a.as_chunks::<{ LANES * GROUPS }>();
    let (b_blocks, b_rest) = b.as_chunks::<{ LANES * GROUPS }>();
    let (c_blocks, c_rest) = c.as_chunks::<{ LANES * GROUPS }>();
    for ((x, y), z) in a_blocks.iter().zip(b_blocks).zip(c_blocks) {
        let (x, y) = (x.as_chunks::<LANES>().0, y.as_chunks::<LANES>().0);
        for (acc, ((x, y), z)) in acc.iter_mut().zip(x.iter().zip(y).zip(z.as_chunks::<LANES>().0)) {
            multiply_add(acc, &product(x, y), z);
        }
    }
    let rest = a_rest.chunks(LANES).zip(b_rest.chunks(LANES)).zip(c_rest.chunks(LANES));
    for (acc, ((x, y), z)) in acc.iter_mut().zip(rest) {
        multiply_add(acc, &product(&padded(x, 0.0), &padded(y, 0.0)), &padded(z, 0.0));
    }
    fold(acc, |p, q| p + q)
}

#[inline(always)]
fn add(acc: &mut Lanes, x: &Lanes) {
    for l in 0..LANES {
        acc[l] += x[l];
    }
}

/// `sum_i x_i`.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    let mut acc = [[0.0; LANES]; GROUPS];
    let (blocks, rest) = x.as_chunks::<{ LANES * GROUPS }>();
    for x in blocks {
        for (acc, x) in acc.iter_mut().zip(x.as_chunks::<LANES>().0) {
            add(acc, x);
        }
    }
    for (acc, x) in acc.iter_mut().zip(rest.chunks(LANES)) {
        add(acc, &padded(x, 0.0));
    }
    fold(acc, |p, q| p + q)
}

/// The largest of two numbers; unlike `f32::max` a single instruction. A NaN on the left is dropped.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The largest element, negative infinity for none.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut acc = [[f32::NEG_INFINITY; LANES]; GROUPS];
    let (blocks, rest) = x.as_chunks::<{ LANES * GROUPS }>();
    for x in blocks {
        for (acc, x) in acc.iter_mut().zip(x.as_chunks::<LANES>().0) {
            for l in 0..LANES {
                acc[l] = larger(acc[l], x[l]);
            }
        }
    }
    for (g, x) in rest.chunks(LANES).enumerate() {
        let x = padded(x, f32::NEG_INFINITY);
        for l in 0..LANES {
            acc[g][l] = larger(acc[g][l], x[l]);
        }
    }
    fold(acc, larger)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    by_isa! {
        fn all_four(a: &[f32], b: &[f32], c: &[f32]) -> [f32; 4] {
            [dot(a, b), dot3(a, b, c), sum(a), max(a)]
        }
    }

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        crate::testing::Numbers::new(seed).normal(n)
    }

    #[test]
    fn sums_agree_with_f64_at_every_remainder() {
        for n in (0..70).chain([576, 1000, 4097]) {
            let (a, b, c) = (numbers(n, 1), numbers(n, 2), numbers(n, 3));
            let wide = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>();
            let want = [
                wide(&|i| f64::from(a[i]) * f64::from(b[i])),
                wide(&|i| f64::from(a[i]) * f64::from(b[i]) * f64::from(c[i])),
                wide(&|i| f64::from(a[i])),
            ];
            let got = all_four(Isa::Scalar, &a, &b, &c);
            for (got, want) in got.iter().zip(want) {
                assert!((f64::from(*got) - want).abs() < 2e-6 * (n as f64 + 1.0), "n {n}: {got} and {want}");
            }
            let largest = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(got[3], largest, "n {n}");
        }
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        for n in [0, 1, 7, 8, 31, 32, 33, 575, 576] {
            let (a, b, c) = (numbers(n, 4), numbers(n, 5), numbers(n, 6));
            let want = all_four(Isa::Scalar, &a, &b, &c).map(f32::to_bits);
            for isa in Isa::available() {
                assert_eq!(all_four(isa, &a, &b, &c).map(f32::to_bits), want, "{} n {n}", isa.name());
            }
        }
    }
}
