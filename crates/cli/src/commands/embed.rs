//! `porism embed`: texts to vectors.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use porism_generate::Embedder;
use porism_hub::Progress as _;
use porism_models::cpu::{Activations, CpuExecutor};
use porism_models::{Pooling, load_encoder};

use super::input;
use super::words::{ActivationsArg, PreTokenizer, thread_count};
use crate::context::{Context, say, threads, usage};
use crate::output;
use crate::progress::Bar;

/// The catalogue's embedding model.
const DEFAULT: &str = "all-minilm-l6-v2";

/// Turn texts into vectors
///
/// One text, or one a line of a file. A vector is a line of numbers; with --json an object a line with `text`,
/// `tokens` (how many the model saw) and `embedding`. Pooling, dense layers and normalization are those that the
/// model's files ask for. A model made to continue text embeds too: its last token's row.
#[derive(Args)]
#[command(after_help = "Examples:
  porism embed \"Why is the sky blue?\"
  porism embed --file sentences.txt --json
  porism embed -m nomic-embed-text-v1.5.f16.gguf --prefix \"search_query: \" \"heron\"
  porism embed -m model.gguf --pooling mean \"any model will do\"")]
pub struct EmbedArgs {
    /// The text; without it and without --file, what comes on standard input, a text a line
    #[arg(conflicts_with = "file")]
    text: Option<String>,
    /// Take the texts from this file, one a line (- is standard input)
    #[arg(long, value_name = "F")]
    file: Option<PathBuf>,
    /// How the rows of a text become one [default: what the model's files ask for]
    #[arg(long, value_enum)]
    pooling: Option<PoolingArg>,
    /// Put this before every text
    #[arg(long, value_name = "P", default_value = "")]
    prefix: String,
    /// The model: a path, a name of the catalogue, or owner/repo[:quant|/file] [default: all-minilm-l6-v2]
    #[arg(short, long)]
    model: Option<String>,
    #[command(flatten)]
    pre_tokenizer: PreTokenizer,
    /// What the inputs of quantized weights are rounded to
    #[arg(long, value_enum, default_value_t = ActivationsArg::F32)]
    activations: ActivationsArg,
    /// Threads [default: usable cores]
    #[arg(long, value_name = "N", value_parser = thread_count)]
    threads: Option<usize>,
    /// An object a line instead of numbers
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PoolingArg {
    /// The mean of all rows
    Mean,
    /// The first row
    Cls,
    /// The last row
    Last,
}

impl From<PoolingArg> for Pooling {
    fn from(arg: PoolingArg) -> Pooling {
        match arg {
            PoolingArg::Mean => Pooling::Mean,
            PoolingArg::Cls => Pooling::Cls,
            PoolingArg::Last => Pooling::Last,
        }
    }
}

pub fn run(args: EmbedArgs, context: &Context) -> Result<()> {
    let texts: Vec<String> = match (&args.text, &args.file) {
        (Some(text), _) => vec![text.clone()],
        (None, Some(file)) => input::text_of(file)?.lines().map(str::to_string).collect(),
        (None, None) => input::text_of_stdin("there is no text: give one, or --file FILE, or pipe it into porism")?
            .lines()
            .map(str::to_string)
            .collect(),
    };
    if texts.is_empty() {
        return usage("there is no text: the input has no line");
    }
    if let Some(line) = texts.iter().position(String::is_empty) {
        return usage(format!("text {} of {} is empty: every line is a text", line + 1, texts.len()));
    }
    let (path, source) = context.open(Some(args.model.as_deref().unwrap_or(DEFAULT)))?;
    let mut encoder = load_encoder(&source)?;
    let tokenizer =
        args.pre_tokenizer.tokenizer(&source).with_context(|| format!("{}: no usable tokenizer", path.display()))?;
    if source.names()?.purpose == porism_models::names::Purpose::Decoder && args.pooling.is_none() {
        let name = &encoder.stack.config.architecture;
        say(&format!("note: a {name} model is made to continue text; its last token's row is the embedding"));
    }
    if let Some(pooling) = args.pooling {
        encoder.pooling = pooling.into();
    }
    let (pool, isa) = threads(args.threads);
    let steps = CpuExecutor::new(pool, isa, Activations::from(args.activations));
    context.tell(&encoder.stack, &steps);
    let mut embedder = Embedder::new(&encoder, &tokenizer, steps);
    let whole: Vec<String> = texts.iter().map(|text| format!("{}{text}", args.prefix)).collect();
    let mut bar = Bar::items();
    if whole.len() > 1 {
        bar.start("texts", Some(whole.len() as u64));
    }
    let rows = embedder.embed(&whole, &mut |done| bar.at(done as u64))?;
    bar.finish();
    for (i, (row, text)) in rows.iter().zip(&texts).enumerate() {
        if row.cut > 0 {
            let (number, seen, cut) = (i + 1, row.tokens, row.cut);
            say(&format!("note: text {number} is longer than the model's {seen} tokens; its last {cut} were cut off"));
        }
        if args.json {
            let object = serde_json::json!({ "text": text, "tokens": row.tokens, "embedding": row.vector });
            output::line(&object.to_string())?;
        } else {
            let numbers: Vec<String> = row.vector.iter().map(f32::to_string).collect();
            output::line(&numbers.join(" "))?;
        }
    }
    Ok(())
}
