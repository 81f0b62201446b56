//! `porism measure metric`: generated text against references.

mod bert_score;
mod files;
mod overlap;
mod pass_at_k;
mod show;

use std::ffi::OsString;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::context::{Context, usage};

/// Scores of generated text against references, as the programs that define them give
///
/// Files have one segment a line. Every score comes with its signature, which says what it was computed with, and with
/// the interval that resampling the segments gives.
#[derive(Args)]
#[command(
    subcommand_value_name = "NAME",
    subcommand_help_heading = "Metrics",
    after_help = "Examples:
  porism measure metric bleu --ref refs.txt --hyp out.txt
  porism measure metric chrf++ --ref refs-a.txt refs-b.txt --hyp out.txt --json
  porism measure metric rougeL --stem --ref refs.txt --hyp out.txt --sentence
  porism measure metric pass@k --results samples.jsonl --k 10"
)]
pub struct MetricArgs {
    #[command(subcommand)]
    metric: Name,
}

#[derive(Subcommand)]
enum Name {
    Bleu(overlap::BleuArgs),
    Chrf(overlap::ChrfArgs),
    #[command(name = "chrf++", alias = "chrfpp")]
    ChrfPlusPlus(overlap::ChrfPlusPlusArgs),
    Ter(overlap::TerArgs),
    #[command(name = "rouge1")]
    Rouge1(overlap::Rouge1Args),
    #[command(name = "rouge2")]
    Rouge2(overlap::Rouge2Args),
    #[command(name = "rougeL", alias = "rougel")]
    RougeL(overlap::RougeLArgs),
    #[command(name = "rougeLsum", alias = "rougelsum")]
    RougeLsum(overlap::RougeLsumArgs),
    Meteor(overlap::MeteorArgs),
    #[command(name = "bertscore", alias = "bert_score")]
    BertScore(bert_score::BertScoreArgs),
    #[command(name = "exact_match", aliases = ["exact-match", "em"])]
    ExactMatch(overlap::ExactMatchArgs),
    #[command(name = "f1", alias = "token_f1")]
    TokenF1(overlap::TokenF1Args),
    #[command(name = "pass@k", alias = "pass_at_k")]
    PassAtK(pass_at_k::PassAtKArgs),
    #[command(external_subcommand)]
    Unknown(Vec<OsString>),
}

pub fn run(args: &MetricArgs, context: &Context) -> Result<()> {
    match &args.metric {
        Name::Bleu(args) => args.run(),
        Name::Chrf(args) => args.run(),
        Name::ChrfPlusPlus(args) => args.run(),
        Name::Ter(args) => args.run(),
        Name::Rouge1(args) => args.run(),
        Name::Rouge2(args) => args.run(),
        Name::RougeL(args) => args.run(),
        Name::RougeLsum(args) => args.run(),
        Name::Meteor(args) => args.run(),
        Name::BertScore(args) => args.run(context),
        Name::ExactMatch(args) => args.run(),
        Name::TokenF1(args) => args.run(),
        Name::PassAtK(args) => args.run(),
        Name::Unknown(words) => {
            let name = words.first().map(|w| w.to_string_lossy()).unwrap_or_default();
            let all = Name::augment_subcommands(clap::Command::new("metric"));
            let names: Vec<&str> = all.get_subcommands().map(clap::Command::get_name).collect();
            usage(format!("there is no metric `{name}`; there are {}", names.join(", ")))
        }
    }
}
