//! The default model's perplexity of WikiText-2 (raw, test, first 8 chunks of 512) against figures of other
//! programs for the same file: an fp32 forward pass of transformers over the dequantized weights gives
//! 24.4974, llama.cpp (with 8-bit activations) 24.5813. Of its first 4 sliding windows the same forward pass
//! of transformers gives 18.8030 (`scripts/fixtures/sliding_perplexity.py`).

use std::env::var_os;
use std::path::PathBuf;
use std::sync::Arc;

use porism_hub::{CacheDir, Network, Silent, ensure_default_model};
use porism_kernels::{Isa, Pool};
use porism_measure::perplexity::{DecoderScorer, Protocol, TokenizedText, score};
use porism_models::cpu::{Activations, CpuExecutor, KvType};
use porism_models::{ModelSource, load_decoder};

const TRANSFORMERS: f64 = 24.4974;
const LLAMA_CPP: f64 = 24.5813;
const TRANSFORMERS_SLIDING: f64 = 18.8030;

#[test]
fn perplexity_is_that_of_the_peers() {
    let Some(data) = var_os("PORISM_TEST_DATA").map(PathBuf::from) else {
        // Written past the test's captured output, so that a skipped test is seen.
        let line =
            "skipped: perplexity_is_that_of_the_peers needs PORISM_TEST_DATA=DIR with text/wikitext2-raw-test.txt\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        return;
    };
    let text = std::fs::read(data.join("text/wikitext2-raw-test.txt")).expect("the text");
    let cache = CacheDir::resolve(var_os("PORISM_HOME"), var_os("XDG_CACHE_HOME"), var_os("HOME")).expect("a cache");
    let path = ensure_default_model(&cache, &Network::default(), &mut Silent).expect("the default model");
    let source = ModelSource::open(&path).expect("a model file");
    let decoder = load_decoder(&source).expect("a decoder");
    let tokenizer = source.tokenizer().expect("a tokenizer");
    let pool = Arc::new(Pool::new(2));
    let measure = |protocol, chunks, activations, kv| {
        let text = TokenizedText::new(&tokenizer, &text, protocol).expect("a text");
        let steps = CpuExecutor::new(pool.clone(), Isa::detect(), activations);
        let mut scorer = DecoderScorer::new(&decoder, steps, kv);
        score(&mut scorer, &text, protocol, Some(chunks), &mut |_| {}).expect("a perplexity")
    };
    let exact = measure(Protocol::LLAMA_CPP, 8, Activations::F32, KvType::F32);
    assert_eq!(exact.tokens, 8 * 255);
    assert!((exact.perplexity() / TRANSFORMERS - 1.0).abs() < 0.0005, "exact: {}", exact.perplexity());
    let int8 = measure(Protocol::LLAMA_CPP, 8, Activations::Int8, KvType::F16).perplexity();
    assert!((int8 / TRANSFORMERS - 1.0).abs() < 0.006, "int8: {int8}");
    assert!(int8 < LLAMA_CPP * 1.002, "int8: {int8}");
    let sliding = measure(Protocol::SLIDING, 4, Activations::F32, KvType::F32);
    assert_eq!(sliding.tokens, 1023 + 3 * 512);
    assert!((sliding.perplexity() / TRANSFORMERS_SLIDING - 1.0).abs() < 0.0005, "sliding: {}", sliding.perplexity());
}
