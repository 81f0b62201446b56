//! Python's `random.Random(seed).sample`, since the published few-shot numbers hang on which examples it draws.
//!
//! CPython seeds MT19937 with the seed's 32-bit digits, draws below a bound by taking as many bits as the bound has until
//! they fit, and samples small populations by swapping, large ones by drawing again what was drawn already.

use std::collections::HashSet;

use rand_mt::Mt;

/// CPython's generator.
pub(crate) struct Random(Mt);

impl Random {
    /// `random.Random(seed)`.
    pub(crate) fn new(seed: u32) -> Random {
        Random(Mt::new_with_key([seed]))
    }

    /// A number below `bound`, which is not 0 and fits 32 bits.
    fn below(&mut self, bound: u32) -> u32 {
        let unused = bound.leading_zeros();
        loop {
            let number = self.0.next_u32() >> unused;
            if number < bound {
                return number;
            }
        }
    }

    /// The indexes of `random.sample(population, k)` for a population of `n`; `k <= n`.
    pub(crate) fn sample(&mut self, n: u32, k: u32) -> Vec<usize> {
        let mut few = 21u64;
        if k > 5 {
            few += 4u64.pow((f64::from(k) * 3.0).log(4.0).ceil() as u32);
        }
        if u64::from(n) <= few {
            let mut pool: Vec<usize> = (0..n as usize).collect();
            (0..k)
                .map(|i| {
                    let at = self.below(n - i) as usize;
                    let drawn = pool[at];
                    pool[at] = pool[(n - i - 1) as usize];
                    drawn
                })
                .collect()
        } else {
            let mut drawn = HashSet::new();
            (0..k)
                .map(|_| {
                    loop {
                        let at = self.below(n);
                        if drawn.insert(at) {
                            break at as usize;
                        }
                    }
                })
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_those_of_python() {
        // `python3 -c 'import random; r = random.Random(1234); ...'`, CPython 3.11: one generator, call after call.
        let mut random = Random::new(1234);
        let calls: &[(u32, u32, &[usize])] = &[
            (300, 5, &[225, 59, 3, 46, 298]),
            (300, 5, &[17, 42, 50, 181, 121]),
            (7473, 5, &[142, 252, 6461, 129, 2835]),
            (10, 4, &[9, 7, 8, 1]),
            (21, 5, &[2, 5, 3, 0, 16]),
            (22, 5, &[15, 7, 2, 21, 17]),
            (100, 8, &[59, 8, 76, 86, 11, 65, 74, 5]),
            (85, 8, &[34, 71, 8, 38, 61, 45, 84, 31]),
            (86, 8, &[83, 25, 58, 67, 85, 2, 65, 9]),
            (1, 1, &[0]),
            (
                2000,
                40,
                &[
                    683, 294, 1454, 968, 1346, 772, 342, 110, 156, 1203, 1016, 335, 154, 1141, 440, 295, 55, 1919, 709,
                    1578, 227, 1959, 1084, 289, 1373, 625, 930, 81, 852, 566, 1356, 1651, 82, 363, 556, 316, 614, 1955,
                    1735, 1595,
                ],
            ),
            (5, 0, &[]),
        ];
        for &(n, k, want) in calls {
            assert_eq!(random.sample(n, k), want, "{k} of {n}");
        }
        assert_eq!(Random::new(42).sample(1000, 3), [654, 114, 25]);
    }
}
