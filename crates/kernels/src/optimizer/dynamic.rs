//! The dynamic data type: 256 numbers whose density falls with their distance from one (Dettmers 2016, section 4;
//! Dettmers et al. 2022, section 2.2), and the nearest of them to a number.
//!
//! Each of seven decades is cut evenly, the upper ones finer: a positive number has `2^(i + 1)` values in decade i of
//! the unsigned map, half as many in the signed one. The values lie in the middle of their cuts; zero and one join them.
//! Every value is bit for bit that of bitsandbytes' `create_dynamic_map`.

/// Decades below one.
const DECADES: usize = 7;
/// The decades' upper ends.
const ENDS: [f32; DECADES] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
/// The upper half of the bits of 2^-23, which is nearer to zero than to the smallest value.
const LOWEST: u32 = 0x3400;
/// Numbers from there to one that differ in the upper half of their bits.
const KEYS: usize = 0x3F80 - LOWEST as usize + 1;
/// The code of zero in the signed map; codes above are positive.
const ZERO: u8 = 127;

/// The magnitudes of a map, ascending from zero, and how the nearest is found.
struct Levels {
    magnitudes: [f32; 256],
    /// Halfway from each to the next.
    midpoints: [f32; 256],
    /// For the upper half of a number's bits: the level nearest to the smallest such number. It or the next is the
    /// number's own.
    nearest: [u8; KEYS],
}

static SIGNED: Levels = Levels::new(true);
static UNSIGNED: Levels = Levels::new(false);
static SIGNED_MAP: [f32; 256] = signed_map();

impl Levels {
    const fn new(signed: bool) -> Levels {
        let mut levels = Levels { magnitudes: [0.0; 256], midpoints: [f32::INFINITY; 256], nearest: [0; KEYS] };
        let mut count = 1;
        let mut decade = 0;
        while decade < DECADES {
            let cuts = 1 << (decade + !signed as usize);
            let mut i = 0;
            while i < cuts {
                let mean = (cut(i, cuts) + cut(i + 1, cuts)) / 2.0;
                levels.magnitudes[count] = ENDS[decade] * mean;
                count += 1;
                i += 1;
            }
            decade += 1;
        }
        levels.magnitudes[count] = 1.0;
        let mut i = 0;
        while i < count {
            levels.midpoints[i] = (levels.magnitudes[i] + levels.magnitudes[i + 1]) / 2.0;
            i += 1;
        }
        let (mut key, mut level) = (0, 0);
        while key < KEYS {
            let smallest = f32::from_bits((LOWEST + key as u32) << 16);
            while levels.midpoints[level] < smallest {
                level += 1;
            }
            levels.nearest[key] = level as u8;
            let next = f32::from_bits((LOWEST + key as u32 + 1) << 16);
            assert!(level + 1 >= count || levels.midpoints[level + 1] >= next, "two midpoints under one key");
            key += 1;
        }
        levels
    }

    /// The level nearest to a magnitude of at most one, the lower of two that are equally near.
    #[inline(always)]
    fn nearest(&self, magnitude: f32) -> u8 {
        let key = (magnitude.to_bits() >> 16).saturating_sub(LOWEST).min(KEYS as u32 - 1);
        let level = self.nearest[key as usize];
        level + u8::from(magnitude > self.midpoints[usize::from(level)])
    }
}

/// Where cut i of an even division of 0.1 to 1 lies: counted from the nearer end, as `torch.linspace` does.
const fn cut(i: usize, cuts: usize) -> f32 {
    let step = ((1.0 - 0.1f32) / cuts as f32) as f64;
    if i < cuts.div_ceil(2) {
        (0.1f32 as f64 + step * i as f64) as f32
    } else {
        (1.0 - step * (cuts - i) as f64) as f32
    }
}

const fn signed_map() -> [f32; 256] {
    let mut map = [0.0; 256];
    let mut level = 1;
    while level <= 128 {
        map[ZERO as usize + level] = SIGNED.magnitudes[level];
        if level <= ZERO as usize {
            map[ZERO as usize - level] = -SIGNED.magnitudes[level];
        }
        level += 1;
    }
    map
}

/// The 256 values of the dynamic map, ascending by code: from -0.993 to 1 if signed, from 0 to 1 if not.
pub fn dynamic_map(signed: bool) -> &'static [f32; 256] {
    if signed { &SIGNED_MAP } else { &UNSIGNED.magnitudes }
}

/// Writes `map[code] * largest` for each code.
#[inline(always)]
pub(super) fn decode<const IS_SIGNED: bool>(codes: &[u8], largest: f32, out: &mut [f32]) {
    let map = dynamic_map(IS_SIGNED);
    for (out, &code) in out.iter_mut().zip(codes) {
        *out = map[usize::from(code)] * largest;
    }
}

/// Writes the code of the value nearest to `x / largest` for each x; returns the largest magnitude.
#[inline(always)]
pub(super) fn encode<const IS_SIGNED: bool>(x: &[f32], codes: &mut [u8]) -> f32 {
    // Magnitudes stand in the order of their bits; a NaN is above all.
    let largest = f32::from_bits(x.iter().fold(0, |bits, x| bits.max(x.abs().to_bits())));
    if largest == 0.0 {
        codes.fill(if IS_SIGNED { ZERO } else { 0 });
        return largest;
    }
    for (code, &x) in codes.iter_mut().zip(x) {
        let magnitude = x.abs() / largest;
        *code = match (IS_SIGNED, x < 0.0) {
            (false, _) => UNSIGNED.nearest(magnitude),
            (true, false) => ZERO + SIGNED.nearest(magnitude),
            // There is no -1.
            (true, true) => ZERO - SIGNED.nearest(magnitude).min(ZERO),
        };
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Numbers;

    #[test]
    fn maps_ascend_between_their_ends() {
        for signed in [false, true] {
            let map = dynamic_map(signed);
            assert!(map.is_sorted_by(|a, b| a < b));
            assert_eq!((map[if signed { 127 } else { 0 }], map[255]), (0.0, 1.0));
        }
        // The finest cuts by the definition: 128 and 64 of the last decade, 2 and 1 of the first.
        let (unsigned, signed) = (dynamic_map(false), dynamic_map(true));
        let near = |got: f32, want: f64| assert!((f64::from(got) / want - 1.0).abs() < 2e-7, "{got} and {want}");
        near(unsigned[254], 1.0 - 0.45 / 128.0);
        near(unsigned[1], 1e-6 * (0.1 + 0.225));
        near(signed[254], 1.0 - 0.45 / 64.0);
        near(signed[128], 1e-6 * 0.55);
        near(signed[0], -(1.0 - 0.45 / 64.0));
    }

    #[test]
    fn the_code_is_of_the_nearest_value() {
        let mut numbers = Numbers::new(1);
        // Magnitudes of all decades and below, values, midpoints and the numbers beside these.
        let mut x: Vec<f32> = (0..20_000).map(|_| 10f64.powf(-9.0 * numbers.uniform()) as f32).collect();
        for map in [dynamic_map(false), dynamic_map(true)] {
            x.extend(map.iter().map(|v| v.abs()));
            let middles = map.windows(2).map(|w| ((w[0] + w[1]) / 2.0).abs());
            x.extend(middles.flat_map(|m| [m.next_down().max(0.0), m, m.next_up().min(1.0)]));
        }
        x.push(1.0);
        fn check<const IS_SIGNED: bool>(x: &[f32]) {
            let map = dynamic_map(IS_SIGNED);
            let mut codes = vec![0; x.len()];
            assert_eq!(encode::<IS_SIGNED>(x, &mut codes), 1.0);
            for (&x, &code) in x.iter().zip(&codes) {
                let distance = |value: f32| (f64::from(value) - f64::from(x)).abs();
                let least = map.iter().map(|&v| distance(v)).fold(f64::INFINITY, f64::min);
                // A midpoint is rounded to f32.
                let slack = f64::from(x.abs()) * 1.2e-7;
                assert!(distance(map[usize::from(code)]) <= least + slack, "{x}: {}", map[usize::from(code)]);
            }
        }
        check::<false>(&x);
        for i in (0..x.len() - 1).step_by(2) {
            x[i] = -x[i];
        }
        check::<true>(&x);
    }

    #[test]
    fn a_block_of_zeros_is_zeros_and_tiny_numbers_are_kept() {
        let mut codes = [9; 4];
        assert_eq!(encode::<true>(&[0.0, -0.0, 0.0, 0.0], &mut codes), 0.0);
        assert!(codes.iter().all(|&c| dynamic_map(true)[usize::from(c)] == 0.0));
        // Below the smallest normal number, where the reciprocal of the largest would be infinite.
        let x = [1e-40f32, 5e-41, 0.0, 1e-42];
        let largest = encode::<false>(&x, &mut codes);
        let mut out = [0.0; 4];
        decode::<false>(&codes, largest, &mut out);
        assert!(x.iter().zip(out).all(|(x, out)| (x - out).abs() <= 4e-43), "{out:?}");
    }
}
