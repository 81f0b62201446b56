//! `porism bench`: how fast a model runs here, beside what the machine could do.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use porism_hub::Progress as _;
use porism_kernels::{Isa, Pool, pool};
use porism_measure::bench::{Plan, Report, Row, RowSpec, Test, first_token, run_row, work};
use porism_measure::limits::{self, Limits};
use porism_models::Decoder;
use porism_models::cpu::{Activations, KvType};
use porism_text::{ChatTemplate, Message};

use super::words::{ActivationsArg, KvArg, kv_type, positive, thread_count};
use crate::context::{Context, Loaded, say, usage};
use crate::output;
use crate::progress::Bar;

/// How fast a model runs on this machine
///
/// Tests: prefill (a prompt of N tokens), generate (N tokens one by one), first_token (from the start of `porism
/// run` to the first byte of its answer to a short prompt), attention (the attention step alone, in all layers, for
/// 1 row and for 512). Prefill, generate and attention run with DEPTH tokens in the cache already. Each row runs in
/// a process of its own, once to warm up and then --repeat times for the median. GB/s are weights touched and cache
/// read, counted once for each pass through the model; peak memory is the process's, mapped files included. Before
/// the rows the machine itself is measured: reading memory, and multiplying in registers.
#[derive(Args)]
#[command(after_help = "Examples:
  porism bench
  porism bench -m model.gguf --test prefill,generate --threads 1,2 --depth 0
  porism bench --generate 32 --depth 0,8192 --kv-type f32,f16
  porism bench --json
      {machine: {read_gb_per_second, f32_gflops, int8_gops}, model, rows: [{test, n, depth,
       threads, kv_type, activations, tokens_per_second, gb_per_second, peak_rss_bytes}]}")]
pub struct BenchArgs {
    /// Which tests run
    #[arg(
        long = "test",
        value_enum,
        value_name = "TEST",
        value_delimiter = ',',
        default_value = "prefill,generate,first_token,attention"
    )]
    tests: Vec<TestArg>,
    /// Lengths of the prompt
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "128,512", value_parser = length)]
    prompt: Vec<usize>,
    /// Tokens to generate
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "128", value_parser = length)]
    generate: Vec<usize>,
    /// Tokens that are in the cache already
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "0,2048", value_parser = depth)]
    depth: Vec<usize>,
    /// Repetitions; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = positive)]
    repeat: usize,
    /// Threads [default: usable cores]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = thread_count)]
    threads: Vec<usize>,
    /// How the cache keeps keys and values [default: f16, or f32 with --activations f32]
    #[arg(long, value_enum, value_delimiter = ',')]
    kv_type: Vec<KvArg>,
    /// What the inputs of quantized weights are rounded to
    #[arg(long, value_enum, value_delimiter = ',', default_value = "int8")]
    activations: Vec<ActivationsArg>,
    /// The model: a path, a name of the catalogue, or owner/repo[:quant|/file] [default: smollm2-135m-instruct]
    #[arg(short, long)]
    model: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// One row, in this process: how the program calls itself
    #[arg(long, hide = true, value_name = "JSON")]
    row: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum TestArg {
    Prefill,
    Generate,
    FirstToken,
    Attention,
}

impl From<TestArg> for Test {
    fn from(arg: TestArg) -> Test {
        match arg {
            TestArg::Prefill => Test::Prefill,
            TestArg::Generate => Test::Generate,
            TestArg::FirstToken => Test::FirstToken,
            TestArg::Attention => Test::Attention,
        }
    }
}

/// The longest prompt, answer or depth: beyond any model, and its cache still fits a large machine.
const LONGEST: usize = 1 << 20;

fn depth(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if n <= LONGEST => Ok(n),
        Ok(n) => Err(format!("{n} is above {LONGEST}")),
        Err(_) => Err(format!("`{text}` is no whole number")),
    }
}

fn length(text: &str) -> Result<usize, String> {
    positive(text)?;
    depth(text)
}

/// What the first-token test asks.
const QUESTION: &str = "What is the capital of France?";
/// Tokens of its answer: enough for the program to be alive when it is asked for its memory.
const ANSWER: &str = "16";

pub fn run(args: BenchArgs, context: &Context) -> Result<()> {
    if let Some(row) = &args.row {
        return one_row(row, &args, context);
    }
    let loaded = context.load_plain(args.model.as_deref())?;
    let question = question(&loaded)?;
    let cores = [pool::usable_cores()];
    let tests: Vec<Test> = args.tests.iter().map(|&t| t.into()).collect();
    let plan = Plan {
        tests: &tests,
        prompt: &args.prompt,
        generate: &args.generate,
        depth: &args.depth,
        first_token_prompt: question.tokens,
        threads: if args.threads.is_empty() { &cores } else { &args.threads },
        modes: &modes(&args),
    };
    let rows = plan.rows();
    let (longest, trained) = (rows.iter().map(RowSpec::positions).max(), loaded.decoder.stack.config.context);
    if let Some(longest) = longest.filter(|&n| n > trained) {
        say(&format!("note: the model was trained for a context of {trained} tokens; rows go up to {longest}"));
    }

    let machine = limits::measure(&Pool::new(cores[0]), Isa::detect());
    let mut bar = Bar::items();
    bar.start("rows", Some(rows.len() as u64));
    let mut done = Vec::with_capacity(rows.len());
    for (i, spec) in rows.iter().enumerate() {
        bar.note(&format!("{} of {} at depth {}", spec.test.name(), spec.n, spec.depth));
        bar.at(i as u64);
        let row = match spec.test {
            Test::FirstToken => {
                let program = program()?;
                let command = || question.command(&program, spec, &loaded.path);
                first_token(&command, spec, &work(&loaded.decoder, spec), args.repeat)?
            }
            _ => in_a_process(spec, &loaded.path, args.repeat)?,
        };
        done.push(row);
    }
    bar.finish();
    let report = Report { machine, model: loaded.path.display().to_string(), rows: done };
    if args.json {
        return output::json(&report);
    }
    print(&report, &loaded.decoder, cores[0])
}

fn modes(args: &BenchArgs) -> Vec<(Activations, KvType)> {
    let mut modes = Vec::new();
    for &activations in &args.activations {
        let activations = Activations::from(activations);
        if args.kv_type.is_empty() {
            modes.push((activations, kv_type(None, activations)));
        }
        modes.extend(args.kv_type.iter().map(|&kv| (activations, kv.into())));
    }
    modes
}

/// The hidden call: one row, and its JSON on stdout.
fn one_row(row: &str, args: &BenchArgs, context: &Context) -> Result<()> {
    let Ok(spec) = serde_json::from_str::<RowSpec>(row) else {
        return usage("--row takes a row as the program itself writes it");
    };
    let loaded = context.load_plain(args.model.as_deref())?;
    let row = run_row(&loaded.decoder, Isa::detect(), &spec, args.repeat)?;
    output::line(&serde_json::to_string(&row)?)
}

/// This program's own file.
fn program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}

fn in_a_process(spec: &RowSpec, model: &Path, repeat: usize) -> Result<Row> {
    let done = Command::new(program()?)
        .args(["bench", "--row", &serde_json::to_string(spec)?, "--repeat", &repeat.to_string(), "--model"])
        .arg(model)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start this program again for a row")?;
    if !done.status.success() {
        bail!("the row {} of {} at depth {} failed ({})", spec.test.name(), spec.n, spec.depth, done.status);
    }
    serde_json::from_slice(&done.stdout).context("a row's process did not answer with a row")
}

/// A short question, and how `run` is asked it.
struct Question {
    tokens: usize,
    raw: bool,
}

/// As a person would ask: through the chat template where the model has one.
fn question(loaded: &Loaded) -> Result<Question> {
    let tokenizer = &loaded.tokenizer;
    match ChatTemplate::of(tokenizer)? {
        None => Ok(Question { tokens: tokenizer.encode(QUESTION, true, true)?.len(), raw: true }),
        Some(template) => {
            let text = template.render(&[Message::new("user", QUESTION)], true, None)?;
            Ok(Question { tokens: tokenizer.encode(&text, false, true)?.len(), raw: false })
        }
    }
}

impl Question {
    fn command(&self, program: &Path, spec: &RowSpec, model: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .args(["run", QUESTION, "--temperature", "0", "--max-tokens", ANSWER])
            .args(["--threads", &spec.threads.to_string(), "--kv-type", spec.kv_type.name()])
            .args(["--activations", spec.activations.name()])
            .args(self.raw.then_some("--raw"))
            .arg("--model")
            .arg(model);
        command
    }
}

fn print(report: &Report, decoder: &Decoder, cores: usize) -> Result<()> {
    let Limits { read_gb_per_second, f32_gflops, int8_gops } = report.machine;
    output::line(&report.model)?;
    output::line(&format!(
        "machine: {cores} cores, {}; reads {read_gb_per_second:.1} GB/s, {f32_gflops:.0} Gflop/s in f32, {int8_gops:.0} Gop/s in int8",
        Isa::detect().name()
    ))?;
    let head =
        ["test", "n", "depth", "threads", "kv", "activations", "tokens/s", "GB/s", "of read", "of peak", "peak MB"];
    let mut table = vec![head.map(str::to_string)];
    for row in &report.rows {
        let spec = &row.spec;
        let tokens = if spec.test == Test::FirstToken { 1 } else { spec.n };
        let seconds = tokens as f64 / row.tokens_per_second;
        let peak = match spec.activations {
            Activations::F32 => f32_gflops,
            Activations::Int8 => int8_gops,
        };
        let operations = work(decoder, spec).projection_operations as f64 / seconds / 1e9;
        table.push([
            spec.test.name().to_string(),
            spec.n.to_string(),
            spec.depth.to_string(),
            spec.threads.to_string(),
            spec.kv_type.name().to_string(),
            spec.activations.name().to_string(),
            format!("{:.1}", row.tokens_per_second),
            format!("{:.2}", row.gb_per_second),
            percent(row.gb_per_second / read_gb_per_second),
            if operations > 0.0 { percent(operations / peak) } else { "-".to_string() },
            format!("{:.0}", row.peak_rss_bytes as f64 / 1e6),
        ]);
    }
    for line in aligned(&table) {
        output::line(&line)?;
    }
    for row in report.rows.iter().filter(|r| r.spec.test == Test::FirstToken) {
        output::line(&format!(
            "first token after {:.3} s ({} prompt tokens, {} threads, {} activations)",
            1.0 / row.tokens_per_second,
            row.spec.n,
            row.spec.threads,
            row.spec.activations.name()
        ))?;
    }
    output::line("of read: of the machine's read bandwidth; of peak: the projections' share of its arithmetic")
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Lines with aligned columns: the first to the left, the others to the right.
fn aligned<const N: usize>(table: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate().map(|(i, (cell, width))| match i {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    table.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let cells = |a: &str, b: &str| [a.to_string(), b.to_string()];
        assert_eq!(aligned(&[cells("test", "n"), cells("x", "512")]), ["test    n", "x     512"]);
    }

    #[test]
    fn lengths_have_bounds() {
        assert_eq!(depth("0"), Ok(0));
        assert_eq!(length("1048576"), Ok(LONGEST));
        assert!(length("0").unwrap_err().contains("0 is not"));
        assert!(depth("1048577").unwrap_err().contains("above 1048576"));
        assert!(depth("x").unwrap_err().contains("no whole number"));
    }
}
