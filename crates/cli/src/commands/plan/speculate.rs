//! `porism plan speculate`: what drafts are worth.

use anyhow::Result;
use clap::Args;
use porism_plan::memory::WeightType;
use porism_plan::serve::bytes_read;
use porism_plan::speculate::{Speculation, answer as plan, cost};
use porism_plan::{Answer, units};

use super::facts::Facts;
use super::source::{named, share};
use super::{answered, asked};
use crate::context::{Context, usage};

/// Tokens that a pass gives with drafts, and when these do not pay
#[derive(Args)]
#[command(after_help = "Examples:
  porism plan speculate --acceptance 0.8 --drafted 5 --cost 0.05
  porism plan speculate qwen2.5-7b --draft qwen2.5-0.5b --acceptance 70%
  porism plan speculate large.gguf --draft small.gguf --check 1.3 --json")]
pub(super) struct SpeculateArgs {
    /// The model that is sped up: a file or a preset
    #[arg(value_name = "MODEL", requires = "draft")]
    model: Option<String>,
    /// The model that drafts: the cost follows from the bytes that both read
    #[arg(long, value_name = "MODEL", requires = "model", conflicts_with = "cost")]
    draft: Option<String>,
    /// What a token of the draft costs, of a pass of the model
    #[arg(long, value_name = "SHARE", value_parser = positive)]
    cost: Option<f64>,
    /// The share of drafted tokens that is accepted
    #[arg(long, value_name = "SHARE", default_value = "0.8", value_parser = share)]
    acceptance: f64,
    /// Tokens drafted before each pass
    #[arg(long, value_name = "N", default_value_t = 4)]
    drafted: u64,
    /// What a pass over all drafted tokens costs, of a pass over one
    #[arg(long, value_name = "X", default_value = "1", value_parser = positive)]
    check: f64,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x.is_finite() => Ok(x),
        _ => Err(format!("`{text}` is no number above 0")),
    }
}

/// Bytes that a token reads; without a file, in blocks of 4.5 bits.
fn bytes(facts: &Facts) -> Result<u64> {
    let usual = asked(WeightType::named("Q4_K"))?;
    facts.bytes_read().map_or_else(|| asked(bytes_read(&facts.model, usual.bits())), Ok)
}

pub(super) fn answer(args: &SpeculateArgs, context: &Context) -> Result<Answer> {
    let (share, note) = match (args.cost, &args.model, &args.draft) {
        (Some(cost), _, _) => (cost, None),
        (None, Some(model), Some(draft)) => {
            let (target, draft) = (bytes(&named(model, context)?)?, bytes(&named(draft, context)?)?);
            let read = |n: u64| units::bytes(n.into());
            let note = format!("c is the bytes that a token reads: {} of {}", read(draft), read(target));
            (asked(cost(draft, target))?, Some(note))
        }
        _ => return usage("what does a draft cost: give --cost, such as 0.05, or a MODEL and --draft MODEL"),
    };
    let speculation =
        Speculation { acceptance: args.acceptance, drafted: args.drafted, cost: share, check: args.check };
    let mut answer = answered(plan(&speculation))?;
    answer.notes.extend(note);
    Ok(answer)
}
