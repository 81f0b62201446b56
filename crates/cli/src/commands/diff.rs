//! `porism measure diff`: two logs of benchmarks, item by item.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use porism_kernels::{Pool, pool};
use porism_measure::diff::{Comparison, Difference, Entry, compare, read_log};
use porism_report::interval::Resampling;

use super::words::positive;
use crate::context::say;
use crate::output;

/// Whether two models' answers differ by more than chance
///
/// Takes two logs of `porism measure run --log`, pairs their items, and tests the differences item by item: McNemar's exact
/// test where items are right or wrong, approximate randomization where they are not; intervals are those of the paired
/// bootstrap. "detectable" is the smallest difference that so many items would show four times out of five. With several
/// rows, look at the p-value that is adjusted for their number (Holm).
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure run arc_challenge --data DIR -m model-f16.gguf --log a.jsonl
  porism measure run arc_challenge --data DIR -m model-q4_0.gguf --log b.jsonl
  porism measure diff a.jsonl b.jsonl
  porism measure diff a.jsonl b.jsonl --metric acc_norm --items 5
  porism measure diff a.jsonl b.jsonl --json
      {items, only_a, only_b, other_prompts, rows: [{task, metric, items, a, b, difference, interval, won, lost,
       test, p_value, p_adjusted, detectable}], tasks: [{task, items, changed, mean_shift}]}")]
pub struct DiffArgs {
    /// The log that is compared with
    #[arg(value_name = "LOG_A")]
    a: PathBuf,
    /// The other log
    #[arg(value_name = "LOG_B")]
    b: PathBuf,
    /// One metric only
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// Show the N items whose answers changed and whose log-likelihoods moved most
    #[arg(long, value_name = "N", value_parser = positive)]
    items: Option<usize>,
    /// Resamples of intervals and of approximate randomization
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = positive)]
    resamples: usize,
    /// The key of the resamples
    #[arg(long, default_value_t = 12345)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &DiffArgs) -> Result<()> {
    let (a, b) = (read_log(&args.a)?, read_log(&args.b)?);
    let how = Resampling { resamples: args.resamples, seed: args.seed, ..Resampling::default() };
    let found = compare(&a, &b, args.metric.as_deref(), how, &Pool::new(pool::usable_cores()))?;
    if found.only_a + found.only_b > 0 {
        say(&format!("note: {} items are in the first log only, {} in the second only", found.only_a, found.only_b));
    }
    if found.other_prompts > 0 {
        say(&format!(
            "note: {} items have another prompt in the second log: the difference is not the models' alone",
            found.other_prompts
        ));
    }
    if args.json {
        return output::json(&found);
    }
    table(&found)?;
    for row in &found.rows {
        output::line(&verdict(row))?;
    }
    args.items.map_or(Ok(()), |most| items(&a, &b, most))
}

fn table(found: &Comparison) -> Result<()> {
    let width = found.rows.iter().map(|row| row.task.len()).max().unwrap_or(0).max(4);
    let metric = found.rows.iter().map(|row| row.metric.len()).max().unwrap_or(0).max(6);
    output::line(&format!(
        "{:<width$}  {:<metric$}  items       A       B    B - A  95 % interval       won  lost       p  adjusted",
        "task", "metric"
    ))?;
    for row in &found.rows {
        let interval = row.interval.map_or(String::new(), |i| format!("{:+.4} to {:+.4}", i.low, i.high));
        output::line(&format!(
            "{:<width$}  {:<metric$}  {:>5}  {:>6.4}  {:>6.4}  {:>+7.4}  {interval:<18}  {:>4}  {:>4}  {:>6.4}  {:>8.4}",
            row.task,
            row.metric,
            row.items,
            row.a,
            row.b,
            row.difference,
            row.won,
            row.lost,
            row.p_value,
            row.p_adjusted
        ))?;
    }
    for task in &found.tasks {
        let shift = task.mean_shift.map_or(String::new(), |s| format!("; log-likelihoods moved by {s:.4} on average"));
        output::line(&format!("{}: {} of {} answers changed{shift}", task.task, task.changed, task.items))?;
    }
    Ok(())
}

/// The level of the verdicts.
const LEVEL: f64 = 0.05;

fn verdict(row: &Difference) -> String {
    let Difference { task, metric, items, won, lost, p_adjusted, detectable, difference, .. } = row;
    if *p_adjusted < LEVEL {
        let word = if *difference > 0.0 { "better" } else { "worse" };
        return format!("B is {word} in {metric} of {task}: {lost} items lost, {won} won (p = {p_adjusted:.4})");
    }
    format!(
        "no difference shown in {metric} of {task} (p = {p_adjusted:.4}); with {items} items, one below {detectable:.4} \
         would often not be seen"
    )
}

/// The items that changed most.
fn items(a: &[Entry], b: &[Entry], most: usize) -> Result<()> {
    let shift = |a: &Entry, b: &Entry| {
        let shifts = a.loglikelihoods.iter().zip(&b.loglikelihoods).map(|(a, b)| (a - b).abs());
        shifts.fold(0.0f64, f64::max)
    };
    let mut changed: Vec<(f64, &Entry, &Entry)> = a
        .iter()
        .filter_map(|entry| b.iter().find(|other| other.task == entry.task && other.id == entry.id).map(|o| (entry, o)))
        .filter(|(a, b)| a.answer != b.answer)
        .map(|(a, b)| (shift(a, b), a, b))
        .collect();
    changed.sort_by(|x, y| y.0.total_cmp(&x.0));
    for (shift, a, b) in changed.into_iter().take(most) {
        let letters: Vec<char> = a.prompt.chars().collect();
        let tail: String = letters[letters.len().saturating_sub(120)..].iter().collect();
        output::line(&format!(
            "\n{} {}: A {}, B {}, right {} (moved by up to {shift:.3})\n  ...{}",
            a.task,
            a.id,
            a.answer,
            b.answer,
            a.target,
            tail.replace('\n', "\\n")
        ))?;
    }
    Ok(())
}
