//! `porism measure long-context`: perplexity against the length of the text.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;
use porism_formats::AtomicFile;
use porism_hub::Progress as _;
use porism_measure::long_context::{LengthRow, score_length};
use porism_measure::perplexity::{DecoderScorer, Protocol, TokenizedText};
use porism_models::cpu::{Activations, CpuExecutor};
use porism_models::load::describe;
use porism_models::{LoadOptions, load_decoder_with};

use super::words::{ActivationsArg, KvArg, PreTokenizer, RopeArg, kv_type, stretch, thread_count};
use crate::context::{Context, say, threads};
use crate::output;
use crate::progress::Bar;

/// Perplexity against length, beyond what the model was trained with
///
/// For each length the first so many tokens of the text are scored in one window, for each way of stretching RoPE.
/// The column `last 1024` is the perplexity of the window's end alone. The file of --csv is replaced if it is there.
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure long-context book.txt --lengths 4k,8k,16k --rope-scaling none,linear,ntk,yarn
  porism measure long-context book.txt --lengths 2k,10k --rope-scaling yarn --rope-factor 2 --json
      [{rope_scaling, rope_factor, length, perplexity, standard_error, tail_perplexity, tokens, seconds}]")]
pub struct LongContextArgs {
    /// The text, in UTF-8
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Lengths in tokens; k is 1024
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = length, default_value = "4k,8k,16k")]
    lengths: Vec<usize>,
    /// Ways of stretching RoPE
    #[arg(long, value_enum, value_name = "TYPE,..", value_delimiter = ',', default_value = "none,linear,ntk,yarn")]
    rope_scaling: Vec<RopeArg>,
    /// By how much [default: the longest length over the context of training, at least 1]
    #[arg(long, value_name = "F", value_parser = stretch)]
    rope_factor: Option<f32>,
    /// Write the rows to this file too
    #[arg(long, value_name = "FILE", default_value = "long-context.csv")]
    csv: PathBuf,
    #[command(flatten)]
    pre_tokenizer: PreTokenizer,
    /// What the inputs of quantized weights are rounded to
    #[arg(long, value_enum, default_value_t = ActivationsArg::Int8)]
    activations: ActivationsArg,
    /// How the cache keeps keys and values [default: f16, or f32 with --activations f32]
    #[arg(long, value_enum)]
    kv_type: Option<KvArg>,
    /// Threads [default: usable cores]
    #[arg(long, value_name = "N", value_parser = thread_count)]
    threads: Option<usize>,
    /// The model: a path, a name of the catalogue, or owner/repo[:quant|/file] [default: smollm2-135m-instruct]
    #[arg(short, long)]
    model: Option<String>,
    /// Print the rows as JSON
    #[arg(long)]
    json: bool,
}

/// `4k` or `4096`.
fn length(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1024),
        None => (text, 1),
    };
    let n: usize = digits.parse().map_err(|_| format!("`{text}` is no length: write 4096 or 4k"))?;
    match n.checked_mul(unit) {
        Some(n) if (8..=1 << 24).contains(&n) => Ok(n),
        _ => Err(format!("{text} tokens are not from 8 to 16777216")),
    }
}

pub fn run(args: &LongContextArgs, context: &Context) -> Result<()> {
    let file = args.file.display();
    let text = std::fs::read(&args.file).with_context(|| format!("cannot read the text from {file}"))?;
    let (path, source) = context.open(args.model.as_deref())?;
    let tokenizer =
        args.pre_tokenizer.tokenizer(&source).with_context(|| format!("{}: no usable tokenizer", path.display()))?;
    let text = TokenizedText::new(&tokenizer, &text, Protocol::SLIDING).with_context(|| file.to_string())?;
    let trained = describe(&source, source.names()?, &LoadOptions::default())?.context;
    let longest = args.lengths.iter().copied().max().unwrap_or(trained);
    if text.tokens.len() < longest {
        let tokens = text.tokens.len();
        anyhow::bail!("{file} has {tokens} tokens and the longest length is {longest}: give a longer text");
    }
    let factor = args.rope_factor.unwrap_or((longest as f32 / trained as f32).max(1.0));
    let activations = Activations::from(args.activations);
    let kv = kv_type(args.kv_type, activations);
    let (pool, isa) = threads(args.threads);

    // The file is there before the work begins: a name that cannot be written costs no hour.
    let mut csv = AtomicFile::create(&args.csv)?;
    writeln!(csv, "{}", LengthRow::CSV_HEADER)?;
    let mut rows = Vec::new();
    let mut bar = Bar::items();
    bar.start("windows", Some((args.rope_scaling.len() * args.lengths.len()) as u64));
    if !args.json {
        output::line(&format!(
            "{:>9} {:>7} {:>7} {:>12} {:>12}",
            "scaling", "factor", "length", "perplexity", "last 1024"
        ))?;
    }
    for &kind in &args.rope_scaling {
        let scaling = kind.scaling(factor, trained);
        let name = scaling.name().to_string();
        let rope_factor = if kind == RopeArg::None { 1.0 } else { factor };
        for &length in &args.lengths {
            let options = LoadOptions { context: Some(length), rope: Some(scaling.clone()) };
            let decoder = load_decoder_with(&source, &options)?;
            let steps = CpuExecutor::new(pool.clone(), isa, activations);
            if rows.is_empty() {
                context.tell(&decoder.stack, &steps);
            }
            let mut scorer = DecoderScorer::new(&decoder, steps, kv);
            let started = Instant::now();
            let (all, tail) = score_length(&mut scorer, &text, length).with_context(|| file.to_string())?;
            let row = LengthRow {
                rope_scaling: name.clone(),
                rope_factor,
                length,
                perplexity: all.perplexity(),
                standard_error: all.standard_error(),
                tail_perplexity: tail.perplexity(),
                tokens: all.tokens,
                seconds: started.elapsed().as_secs_f64(),
            };
            writeln!(csv, "{}", row.csv())?;
            if !args.json {
                let (all, tail) = (row.perplexity, row.tail_perplexity);
                output::line(&format!("{name:>9} {rope_factor:>7.2} {length:>7} {all:>12.4} {tail:>12.4}"))?;
            }
            rows.push(row);
            bar.at(rows.len() as u64);
        }
    }
    bar.finish();
    csv.commit()?;
    if args.json {
        output::json(&rows)?;
    }
    say(&format!(
        "written to {}; trained for {trained} tokens, {} activations",
        args.csv.display(),
        activations.name()
    ));
    Ok(())
}
