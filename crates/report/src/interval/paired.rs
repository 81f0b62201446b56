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

/// The difference of both systems on the items that are given, each with whether the systems' rows change places.
fn resampled(
    first: Rows<'_>,
    second: Rows<'_>,
    statistic: Statistic<'_>,
    items: impl Iterator<Item = (usize, bool)>,
) -> f64 {
    let mut sums = [vec![0.0; first.width()], vec![0.0; first.width()]];
    for (i, swap) in items {
        add(&mut sums[usize::from(swap)], first.row(i));
        add(&mut sums[usize::from(!swap)], second.row(i));
    }
    statistic(&sums[1], first.len()) - statistic(&sums[0], first.len())
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
        let drawn = (0..n).map(|_| (below(&mut source, n as u32), false));
        resampled(first, second, statistic, drawn)
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
        let mut bits = 0;
        let swapped = (0..n).map(|i| {
            if i % 64 == 0 {
                bits = source.next_u64();
            }
            (i, bits >> (i % 64) & 1 == 1)
        });
        resampled(first, second, statistic, swapped)
    });
    Ok(Paired { difference, interval: None, p: share_beyond(differences.into_iter(), difference) })
}
