//! McNemar's test of two systems that are right or wrong on the same items (McNemar 1947).

use serde::Serialize;

/// How likely at least such a difference is if both systems are equally good.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct McNemar {
    /// By the binomial distribution, exact, two-sided.
    pub exact: f64,
    /// The chi-square statistic with continuity correction; 0 where the systems do not differ.
    pub chi_square: f64,
    /// By the chi-square distribution with one degree of freedom, good from some 25 differing items up.
    pub approximate: f64,
}

/// The test from the items that only the first system, and only the second has right.
pub fn mcnemar(only_first: u64, only_second: u64) -> McNemar {
    let n = only_first + only_second;
    if n == 0 {
        return McNemar { exact: 1.0, chi_square: 0.0, approximate: 1.0 };
    }
    // Twice the smaller tail. Each term comes from the one before, in logarithms, since 2^-n underflows.
    let least = only_first.min(only_second);
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = log_term.exp();
    for k in 1..=least {
        log_term += ((n - k + 1) as f64 / k as f64).ln();
        tail += log_term.exp();
    }
    let difference = only_first.abs_diff(only_second) as f64;
    let chi_square = (difference - 1.0).max(0.0).powi(2) / n as f64;
    McNemar { exact: (2.0 * tail).min(1.0), chi_square, approximate: libm::erfc((chi_square / 2.0).sqrt()) }
}
