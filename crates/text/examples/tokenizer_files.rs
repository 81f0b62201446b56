//! Writes a GGUF file's tokenizer as other programs' files:
//! `cargo run -p porism-text --example tokenizer_files -- MODEL.gguf FOLDER`.
//!
//! FOLDER gets `tokenizer.json`, `tokenizer_config.json` and `vocab.gguf`, whose tokenizer has gone through
//! those two files. `scripts/fixtures/text_round_trip.py` loads them all elsewhere.

use std::path::{Path, PathBuf};

use porism_formats::Gguf;
use porism_formats::gguf::{GgufHeader, GgufWriter};
use porism_text::Tokenizer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(model), Some(folder)) = (args.next(), args.next()) else {
        return Err("usage: tokenizer_files MODEL.gguf FOLDER".into());
    };
    let gguf = Gguf::open(&model)?;
    let tokenizer = Tokenizer::from_gguf(&gguf)?;
    std::fs::create_dir_all(&folder)?;
    let write = |name: &str, value: &serde_json::Value| {
        std::fs::write(folder.join(name), serde_json::to_string_pretty(value)?)
            .map_err(Box::<dyn std::error::Error>::from)
    };
    write("tokenizer.json", &tokenizer.to_tokenizer_json()?)?;
    write("tokenizer_config.json", &tokenizer.to_tokenizer_config()?)?;
    let again = Tokenizer::from_hf(&folder)?;
    write_vocabulary(&folder.join("vocab.gguf"), &gguf, &again)
}

/// A GGUF file without tensors.
fn write_vocabulary(path: &Path, model: &Gguf, tokenizer: &Tokenizer) -> Result<(), Box<dyn std::error::Error>> {
    let mut header = GgufHeader::new();
    for (key, value) in model.metadata().filter(|(key, _)| !key.starts_with("tokenizer.")) {
        header.set(key, value);
    }
    for (key, value) in tokenizer.to_gguf_metadata()? {
        header.set(&key, value);
    }
    GgufWriter::create(path, &header)?.commit()?;
    Ok(())
}
