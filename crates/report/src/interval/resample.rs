//! The bootstrap: how a score would vary if other items had been drawn (Efron 1979; Efron and Tibshirani 1993, chapter 13:
//! percentile intervals).

use std::sync::OnceLock;

use porism_kernels::Pool;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::{Interval, check_level};
use crate::{Error, Result};

/// Statistics of items: so many numbers each, one item after the other.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    values: &'a [f64],
    width: usize,
}

/// A score of so many items, from the sums of their statistics.
pub type Statistic<'a> = &'a (dyn Fn(&[f64], usize) -> f64 + Sync);

/// How resamples are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampling {
    /// How many.
    pub resamples: usize,
    /// What they follow from.
    pub seed: u64,
    /// The level of intervals.
    pub level: f64,
}

impl Default for Resampling {
    /// A thousand resamples for a level of 95 %.
    fn default() -> Resampling {
        Resampling { resamples: 1000, seed: 12345, level: 0.95 }
    }
}

impl<'a> Rows<'a> {
    /// Rows of `width` numbers.
    ///
    /// # Errors
    /// If there are none, or the last is not whole.
    pub fn new(values: &'a [f64], width: usize) -> Result<Rows<'a>> {
        let n = values.len();
        if width == 0 || n == 0 || !n.is_multiple_of(width) || n / width > u32::MAX as usize {
            return Err(Error::Interval(format!("{n} numbers make no rows of {width}: there is nothing to resample")));
        }
        Ok(Rows { values, width })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Whether there are none, which is never so.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    pub(super) fn row(&self, i: usize) -> &'a [f64] {
        &self.values[i * self.width..(i + 1) * self.width]
    }

    /// The score of all rows.
    pub(super) fn whole(&self, statistic: Statistic<'_>) -> f64 {
        let mut sums = vec![0.0; self.width];
        (0..self.len()).for_each(|i| add(&mut sums, self.row(i)));
        statistic(&sums, self.len())
    }
}

pub(super) fn add(sums: &mut [f64], row: &[f64]) {
    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
}

/// The random numbers of one resample.
pub(super) fn source(seed: u64, resample: usize) -> ChaCha8Rng {
    let mut source = ChaCha8Rng::seed_from_u64(seed);
    source.set_stream(resample as u64);
    source
}

/// A number below `n`, each as likely (Lemire 2019, "Fast Random Integer Generation in an Interval").
pub(super) fn below(source: &mut impl RngCore, n: u32) -> usize {
    loop {
        let product = u64::from(source.next_u32()) * u64::from(n);
        let low = product as u32;
        // The second test is the exact one, and dear.
        if low >= n || low >= n.wrapping_neg() % n {
            return (product >> 32) as usize;
        }
    }
}

/// Calls a function for each resample's number, on all threads, and gives what it returns in order.
pub(super) fn each(resamples: usize, pool: &Pool, one: &(dyn Fn(usize) -> f64 + Sync)) -> Vec<f64> {
    let results: Vec<OnceLock<f64>> = (0..resamples).map(|_| OnceLock::new()).collect();
    pool.run(resamples, &|i| {
        // Each resample is drawn once.
        let _ = results[i].set(one(i));
    });
    results.into_iter().filter_map(OnceLock::into_inner).collect()
}

/// The range that holds the middle share of values, with linear interpolation between neighbours.
pub(super) fn middle(mut values: Vec<f64>, level: f64) -> Interval {
    values.sort_unstable_by(f64::total_cmp);
    let quantile = |share: f64| {
        let at = share * (values.len() - 1) as f64;
        let (below, above) = (values[at.floor() as usize], values[at.ceil() as usize]);
        below + (above - below) * at.fract()
    };
    Interval { low: quantile((1.0 - level) / 2.0), high: quantile((1.0 + level) / 2.0), level }
}

pub(super) fn check(how: Resampling) -> Result<()> {
    check_level(how.level)?;
    match how.resamples {
        0 => Err(Error::Interval("no resamples make no interval".into())),
        _ => Ok(()),
    }
}

/// The percentile interval of a score: items are drawn with replacement, as many as there are.
///
/// # Errors
/// If the level is not between 0 and 1, or no resamples are asked for.
pub fn bootstrap(rows: Rows<'_>, how: Resampling, pool: &Pool, statistic: Statistic<'_>) -> Result<Interval> {
    check(how)?;
    let n = rows.len();
    let scores = each(how.resamples, pool, &|resample| {
        let mut source = source(how.seed, resample);
        let mut sums = vec![0.0; rows.width()];
        (0..n).for_each(|_| add(&mut sums, rows.row(below(&mut source, n as u32))));
        statistic(&sums, n)
    });
    Ok(middle(scores, how.level))
}
