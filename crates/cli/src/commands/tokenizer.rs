//! `porism tokenizer`: tokenizers made, not used.

use std::fs::File;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use porism_hub::Progress as _;
use porism_text::train::{TrainOptions, Trained, WordCounts, learn};

use super::{figures, input};
use crate::context::{say, usage};
use crate::output;
use crate::progress::Bar;

/// Train a tokenizer of your own
#[derive(Args)]
pub struct TokenizerArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Train(TrainArgs),
}

/// Texts to a byte-level BPE tokenizer
///
/// The text is cut into words as GPT-2 does, and the most frequent pair of neighbours in them becomes a token, again and
/// again. The merges are those of Hugging Face's tokenizers (BpeTrainer, ByteLevel, the 256 bytes as its alphabet), one by
/// one. Special tokens have the first ids, then come the bytes, then the merged tokens.
#[derive(Args)]
#[command(after_help = "Examples:
  porism tokenizer train book.txt -o book.json --vocab-size 4000
  porism tokenizer train *.txt -o tokenizer --vocab-size 16000 --special '<|endoftext|>'
  zcat big.txt.gz | porism tokenizer train - -o big.json --vocab-size 32000 --json
      {tokens, merges, special, bytes, bytes_per_token, training_tokens, distinct_words}

In Python: Tokenizer.from_file(\"book.json\"), or AutoTokenizer.from_pretrained(\"tokenizer\").
Nothing that exists is replaced, and the output appears under its name when it is complete.")]
struct TrainArgs {
    /// The texts, in UTF-8 (- is standard input); they are read piece by piece
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to write: a name that ends in .json gives that file, any other a folder for transformers
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Tokens in all: special ones, 256 bytes, merged ones
    #[arg(long, value_name = "N")]
    vocab_size: usize,
    /// How often a pair has to occur to become a token
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    min_frequency: u64,
    /// A special token, such as '<|endoftext|>'; may be given many times
    #[arg(long, value_name = "TOKEN")]
    special: Vec<String>,
    /// Let a word go over the end of a line: newlines and the spaces behind them may become one token. Without it
    /// lines are cut one by one, as tokenizers reads files
    #[arg(long)]
    across_lines: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: TokenizerArgs) -> Result<()> {
    match args.what {
        What::Train(args) => train(&args),
    }
}

fn train(args: &TrainArgs) -> Result<()> {
    let special = args.special.clone();
    let options = TrainOptions { vocab_size: args.vocab_size, min_frequency: args.min_frequency, special };
    // Before anything is read.
    if let Err(error) = options.check() {
        return usage(error.to_string());
    }
    Trained::check_target(&args.output)?;
    let words = read(args)?;
    let mut bar = Bar::items();
    let mut begun = false;
    let trained = learn(&words, &options, &mut |tokens, wanted| {
        if !std::mem::replace(&mut begun, true) {
            bar.start("tokens", Some(wanted as u64));
        }
        bar.at(tokens as u64);
    });
    bar.finish();
    let trained = trained?;
    let tokens = trained.count_tokens(&words)?;
    trained.save(&args.output)?;
    if trained.tokens().len() < args.vocab_size {
        say(&format!(
            "note: {} tokens, not {}: no pair is left that occurs {} times",
            figures::thousands(trained.tokens().len() as u64),
            figures::thousands(args.vocab_size as u64),
            args.min_frequency
        ));
    }
    let compression = words.bytes() as f64 / tokens as f64;
    if args.json {
        return output::json(&serde_json::json!({
            "tokens": trained.tokens().len(),
            "merges": trained.merges().len(),
            "special": trained.special(),
            "bytes": words.bytes(),
            "bytes_per_token": compression,
            "training_tokens": tokens,
            "distinct_words": words.distinct(),
        }));
    }
    let count = |number: usize| figures::thousands(number as u64);
    output::line(&format!(
        "wrote {}: {} tokens ({} special, 256 bytes, {} merges)",
        args.output.display(),
        count(trained.tokens().len()),
        count(trained.special()),
        count(trained.merges().len()),
    ))?;
    output::line(&format!(
        "{} bytes of text are {} tokens: {compression:.2} bytes per token",
        figures::thousands(words.bytes()),
        figures::thousands(tokens),
    ))
}

/// Counts the words of all files.
fn read(args: &TrainArgs) -> Result<WordCounts> {
    let is_input = |file: &Path| file == Path::new("-");
    if args.files.iter().any(|file| is_input(file)) && std::io::stdin().is_terminal() {
        return usage("standard input is a terminal: pipe text into it");
    }
    // All of them, before hours are spent on the first.
    let mut total = Some(0);
    for file in args.files.iter().filter(|file| !is_input(file)) {
        let found = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
        if found.is_dir() {
            anyhow::bail!("{} is a folder: name its files", file.display());
        }
        total = total.map(|total| total + found.len()).filter(|_| found.is_file());
    }
    let total = total.filter(|_| !args.files.iter().any(|file| is_input(file)));
    let mut words = WordCounts::new(args.across_lines);
    let mut bar = Bar::new();
    bar.start("reading", total);
    for file in &args.files {
        let (name, before) = (input::name_of(file), words.bytes());
        let mut at = |bytes: u64| bar.at(before + bytes);
        if is_input(file) {
            words.read(&name, std::io::stdin().lock(), &mut at)?;
        } else {
            let from = File::open(file).with_context(|| format!("cannot read {name}"))?;
            words.read(&name, from, &mut at)?;
        }
    }
    bar.finish();
    Ok(words)
}
