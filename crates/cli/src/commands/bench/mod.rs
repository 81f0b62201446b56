//! `porism bench`: how fast a model runs here, beside what the machine could do.

mod question;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use porism_hub::Progress as _;
use porism_kernels::attention::paged::KV_BLOCK;
use porism_kernels::{Isa, Pool, pool};
use porism_measure::bench::{Neighbour, Plan, Report, Row, RowSpec, Test, first_token, keep_busy, run_row, work};
use porism_measure::limits;
use porism_models::cpu::{Activations, CpuState, KvType};

use super::adapters::AdapterArgs;
use super::words::{ActivationsArg, KvArg, isa, kv_type, positive, thread_count};
use crate::context::{Context, oversubscribed, say, usage};
use crate::machine::{Remembered, remember};
use crate::output;
use crate::progress::Bar;
use question::Question;

/// How fast a model runs on this machine
///
/// Tests: prefill (a prompt of N tokens), generate (N tokens one by one), first_token (from the start of `porism
/// run` to the first byte of its answer to a short prompt), attention (the attention step alone, in all layers, for
/// 1 row and for 512), and on request batch (N tokens in one pass with the logits of all, as a draft is checked),
/// sequences (one token of each of N sequences in one pass), contention (generate while another process keeps one
/// core busy). All but first_token run with DEPTH tokens in the cache already. Each row runs in a process of its
/// own, once to warm up and then --repeat times for the median. GB/s are weights touched and cache read, counted
/// once for each pass through the model; peak memory is the process's, mapped files included, and anonymous memory
/// the part that is no file's. Before the rows the machine itself is measured: reading memory, and multiplying in
/// registers; that is remembered in the cache folder for `porism plan`.
#[derive(Args)]
#[command(after_help = "Examples:
  porism bench
  porism bench -m model.gguf --test prefill,generate --threads 1,2 --depth 0
  porism bench --generate 32 --depth 0,8192 --kv-type f32,f16
  porism bench --test batch,contention --threads 2 --depth 0
  porism bench --isa avx2 --test prefill         as a machine without VNNI would run it
  porism bench --json
      {machine: {read_gb_per_second, f32_gflops, int8_gops}, isa, model, rows: [{test, n, depth,
       threads, kv_type, activations, tokens_per_second, gb_per_second, peak_rss_bytes,
       peak_anonymous_bytes, cache_bytes, gops_per_second}]}")]
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
    /// Tokens of a small batch, or sequences
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "2,4,8,16", value_parser = batch)]
    batch: Vec<usize>,
    /// Tokens that are in the cache already
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "0,2048", value_parser = depth)]
    depth: Vec<usize>,
    /// Repetitions; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = positive)]
    repeat: usize,
    /// Threads, more than cores if wanted [default: usable cores]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = thread_count)]
    threads: Vec<usize>,
    /// How the cache keeps keys and values [default: f16, or f32 with --activations f32]
    #[arg(long, value_enum, value_delimiter = ',')]
    kv_type: Vec<KvArg>,
    /// What the inputs of quantized weights are rounded to
    #[arg(long, value_enum, value_delimiter = ',', default_value = "int8")]
    activations: Vec<ActivationsArg>,
    /// The vector instructions to use, for what a lesser processor would do [default: the best there are]
    #[arg(long, value_name = "NAME", value_parser = isa)]
    isa: Option<Isa>,
    /// The model: a path, a name of the catalogue, or owner/repo[:quant|/file] [default: smollm2-135m-instruct]
    #[arg(short, long)]
    model: Option<String>,
    #[command(flatten)]
    adapters: AdapterArgs,
    /// Read the weights where the file is mapped, as `porism run --mapped` does
    #[arg(long)]
    mapped: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// One row, in this process: how the program calls itself
    #[arg(long, hide = true, value_name = "JSON")]
    row: Option<String>,
    /// Keep this core busy until stdin is at its end: how the program calls itself
    #[arg(long, hide = true, value_name = "CORE")]
    busy: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum TestArg {
    Prefill,
    Generate,
    FirstToken,
    Attention,
    Batch,
    Sequences,
    Contention,
}

impl From<TestArg> for Test {
    fn from(arg: TestArg) -> Test {
        match arg {
            TestArg::Prefill => Test::Prefill,
            TestArg::Generate => Test::Generate,
            TestArg::FirstToken => Test::FirstToken,
            TestArg::Attention => Test::Attention,
            TestArg::Batch => Test::Batch,
            TestArg::Sequences => Test::Sequences,
            TestArg::Contention => Test::Contention,
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

/// The largest small batch: beyond it, prompts are cut too, and each sequence has a cache of its own.
const LARGEST_BATCH: usize = 256;

fn batch(text: &str) -> Result<usize, String> {
    match positive(text)? {
        n if n <= LARGEST_BATCH => Ok(n),
        n => Err(format!("{n} is above {LARGEST_BATCH}")),
    }
}

pub fn run(args: BenchArgs, context: &Context) -> Result<()> {
    if let Some(row) = &args.row {
        return one_row(row, &args, context);
    }
    if let Some(core) = args.busy {
        return keep_busy(core, || output::line("busy"));
    }
    let loaded = context.load_plain(args.model.as_deref(), args.adapters.given())?;
    let question = Question::of(&loaded)?;
    let cores = [pool::usable_cores()];
    let isa = args.isa.unwrap_or_else(Isa::detect);
    let tests: Vec<Test> = args.tests.iter().map(|&t| t.into()).collect();
    let plan = Plan {
        tests: &tests,
        prompt: &args.prompt,
        generate: &args.generate,
        depth: &args.depth,
        batch: &args.batch,
        first_token_prompt: question.tokens,
        threads: if args.threads.is_empty() { &cores } else { &args.threads },
        modes: &modes(&args),
    };
    let rows = plan.rows();
    let config = &loaded.decoder.stack.config;
    if let Some(spec) = rows.iter().find(|row| !row.kv_type.fits(config.head_dim)) {
        let (kv, dim) = (spec.kv_type.name(), config.head_dim);
        bail!(
            "{}: its heads of {dim} numbers cannot be kept as {kv}, in blocks of {KV_BLOCK}; use f16",
            loaded.path.display()
        );
    }
    oversubscribed(plan.threads.iter().copied().max().unwrap_or(1));
    let (longest, trained) = (rows.iter().map(RowSpec::positions).max(), config.context);
    if let Some(longest) = longest.filter(|&n| n > trained) {
        say(&format!("note: the model was trained for a context of {trained} tokens; rows go up to {longest}"));
    }

    let machine = limits::measure(&Pool::new(cores[0]), isa);
    if isa == Isa::detect() {
        let measured = Remembered { limits: machine, isa: isa.name().into(), threads: cores[0] };
        if let Err(error) = remember(&context.cache, &measured) {
            say(&format!("note: {error:#}"));
        }
    }
    let mut bar = Bar::items();
    bar.start("rows", Some(rows.len() as u64));
    let mut done = Vec::with_capacity(rows.len());
    for (i, spec) in rows.iter().enumerate() {
        bar.note(&format!("{} of {} at depth {}", spec.test.name(), spec.n, spec.depth));
        bar.at(i as u64);
        let row = match spec.test {
            Test::FirstToken => {
                let program = program()?;
                let command = || question.command(&program, isa, spec, &loaded.path, &args);
                let cache = CpuState::bytes_at(config, spec.kv_type, spec.positions()) as u64;
                first_token(&command, spec, &work(&loaded.decoder, spec), cache, args.repeat)?
            }
            Test::Contention => {
                let program = program()?;
                let _neighbour = Neighbour::start(&|core| busy(&program, core))?;
                in_a_process(spec, isa, &loaded.path, &args)?
            }
            _ => in_a_process(spec, isa, &loaded.path, &args)?,
        };
        done.push(row);
    }
    bar.finish();
    let model = loaded.path.display().to_string();
    let report = Report { machine, isa: isa.name().to_string(), model, rows: done };
    if args.json {
        return output::json(&report);
    }
    table::print(&report, cores[0])
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
    let mut loaded = context.load_plain(args.model.as_deref(), args.adapters.given())?;
    context.settle(&mut loaded.decoder, &Pool::new(spec.threads), args.mapped)?;
    let row = run_row(&loaded.decoder, args.isa.unwrap_or_else(Isa::detect), &spec, args.repeat)?;
    output::line(&serde_json::to_string(&row)?)
}

/// This program's own file.
fn program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}

/// The hidden call that keeps a core busy.
fn busy(program: &Path, core: usize) -> Command {
    let mut command = Command::new(program);
    command.args(["bench", "--busy", &core.to_string()]);
    command
}

fn in_a_process(spec: &RowSpec, isa: Isa, model: &Path, args: &BenchArgs) -> Result<Row> {
    let done = Command::new(program()?)
        .args(["bench", "--row", &serde_json::to_string(spec)?, "--repeat", &args.repeat.to_string()])
        .args(args.mapped.then_some("--mapped"))
        .args(args.adapters.words())
        .args(["--isa", isa.name(), "--model"])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_bounds() {
        assert_eq!(depth("0"), Ok(0));
        assert_eq!(length("1048576"), Ok(LONGEST));
        assert!(length("0").unwrap_err().contains("0 is not"));
        assert!(depth("1048577").unwrap_err().contains("above 1048576"));
        assert!(depth("x").unwrap_err().contains("no whole number"));
    }
}
