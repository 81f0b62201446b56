//! `porism plan train`: steps, operations and days.

use anyhow::Result;
use clap::Args;
use porism_plan::train::{Training, answer as plan};
use porism_plan::{Answer, parameters};

use super::source::{SourceArgs, count, share, speed};
use super::{answered, asked};
use crate::context::Context;

/// Steps, operations and days of training a model from nothing
#[derive(Args)]
#[command(after_help = "Examples:
  porism plan train llama-7b --tokens 2T --batch 4M
  porism plan train llama-7b --tokens 2T --flops 312T --devices 1024 --utilization 40%
  porism plan train --parameters 7B                20 tokens a parameter
  porism plan train smollm2-135m --flops 100G --json")]
pub(super) struct TrainArgs {
    /// A number of parameters instead of a model
    #[arg(long, value_name = "N", value_parser = count, conflicts_with = "model")]
    parameters: Option<u64>,
    /// Tokens to learn from [default: 20 a parameter]
    #[arg(long, value_name = "N", value_parser = count)]
    tokens: Option<u64>,
    /// Tokens of a step
    #[arg(long, value_name = "N", default_value = "4M", value_parser = count)]
    batch: u64,
    /// Operations a second of a device, such as 312T [default: no times are given]
    #[arg(long, value_name = "FLOPS", value_parser = speed)]
    flops: Option<u64>,
    /// Devices
    #[arg(long, value_name = "N", default_value_t = 1)]
    devices: u64,
    /// The share of a device's operations that is used
    #[arg(long, value_name = "SHARE", default_value = "0.4", value_parser = share)]
    utilization: f64,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    // Last, since its heading would go on.
    #[command(flatten)]
    source: SourceArgs,
}

pub(super) fn answer(args: &TrainArgs, context: &Context) -> Result<Answer> {
    let model = match args.parameters {
        Some(_) => None,
        None => Some(args.source.find(context)?.model),
    };
    let parameters = match &model {
        Some(model) => asked(parameters::total(model))?.rounded(),
        None => args.parameters.unwrap_or(0),
    };
    let training = Training {
        parameters,
        tokens: args.tokens,
        batch: args.batch,
        flops: args.flops,
        devices: args.devices,
        utilization: args.utilization,
    };
    answered(plan(model.as_ref(), &training))
}
