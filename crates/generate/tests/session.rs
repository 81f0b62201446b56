//! Sessions with the default model: what is reused, what is told, where answers end.

use std::env::var_os;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use porism_generate::{Error, Event, Outcome, Overflow, Request, Sampling, Session, StopReason};
use porism_hub::{CacheDir, Network, Silent, ensure_default_model};
use porism_kernels::{Isa, Pool};
use porism_models::cpu::{Activations, CpuExecutor, KvType};
use porism_models::{Decoder, ModelSource, load_decoder};
use porism_text::Tokenizer;

fn model() -> (Decoder, Tokenizer) {
    let cache = CacheDir::resolve(var_os("PORISM_HOME"), var_os("XDG_CACHE_HOME"), var_os("HOME")).expect("a cache");
    let path = ensure_default_model(&cache, &Network::default(), &mut Silent).expect("the default model");
    let source = ModelSource::open(&path).expect("a model");
    (load_decoder(&source).expect("a decoder"), source.tokenizer().expect("a tokenizer"))
}

fn session<'a>(model: &'a (Decoder, Tokenizer), threads: usize, context: usize) -> Session<'a> {
    let steps = CpuExecutor::new(Arc::new(Pool::new(threads)), Isa::detect(), Activations::Int8);
    Session::new(&model.0, &model.1, steps, KvType::F16, context)
}

fn run(session: &mut Session<'_>, request: &Request<'_>) -> Outcome {
    session.generate(request, &mut |_| {}).expect("an answer")
}

#[test]
fn a_reused_prefix_and_other_threads_change_nothing() {
    let model = model();
    let text = "The water of the river was cold and clear, and the old man looked at it for a long time. ".repeat(16);
    let prompt = model.1.encode(&text, false, true).expect("ids");
    assert!(prompt.len() > 256, "more than one chunk");
    let sampling = Sampling { temperature: 0.8, top_k: 40, seed: 5, ..Sampling::GREEDY };
    let request = |prompt| Request { sampling: sampling.clone(), ..Request::greedy(prompt, 24) };

    let mut cold = session(&model, 1, 2048);
    let whole = run(&mut cold, &request(&prompt));
    let mut warm = session(&model, 2, 2048);
    run(&mut warm, &request(&prompt[..100]));
    run(&mut warm, &request(&prompt[..271]));
    let again = run(&mut warm, &request(&prompt));
    assert!(again.timings.prompt.0 < whole.timings.prompt.0, "something was reused");
    assert_eq!(whole.tokens, again.tokens);
    assert_eq!(whole.text, again.text);
    // Another seed gives another answer.
    let other = Request { sampling: Sampling { seed: 6, ..sampling.clone() }, ..request(&prompt) };
    assert_ne!(run(&mut cold, &other).tokens, whole.tokens);
}

#[test]
fn answers_end_for_the_reason_told() {
    let model = model();
    let prompt = model.1.encode("The capital of France is", false, true).expect("ids");
    let mut session = session(&model, 2, 16);
    let outcome = run(&mut session, &Request::greedy(&prompt, 3));
    assert_eq!((outcome.stop_reason, outcome.tokens.len(), outcome.prompt_tokens), (StopReason::Length, 3, 5));
    assert!(outcome.text.starts_with(" Paris"), "{:?}", outcome.text);

    let outcome = run(&mut session, &Request { stop: &["answer".into()], ..Request::greedy(&prompt, 16) });
    assert_eq!(outcome.stop_reason, StopReason::Stop);
    assert!(outcome.text.ends_with("The "), "{:?}", outcome.text);

    let outcome = run(&mut session, &Request::greedy(&prompt, 100));
    assert_eq!((outcome.stop_reason, outcome.tokens.len()), (StopReason::Context, 11));

    let flag = AtomicBool::new(false);
    let mut shown = String::new();
    let request = Request { interrupt: Some(&flag), ..Request::greedy(&prompt, 100) };
    let outcome = session
        .generate(&request, &mut |event| {
            if let Event::Text(text) = event {
                shown.push_str(text);
                flag.store(shown.len() > 8, Ordering::Relaxed);
            }
        })
        .expect("an answer");
    assert_eq!(outcome.stop_reason, StopReason::Interrupted);
    assert_eq!(outcome.text, shown);

    let slid = std::cell::Cell::new(0);
    let request = Request { overflow: Overflow::Slide { keep: 4 }, ..Request::greedy(&prompt, 40) };
    let outcome = session
        .generate(&request, &mut |event| {
            if let Event::Slid { dropped } = event {
                slid.set(slid.get() + dropped);
            }
        })
        .expect("an answer");
    // Beyond what the context holds; half of what follows the first four tokens goes at a time.
    assert!(outcome.tokens.len() > 11 && slid.get() >= 6, "{outcome:?}, {} tokens forgotten", slid.get());
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_with_numbers() {
    let model = model();
    let prompt = model.1.encode(&"one two three ".repeat(20), false, true).expect("ids");
    let mut session = session(&model, 1, 32);
    let error = session.generate(&Request::greedy(&prompt, 4), &mut |_| {}).expect_err("too long");
    assert!(matches!(error, Error::PromptTooLong { context: 32, .. }));
    assert!(error.to_string().contains("the context holds 32"));
    assert!(matches!(session.generate(&Request::greedy(&[], 4), &mut |_| {}), Err(Error::EmptyPrompt)));
}
