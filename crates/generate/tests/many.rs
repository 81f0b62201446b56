//! Answers worked on together are those that a session gives one by one.

use std::env::var_os;
use std::sync::Arc;

use porism_generate::{Answered, Error, Many, Prompt, Request, Sampling, Session, StopReason};
use porism_hub::{CacheDir, Network, Silent, ensure_default_model};
use porism_kernels::{Isa, Pool};
use porism_models::cpu::{Activations, CpuExecutor, CpuState, KvType};
use porism_models::{Batch, Decoder, HeadRequest, ModelSource, load_decoder};
use porism_text::Tokenizer;

fn model() -> (Decoder, Tokenizer) {
    let cache = CacheDir::resolve(var_os("PORISM_HOME"), var_os("XDG_CACHE_HOME"), var_os("HOME")).expect("a cache");
    let path = ensure_default_model(&cache, &Network::default(), &mut Silent).expect("the default model");
    let source = ModelSource::open(&path).expect("a model");
    (load_decoder(&source).expect("a decoder"), source.tokenizer().expect("a tokenizer"))
}

fn steps(threads: usize) -> CpuExecutor {
    CpuExecutor::new(Arc::new(Pool::new(threads)), Isa::detect(), Activations::Int8)
}

fn many(width: usize, context: usize, sampling: Sampling) -> Many {
    Many { width, context, kv: KvType::F16, sampling }
}

fn answers(model: &(Decoder, Tokenizer), many: &Many, prompts: &[Prompt]) -> Vec<Answered> {
    let mut found = vec![None; prompts.len()];
    many.answer(&model.0, &model.1, &mut steps(2), prompts, |number, answer| {
        assert!(found[number].replace(answer).is_none(), "prompt {number} is answered once");
        Ok::<(), Error>(())
    })
    .expect("answers");
    found.into_iter().map(|answer| answer.expect("an answer to each prompt")).collect()
}

/// Prompts of one token to more than two chunks of a session's, with ends of all kinds.
fn prompts(model: &(Decoder, Tokenizer)) -> Vec<Prompt> {
    let long = "The water of the river was cold and clear, and the old man looked at it for a long time. ".repeat(31);
    let asked = |text: &str, max_tokens: usize, stop: &[&str]| Prompt {
        tokens: model.1.encode(text, false, true).expect("ids"),
        max_tokens,
        stop: stop.iter().map(|&s| s.to_owned()).collect(),
    };
    let chat = "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n";
    vec![
        asked("The", 12, &[]),
        asked(&long, 20, &[]),
        asked("The capital of France is", 16, &["answer", "never"]),
        asked(chat, 64, &[]),
        asked("One, two, three,", 0, &[]),
        asked(&long[..1400], 9, &[]),
        asked("Once upon a time", 30, &["\n"]),
    ]
}

#[test]
fn an_answer_does_not_depend_on_what_is_answered_beside_it() {
    let model = model();
    let prompts = prompts(&model);
    assert!(prompts[1].tokens.len() > 512, "more than one pass takes");
    let random = Sampling { temperature: 0.9, top_k: 50, seed: 11, ..Sampling::GREEDY };
    for sampling in [Sampling::GREEDY, random] {
        let one = answers(&model, &many(1, 1024, sampling.clone()), &prompts);
        for width in [2, 3, 8] {
            assert_eq!(answers(&model, &many(width, 1024, sampling.clone()), &prompts), one, "{width} at a time");
        }
    }
}

#[test]
fn greedy_answers_are_those_of_a_session() {
    let model = model();
    let prompts = prompts(&model);
    let together = answers(&model, &many(4, 1024, Sampling::GREEDY), &prompts);
    let mut reasons = Vec::new();
    for (prompt, answer) in prompts.iter().zip(&together).filter(|(prompt, _)| prompt.max_tokens > 0) {
        let mut session = Session::new(&model.0, &model.1, steps(1), KvType::F16, 1024);
        let stop = &prompt.stop;
        let request = Request { stop, ..Request::greedy(&prompt.tokens, prompt.max_tokens) };
        let alone = session.generate(&request, &mut |_| {}).expect("an answer");
        assert_eq!((&answer.text, answer.stop_reason), (&alone.text, alone.stop_reason));
        let ids: Vec<u32> = alone.tokens.iter().map(|token| token.id).collect();
        assert_eq!(answer.tokens, ids);
        assert!(answer.greedy);
        reasons.push(answer.stop_reason);
    }
    for reason in [StopReason::Length, StopReason::Eos, StopReason::Stop] {
        assert!(reasons.contains(&reason), "{reason:?} is among {reasons:?}");
    }
    let nothing = &together[4];
    assert_eq!((nothing.text.as_str(), nothing.tokens.len(), nothing.stop_reason), ("", 0, StopReason::Length));
}

#[test]
fn log_probabilities_are_those_of_a_pass_over_the_whole() {
    let model = model();
    let prompts = prompts(&model);
    let random = Sampling { temperature: 1.2, seed: 3, ..Sampling::GREEDY };
    for sampling in [Sampling::GREEDY, random] {
        let mut off = 0;
        for (prompt, answer) in prompts.iter().zip(answers(&model, &many(8, 1024, sampling.clone()), &prompts)) {
            let ids = [&prompt.tokens[..], &answer.tokens[..]].concat();
            let mut batch = Batch::single(&ids, 0);
            let first = prompt.tokens.len() - 1;
            batch.wanted = (first..first + answer.tokens.len()).collect();
            let mut states = [CpuState::new(&model.0.stack.config, KvType::F16)];
            let out = model.0.forward(&mut steps(2), &batch, &mut states, HeadRequest::Logits);
            let rows = out.and_then(|out| out.into_rows()).expect("logits");
            let (mut sum, mut greedy) = (0.0, true);
            for (i, &id) in answer.tokens.iter().enumerate() {
                let row: Vec<f64> = rows.row(i).iter().map(|&l| f64::from(l)).collect();
                let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                sum += row[id as usize] - most - row.iter().map(|l| (l - most).exp()).sum::<f64>().ln();
                greedy &= row[id as usize] == most;
            }
            // In int8 a row's inputs are rounded by themselves: the passes differ by the order of sums alone.
            assert!((sum - answer.log_prob).abs() < 0.02 * (1.0 + sum.abs()), "{sum} {}", answer.log_prob);
            assert_eq!(answer.greedy, greedy);
            off += usize::from(!greedy);
        }
        assert_eq!(off > 0, sampling.temperature > 0.0);
    }
}

#[test]
fn prompts_that_cannot_be_answered_are_refused() {
    let model = model();
    let good = Prompt { tokens: vec![5, 6, 7], max_tokens: 100, stop: Vec::new() };
    let ask = |prompts: &[Prompt], context: usize| {
        let sampling = Sampling::GREEDY;
        many(2, context, sampling)
            .answer(&model.0, &model.1, &mut steps(1), prompts, |_, _| Ok::<(), Error>(()))
            .expect_err("a refusal")
    };
    let empty = Prompt { tokens: Vec::new(), ..good.clone() };
    assert!(matches!(ask(&[good.clone(), empty], 64), Error::EmptyPrompt));
    assert!(matches!(ask(std::slice::from_ref(&good), 3), Error::PromptTooLong { tokens: 3, context: 3 }));
    // What `report` says ends the work.
    let stopped =
        many(2, 64, Sampling::GREEDY).answer(&model.0, &model.1, &mut steps(1), std::slice::from_ref(&good), |_, _| {
            Err::<(), Error>(Error::EmptyPrompt)
        });
    assert!(matches!(stopped, Err(Error::EmptyPrompt)));
    // An answer ends where the context does.
    let answer = &answers(&model, &many(1, 9, Sampling::GREEDY), &[good])[0];
    assert_eq!((answer.stop_reason, answer.tokens.len()), (StopReason::Context, 6));
}
