//! `porism measure diff`: two logs of benchmarks, item by item.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use porism_formats::AtomicFile;
use porism_kernels::{Pool, pool};
use porism_measure::diff::{Comparison, Difference, Entry, Moved, compare, pairs, read_log};
use porism_report::interval::Resampling;
use porism_report::{Cell, Page, Table};

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
    /// Write a page of HTML too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &DiffArgs) -> Result<()> {
    let html = args.html.as_deref().map(AtomicFile::create).transpose()?;
    let (a, b) = (read_log(&args.a)?, read_log(&args.b)?);
    let how = Resampling { resamples: args.resamples, seed: args.seed, ..Resampling::default() };
    let found = compare(&a, &b, args.metric.as_deref(), how, &Pool::new(pool::usable_cores()))?;
    if found.only_a + found.only_b > 0 {
        say(&format!("note: {} items are in the first log only, {} in the second only", found.only_a, found.only_b));
    }
    if found.other_prompts > 0 {
        say(&format!(
            "note: {} items have another prompt, other choices or another right answer in the second log: the difference is \
             not the models' alone",
            found.other_prompts
        ));
    }
    if let Some(file) = html {
        output::page(&page(args, &found), file)?;
    }
    if args.json {
        return output::json(&found);
    }
    output::table(&table(&found))?;
    for line in moves(&found) {
        output::line(&line)?;
    }
    for line in verdicts(&found) {
        output::line(&line)?;
    }
    args.items.map_or(Ok(()), |most| items(&a, &b, most))
}

fn table(found: &Comparison) -> Table {
    let names = [
        "task",
        "metric",
        ">items",
        ">A",
        ">B",
        ">B - A",
        "95 % interval",
        ">won",
        ">lost",
        ">p",
        ">adjusted",
        ">detectable",
    ];
    let mut table = Table::new(&names);
    for row in &found.rows {
        let interval = row.interval.map_or(String::new(), |i| format!("{:+.4} to {:+.4}", i.low, i.high));
        let four = |v: f64| format!("{v:.4}");
        let cells = [
            row.task.clone(),
            row.metric.clone(),
            row.items.to_string(),
            four(row.a),
            four(row.b),
            format!("{:+.4}", row.difference),
            interval,
            row.won.to_string(),
            row.lost.to_string(),
            four(row.p_value),
            four(row.p_adjusted),
            four(row.detectable),
        ];
        table.row(cells.map(Cell::Text));
    }
    table
}

/// Tasks up to which each has its own sentences; of more, only all together and what is certain is said in words.
const FEW_TASKS: usize = 8;

/// How answers moved.
fn moves(found: &Comparison) -> Vec<String> {
    let line = |task: &Moved| {
        let shift = task.mean_shift.map_or(String::new(), |s| format!("; log-likelihoods moved by {s:.4} on average"));
        format!("{}: {} of {} answers changed{shift}", task.task, task.changed, task.items)
    };
    let some = |task: &&Moved| found.tasks.len() <= FEW_TASKS || task.task == "all";
    found.tasks.iter().filter(some).map(line).collect()
}

fn verdicts(found: &Comparison) -> Vec<String> {
    let some = |row: &&Difference| found.tasks.len() <= FEW_TASKS || row.task == "all" || row.p_adjusted < LEVEL;
    found.rows.iter().filter(some).map(verdict).collect()
}

fn page(args: &DiffArgs, found: &Comparison) -> Page {
    let mut page = Page::new("Two logs, item by item");
    page.facts(&[
        ("A", args.a.display().to_string()),
        ("B", args.b.display().to_string()),
        ("items in both", found.items.to_string()),
        ("in one only", (found.only_a + found.only_b).to_string()),
        ("asked otherwise", found.other_prompts.to_string()),
    ]);
    verdicts(found).iter().for_each(|line| page.paragraph(line));
    page.table(&table(found));
    moves(found).iter().for_each(|line| page.paragraph(line));
    page
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
    let changed = pairs(a, b).into_iter().filter(|(a, b)| a.answer != b.answer);
    let mut changed: Vec<(f64, &Entry, &Entry)> = changed.map(|(a, b)| (shift(a, b), a, b)).collect();
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
