//! `porism tune merge`: an adapter becomes a part of the weights, and what that changed is measured.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use porism_formats::Weight;
use porism_hub::Progress as _;
use porism_kernels::block::quantize;
use porism_kernels::{BlockType, Isa, Pool};
use porism_measure::SAMPLE_TEXT;
use porism_measure::divergence::{Divergence, Side, divergence};
use porism_measure::perplexity::{Protocol, TokenizedText};
use porism_models::adapter::{Adapter, Base, attach, attach_to_all, merged};
use porism_models::convert::{OutputFormat, Part, Replaced, Report, Target, convert_with};
use porism_models::cpu::{Activations, CpuExecutor, KvType};
use porism_models::{AdapterId, Decoder, Linear, ModelSource, Site, load_decoder};
use serde::Serialize;

use super::super::adapters::{Scaled, open};
use super::super::convert::{self, To};
use super::super::divergence as shown;
use super::super::words::{positive, thread_count};
use crate::context::{Context, say, threads};
use crate::output;
use crate::progress::Bar;

/// Make adapters a part of the weights
///
/// Writes the model that the adapted one stands for, in the types of the base's weights or in another. What is rounded into
/// blocks anew is not what it was: so both models, the base with the adapter and the merged one, read a text afterwards, and
/// how far they are apart is printed.
#[derive(Args)]
#[command(after_help = "Examples:
  porism tune merge out -o merged.gguf                     types as in the base
  porism tune merge out -o merged --to f32                 a Hugging Face folder
  porism tune merge style:0.5 facts -m model.gguf -o both.gguf --to f16
  porism tune merge out -o merged.gguf --text notes.txt --json
      {output, types, mean_kl, p999_kl, same_top, perplexity_a, perplexity_b, ...}: a is adapter on base, b merged")]
pub struct MergeArgs {
    /// PEFT folders or GGUF files, each at SCALE times its own scale
    #[arg(value_name = "ADAPTER[:SCALE]", required = true)]
    adapters: Vec<Scaled>,
    /// Where to write: a name that ends in .gguf gives a GGUF file, any other a Hugging Face folder
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// The base: a path, a name of the catalogue, or owner/repo[:quant|/file] [default: smollm2-135m-instruct]
    #[arg(short, long)]
    model: Option<String>,
    /// What to store the weights as
    #[arg(long, value_enum, default_value_t = To::Keep)]
    to: To,
    /// With nf4 and fp4: the scales in 8 bits too
    #[arg(long)]
    double_quant: bool,
    /// The text that both models read [default: a page that comes with the program]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Read the first N windows of 256 tokens only
    #[arg(long, value_name = "N", value_parser = positive)]
    chunks: Option<usize>,
    /// Threads [default: usable cores]
    #[arg(long, value_name = "N", value_parser = thread_count)]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Windows are short, so that a page of text is enough.
const PROTOCOL: Protocol = Protocol::Sliding { context: 256, stride: 128 };

#[derive(Serialize)]
struct Merged<'a> {
    output: String,
    types: Vec<(&'static str, usize)>,
    #[serde(flatten)]
    divergence: &'a Divergence,
}

pub fn run(args: &MergeArgs, context: &Context) -> Result<()> {
    OutputFormat::of(&args.output)?;
    let target = args.to.target(args.double_quant)?;
    let page = match &args.text {
        Some(path) => std::fs::read(path).with_context(|| format!("cannot read the text from {}", path.display()))?,
        None => SAMPLE_TEXT.as_bytes().to_vec(),
    };
    let (_, source) = context.open(args.model.as_deref())?;
    let tokenizer = source.tokenizer()?;
    let text = TokenizedText::new(&tokenizer, &page, PROTOCOL)?;
    let mut decoder = load_decoder(&source)?;
    let adapters = open(&args.adapters, &Base::new(&source, &decoder)?)?;
    let (pool, isa) = threads(args.threads);
    let report = write(args, target, &source, &mut decoder.clone(), &adapters, &pool, isa)?;
    for line in convert::words(&report, &args.output) {
        say(&line);
    }

    attach_to_all(&pool, isa, &mut decoder, &adapters)?;
    let after = load_decoder(&ModelSource::open(&args.output)?)?;
    let executor = || CpuExecutor::new(pool.clone(), isa, Activations::F32);
    let (mut a, mut b) = (Side::new(&decoder, executor(), KvType::F32), Side::new(&after, executor(), KvType::F32));
    let mut bar = Bar::items();
    let found = divergence(&mut a, &mut b, &text, PROTOCOL, args.chunks, &mut |progress| {
        bar.step("windows", progress.chunk, progress.chunks, &format!("mean KL {:.6}", progress.mean_kl));
    });
    bar.finish();
    let found = found?;
    if args.json {
        let types = report.types.iter().map(|(block, count)| (block.name(), *count)).collect();
        return output::json(&Merged { output: args.output.display().to_string(), types, divergence: &found });
    }
    output::line(&format!("the base with the adapter (A) and the merged model (B), on {} tokens:", found.tokens))?;
    shown::words(&found).iter().try_for_each(|line| output::line(line))
}

/// Writes the merged model.
fn write(
    args: &MergeArgs,
    target: Target,
    source: &ModelSource,
    decoder: &mut Decoder,
    adapters: &[(Adapter, f32)],
    pool: &Pool,
    isa: Isa,
) -> Result<Report> {
    const MERGED: AdapterId = AdapterId(0);
    let attached = attach(pool, isa, decoder, adapters, MERGED)?;
    let mut replaced = Replaced::new();
    if attached.replaced_table() {
        if decoder.stack.config.tied_embeddings {
            bail!(
                "an adapter changes the embedding table, and the model's head is the same table: merged, it would change the \
                 head too"
            );
        }
        replaced.insert((Site::TokenEmbedding, Part::Weight), decoder.stack.embeddings.tokens.weight.clone());
    }
    let adapted = |linear: &&Linear| linear.deltas.iter().any(|delta| delta.adapter == Some(MERGED));
    for linear in decoder.linears().filter(adapted) {
        if linear.site == Site::Head && decoder.stack.config.tied_embeddings {
            bail!(
                "an adapter changes the head, and the model's embedding table is the same table: merged, it would change that \
                 too"
            );
        }
        let block = match target {
            // Packed on its way to the disk.
            Target::FourBit { .. } => BlockType::F32,
            _ => target.block().unwrap_or(linear.weight.block()),
        };
        let dense = merged(pool, isa, linear, MERGED)?;
        let packed = pack(&dense, block).with_context(|| format!("{} as {block}", linear.site))?;
        replaced.insert((linear.site, Part::Weight), packed);
    }
    let mut bar = Bar::new();
    let mut started = false;
    let report = convert_with(source, &args.output, target, &replaced, &mut |done, total| {
        if !std::mem::replace(&mut started, true) {
            bar.start("merging", Some(total));
        }
        bar.at(done);
    });
    bar.finish();
    Ok(report?)
}

/// A dense weight in the type that it will have.
fn pack(dense: &Weight, block: BlockType) -> Result<Weight> {
    if block == BlockType::F32 {
        return Ok(dense.clone());
    }
    if !block.has_encoder() {
        bail!("this type can be read, and cannot be written yet: give --to f32, f16 or bf16");
    }
    let mut bytes = Vec::new();
    quantize(block, &dense.to_f32(), &mut bytes)?;
    let end = bytes.len();
    Ok(Weight::new(std::sync::Arc::new(bytes), 0..end, block, dense.rows(), dense.cols())?)
}
