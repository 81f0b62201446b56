//! `porism measure divergence`: how far one model's predictions are from another's.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use porism_hub::Progress as _;
use porism_measure::divergence::{Divergence, Side, divergence, same_vocabulary};
use porism_measure::perplexity::TokenizedText;

use super::adapters::{AdapterArgs, Scaled};
use super::precision::PrecisionArgs;
use super::protocol::{ProtocolArgs, note_context};
use super::words::{PreTokenizer, RopeArgs};
use crate::context::{Context, Wishes};
use crate::output;
use crate::progress::Bar;

/// How far one model's predictions are from another's
///
/// Both models read the text side by side. Of each scored token their whole distributions are compared: KL(A || B) in
/// nats, 0 where B predicts exactly what A does. A is the reference, such as the model before it was quantized. Both need
/// the same vocabulary. Standard errors take the tokens as independent.
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure divergence model-f16.gguf model-q4_k_m.gguf wiki.test.raw
  porism measure divergence model.gguf model.gguf notes.txt --adapter out    what tuning changed
  porism measure divergence model.gguf other.gguf notes.txt --chunks 8 --activations int8 --json
      {mean_kl, median_kl, p99_kl, p999_kl, max_kl, same_top, perplexity_a, perplexity_b,
       perplexity_difference, each but max_kl with _standard_error, tokens, chunks, protocol, context}")]
pub struct DivergenceArgs {
    /// The reference: a path, a name of the catalogue, or owner/repo[:quant|/file]
    #[arg(value_name = "A")]
    a: String,
    /// The model that is compared with it
    #[arg(value_name = "B")]
    b: String,
    /// The text, in UTF-8
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    protocol: ProtocolArgs,
    #[command(flatten)]
    pre_tokenizer: PreTokenizer,
    #[command(flatten)]
    adapters: AdapterArgs,
    /// Run A with an adapter; --adapter is for B
    #[arg(long, value_name = "PATH[:SCALE]")]
    adapter_a: Vec<Scaled>,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &DivergenceArgs, context: &Context) -> Result<()> {
    let protocol = args.protocol.protocol()?;
    let file = args.file.display();
    let text = std::fs::read(&args.file).with_context(|| format!("cannot read the text from {file}"))?;
    let rope = RopeArgs::default();
    let load = |model: &str, adapters: &[Scaled]| {
        let wishes =
            Wishes { context: args.protocol.context, rope: &rope, pre_tokenizer: &args.pre_tokenizer, adapters };
        context.load(Some(model), &wishes)
    };
    let (a, b) = (load(&args.a, &args.adapter_a)?, load(&args.b, args.adapters.given())?);
    same_vocabulary(&a.tokenizer, &b.tokenizer).with_context(|| format!("{} and {}", args.a, args.b))?;
    let text = TokenizedText::new(&a.tokenizer, &text, protocol).with_context(|| file.to_string())?;
    note_context(protocol, a.decoder.stack.config.context.min(b.decoder.stack.config.context));

    let (activations, kv) = (args.precision.activations(), args.precision.kv());
    let [steps_a, steps_b] = args.precision.executors();
    context.tell(&a.decoder.stack, &steps_a);
    let (mut side_a, mut side_b) = (Side::new(&a.decoder, steps_a, kv), Side::new(&b.decoder, steps_b, kv));
    let mut bar = Bar::items();
    let found = divergence(&mut side_a, &mut side_b, &text, protocol, args.protocol.chunks, &mut |progress| {
        bar.step("chunks", progress.chunk, progress.chunks, &format!("mean KL {:.6}", progress.mean_kl));
    });
    bar.finish();
    let found = found.with_context(|| file.to_string())?;
    if args.json {
        return output::json(&found);
    }
    for line in words(&found) {
        output::line(&line)?;
    }
    output::line(&format!(
        "protocol {}: {} chunks of {} tokens, {} tokens compared; {} activations, {} cache",
        found.protocol,
        found.chunks,
        found.context,
        found.tokens,
        activations.name(),
        kv.name()
    ))
}

/// A comparison in lines.
pub fn words(d: &Divergence) -> Vec<String> {
    let row = |what: &str, value: f64, error: f64| format!("{what:<22} {value:>10.6} +/- {error:.6}");
    vec![
        row("mean KL(A || B)", d.mean_kl, d.mean_kl_standard_error),
        row("median", d.median_kl, d.median_kl_standard_error),
        row("99 %", d.p99_kl, d.p99_kl_standard_error),
        row("99.9 %", d.p999_kl, d.p999_kl_standard_error),
        format!("{:<22} {:>10.6}", "largest", d.max_kl),
        format!(
            "{:<22} {:>10.3} +/- {:.3} %",
            "same likeliest token",
            100.0 * d.same_top,
            100.0 * d.same_top_standard_error
        ),
        row("perplexity of A", d.perplexity_a, d.perplexity_a_standard_error),
        row("perplexity of B", d.perplexity_b, d.perplexity_b_standard_error),
        row("difference, B - A", d.perplexity_difference, d.perplexity_difference_standard_error),
    ]
}
