//! `porism measure`: how well a model predicts a text, and what its answers are worth.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use porism_hub::Progress as _;
use porism_measure::perplexity::{DecoderScorer, Perplexity, TokenizedText, score};

use super::adapters::AdapterArgs;
use super::precision::PrecisionArgs;
use super::protocol::{ProtocolArgs, note_context};
use super::words::{PreTokenizer, RopeArgs};
use super::{benchmark, diff, divergence, long_context, metric};
use crate::context::{Context, Wishes, say};
use crate::output;
use crate::progress::Bar;

/// Measure a model, or the text that it wrote
#[derive(Args)]
pub struct MeasureArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Run(Box<benchmark::RunArgs>),
    Diff(diff::DiffArgs),
    Perplexity(Box<PerplexityArgs>),
    Divergence(Box<divergence::DivergenceArgs>),
    LongContext(long_context::LongContextArgs),
    Metric(Box<metric::MetricArgs>),
}

/// How well a model predicts a text
///
/// Perplexity is the exponential of the mean negative log-likelihood of the text's tokens.
///
/// The text is tokenized once, as plain text. Protocol llama.cpp gives what llama-perplexity gives for the same
/// file: chunks of 512 tokens, of which the last 255 are scored. Protocol sliding scores every token but the first
/// once, in windows of 1024 tokens that move by 512. The standard error takes the tokens as independent.
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure perplexity wiki.test.raw
  porism measure perplexity wiki.test.raw --chunks 8 --activations int8
  porism measure perplexity notes.txt --protocol sliding --context 2048 --stride 1024 --json
      {perplexity, standard_error, tokens, protocol, context, stride, chunks, bits_per_byte, bytes,
       uncovered_bytes, activations, kv_type, and expert_load of a mixture of experts}")]
struct PerplexityArgs {
    /// The text, in UTF-8
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    protocol: ProtocolArgs,
    #[command(flatten)]
    rope: RopeArgs,
    #[command(flatten)]
    pre_tokenizer: PreTokenizer,
    #[command(flatten)]
    precision: PrecisionArgs,
    #[command(flatten)]
    adapters: AdapterArgs,
    /// The model: a path, a name of the catalogue, or owner/repo[:quant|/file] [default: smollm2-135m-instruct]
    #[arg(short, long)]
    model: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: MeasureArgs, context: &Context) -> Result<()> {
    match args.what {
        What::Run(args) => benchmark::run(&args, context),
        What::Diff(args) => diff::run(&args),
        What::Perplexity(args) => perplexity(&args, context),
        What::Divergence(args) => divergence::run(&args, context),
        What::LongContext(args) => long_context::run(&args, context),
        What::Metric(args) => metric::run(&args, context),
    }
}

/// A report, and the adapters that the model ran with.
#[derive(serde::Serialize)]
struct WithAdapters<'a> {
    #[serde(flatten)]
    report: &'a Perplexity,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    adapters: Vec<String>,
}

fn perplexity(args: &PerplexityArgs, context: &Context) -> Result<()> {
    let protocol = args.protocol.protocol()?;
    let file = args.file.display();
    let text = std::fs::read(&args.file).with_context(|| format!("cannot read the text from {file}"))?;
    let wishes = Wishes {
        context: args.protocol.context,
        rope: &args.rope,
        pre_tokenizer: &args.pre_tokenizer,
        adapters: args.adapters.given(),
    };
    let loaded = context.load(args.model.as_deref(), &wishes)?;
    let text = TokenizedText::new(&loaded.tokenizer, &text, protocol).with_context(|| file.to_string())?;
    if text.uncovered_bytes > 0 {
        say(&format!("note: {} bytes of {file} have no token in this vocabulary", text.uncovered_bytes));
    }
    note_context(protocol, loaded.decoder.stack.config.context);
    let (activations, kv) = (args.precision.activations(), args.precision.kv());
    let [steps] = args.precision.executors();
    context.tell(&loaded.decoder.stack, &steps);
    let mut scorer = DecoderScorer::new(&loaded.decoder, steps, kv);

    let mut bar = Bar::items();
    let sums = score(&mut scorer, &text, protocol, args.protocol.chunks, &mut |progress| {
        bar.step("chunks", progress.chunk, progress.chunks, &format!("perplexity {:.4}", progress.perplexity));
    });
    bar.finish();
    let mut report = sums.with_context(|| file.to_string())?.report(&text, protocol, activations, kv);
    report.expert_load = scorer.expert_load().to_vec();
    if args.json {
        let adapters = args.adapters.given().iter().map(ToString::to_string).collect();
        return output::json(&WithAdapters { report: &report, adapters });
    }
    for line in words(&report) {
        output::line(&line)?;
    }
    for (layer, load) in report.expert_load.iter().enumerate() {
        output::line(&load_words(layer, load))?;
    }
    Ok(())
}

/// A layer's experts by how often they were chosen, the busiest first.
fn load_words(layer: usize, load: &[u64]) -> String {
    const SHOWN: usize = 8;
    let total = load.iter().sum::<u64>().max(1);
    let mut order: Vec<usize> = (0..load.len()).collect();
    order.sort_by_key(|&e| std::cmp::Reverse(load[e]));
    let share = |&e: &usize| format!("{e}: {:.1} %", 100.0 * load[e] as f64 / total as f64);
    let busiest: Vec<String> = order.iter().take(SHOWN).map(share).collect();
    let rest = match (order.len() > SHOWN, order.last()) {
        (true, Some(last)) => format!(" ... {}", share(last)),
        _ => String::new(),
    };
    format!("experts of layer {layer}: {}{rest}", busiest.join(", "))
}

fn words(r: &Perplexity) -> [String; 3] {
    let (chunks, context) = (r.chunks, r.context);
    let s = if chunks == 1 { "" } else { "s" };
    let cut = match r.stride {
        Some(stride) => format!("{chunks} window{s} of {context} tokens, stride {stride}"),
        None => format!("{chunks} chunk{s} of {context} tokens"),
    };
    [
        format!("perplexity {:.4} +/- {:.4}", r.perplexity, r.standard_error),
        format!("bits per byte {:.4}", r.bits_per_byte),
        format!(
            "protocol {}: {cut}, {} tokens scored ({} bytes); {} activations, {} cache",
            r.protocol,
            r.tokens,
            r.bytes,
            r.activations.name(),
            r.kv_type.name()
        ),
    ]
}
