//! The default model's verbs as a person meets them: a prompt, a generated token, a chunk of perplexity, questions of a
//! benchmark.

use std::env::var_os;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use porism_hub::{CacheDir, Network, Silent, ensure_default_model};
use porism_kernels::{Isa, Pool, pool};
use porism_measure::benchmark::{self, Candidate, Requests};
use porism_measure::perplexity::{DecoderScorer, Scorer};
use porism_models::cpu::{Activations, CpuExecutor, CpuState, KvType};
use porism_models::{Batch, HeadRequest, ModelSource, SequenceState, load_decoder};

const MODES: [(Activations, KvType); 2] = [(Activations::Int8, KvType::F16), (Activations::F32, KvType::F32)];
/// Tokens of the prompt that is computed, and that a generated token follows: one chunk.
const PROMPT: usize = porism_generate::PROMPT_CHUNK;
/// Tokens of a perplexity chunk.
const CHUNK: usize = 512;

/// Questions of a benchmark, each with four choices.
const QUESTIONS: usize = 32;

/// Questions of about the length of ARC's: 30 tokens, and 8 for a choice.
fn questions(folder: &std::path::Path) -> Requests {
    let line = |question: usize, choice: usize| {
        let words = ["river", "stone", "lamp", "bird", "wheel", "cloud", "letter"];
        let word = |i: usize| words[(question * 5 + i * 3 + choice * i) % words.len()];
        let prompt = format!(
            "Question: A student finds a {} beside a {} and wants to know number {question} of what it is made of. What should be \
             measured first?\nAnswer:",
            word(0),
            words[question % 7]
        );
        let continuation = format!(" the weight of the {} and the {}", word(choice + 1), word(choice + 2));
        serde_json::json!({"doc_id": question, "idx": choice, "label": 0,
                           "request": {"context": prompt, "continuation": continuation}})
        .to_string()
    };
    let lines: Vec<String> = (0..QUESTIONS).flat_map(|q| (0..4).map(move |c| line(q, c))).collect();
    let path = folder.join("requests.jsonl");
    std::fs::write(&path, lines.join("\n")).expect("a file");
    benchmark::read_requests(&path, None).expect("requests")
}

fn verbs(c: &mut Criterion) {
    let cache = CacheDir::resolve(var_os("PORISM_HOME"), var_os("XDG_CACHE_HOME"), var_os("HOME")).expect("a cache");
    let path = ensure_default_model(&cache, &Network::default(), &mut Silent).expect("the default model");
    let source = ModelSource::open(&path).expect("a model file");
    let (decoder, tokenizer) = (load_decoder(&source).expect("a decoder"), source.tokenizer().expect("a tokenizer"));
    let folder = tempfile::tempdir().expect("a folder");
    let exam = questions(folder.path()).exam;
    let threads = Arc::new(Pool::new(pool::usable_cores()));
    let steps = |activations| CpuExecutor::new(threads.clone(), Isa::detect(), activations);
    let ids: Vec<u32> = (0..CHUNK as u32).map(|i| i * 7919 % decoder.stack.config.vocab as u32).collect();

    for (activations, kv) in MODES {
        let mut group = c.benchmark_group(activations.name());
        let mut steps_here = steps(activations);
        let mut states = [CpuState::new(&decoder.stack.config, kv)];
        let empty = states[0].mark();

        group.throughput(Throughput::Elements(PROMPT as u64));
        group.bench_function(BenchmarkId::new("prefill", PROMPT), |b| {
            let batch = Batch::single(&ids[..PROMPT], 0);
            b.iter(|| {
                states[0].rollback(empty).expect("an empty cache");
                black_box(decoder.forward(&mut steps_here, &batch, &mut states, HeadRequest::Logits)).expect("logits");
            });
        });

        let full = states[0].mark();
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("generate", format!("after {PROMPT}")), |b| {
            let batch = Batch::single(&ids[..1], PROMPT as u32);
            b.iter(|| {
                states[0].rollback(full).expect("the prompt's cache");
                black_box(decoder.forward(&mut steps_here, &batch, &mut states, HeadRequest::Logits)).expect("logits");
            });
        });

        group.throughput(Throughput::Elements(CHUNK as u64));
        group.bench_function(BenchmarkId::new("perplexity", CHUNK), |b| {
            let mut scorer = DecoderScorer::new(&decoder, steps(activations), kv);
            b.iter(|| black_box(scorer.score(&ids, CHUNK / 2 + 1)).expect("scores"));
        });

        group.throughput(Throughput::Elements(QUESTIONS as u64));
        group.bench_function(BenchmarkId::new("questions", QUESTIONS), |b| {
            let (steps, context) = (steps(activations), decoder.stack.config.context);
            let (decoder, tokenizer, fingerprint) = (&decoder, &tokenizer, String::new());
            let mut candidate = Candidate { decoder, tokenizer, steps, kv, context, width: 1, fingerprint };
            b.iter(|| black_box(benchmark::run(&exam, &mut candidate, None, &mut |_| {})).expect("rows"));
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    targets = verbs
}
criterion_main!(benches);
