//! Intervals in closed form.

use super::{Interval, check_level};
use crate::{Error, Result};

/// How many standard deviations on either side of the mean hold a share of a normal distribution.
pub fn deviations(level: f64) -> f64 {
    // Newton's method on the share outside, erfc(z / sqrt 2), from below, where it is convex.
    let outside = 1.0 - level;
    let mut z = 0.0f64;
    for _ in 0..200 {
        let slope = (2.0 / std::f64::consts::PI).sqrt() * (-z * z / 2.0).exp();
        let step = (libm::erfc(z / std::f64::consts::SQRT_2) - outside) / slope;
        z += step;
        if step.abs() < 1e-15 * (1.0 + z) {
            break;
        }
    }
    z
}

/// The interval of a mean by the normal approximation: the mean, and standard errors (with n - 1) on either side.
///
/// # Errors
/// If there are fewer than two values, or the level is not between 0 and 1.
pub fn mean(values: &[f64], level: f64) -> Result<Interval> {
    check_level(level)?;
    let n = values.len();
    if n < 2 {
        return Err(Error::Interval(format!("the spread of {n} values is unknown: an interval needs two")));
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    let half = deviations(level) * (variance / n as f64).sqrt();
    Ok(Interval { low: mean - half, high: mean + half, level })
}

/// The interval of a proportion (Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference");
/// it stays within 0 and 1, and is of use at both ends.
///
/// # Errors
/// If there are no trials, or fewer than successes, or the level is not between 0 and 1.
pub fn wilson(successes: u64, trials: u64, level: f64) -> Result<Interval> {
    check_level(level)?;
    if trials == 0 || successes > trials {
        return Err(Error::Interval(format!("{successes} successes in {trials} trials make no proportion")));
    }
    let (n, p) = (trials as f64, successes as f64 / trials as f64);
    let z = deviations(level);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let low = if successes == 0 { 0.0 } else { centre - half };
    let high = if successes == trials { 1.0 } else { centre + half };
    Ok(Interval { low, high, level })
}
