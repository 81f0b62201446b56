//! What an item's answer counts for.

use std::collections::BTreeMap;

use fancy_regex::Regex;

use super::item::{Item, Target};
use super::math;
use super::score::Likelihood;
use super::task::{Filter, Measure, Select, Task, pattern};
use crate::metric::python::strip;
use crate::metric::{Metric, SquadScratch, TokenF1};
use crate::{Error, Result};

/// A task's filters and metrics, ready to use.
#[derive(Debug)]
pub(crate) struct Judge {
    filters: Vec<(String, Take)>,
    metrics: Vec<Compared>,
}

#[derive(Debug)]
enum Take {
    Whole,
    Match { regex: Regex, select: Select, fallback: String },
    Between(String),
}

#[derive(Debug)]
struct Compared {
    name: String,
    measure: Measure,
    ignore: Vec<Regex>,
    case: bool,
    punctuation: bool,
}

/// What a metric says of an item, by the metric's name in reports.
pub type Metrics = BTreeMap<String, f64>;

impl Judge {
    /// Of a task that was checked.
    pub(crate) fn new(task: &Task) -> Result<Judge> {
        let regex = |text: &str| {
            pattern(text).map_err(|e| Error::Task { file: task.name.clone(), line: None, what: e.to_string() })
        };
        let take = |filter: &Filter| {
            let take = match (&filter.regex, &filter.between) {
                (Some(pattern), _) => {
                    Take::Match { regex: regex(pattern)?, select: filter.select, fallback: filter.fallback.clone() }
                }
                (None, Some(mark)) => Take::Between(mark.clone()),
                (None, None) => Take::Whole,
            };
            Ok((filter.name.clone(), take))
        };
        let mut filters = task.filters.iter().map(take).collect::<Result<Vec<_>>>()?;
        if filters.is_empty() {
            filters.push(("none".into(), Take::Whole));
        }
        let metrics = task.metrics.iter().filter_map(|counted| counted.measure().map(|measure| (counted, measure)));
        let metrics = metrics.map(|(counted, measure)| {
            let ignore = counted.ignore.iter().map(|pattern| regex(pattern)).collect::<Result<_>>()?;
            let (case, punctuation) = (!counted.ignore_case, !counted.ignore_punctuation);
            Ok(Compared { name: counted.name.clone(), measure, ignore, case, punctuation })
        });
        Ok(Judge { filters, metrics: metrics.collect::<Result<_>>()? })
    }

    /// One that counts choices.
    pub(crate) fn of_choices(metrics: &[(&str, Measure)]) -> Judge {
        let metrics = metrics.iter().map(|&(name, measure)| Compared {
            name: name.to_owned(),
            measure,
            ignore: Vec::new(),
            case: true,
            punctuation: true,
        });
        Judge { filters: Vec::new(), metrics: metrics.collect() }
    }

    /// Of choices.
    pub(crate) fn choices(&self, item: &Item, likelihoods: &[Likelihood]) -> Metrics {
        let Target::Choice { index, labels } = &item.target else { return Metrics::new() };
        let (index, logs) = (*index, likelihoods.iter().map(|l| l.log));
        let text = |choice: usize| &item.choices[choice][item.delimiter..];
        let right = |scores: Vec<f64>| f64::from(u8::from(largest(&scores) == index));
        let each = |length: &dyn Fn(usize) -> usize| {
            right(logs.clone().enumerate().map(|(i, log)| log / length(i) as f64).collect())
        };
        let value = |measure| match measure {
            Measure::Acc => right(logs.clone().collect()),
            Measure::AccNorm => each(&|i| text(i).chars().count()),
            Measure::AccBytes => each(&|i| text(i).len()),
            Measure::TrueMass => true_mass(likelihoods, labels.as_deref().unwrap_or_default()),
            Measure::BitsPerByte => -likelihoods[index].log / std::f64::consts::LN_2 / item.choices[index].len() as f64,
            _ => f64::from(u8::from(likelihoods[index].greedy)),
        };
        self.metrics.iter().map(|metric| (metric.name.clone(), value(metric.measure))).collect()
    }

    /// Of a text: what each filter takes out of it, and what it counts for.
    pub(crate) fn text(&self, response: &str, target: &str) -> Result<(BTreeMap<String, String>, Metrics)> {
        let (mut answers, mut metrics) = (BTreeMap::new(), Metrics::new());
        for (name, take) in &self.filters {
            let answer = take.apply(response)?;
            for metric in &self.metrics {
                let key = if name == "none" { metric.name.clone() } else { format!("{},{name}", metric.name) };
                metrics.insert(key, metric.text(&answer, target)?);
            }
            answers.insert(name.clone(), answer);
        }
        Ok((answers, metrics))
    }
}

/// The index of the largest number, of several the first.
pub(crate) fn largest(numbers: &[f64]) -> usize {
    numbers.iter().enumerate().fold((0, f64::NEG_INFINITY), |best, (i, &v)| if v > best.1 { (i, v) } else { best }).0
}

/// The probability of the true choices over that of all. Only what lies between them counts, so the largest is taken as 1:
/// the harness's own exponentials of long answers fall below what f64 holds.
fn true_mass(likelihoods: &[Likelihood], labels: &[bool]) -> f64 {
    let most = likelihoods.iter().map(|l| l.log).fold(f64::NEG_INFINITY, f64::max);
    let masses: Vec<f64> = likelihoods.iter().map(|l| (l.log - most).exp()).collect();
    let of_true: f64 = masses.iter().zip(labels).filter(|(_, label)| **label).map(|(mass, _)| mass).sum();
    of_true / masses.iter().sum::<f64>()
}

fn pattern_failed(error: fancy_regex::Error) -> Error {
    Error::Options(format!("a pattern of the task file gave up on an answer: {error}; make it simpler"))
}

impl Take {
    fn apply(&self, response: &str) -> Result<String> {
        match self {
            Take::Whole => Ok(response.to_owned()),
            Take::Between(mark) => Ok(match (response.find(mark.as_str()), response.rfind(mark.as_str())) {
                (Some(first), Some(last)) if first < last => response[(first + mark.len()).min(last)..last].to_owned(),
                _ => response.to_owned(),
            }),
            Take::Match { regex, select, fallback } => {
                let mut chosen = None;
                for found in regex.captures_iter(response) {
                    let found = found.map_err(pattern_failed)?;
                    let group = |i| found.get(i).map_or("", |m| m.as_str());
                    // Python's findall: the match, its one group, or the first group that is not empty.
                    let text = match found.len() {
                        1 => Some(group(0)),
                        2 => Some(group(1)),
                        groups => (1..groups).map(group).find(|text| !text.is_empty()),
                    };
                    chosen = Some(text.unwrap_or(fallback).to_owned());
                    if *select == Select::First {
                        break;
                    }
                }
                Ok(chosen.map_or_else(|| fallback.clone(), |text| strip(&text).to_owned()))
            }
        }
    }
}

impl Compared {
    fn text(&self, answer: &str, target: &str) -> Result<f64> {
        Ok(match self.measure {
            Measure::MathEquivalence => f64::from(u8::from(math::equivalent(answer, target))),
            Measure::F1 => {
                let mut row = [0.0];
                TokenF1.segment(&mut SquadScratch::default(), answer, &[target], &mut row);
                row[0]
            }
            _ => f64::from(u8::from(self.even(answer)? == self.even(target)?)),
        })
    }

    /// A text without what the metric does not look at.
    fn even(&self, text: &str) -> Result<String> {
        let mut text = text.to_owned();
        for pattern in &self.ignore {
            text = pattern.try_replacen(&text, 0, "").map_err(pattern_failed)?.into_owned();
        }
        if !self.case {
            text = text.to_lowercase();
        }
        if !self.punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dollar_sign_stands_where_pythons_does() {
        // Python: [re.sub(pattern, "#", text) for pattern, text in ...].
        let table = [
            (r"\.$", "5.\n", "5#\n"),
            (r"\.$", "5.", "5#"),
            (r"\.$", "5.\n\n", "5.\n\n"),
            (r"[$.]", "a$b.", "a#b#"),
            (r"\$", "a$", "a#"),
            (r"(?m)a$", "a\na", "#\n#"),
            (r"[\]$]b", "$b]b", "##"),
        ];
        for (text, from, want) in table {
            assert_eq!(pattern(text).unwrap().replace_all(from, "#"), want, "{text}");
        }
    }
}
