//! Perplexity of models beside the default one, by llama.cpp's protocol, against an independent fp32 forward pass over
//! the same weights (transformers; Gemma with a BOS in place of each chunk's first token).

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use porism_kernels::{Isa, Pool};
use porism_measure::perplexity::{DecoderScorer, Protocol, TokenizedText, score};
use porism_models::cpu::{Activations, CpuExecutor, KvType};
use porism_models::{ModelSource, load_decoder};

/// File, chunks, the reference, and how far from it we may be.
const MODELS: [(&str, usize, f64, f64); 3] = [
    ("gemma-3-270m-q4_k_m.gguf", 8, 18.0671, 0.0005),
    ("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", 8, 35.6309, 0.0005),
    // Of this one there is llama.cpp's number only, which rounds activations to int8.
    ("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", 4, 13.1651, 0.006),
];

#[test]
fn perplexity_is_that_of_an_independent_forward_pass() {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(models), Some(data)) = (folder("PORISM_TEST_MODELS"), folder("PORISM_TEST_DATA")) else {
        let _ = std::io::stderr().write_all(b"skipped: PORISM_TEST_MODELS and PORISM_TEST_DATA are not set\n");
        return;
    };
    let text = std::fs::read(data.join("text/wikitext2-raw-test.txt")).expect("the text");
    // The chunks of these tests lie in the first part of it.
    let text = &text[..text.len().min(60_000)];
    let text = &text[..text.iter().rposition(|&b| b == b'\n').expect("a line")];
    for (name, chunks, want, tolerance) in MODELS {
        let path = models.join(name);
        if !path.exists() {
            let _ = std::io::stderr().write_all(format!("skipped: no {name} among the models\n").as_bytes());
            continue;
        }
        let source = ModelSource::open(&path).expect("a model");
        let (decoder, tokenizer) =
            (load_decoder(&source).expect("a decoder"), source.tokenizer().expect("a tokenizer"));
        let text = TokenizedText::new(&tokenizer, text, Protocol::LLAMA_CPP).expect("tokens");
        let steps = CpuExecutor::new(Arc::new(Pool::new(2)), Isa::detect(), Activations::F32);
        let mut scorer = DecoderScorer::new(&decoder, steps, KvType::F32);
        let sums = score(&mut scorer, &text, Protocol::LLAMA_CPP, Some(chunks), &mut |_| {}).expect("a score");
        let got = sums.perplexity();
        assert_eq!(sums.chunks, chunks);
        assert!((got - want).abs() < tolerance * want, "{name}: {got} and {want}");
    }
}
