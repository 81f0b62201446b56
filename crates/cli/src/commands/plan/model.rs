//! `porism plan model`: parameters by part.

use anyhow::Result;
use clap::Args;
use porism_plan::{Answer, parameters};

use super::answered;
use super::source::SourceArgs;
use crate::context::Context;

/// Parameters by part and in total, beside the estimate of 12 L d^2
///
/// Of a file also what it holds, and in how many bits.
#[derive(Args)]
#[command(after_help = "Examples:
  porism plan model llama-7b
  porism plan model mixtral-8x7b                   what of it works on a token
  porism plan model model.gguf
  porism plan model config.json --layers 40        a deeper model of that kind
  porism plan model --layers 32 --width 4096 --heads 32 --experts 64 --experts-used 2 --json
      {title, given: [{symbol, what, value}], parts: [{title, lines: [{key, what, formula, numbers,
       value, unit, fits}]}], notes}; fits is there where a memory was given")]
pub(super) struct ModelArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    // Last, since its heading would go on.
    #[command(flatten)]
    source: SourceArgs,
}

pub(super) fn answer(args: &ModelArgs, context: &Context) -> Result<Answer> {
    let facts = args.source.find(context)?;
    answered(parameters::answer(&facts.model, &facts.held))
}
