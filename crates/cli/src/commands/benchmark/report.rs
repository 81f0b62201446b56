//! What `porism measure run` prints.

use std::collections::BTreeMap;

use anyhow::Result;
use porism_measure::benchmark::{LogRow, Mean, Outcome, group, outcome};
use porism_report::{Cell, Page, Table};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::context::say;
use crate::output;

/// A whole run.
#[derive(Serialize)]
pub struct Report {
    pub model: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<String>,
    pub activations: &'static str,
    pub kv_type: &'static str,
    pub context: usize,
    pub chat: bool,
    /// Whether a task is not one of the program's own.
    #[serde(skip)]
    pub own: bool,
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

    /// A row for each metric of each task and of each part of a group.
    fn table(&self) -> Table {
        let names = ["task", ">items", ">shots", "metric", ">value", ">+/-", "95 % interval", "0 to 1"];
        let mut table = Table::new(&names);
        for (name, task) in &self.results {
            let parts = task.parts.iter().map(|(name, part)| (format!("  {name}"), part));
            for (name, outcome) in std::iter::once((name.clone(), &task.whole)).chain(parts) {
                for (i, (metric, mean)) in outcome.metrics.iter().enumerate() {
                    let (name, items, shots) = match i {
                        0 => (name.clone(), outcome.items.to_string(), task.fewshot.to_string()),
                        _ => Default::default(),
                    };
                    let [value, error, interval] = numbers(mean);
                    let mark = Cell::Mark { value: mean.value, interval: mean.interval.map(|i| (i.low, i.high)) };
                    table.row(
                        [name, items, shots, metric.clone(), value, error, interval]
                            .map(Cell::Text)
                            .into_iter()
                            .chain([mark]),
                    );
                }
            }
        }
        table
    }

    fn settings(&self) -> String {
        let chat = if self.chat { "as a chat, " } else { "" };
        format!("{} activations, {} cache, {chat}{:.1} s", self.activations, self.kv_type, self.seconds)
    }

    pub fn print(&self) -> Result<()> {
        output::table(&self.table())?;
        output::line(&self.settings())
    }

    /// The same as a page.
    pub fn page(&self) -> Page {
        let mut page = Page::new("Benchmarks");
        let truncated: usize = self.results.iter().map(|(_, task)| task.whole.truncated).sum();
        page.facts(&[
            ("model", self.model.clone()),
            ("settings", self.settings()),
            ("context", format!("{} tokens", self.context)),
            ("prompts cut to the context", truncated.to_string()),
        ]);
        page.table(&self.table());
        if !self.own {
            page.paragraph("Prompts and scores are those of lm-evaluation-harness 0.4.13.");
        }
        page.paragraph(
            "Intervals hold 95 %: by Wilson where items are right or \
             wrong, else by the normal distribution; of groups by the pooled standard error. They say how scores vary with \
             the choice of items.",
        );
        page
    }
}

fn numbers(mean: &Mean) -> [String; 3] {
    let error = mean.standard_error.map_or(String::new(), |e| format!("{e:.4}"));
    let interval = mean.interval.map_or(String::new(), |i| format!("{:.4} to {:.4}", i.low, i.high));
    [format!("{:.4}", mean.value), error, interval]
}
