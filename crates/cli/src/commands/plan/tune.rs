//! `porism plan tune`: what an adapter learns, and what that costs.

use anyhow::Result;
use clap::Args;
use porism_plan::tune::{Targets, Tuning, answer as plan};
use porism_plan::{Answer, Machine};

use super::source::{SourceArgs, count, speed};
use super::{answered, asked};
use crate::context::Context;
use crate::machine::recall;

/// Parameters of adapters, their share of the model, and the operations
#[derive(Args)]
#[command(after_help = "Examples:
  porism plan tune llama-7b --rank 16
  porism plan tune model.gguf --targets all --rank 8
  porism plan tune smollm2-135m --tokens 1M        how long this machine takes at least
  porism plan tune llama-7b --parameters 7B --json")]
pub(super) struct TuneArgs {
    /// The rank of the adapter
    #[arg(long, value_name = "R", default_value_t = 16)]
    rank: u64,
    /// What has an adapter: q, k, v, o, ffn, attention, all
    #[arg(long, value_name = "LIST", default_value = "attention")]
    targets: String,
    /// Take the model to have so many parameters in all
    #[arg(long, value_name = "N", value_parser = count)]
    parameters: Option<u64>,
    /// Virtual tokens of a prefix or a soft prompt
    #[arg(long, value_name = "N", default_value_t = 16)]
    prefix: u64,
    /// Features of an inserted bottleneck
    #[arg(long, value_name = "N", default_value_t = 64)]
    bottleneck: u64,
    /// Tokens to learn from, all epochs together [default: no times are given]
    #[arg(long, value_name = "N", value_parser = count)]
    tokens: Option<u64>,
    /// Operations a second, such as 300G [default: this machine's in f32, as `porism bench` measured it]
    #[arg(long, value_name = "FLOPS", value_parser = speed)]
    flops: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    // Last, since its heading would go on.
    #[command(flatten)]
    source: SourceArgs,
}

pub(super) fn answer(args: &TuneArgs, context: &Context) -> Result<Answer> {
    let facts = args.source.find(context)?;
    let measured = || recall(&context.cache).map(|kept| (kept.limits.f32_gflops * 1e9) as u64);
    let flops = args.flops.or_else(measured);
    if args.tokens.is_some() && flops.is_none() {
        super::unmeasured();
    }
    let tuning = Tuning {
        rank: args.rank,
        targets: asked(Targets::named(&args.targets))?,
        parameters: args.parameters.or(facts.file.as_ref().map(|f| f.parameters)),
        prefix: args.prefix,
        bottleneck: args.bottleneck,
        tokens: args.tokens,
        machine: Machine { flops, ..Machine::default() },
    };
    answered(plan(&facts.model, &tuning))
}
