//! Our token ids of many texts: `cargo run --release -p porism-text --example token_ids -- MODEL TEXTS.json`.
//!
//! MODEL is a GGUF file or a Hugging Face folder, TEXTS.json an array of strings. Prints one line for each text:
//! its ids, separated by spaces. `--special` adds BOS, EOS and the like, `--parse` reads the spelling of control
//! tokens, `--pre-tokenizer NAME` forces one. `scripts/fixtures/tokenizers_compare.py` calls it.
#![allow(clippy::print_stdout)] // Its result is what it prints.

use std::fmt::Write;
use std::path::Path;

use porism_formats::Gguf;
use porism_text::{Tokenizer, TokenizerOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths = Vec::new();
    let (mut special, mut parse) = (false, false);
    let mut options = TokenizerOptions::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match &*arg {
            "--special" => special = true,
            "--parse" => parse = true,
            "--pre-tokenizer" => options.pre_tokenizer = args.next(),
            _ => paths.push(arg),
        }
    }
    let [model, texts] = &paths[..] else {
        return Err("usage: token_ids MODEL TEXTS.json [--special] [--parse] [--pre-tokenizer NAME]".into());
    };
    let model = Path::new(model);
    let tokenizer = if model.is_dir() {
        Tokenizer::from_hf(model)?
    } else {
        Tokenizer::from_gguf_with(&Gguf::open(model)?, &options)?
    };
    let texts: Vec<String> = serde_json::from_str(&std::fs::read_to_string(texts)?)?;
    let mut line = String::new();
    for text in texts {
        line.clear();
        for (number, id) in tokenizer.encode(&text, special, parse)?.into_iter().enumerate() {
            write!(line, "{}{id}", if number > 0 { " " } else { "" })?;
        }
        println!("{line}");
    }
    Ok(())
}
