//! `porism plan`: what a model costs, before a day is spent on it.

mod attention;
mod facts;
mod memory;
mod model;
mod precision;
mod serve;
mod source;
mod speculate;
mod text;
mod train;
mod tune;

use anyhow::Result;
use clap::{Args, Subcommand};
use porism_plan::{Answer, Error};

use crate::context::{Context, Usage, say};
use crate::output;

/// What a model costs before it is run or trained: parameters, operations, bytes, steps
///
/// Each answer shows the formula, the formula with the numbers put in, and the value. MODEL is a GGUF file, a Hugging
/// Face folder or its config.json, a model of the cache, or one of the presets below; --layers, --width, --heads and
/// the other dimensions stand for a model or change one. Only headers are read and nothing is fetched.
#[derive(Args)]
#[command(after_help = text::presets_help("Examples:
  porism plan model llama-7b                       parameters, beside 12 L d^2
  porism plan model --layers 32 --width 4096 --heads 32
  porism plan attention --seq 32k --head-dim 128 --heads 32 --window 4096 --layers 32
  porism plan memory model.gguf --ram 16GiB        what fits, and the best of it
  porism plan train llama-7b --tokens 2T --batch 4M
  porism plan tune llama-7b --rank 16
  porism plan serve model.gguf --context 4k
  porism plan speculate --acceptance 0.8 --cost 0.05
  porism plan precision --value 70000

Lengths in tokens go by 1024 (32k is 32,768), all other quantities by 1000:
7B, 2T, 16 GB; 16GiB is by 1024."))]
pub struct PlanArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Model(Box<model::ModelArgs>),
    Attention(Box<attention::AttentionArgs>),
    Memory(Box<memory::MemoryArgs>),
    Train(Box<train::TrainArgs>),
    Tune(Box<tune::TuneArgs>),
    Serve(Box<serve::ServeArgs>),
    Speculate(Box<speculate::SpeculateArgs>),
    Precision(precision::PrecisionArgs),
}

pub fn run(args: PlanArgs, context: &Context) -> Result<()> {
    let (answer, json) = match args.what {
        What::Model(args) => (model::answer(&args, context)?, args.json),
        What::Attention(args) => (attention::answer(&args, context)?, args.json),
        What::Memory(args) => (memory::answer(&args, context)?, args.json),
        What::Train(args) => (train::answer(&args, context)?, args.json),
        What::Tune(args) => (tune::answer(&args, context)?, args.json),
        What::Serve(args) => (serve::answer(&args, context)?, args.json),
        What::Speculate(args) => (speculate::answer(&args, context)?, args.json),
        What::Precision(args) => (precision::answer(&args)?, args.json),
    };
    if json { output::json(&answer) } else { output::text(&text::of(&answer)) }
}

/// The plan's errors are about what was asked: wrong usage.
fn asked<T>(result: porism_plan::Result<T>) -> Result<T> {
    result.map_err(|error| match error {
        Error::UnknownPreset { .. } => Usage(format!(
            "{error}; MODEL is a file, a folder, a model of the cache or a preset of `porism plan --help`"
        ))
        .into(),
        other => Usage(other.to_string()).into(),
    })
}

/// An answer, or why the question was none.
fn answered(result: porism_plan::Result<Answer>) -> Result<Answer> {
    asked(result)
}

/// Says that nobody has measured the machine yet.
fn unmeasured() {
    say("note: this machine was not measured yet; `porism bench` does, and remembers it for plans");
}
