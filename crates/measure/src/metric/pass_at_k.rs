//! pass@k: the chance that at least one of k samples of a task passes (Chen et al. 2021, "Evaluating Large Language
//! Models Trained on Code", equation 1; the book, "LLM Benchmarks").

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Signature;
use crate::{Error, Result};

/// A task's samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Samples {
    /// How many there are.
    pub samples: u64,
    /// How many of them pass.
    pub passed: u64,
}

impl Samples {
    /// Tasks from JSON lines: `{"n": 20, "c": 3}`, or `{"passed": [true, false]}`, or a sample a line,
    /// `{"task_id": "T/1", "passed": true}`, whose tasks stand in the order in which they first come. Other keys are
    /// allowed, empty lines too.
    ///
    /// # Errors
    /// If a line is none of these, or there are none; the line and the key are named.
    pub fn read(text: &str) -> Result<Vec<Samples>> {
        let mut tasks: Vec<Samples> = Vec::new();
        let mut named: HashMap<String, usize> = HashMap::new();
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let bad = |what: String| Error::Options(format!("line {}: {what}", i + 1));
            let object: Map<String, Value> =
                serde_json::from_str(line).map_err(|e| bad(format!("not a JSON object: {e}")))?;
            let count = |key: &str| match object.get(key) {
                Some(value) => value.as_u64().ok_or_else(|| bad(format!("`{key}` is {value}, not a whole number"))),
                None => Err(bad(format!("`{key}` is missing beside the other count"))),
            };
            match object.get("passed") {
                None if object.contains_key("n") || object.contains_key("c") => {
                    tasks.push(Samples { samples: count("n")?, passed: count("c")? });
                }
                Some(Value::Array(samples)) => {
                    let each: Option<Vec<bool>> = samples.iter().map(Value::as_bool).collect();
                    let each = each.ok_or_else(|| bad("`passed` has values that are not true or false".into()))?;
                    let passed = each.iter().filter(|&&pass| pass).count() as u64;
                    tasks.push(Samples { samples: each.len() as u64, passed });
                }
                Some(Value::Bool(pass)) => {
                    let task = object.get("task_id").ok_or_else(|| bad("a sample has no `task_id`".into()))?;
                    let at = *named.entry(task.to_string()).or_insert_with(|| {
                        tasks.push(Samples { samples: 0, passed: 0 });
                        tasks.len() - 1
                    });
                    tasks[at].samples += 1;
                    tasks[at].passed += u64::from(*pass);
                }
                Some(other) => return Err(bad(format!("`passed` is {other}, not true, false or a list of them"))),
                None => return Err(bad("neither `n` and `c` nor `passed` is there".into())),
            }
        }
        if tasks.is_empty() {
            return Err(Error::Options("there are no tasks: no line has an object".into()));
        }
        Ok(tasks)
    }
}

/// The unbiased estimate for one task, `1 - C(n - c, k) / C(n, k)`, as a product, since the binomials overflow.
///
/// # Errors
/// If more samples pass than there are, or there are fewer than k, or k is 0.
pub fn pass_at_k(task: Samples, k: u64) -> Result<f64> {
    let Samples { samples, passed } = task;
    if passed > samples {
        return Err(Error::Options(format!("{passed} of {samples} samples pass: these are more than there are")));
    }
    if k == 0 || k > samples {
        return Err(Error::Options(format!("pass@{k} of a task with {samples} samples: k is from 1 to the samples")));
    }
    if samples - passed < k {
        return Ok(1.0);
    }
    let none: f64 = (samples - passed + 1..=samples).map(|i| 1.0 - k as f64 / i as f64).product();
    Ok(1.0 - none)
}

/// pass@k, the mean over all tasks, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassAtK {
    /// How many samples one may look at.
    pub k: u64,
}

impl PassAtK {
    /// The estimates of all tasks.
    ///
    /// # Errors
    /// As [`pass_at_k`], with the task's number, from 1; and if there are no tasks.
    pub fn tasks(&self, tasks: &[Samples]) -> Result<Vec<f64>> {
        if tasks.is_empty() {
            return Err(Error::Options("there are no tasks".into()));
        }
        let estimate = |(i, &task)| pass_at_k(task, self.k).map_err(|e| Error::Options(format!("task {}: {e}", i + 1)));
        tasks.iter().enumerate().map(estimate).collect()
    }

    /// What fixes the score: k, and how many samples the tasks have.
    pub fn signature(&self, tasks: &[Samples]) -> Signature {
        let least = tasks.iter().map(|t| t.samples).min().unwrap_or(0);
        let most = tasks.iter().map(|t| t.samples).max().unwrap_or(0);
        let samples = if least == most { least.to_string() } else { format!("{least}-{most}") };
        Signature::of("k", self.k).with("n", samples).with("estimator", "unbiased")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_is_the_share_of_subsets_with_a_pass() {
        // Every subset of k of n samples, of which the first c pass, counted out.
        for n in 1..=10u32 {
            for (c, k) in (0..=n).flat_map(|c| (1..=n).map(move |k| (c, k))) {
                let subsets: Vec<u32> = (0..1u32 << n).filter(|s| s.count_ones() == k).collect();
                let passing = subsets.iter().filter(|&&s| s & ((1 << c) - 1) != 0).count();
                let expected = passing as f64 / subsets.len() as f64;
                let task = Samples { samples: n.into(), passed: c.into() };
                let estimate = pass_at_k(task, k.into()).expect("a task");
                assert!((estimate - expected).abs() < 1e-12, "{n} {c} {k}: {estimate} {expected}");
            }
        }
    }

    #[test]
    fn contradictions_are_named() {
        let task = Samples { samples: 3, passed: 4 };
        assert!(pass_at_k(task, 1).unwrap_err().to_string().contains("4 of 3"));
        let tasks = [Samples { samples: 9, passed: 1 }, Samples { samples: 3, passed: 1 }];
        let message = PassAtK { k: 5 }.tasks(&tasks).unwrap_err().to_string();
        assert!(message.starts_with("task 2: pass@5 of a task with 3 samples"), "{message}");
    }

    #[test]
    fn three_forms_of_the_same_tasks() {
        let expected = vec![Samples { samples: 3, passed: 1 }, Samples { samples: 1, passed: 1 }];
        let counts = "{\"n\": 3, \"c\": 1}\n\n{\"n\": 1, \"c\": 1, \"task_id\": 7}\n";
        let lists = "{\"passed\": [false, true, false]}\n{\"passed\": [true]}";
        let samples = [(0, false), (1, true), (0, true), (0, false)]
            .map(|(task, pass)| format!("{{\"task_id\": \"T/{task}\", \"passed\": {pass}}}\n"))
            .concat();
        for text in [counts, lists, &samples] {
            assert_eq!(Samples::read(text).expect("tasks"), expected, "{text}");
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let table = [
            ("{\"n\": 3, \"c\": 1}\n{\"n\": 3}", "line 2: `c` is missing"),
            ("{\"n\": 3, \"c\": -1}", "line 1: `c` is -1"),
            ("{\"passed\": true}", "line 1: a sample has no `task_id`"),
            ("{\"passed\": [1]}", "line 1: `passed` has values"),
            ("{\"passed\": 1}", "line 1: `passed` is 1"),
            ("{}", "line 1: neither"),
            ("[1]", "line 1: not a JSON object"),
            ("\n", "no tasks"),
        ];
        for (text, words) in table {
            let message = Samples::read(text).expect_err(words).to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
