//! Loss and gradients of the default model over a micro-batch, for each way of training, beside what the processor's registers do
//! at most. "elements" are floating-point operations, of which each pass through a matrix of N numbers takes 2 N a token: forward,
//! the gradient of the input, and, where it is trained, its own; blocks that run again go forward twice.

use std::env::var_os;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use porism_hub::{CacheDir, Network, Silent, ensure_default_model};
use porism_kernels::{BlockType, Isa, Pool, peak, pool};
use porism_models::adapter::{Base, attach, targets};
use porism_models::tape::{BlockMemory, Parameter, Parameters, TapeExecutor};
use porism_models::{Decoder, ModelSource, load_decoder};
use porism_ops::OpContext;
use porism_text::examples::Example;
use porism_tune::adapter::{TRAINED, fresh};
use porism_tune::passes::{gradients, micros};
use porism_tune::{Goal, Recipe};

/// Tokens of a micro-batch, in two examples.
const TOKENS: usize = 512;
/// Rounds of multiply-adds in registers: a few milliseconds.
const ROUNDS: usize = 400_000;

/// The decoder with a fresh adapter of rank 16 on all projections, and what trains it.
fn adapted(context: &OpContext, source: &ModelSource, mut decoder: Decoder) -> (Decoder, Parameters) {
    let recipe = Recipe::default();
    let base = Base::new(source, &decoder).expect("a base");
    let sites = targets(&base, &recipe.targets).expect("targets");
    let adapter = fresh(context, &base, &decoder, &sites, &recipe).expect("an adapter");
    drop(base);
    let _ = attach(&context.pool, context.isa, &mut decoder, &[(adapter, 1.0)], TRAINED).expect("an attached adapter");
    let parameters = Parameters::adapter(&decoder, TRAINED).expect("parameters");
    (decoder, parameters)
}

fn training(c: &mut Criterion) {
    let cache = CacheDir::resolve(var_os("PORISM_HOME"), var_os("XDG_CACHE_HOME"), var_os("HOME")).expect("a cache");
    let path = ensure_default_model(&cache, &Network::default(), &mut Silent).expect("the default model");
    let source = ModelSource::open(&path).expect("a model file");
    let decoder = load_decoder(&source).expect("a decoder");
    let context = OpContext { pool: Arc::new(Pool::new(pool::usable_cores())), isa: Isa::detect() };
    porism_kernels::heap::keep_freed_memory();

    let vocab = decoder.stack.config.vocab;
    let example = |first: usize| Example {
        at: format!("example {first}"),
        ids: (first..first + TOKENS / 2).map(|i| (i * 7919 % vocab) as u32).collect(),
        scored: (0..TOKENS / 2).map(|i| i > 0).collect(),
    };
    let examples = [example(0), example(TOKENS)];
    let micros = micros(&examples.iter().collect::<Vec<_>>(), TOKENS);
    let blocks: usize = decoder.stack.linears().map(|linear| linear.weight.len()).sum();
    let head = decoder.head.linear.weight.len();

    let mut nf4 = decoder.clone();
    nf4.stack.requantize(BlockType::NF4, true).expect("NF4");
    let adapter = |decoder: &Decoder| adapted(&context, &source, decoder.clone());
    let whole = |decoder: &Decoder| (decoder.clone(), Parameters::full(decoder).expect("parameters"));
    // The passes through all projections of the blocks, and through the head, in each.
    let ways = [
        ("lora, the file's Q4_1", adapter(&decoder), BlockMemory::Keep, (2, 2)),
        ("lora, the file's Q4_1, blocks again", adapter(&decoder), BlockMemory::Recompute, (3, 2)),
        ("lora, NF4 with double quantization", adapter(&nf4), BlockMemory::Keep, (2, 2)),
        ("full", whole(&decoder), BlockMemory::Keep, (3, 3)),
    ];

    let mut group = c.benchmark_group(format!("gradients of {TOKENS} tokens"));
    let most = peak::f32_multiply_add(&context.pool, context.isa, ROUNDS);
    group.throughput(Throughput::Elements(most));
    group.bench_function("the registers' limit", |b| {
        b.iter(|| black_box(peak::f32_multiply_add(&context.pool, context.isa, ROUNDS)));
    });
    for (name, (decoder, parameters), memory, (in_blocks, in_head)) in ways {
        let deltas = parameters.iter().filter(|(name, _)| matches!(name, Parameter::Delta { .. }));
        let adapters: usize = deltas.map(|(_, var)| var.elem_count()).sum();
        let passed = in_blocks * blocks + in_head * head + (in_blocks + 1) * adapters;
        group.throughput(Throughput::Elements((2 * TOKENS * passed) as u64));
        let mut executor = TapeExecutor::new(context.clone(), parameters);
        group.bench_function(name, |b| {
            b.iter(|| {
                gradients(&decoder, &mut executor, &micros, Goal::CrossEntropy, None, |_| memory)
                    .expect("gradients")
                    .loss
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(20));
    targets = training
}
criterion_main!(benches);
