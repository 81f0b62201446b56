//! The porism binary: flags in, words out.
//!
//! Each command is a file in `commands`; results go to stdout, everything else to stderr. Exit codes: 0 done,
//! 1 failed, 2 wrong usage.

// Nothing of a binary is reachable from outside; `pub` here means "for the other modules".
#![allow(unreachable_pub)]

mod commands;
mod context;
mod machine;
mod output;
mod progress;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{
    bench, book, convert, detokenize, embed, inspect, measure, models, plan, pull, run, template, tokenize, tokenizer,
    tune,
};
use context::{Context, Usage, say};

/// Run, convert and measure open-weight language models on the machine you have.
#[derive(Parser)]
#[command(name = "porism", version, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = "Examples:
  porism run \"Why is the sky blue?\"            answer with the default model, fetched on first use
  porism run                                   chat in the terminal
  porism embed \"Why is the sky blue?\"          a text as a vector
  porism inspect model.gguf                    what is in this file
  porism convert model.gguf -o folder --to f32 GGUF to a Hugging Face folder
  porism tune --method lora --data examples.jsonl --output out     teach it by examples
  porism measure perplexity text.txt           perplexity, with llama.cpp's protocol
  porism measure divergence a.gguf b.gguf t.txt what quantizing changed, token by token
  porism bench                                 how fast this machine runs it
  porism plan memory model.gguf --ram 16GiB    what fits, before you start
  porism book I.3.3 --set lr=0.5               an exercise of the book, with one thing changed

A model is named by -m/--model everywhere: a path, a name of `porism models`, or a hub id
(owner/repo[:quant|/file]). Without it the default model is used.")]
struct Cli {
    /// Say on stderr how the work is done: threads, instructions, the way attention takes
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::RunArgs>),
    Embed(embed::EmbedArgs),
    Pull(pull::PullArgs),
    Models(models::ModelsArgs),
    Inspect(inspect::InspectArgs),
    Tokenize(tokenize::TokenizeArgs),
    Detokenize(detokenize::DetokenizeArgs),
    Template(template::TemplateArgs),
    Tokenizer(tokenizer::TokenizerArgs),
    Convert(convert::ConvertArgs),
    Tune(Box<tune::TuneArgs>),
    Measure(measure::MeasureArgs),
    Bench(bench::BenchArgs),
    Plan(plan::PlanArgs),
    Book(book::BookArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = Context::from_environment(cli.verbose).and_then(|context| match cli.command {
        Command::Run(args) => run::run(*args, &context),
        Command::Embed(args) => embed::run(args, &context),
        Command::Pull(args) => pull::run(args, &context),
        Command::Models(args) => models::run(args, &context),
        Command::Inspect(args) => inspect::run(args, &context),
        Command::Tokenize(args) => tokenize::run(args, &context),
        Command::Detokenize(args) => detokenize::run(args, &context),
        Command::Template(args) => template::run(args, &context),
        Command::Tokenizer(args) => tokenizer::run(args),
        Command::Convert(args) => convert::run(args, &context),
        Command::Tune(args) => tune::run(&args, &context),
        Command::Measure(args) => measure::run(args, &context),
        Command::Bench(args) => bench::run(args, &context),
        Command::Plan(args) => plan::run(args, &context),
        Command::Book(args) => book::run(args),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has seen enough.
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}
