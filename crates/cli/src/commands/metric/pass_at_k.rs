//! `porism measure metric pass@k`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use porism_measure::metric::{PassAtK, Samples};
use serde_json::{Map, json};

use super::super::input;
use super::files::Output;
use super::show::{Shown, interval};
use crate::context::threads;

/// The chance that at least one of k samples of a task passes, without bias (HumanEval), 0 to 1
///
/// The file has a JSON object a line: a task with its counts, {"n": 20, "c": 3}, or with what became of each sample,
/// {"passed": [true, false]}; or one sample, {"task_id": "T/1", "passed": true}, as HumanEval's results have them.
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure metric pass@k --results samples.jsonl
  porism measure metric pass@k --results samples.jsonl --k 10 --json
      {metric, score, signature, interval, level, segments}")]
pub struct PassAtKArgs {
    /// What became of the samples, in JSON lines (- is standard input)
    #[arg(long, value_name = "FILE")]
    results: PathBuf,
    /// How many samples one may look at
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    k: u64,
    #[command(flatten)]
    output: Output,
}

impl PassAtKArgs {
    pub fn run(&self) -> Result<()> {
        let name = input::name_of(&self.results);
        let tasks = Samples::read(&input::text_of(&self.results)?).with_context(|| name.clone())?;
        let metric = PassAtK { k: self.k };
        let estimates = metric.tasks(&tasks).context(name)?;
        let (pool, _) = threads(self.output.threads);
        let mean = |sums: &[f64], tasks: usize| sums[0] / tasks as f64;
        let signature = metric.signature(&tasks);
        let (interval, signature) = interval(&estimates, 1, &mean, signature, &self.output, &pool)?;
        let shown = Shown {
            name: format!("pass@{}", self.k),
            score: estimates.iter().sum::<f64>() / estimates.len() as f64,
            signature,
            interval,
            segments: tasks.len(),
            more: Map::from_iter([("k".into(), json!(self.k))]),
            lines: Vec::new(),
            sentences: None,
            digits: 4,
        };
        shown.print(self.output.json)
    }
}
