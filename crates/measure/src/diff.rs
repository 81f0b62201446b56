//! Two logs of benchmarks, item by item: which differences between two models are more than chance.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use porism_kernels::Pool;
use porism_report::interval::{self, Interval, Resampling, Rows};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::{Error, Result};

/// What is compared of a log's row.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// The task.
    pub task: String,
    /// The item.
    pub id: String,
    /// What the model was shown.
    pub prompt: String,
    /// What may follow it.
    pub choices: Vec<String>,
    /// What its choices are worth.
    pub loglikelihoods: Vec<f64>,
    /// What it answered.
    pub answer: Json,
    /// What is right.
    pub target: Json,
    /// What it counts for.
    pub metrics: BTreeMap<String, Option<f64>>,
}

/// Reads a log.
///
/// # Errors
/// It cannot be read, a line is no row of a log (line and field are named), or an item is there twice.
pub fn read_log(path: &Path) -> Result<Vec<Entry>> {
    let at = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(Error::io(format!("read the log {at}")))?;
    let wrong = |line: usize, what: String| Error::Log { at: format!("{at}, line {line}"), what };
    let mut seen = HashMap::new();
    let mut entries: Vec<Entry> = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let entry: Entry = serde_json::from_str(line).map_err(|error| {
            let words = error.to_string();
            let end = words.find(" at line ").unwrap_or(words.len());
            wrong(number, format!("no row of a benchmark's log: {}", &words[..end]))
        })?;
        if let Some(first) = seen.insert((entry.task.clone(), entry.id.clone()), number) {
            return Err(wrong(number, format!("item {} of {} stands in line {first} already", entry.id, entry.task)));
        }
        entries.push(entry);
    }
    if entries.is_empty() {
        return Err(Error::Log { at, what: "the log has no rows".into() });
    }
    Ok(entries)
}

/// What two logs come to.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Items that both logs have.
    pub items: usize,
    /// Items that only the first has.
    pub only_a: usize,
    /// Items that only the second has.
    pub only_b: usize,
    /// Items whose prompts, choices or right answers differ: what they say is not about the models alone.
    pub other_prompts: usize,
    /// A row for each task and metric.
    pub rows: Vec<Difference>,
    /// For each task how answers moved, and for `all` where there are several.
    pub tasks: Vec<Moved>,
}

/// A metric of a task in both logs.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// The task, or `all` for all items together.
    pub task: String,
    /// The metric.
    pub metric: String,
    /// Items.
    pub items: usize,
    /// The first log's mean.
    pub a: f64,
    /// The second's.
    pub b: f64,
    /// `b - a`.
    pub difference: f64,
    /// Its interval by the paired bootstrap.
    pub interval: Option<Interval>,
    /// Items that count more in the second log.
    pub won: usize,
    /// Items that count less there.
    pub lost: usize,
    /// `mcnemar` (exact) where items count 0 or 1, else `approximate_randomization`.
    pub test: &'static str,
    /// How likely a difference at least as large is if both are equally good.
    pub p_value: f64,
    /// The same with regard to the number of rows (Holm 1979).
    pub p_adjusted: f64,
    /// The smallest difference that so many items would show four times out of five, at a level of 5 %. Where no item
    /// differs from the rest, as though three did, which a sample may miss one time in twenty.
    pub detectable: f64,
}

/// How a task's answers moved.
#[derive(Clone, Debug, Serialize)]
pub struct Moved {
    /// The task.
    pub task: String,
    /// Items.
    pub items: usize,
    /// Items whose answer is another one.
    pub changed: usize,
    /// The mean difference of a choice's log-likelihoods, without sign; `None` for generated answers.
    pub mean_shift: Option<f64>,
}

/// Standard errors between nothing and what is found four times out of five at 5 %: 1.96 and 0.84.
const POWER: f64 = 2.8;

/// The items that both logs have, in the first one's order.
pub fn pairs<'a>(a: &'a [Entry], b: &'a [Entry]) -> Vec<(&'a Entry, &'a Entry)> {
    let index: HashMap<(&str, &str), &Entry> = b.iter().map(|e| ((e.task.as_str(), e.id.as_str()), e)).collect();
    a.iter().filter_map(|e| index.get(&(e.task.as_str(), e.id.as_str())).map(|other| (e, *other))).collect()
}

/// The metrics that a log of the pairs has.
fn metrics<'a>(pairs: &[(&'a Entry, &'a Entry)]) -> BTreeSet<&'a str> {
    pairs.iter().flat_map(|(a, b)| a.metrics.keys().chain(b.metrics.keys())).map(String::as_str).collect()
}

/// Compares two logs.
///
/// # Errors
/// They have no item in common, or no metric of the name asked for.
pub fn compare(a: &[Entry], b: &[Entry], metric: Option<&str>, how: Resampling, pool: &Pool) -> Result<Comparison> {
    let pairs = pairs(a, b);
    if pairs.is_empty() {
        return Err(Error::Options("the logs have no item of a task in common".into()));
    }
    let mut parts: Vec<(&str, Vec<(&Entry, &Entry)>)> = Vec::new();
    let mut place = HashMap::new();
    for pair in &pairs {
        let task = pair.0.task.as_str();
        let at = *place.entry(task).or_insert_with(|| {
            parts.push((task, Vec::new()));
            parts.len() - 1
        });
        parts[at].1.push(*pair);
    }
    if parts.len() > 1 {
        parts.push(("all", pairs.clone()));
    }
    let mut rows = Vec::new();
    for (task, own) in &parts {
        rows.extend(differences(task, own, metric, how, pool)?);
    }
    if rows.is_empty() {
        let known: Vec<&str> = metrics(&pairs).into_iter().collect();
        return Err(Error::Options(match metric {
            Some(metric) => format!("no item has {metric} in both logs; there are {}", known.join(", ")),
            None => format!("no metric is in both logs; there are {}", known.join(", ")),
        }));
    }
    adjust(&mut rows);
    Ok(Comparison {
        items: pairs.len(),
        only_a: a.len() - pairs.len(),
        only_b: b.len() - pairs.len(),
        other_prompts: pairs.iter().filter(|(a, b)| asked(a) != asked(b)).count(),
        rows,
        tasks: parts.iter().map(|(task, own)| moved(task, own)).collect(),
    })
}

/// What an item asks for.
fn asked(entry: &Entry) -> (&str, &[String], &Json) {
    (&entry.prompt, &entry.choices, &entry.target)
}

fn differences(
    task: &str,
    pairs: &[(&Entry, &Entry)],
    wanted: Option<&str>,
    how: Resampling,
    pool: &Pool,
) -> Result<Vec<Difference>> {
    let names = metrics(pairs).into_iter().filter(|name| wanted.is_none_or(|wanted| wanted == *name));
    names.filter_map(|name| difference(task, name, pairs, how, pool).transpose()).collect()
}

fn difference(
    task: &str,
    metric: &str,
    pairs: &[(&Entry, &Entry)],
    how: Resampling,
    pool: &Pool,
) -> Result<Option<Difference>> {
    let value = |entry: &Entry| entry.metrics.get(metric).copied().flatten();
    let values = pairs.iter().filter_map(|(a, b)| Some((value(a)?, value(b)?)));
    let (a, b): (Vec<f64>, Vec<f64>) = values.unzip();
    let n = a.len();
    if n == 0 {
        return Ok(None);
    }
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n as f64;
    let won = a.iter().zip(&b).filter(|(a, b)| b > a).count();
    let lost = a.iter().zip(&b).filter(|(a, b)| b < a).count();
    let counted = a.iter().chain(&b).all(|&v| v == 0.0 || v == 1.0);
    let statistic = |sums: &[f64], items: usize| sums[0] / items as f64;
    let (first, second) = (Rows::new(&a, 1)?, Rows::new(&b, 1)?);
    let bootstrap = interval::paired_bootstrap(first, second, how, pool, &statistic)?;
    let (test, p_value) = if counted {
        ("mcnemar", interval::mcnemar(lost as u64, won as u64).exact)
    } else {
        ("approximate_randomization", interval::approximate_randomization(first, second, how, pool, &statistic)?.p)
    };
    let difference = mean(&b) - mean(&a);
    let spread: f64 = a.iter().zip(&b).map(|(a, b)| (b - a - difference).powi(2)).sum();
    let spread = if spread == 0.0 { 3.0 } else { spread };
    let error = (spread / (n as f64 - 1.0).max(1.0) / n as f64).sqrt();
    Ok(Some(Difference {
        task: task.to_owned(),
        metric: metric.to_owned(),
        items: n,
        a: mean(&a),
        b: mean(&b),
        difference,
        interval: bootstrap.interval,
        won,
        lost,
        test,
        p_value,
        p_adjusted: p_value,
        detectable: POWER * error,
    }))
}

/// Holm's step-down adjustment.
fn adjust(rows: &mut [Difference]) {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&i, &j| rows[i].p_value.total_cmp(&rows[j].p_value));
    let mut least = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        least = least.max((order.len() - rank) as f64 * rows[i].p_value).min(1.0);
        rows[i].p_adjusted = least;
    }
}

fn moved(task: &str, pairs: &[(&Entry, &Entry)]) -> Moved {
    let same = |a: &Entry, b: &Entry| a.answer.is_u64() && a.choices == b.choices;
    let shifts = pairs.iter().filter(|(a, b)| same(a, b));
    let shifts: Vec<f64> =
        shifts.flat_map(|(a, b)| a.loglikelihoods.iter().zip(&b.loglikelihoods).map(|(a, b)| (a - b).abs())).collect();
    let mean_shift = (!shifts.is_empty()).then(|| shifts.iter().sum::<f64>() / shifts.len() as f64);
    let changed = pairs.iter().filter(|(a, b)| a.answer != b.answer).count();
    Moved { task: task.to_owned(), items: pairs.len(), changed, mean_shift }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: usize, acc: f64) -> Entry {
        Entry {
            task: "t".into(),
            id: id.to_string(),
            prompt: String::new(),
            choices: vec!["no".into(), "yes".into()],
            loglikelihoods: vec![-1.0, -2.0 - acc],
            answer: Json::from(acc as u64),
            target: Json::from(1),
            metrics: BTreeMap::from([("acc".to_owned(), Some(acc)), ("other".to_owned(), None)]),
        }
    }

    #[test]
    fn items_are_paired_and_tested() {
        // 60 items: 31 only A has right, 12 only B, 10 both, 7 neither. McNemar's exact test by
        // scipy.stats.binomtest(12, 43, 0.5).pvalue.
        let kinds = [(31, 1.0, 0.0), (12, 0.0, 1.0), (10, 1.0, 1.0), (7, 0.0, 0.0)];
        let flat: Vec<(f64, f64)> = kinds.iter().flat_map(|&(n, a, b)| std::iter::repeat_n((a, b), n)).collect();
        let a: Vec<Entry> = flat.iter().enumerate().map(|(i, (a, _))| entry(i, *a)).collect();
        let mut b: Vec<Entry> = flat.iter().enumerate().map(|(i, (_, b))| entry(i, *b)).rev().collect();
        b.push(entry(99, 1.0));
        let found = compare(&a, &b, None, Resampling::default(), &Pool::new(1)).unwrap();
        assert_eq!((found.items, found.only_a, found.only_b, found.rows.len()), (60, 0, 1, 1));
        let row = &found.rows[0];
        assert_eq!((row.won, row.lost, row.test), (12, 31, "mcnemar"));
        assert!((row.difference + 19.0 / 60.0).abs() < 1e-12);
        assert!((row.p_value - 0.005401572654591291).abs() < 1e-9, "{}", row.p_value);
        assert_eq!(found.tasks[0].changed, 43);
        assert!((found.tasks[0].mean_shift.unwrap() - 43.0 / 120.0).abs() < 1e-12);
        assert!(compare(&a, &b[60..], None, Resampling::default(), &Pool::new(1)).is_err());
        assert!(compare(&a, &b, Some("f1"), Resampling::default(), &Pool::new(1)).is_err());
    }

    #[test]
    fn each_task_has_its_metrics_and_all_have_a_row() {
        // Metrics that the first item does not have count too; a log's metric that the other lacks does not.
        let mut a: Vec<Entry> = (0..4).map(|i| entry(i, 1.0)).collect();
        a[2].metrics = BTreeMap::from([("f1".to_owned(), Some(0.5)), ("only".to_owned(), Some(1.0))]);
        a[2].task = "u".into();
        a[3].target = Json::from(0);
        let mut b: Vec<Entry> = (0..4).map(|i| entry(i, 0.0)).collect();
        b[2].task = "u".into();
        b[2].metrics = BTreeMap::from([("f1".to_owned(), Some(0.75))]);
        let found = compare(&a, &b, None, Resampling::default(), &Pool::new(1)).unwrap();
        let rows: Vec<_> = found.rows.iter().map(|r| (r.task.as_str(), r.metric.as_str(), r.items)).collect();
        assert_eq!(rows, [("t", "acc", 3), ("u", "f1", 1), ("all", "acc", 3), ("all", "f1", 1)]);
        assert!((found.rows[1].difference - 0.25).abs() < 1e-12 && found.rows[1].detectable > 0.0);
        assert_eq!(found.other_prompts, 1);
        let tasks: Vec<_> = found.tasks.iter().map(|t| (t.task.as_str(), t.items, t.changed)).collect();
        assert_eq!(tasks, [("t", 3, 3), ("u", 1, 1), ("all", 4, 4)]);
        let error = compare(&a, &b, Some("only"), Resampling::default(), &Pool::new(1)).unwrap_err().to_string();
        assert!(error.contains("only") && error.contains("acc, f1, only, other"), "{error}");
    }

    #[test]
    fn many_rows_ask_for_more() {
        // statsmodels.stats.multitest.multipletests([0.01, 0.04, 0.03, 0.005], method="holm").
        let mut rows: Vec<Difference> = [0.01, 0.04, 0.03, 0.005]
            .iter()
            .map(|&p_value| {
                let one = vec![entry(0, 1.0)];
                let found = compare(&one, &one, None, Resampling::default(), &Pool::new(1)).unwrap();
                Difference { p_value, ..found.rows[0].clone() }
            })
            .collect();
        adjust(&mut rows);
        let got: Vec<f64> = rows.iter().map(|row| row.p_adjusted).collect();
        for (got, want) in got.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
    }
}
