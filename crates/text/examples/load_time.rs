//! Load time and throughput: `cargo run --release -p porism-text --example load_time -- MODEL.gguf TEXT`.
//!
//! Prints how long a vocabulary takes to load on our engine and on the `tokenizers` crate, and how fast
//! each tokenizes the text. The figures in `tokenizer.rs` come from here.
#![allow(clippy::print_stdout)] // Its result is what it prints.

use std::time::Instant;

use porism_text::{Tokenizer, VocabSource};

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or(0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let model = args.next().ok_or("which GGUF file?")?;
    let text = std::fs::read_to_string(args.next().ok_or("which text?")?)?;
    let library = args.next().is_some();
    let start = Instant::now();
    let gguf = porism_formats::Gguf::open(model.as_ref())?;
    println!("open: {:?}, VmHWM {} KiB", start.elapsed(), resident());
    if library {
        let json = VocabSource::from_gguf(&gguf)?.to_tokenizer_json()?.to_string();
        let parts = VocabSource::from_gguf(&gguf)?;
        println!("before: VmHWM {} KiB", resident());
        let start = Instant::now();
        let tokenizer: tokenizers::Tokenizer = json.parse().map_err(|e| format!("{e}"))?;
        println!("tokenizers crate from JSON: {:?}, VmHWM {} KiB", start.elapsed(), resident());
        let start = Instant::now();
        let vocab: tokenizers::models::bpe::Vocab = parts.tokens.iter().map(|t| t.to_string()).zip(0..).collect();
        let merges: Vec<(String, String)> = parts.merges.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        let bpe = tokenizers::models::bpe::BPE::builder().vocab_and_merges(vocab, merges).build();
        println!("tokenizers crate's BPE alone: {:?}, VmHWM {} KiB", start.elapsed(), resident());
        drop(bpe);
        let start = Instant::now();
        let n = tokenizer.encode_fast(&*text, false).map_err(|e| format!("{e}"))?.len();
        println!("tokenizers crate: {n} tokens in {:?}, VmHWM {} KiB", start.elapsed(), resident());
        return Ok(());
    }
    let start = Instant::now();
    let source = VocabSource::from_gguf(&gguf)?;
    println!("source: {:?}", start.elapsed());
    let tokenizer = Tokenizer::from_source(&source)?;
    println!("load: {:?}, VmHWM {} KiB", start.elapsed(), resident());
    drop(source);
    for _ in 0..3 {
        let start = Instant::now();
        let ids = tokenizer.encode(&text, false, false)?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{} tokens, {:.1} MB/s, VmHWM {} KiB", ids.len(), text.len() as f64 / seconds / 1e6, resident());
        assert_eq!(tokenizer.decode(&ids)?, text.as_bytes());
    }
    Ok(())
}
