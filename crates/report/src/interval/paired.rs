//! Tests of two systems on the same items by resampling.

use porism_kernels::Pool;
use rand_chacha::rand_core::RngCore as _;
use serde::Serialize;

use super::Interval;
use super::resample::{Resampling, Rows, Statistic, add, below, check, each, middle, source};
use crate::{Error, Result};

/// The difference of two systems.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// The second system's score less the first one's.
    pub difference: f64,
    /// The difference's interval, if the test gives one.
    pub interval: Option<Interval>,
    /// How likely a difference at least as large, either way, is if the systems are equally good.
    pub p: f64,
}

/// What is as good as equal where a difference is a sum of rounded numbers.
const ROUNDING: f64 = 1e-12;

fn paired(first: Rows<'_>, second: Rows<'_>, how: Resampling) -> Result<()> {
    check(how)?;
    if first.len() != second.len() || first.width() != second.width() {
        let (a, b) = (first.len(), second.len());
        return Err(Error::Interval(format!("{a} items of one system and {b} of the other cannot be paired")));
    }
    Ok(())
}

/// The share of values that are at least as far from zero as a difference; one more on either side, so that it is never
/// zero and never too small (Davison and Hinkley 1997, section 4.2.3).
fn share_beyond(values: impl Iterator<Item = f64>, difference: f64) -> f64 {
    let bar = difference.abs() * (1.0 - ROUNDING);
    let (beyond, all) = values.fold((1u64, 1u64), |(beyond, all), v| (beyond + u64::from(v.abs() >= bar), all + 1));
    beyond as f64 / all as f64
}

/// The paired bootstrap (Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation"): both systems
/// are scored on the same resampled items. The interval is that of the difference; p counts differences that lie as far
/// from their own mean as the real one from zero (Riezler and Maxwell 2005).
///
/// # Errors
/// If the systems' rows differ in number or width, or as [`super::bootstrap`].
pub fn paired_bootstrap(
    first: Rows<'_>,
    second: Rows<'_>,
    how: Resampling,
    pool: &Pool,
    statistic: Statistic<'_>,
) -> Result<Paired> {
    paired(first, second, how)?;
    let n = first.len();
    let difference = second.whole(statistic) - first.whole(statistic);
    let differences = each(how.resamples, pool, &|resample| {
        let mut source = source(how.seed, resample);
        let mut sums = [vec![0.0; first.width()], vec![0.0; first.width()]];
        for _ in 0..n {
            let i = below(&mut source, n as u32);
            add(&mut sums[0], first.row(i));
            add(&mut sums[1], second.row(i));
        }
        statistic(&sums[1], n) - statistic(&sums[0], n)
    });
    let mean = differences.iter().sum::<f64>() / differences.len() as f64;
    let p = share_beyond(differences.iter().map(|d| d - mean), difference);
    Ok(Paired { difference, interval: Some(middle(differences, how.level)), p })
}

/// Approximate randomization (Noreen 1989; Riezler and Maxwell 2005): for each item it is drawn which system's output is
/// whose, as it might have been if the systems were equally good.
///
/// # Errors
/// As [`paired_bootstrap`].
pub fn approximate_randomization(
    first: Rows<'_>,
    second: Rows<'_>,
    how: Resampling,
    pool: &Pool,
    statistic: Statistic<'_>,
) -> Result<Paired> {
    paired(first, second, how)?;
    let n = first.len();
    let difference = second.whole(statistic) - first.whole(statistic);
    let differences = each(how.resamples, pool, &|resample| {
        let mut source = source(how.seed, resample);
        let mut sums = [vec![0.0; first.width()], vec![0.0; first.width()]];
        let mut bits = 0;
        for i in 0..n {
            if i % 64 == 0 {
                bits = source.next_u64();
            }
            let swap = (bits >> (i % 64) & 1) as usize;
            add(&mut sums[swap], first.row(i));
            add(&mut sums[1 - swap], second.row(i));
        }
        statistic(&sums[1], n) - statistic(&sums[0], n)
    });
    Ok(Paired { difference, interval: None, p: share_beyond(differences.into_iter(), difference) })
}
