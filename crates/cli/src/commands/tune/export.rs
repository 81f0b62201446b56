//! `porism tune export`: an adapter in the other program's files.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use porism_models::adapter::{Adapter, Base, PeftOptions};
use porism_models::load_decoder;

use super::super::figures::thousands;
use crate::context::{Context, usage};
use crate::output;

/// Write an adapter as a file of llama.cpp, or as a PEFT folder
///
/// Both say the same: rows are brought into the other order where the two differ, and the scale of each pair is folded into the
/// file's one alpha. llama.cpp has no magnitudes: DoRA is refused there, and merged instead.
#[derive(Args)]
#[command(after_help = "Examples:
  porism tune export out -o out.gguf                 for llama-cli --lora out.gguf
  porism tune export style.gguf -o style -m model.gguf    for PeftModel.from_pretrained(base, \"style\")")]
pub struct ExportArgs {
    /// A PEFT folder or a GGUF file
    #[arg(value_name = "ADAPTER")]
    adapter: PathBuf,
    /// Where to write: a name that ends in .gguf gives a GGUF file, any other a PEFT folder
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// The base, which knows the order of rows: a path, a name of the catalogue, or owner/repo[:quant|/file]
    /// [default: smollm2-135m-instruct]
    #[arg(short, long)]
    model: Option<String>,
}

pub fn run(args: &ExportArgs, context: &Context) -> Result<()> {
    if !args.adapter.exists() {
        return usage(format!("there is no {}", args.adapter.display()));
    }
    if args.output.exists() {
        bail!("{} exists already and is not replaced: delete it or choose another name", args.output.display());
    }
    let (_, source) = context.open(args.model.as_deref())?;
    let decoder = load_decoder(&source)?;
    let base = Base::new(&source, &decoder)?;
    let adapter = Adapter::open(&args.adapter, &base)?;
    let what = if args.output.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf")) {
        adapter.to_gguf(&base)?.write(&args.output)?;
        "an adapter of llama.cpp"
    } else {
        adapter.to_peft(&base, &PeftOptions::default())?.write(&args.output)?;
        "a PEFT folder"
    };
    output::line(&format!(
        "wrote {}: {what}, {} numbers for {} projections",
        args.output.display(),
        thousands(adapter.parameters() as u64),
        adapter.low_ranks.len()
    ))
}
