//! What `porism measure run` prints.

use std::collections::BTreeMap;

use anyhow::Result;
use porism_measure::benchmark::{LogRow, Mean, Outcome, group, outcome};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::context::say;
use crate::output;

/// A whole run.
#[derive(Serialize)]
pub struct Report {
    pub model: String,
    pub activations: &'static str,
    pub kv_type: &'static str,
    pub context: usize,
    pub chat: bool,
    pub seconds: f64,
    #[serde(serialize_with = "in_order")]
    pub results: Vec<(String, TaskReport)>,
}

/// A task's part of it.
#[derive(Serialize)]
pub struct TaskReport {
    fewshot: usize,
    seconds: f64,
    #[serde(flatten)]
    whole: Outcome,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parts: BTreeMap<String, Outcome>,
}

fn in_order<S: serde::Serializer>(results: &[(String, TaskReport)], to: S) -> Result<S::Ok, S::Error> {
    let entry = |(name, report): &(String, TaskReport)| Ok((name.clone(), serde_json::to_value(report)?));
    let entries: serde_json::Result<Map<String, Value>> = results.iter().map(entry).collect();
    entries.map_err(serde::ser::Error::custom)?.serialize(to)
}

impl TaskReport {
    pub fn new(fewshot: usize, seconds: f64, grouped: bool, parts: Vec<(String, Vec<LogRow>)>) -> Result<TaskReport> {
        let mut parts = parts
            .into_iter()
            .map(|(name, rows)| Ok((name, outcome(&rows)?)))
            .collect::<porism_measure::Result<Vec<(String, Outcome)>>>()?;
        if !grouped && parts.len() == 1 {
            let (_, whole) = parts.remove(0);
            return Ok(TaskReport { fewshot, seconds, whole, parts: BTreeMap::new() });
        }
        let outcomes: Vec<Outcome> = parts.iter().map(|(_, outcome)| outcome.clone()).collect();
        Ok(TaskReport { fewshot, seconds, whole: group(&outcomes), parts: parts.into_iter().collect() })
    }
}

impl Report {
    /// What has to be said beside the numbers.
    pub fn notes(&self) {
        for (name, task) in &self.results {
            if task.whole.truncated > 0 {
                let (cut, items, context) = (task.whole.truncated, task.whole.items, self.context);
                say(&format!(
                    "note: {name}: {cut} of {items} prompts are longer than the context of {context} tokens; their \
                     beginning was left out (\"truncated\" in the log)"
                ));
            }
            if let Some(&cut) = task.whole.stop_reasons.get("length") {
                say(&format!("note: {name}: {cut} of {} answers were cut at the most tokens", task.whole.items));
            }
        }
    }

    pub fn print(&self) -> Result<()> {
        let rows = self.results.iter().flat_map(|(name, task)| {
            let parts = task.parts.iter().map(|(name, part)| (format!("  {name}"), part, task.fewshot));
            std::iter::once((name.clone(), &task.whole, task.fewshot)).chain(parts)
        });
        let rows: Vec<_> = rows.collect();
        let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0).max(4);
        let metric = rows.iter().flat_map(|(_, outcome, _)| outcome.metrics.keys()).map(String::len).max().unwrap_or(6);
        output::line(&format!(
            "{:<width$}  items  shots  {:<metric$}   value  +/-     95 % interval",
            "task", "metric"
        ))?;
        for (name, outcome, fewshot) in rows {
            for (i, (key, mean)) in outcome.metrics.iter().enumerate() {
                let (name, items, shots) = match i {
                    0 => (name.as_str(), outcome.items.to_string(), fewshot.to_string()),
                    _ => ("", String::new(), String::new()),
                };
                output::line(&format!("{name:<width$}  {items:>5}  {shots:>5}  {key:<metric$}  {}", numbers(mean)))?;
            }
        }
        output::line(&format!(
            "{} activations, {} cache, {}{:.1} s",
            self.activations,
            self.kv_type,
            if self.chat { "as a chat, " } else { "" },
            self.seconds
        ))
    }
}

fn numbers(mean: &Mean) -> String {
    let error = mean.standard_error.map_or("      ".into(), |e| format!("{e:.4}"));
    let interval = mean.interval.map_or(String::new(), |i| format!("{:.4} to {:.4}", i.low, i.high));
    format!("{:>6.4}  {error}  {interval}", mean.value)
}
