//! What a run of benchmarks comes to.

use std::collections::BTreeMap;

use porism_report::interval::{self, Interval};
use serde::Serialize;

use super::log::LogRow;
use crate::{Error, Result};

/// The level of intervals.
const LEVEL: f64 = 0.95;

/// A mean over items.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Its standard error: the sample's standard deviation over the root of the number of items; of a group the pooled one.
    pub standard_error: Option<f64>,
    /// Where the mean lies in 95 of 100 samples: by Wilson if items count 0 or 1, else by the normal distribution.
    pub interval: Option<Interval>,
}

/// A task's or a group's outcome.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Outcome {
    /// Items.
    pub items: usize,
    /// Items whose prompt did not fit the context.
    pub truncated: usize,
    /// Generated answers by why they ended.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stop_reasons: BTreeMap<String, usize>,
    /// Means by the metric's name.
    pub metrics: BTreeMap<String, Mean>,
}

/// The outcome of a task's items.
///
/// # Errors
/// A metric is no finite number.
pub fn outcome(rows: &[LogRow]) -> Result<Outcome> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut stop_reasons = BTreeMap::new();
    for row in rows {
        for (name, &value) in &row.metrics {
            if !value.is_finite() {
                return Err(Error::Options(format!("{}, item {}: {name} is {value}", row.task, row.id)));
            }
            values.entry(name).or_default().push(value);
        }
        if let Some(reason) = &row.stop_reason {
            *stop_reasons.entry(reason.clone()).or_default() += 1;
        }
    }
    let metrics = values.into_iter().map(|(name, values)| (name.to_owned(), mean(&values))).collect();
    let truncated = rows.iter().filter(|row| row.truncated).count();
    Ok(Outcome { items: rows.len(), truncated, stop_reasons, metrics })
}

fn mean(values: &[f64]) -> Mean {
    let n = values.len();
    let value = values.iter().sum::<f64>() / n as f64;
    let variance = values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / (n as f64 - 1.0);
    let counted = values.iter().all(|&v| v == 0.0 || v == 1.0);
    let interval = if counted {
        interval::wilson(values.iter().sum::<f64>() as u64, n as u64, LEVEL)
    } else {
        interval::mean(values, LEVEL)
    };
    Mean { value, standard_error: (n > 1).then(|| (variance / n as f64).sqrt()), interval: interval.ok() }
}

/// A group's outcome: means weighted by the size of its parts, and the pooled standard error.
pub fn group(parts: &[Outcome]) -> Outcome {
    let items: usize = parts.iter().map(|part| part.items).sum();
    let mut metrics = BTreeMap::new();
    for name in parts.iter().flat_map(|part| part.metrics.keys()) {
        let of = || parts.iter().filter_map(|part| part.metrics.get(name).map(|mean| (part.items as f64, mean)));
        let (size, count): (f64, usize) = of().fold((0.0, 0), |(size, count), (n, _)| (size + n, count + 1));
        let value = of().map(|(n, mean)| n * mean.value).sum::<f64>() / size;
        let spread: Option<f64> = of().map(|(n, mean)| mean.standard_error.map(|e| (n - 1.0) * e * e * n)).sum();
        let free = size - count as f64;
        let standard_error = spread.filter(|_| free > 0.0).map(|spread| (spread / free / size).sqrt());
        // 1.96 standard errors on either side.
        let interval = standard_error.map(|e| {
            let half = interval::deviations(LEVEL) * e;
            Interval { low: value - half, high: value + half, level: LEVEL }
        });
        metrics.insert(name.clone(), Mean { value, standard_error, interval });
    }
    let mut stop_reasons = BTreeMap::new();
    for (reason, count) in parts.iter().flat_map(|part| &part.stop_reasons) {
        *stop_reasons.entry(reason.clone()).or_default() += count;
    }
    Outcome { items, truncated: parts.iter().map(|part| part.truncated).sum(), stop_reasons, metrics }
}
