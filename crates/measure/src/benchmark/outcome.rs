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
    /// The sum of the items, if each counts 0 or 1.
    #[serde(skip)]
    successes: Option<u64>,
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
    let successes = counted.then(|| values.iter().sum::<f64>() as u64);
    let interval = match successes {
        Some(successes) => interval::wilson(successes, n as u64, LEVEL),
        None => interval::mean(values, LEVEL),
    };
    let standard_error = (n > 1).then(|| (variance / n as f64).sqrt());
    Mean { value, standard_error, interval: interval.ok(), successes }
}

/// A group's outcome: means weighted by the size of its parts, and the pooled standard error. The interval is that of all items
/// together, by Wilson if each counts 0 or 1 (a group without a success has no zero for an interval), else 1.96 standard errors.
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
        let successes: Option<u64> = of().map(|(_, mean)| mean.successes).sum();
        let interval = match successes {
            Some(successes) => interval::wilson(successes, size as u64, LEVEL).ok(),
            None => standard_error.map(|e| {
                let half = interval::deviations(LEVEL) * e;
                Interval { low: value - half, high: value + half, level: LEVEL }
            }),
        };
        metrics.insert(name.clone(), Mean { value, standard_error, interval, successes });
    }
    let mut stop_reasons = BTreeMap::new();
    for (reason, count) in parts.iter().flat_map(|part| &part.stop_reasons) {
        *stop_reasons.entry(reason.clone()).or_default() += count;
    }
    Outcome { items, truncated: parts.iter().map(|part| part.truncated).sum(), stop_reasons, metrics }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(values: &[f64]) -> Outcome {
        let metrics = BTreeMap::from([("acc".to_owned(), mean(values))]);
        Outcome { items: values.len(), truncated: 0, stop_reasons: BTreeMap::new(), metrics }
    }

    /// Against statsmodels' `proportion_confint(0, 4, method="wilson")` and `(3, 5)`.
    #[test]
    fn a_group_of_parts_without_a_success_may_still_have_one() {
        let none = group(&[part(&[0.0, 0.0]), part(&[0.0, 0.0])]);
        let acc = &none.metrics["acc"];
        assert_eq!((acc.value, acc.standard_error), (0.0, Some(0.0)));
        let interval = acc.interval.expect("an interval");
        assert!(interval.low.abs() < 1e-12 && (interval.high - 0.489_890_836_454_597_4).abs() < 1e-9, "{interval:?}");
        let some = group(&[part(&[1.0, 0.0]), part(&[0.0, 1.0, 1.0])]).metrics["acc"].interval.expect("an interval");
        assert!(
            (some.low - 0.230_724_281_276_013).abs() < 1e-9 && (some.high - 0.882_379_225_767_352).abs() < 1e-9,
            "{some:?}"
        );
        // Shares of a whole are no counts: the standard error decides.
        let shares = group(&[part(&[0.5, 0.25]), part(&[0.75, 0.5])]).metrics["acc"].clone();
        let (error, interval) = (shares.standard_error.expect("an error"), shares.interval.expect("an interval"));
        assert!((interval.high - shares.value - 1.959_963_985 * error).abs() < 1e-6, "{interval:?}");
    }
}
