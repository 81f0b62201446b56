//! `porism detokenize`: token ids to text.

use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Args;

use super::figures::shown;
use super::input;
use crate::context::{Context, usage};

/// Token ids to text
#[derive(Args)]
#[command(after_help = "Examples:
  porism detokenize 19556 905
  porism detokenize 19556,905
  porism tokenize --file notes.txt | porism detokenize -

The tokens' bytes are written as they are, whole characters or not.")]
pub struct DetokenizeArgs {
    /// The ids, separated by spaces or commas (- is standard input)
    #[arg(required = true, value_name = "IDS")]
    ids: Vec<String>,
    /// Whose tokenizer: a path (a GGUF file with a vocabulary only will do), a name of the catalogue, or
    /// owner/repo[:quant|/file] [default: smollm2-135m-instruct]
    #[arg(short, long)]
    model: Option<String>,
}

pub fn run(args: DetokenizeArgs, context: &Context) -> Result<()> {
    let ids = match args.ids.iter().any(|word| word == "-") {
        true if args.ids.len() > 1 => return usage("either ids or -, not both"),
        true => parse(&input::text_of(Path::new("-"))?)?,
        false => parse(&args.ids.join(" "))?,
    };
    let (path, source) = context.open(args.model.as_deref())?;
    let tokenizer = source.tokenizer().with_context(|| format!("{}: no usable tokenizer", path.display()))?;
    let mut out = std::io::stdout().lock();
    out.write_all(&tokenizer.decode(&ids)?)?;
    Ok(out.flush()?)
}

fn parse(text: &str) -> Result<Vec<u32>> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
    words
        .map(|word| match word.parse() {
            Ok(id) => Ok(id),
            Err(_) => {
                let word = shown(word, 40);
                usage(format!("`{word}` is no token id: ids are numbers, separated by spaces or commas"))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_commas_separate() {
        assert_eq!(parse("1 2,3, 4\n5\t").unwrap(), [1, 2, 3, 4, 5]);
        assert!(parse(" ").unwrap().is_empty());
        for wrong in ["1 -2", "x", "4294967296", "1.5", "[1]"] {
            assert!(parse(wrong).unwrap_err().to_string().contains("no token id"), "{wrong}");
        }
    }
}
