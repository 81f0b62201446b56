//! `porism tokenize`: text to token ids.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::input;
use super::words::PreTokenizer;
use crate::context::{Context, say};
use crate::output;

/// Text to token ids
#[derive(Args)]
#[command(after_help = "Examples:
  porism tokenize \"Hello world\"
  porism tokenize --file notes.txt --json
  echo '<|im_start|>' | porism tokenize --no-parse-special
  porism tokenize -m vocabulary.gguf \"The same with another vocabulary\"")]
pub struct TokenizeArgs {
    /// The text; without it and without --file, what comes on standard input
    #[arg(conflicts_with = "file")]
    text: Option<String>,
    /// Take the text from this file, whole (- is standard input)
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Whose tokenizer: a path (a GGUF file with a vocabulary only will do), a name of the catalogue, or
    /// owner/repo[:quant|/file] [default: smollm2-135m-instruct]
    #[arg(short, long)]
    model: Option<String>,
    #[command(flatten)]
    pre_tokenizer: PreTokenizer,
    /// Leave out the tokens that the model wants before or after a text
    #[arg(long)]
    no_add_special: bool,
    /// Take the spelling of a control token, such as <|im_end|>, for ordinary text
    #[arg(long)]
    no_parse_special: bool,
    /// One object with the array `ids`
    #[arg(long)]
    json: bool,
}

pub fn run(args: TokenizeArgs, context: &Context) -> Result<()> {
    let text = match (&args.text, &args.file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => input::text_of(file)?,
        (None, None) => input::text_of_stdin("there is no text: give one, or --file FILE, or pipe it into porism")?,
    };
    let (path, source) = context.open(args.model.as_deref())?;
    let tokenizer =
        args.pre_tokenizer.tokenizer(&source).with_context(|| format!("{}: no usable tokenizer", path.display()))?;
    let ids = tokenizer.encode(&text, !args.no_add_special, !args.no_parse_special)?;
    let uncovered = tokenizer.uncovered_bytes(&text);
    if uncovered > 0 {
        say(&format!("warning: {uncovered} bytes of the text have no token in this vocabulary and are left out"));
    }
    if args.json {
        return output::line(&serde_json::json!({ "ids": ids }).to_string());
    }
    let line: Vec<String> = ids.iter().map(u32::to_string).collect();
    output::line(&line.join(" "))
}
