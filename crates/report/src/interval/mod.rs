//! How sure a number is: intervals in closed form and by resampling, and tests of two systems on the same items.
//!
//! What is drawn at random is drawn from a seed and a resample's number alone: the same on any number of threads.

mod closed;
mod mcnemar;
mod paired;
mod resample;

use serde::Serialize;

pub use closed::{deviations, mean, wilson};
pub use mcnemar::{McNemar, mcnemar};
pub use paired::{Paired, approximate_randomization, paired_bootstrap};
pub use resample::{Resampling, Rows, Statistic, bootstrap};

use crate::{Error, Result};

/// A range that holds the true value in a share of cases, the level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// The level, such as 0.95.
    pub level: f64,
}

/// Refuses a level that is none.
fn check_level(level: f64) -> Result<()> {
    if level > 0.0 && level < 1.0 {
        return Ok(());
    }
    Err(Error::Interval(format!("a level of {level} is not between 0 and 1: write 0.95 for 95 %")))
}
