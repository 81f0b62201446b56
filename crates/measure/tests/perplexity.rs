//! The perplexity protocols: what they show a model and count, on a scorer that takes notes, and the
//! decoder's scorer against log-probabilities computed here from whole rows of logits.

mod toy;

use std::borrow::Cow;
use std::sync::Arc;

use porism_kernels::{Isa, Pool};
use porism_measure::perplexity::{DecoderScorer, Progress, Protocol, Scorer, TokenizedText, score};
use porism_measure::{Error, Result};
use porism_models::cpu::{Activations, CpuExecutor, CpuState, KvType};
use porism_models::{Batch, HeadRequest, Input};
use porism_text::{SpecialIds, TokenType, Tokenizer, VocabSource};
use toy::toy_decoder;

fn cpu(threads: usize, activations: Activations) -> CpuExecutor {
    CpuExecutor::new(Arc::new(Pool::new(threads)), Isa::detect(), activations)
}

/// A tokenizer whose tokens are the lower-case letters, the space, "th", the bytes of "é" and a BOS.
fn letters(add_bos: bool) -> Tokenizer {
    let mut tokens: Vec<Cow<'static, str>> = ('a'..='z').map(|c| Cow::Owned(c.to_string())).collect();
    // The byte-level alphabet writes the space as Ġ, the bytes C3 A9 as Ã ©, and a newline as Ċ.
    tokens.extend(["Ġ", "th", "Ã", "©", "Ċ"].map(Cow::Borrowed));
    let mut types = vec![TokenType::Normal; tokens.len()];
    let bos = tokens.len() as u32;
    tokens.push("<s>".into());
    types.push(TokenType::Control);
    let source = VocabSource {
        tokens,
        types,
        merges: vec![("t".into(), "h".into())],
        pre: "gpt-2".into(),
        special: SpecialIds { bos: Some(bos), ..SpecialIds::default() },
        add_bos: Some(add_bos),
        ..VocabSource::default()
    };
    Tokenizer::from_source(&source).expect("a tokenizer")
}

/// `n` of the toy's 50 tokens, from a linear congruential generator's upper bits.
fn ids(seed: u64, n: usize) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % 50
    };
    (0..n).map(|_| next()).collect()
}

/// Gives each token one bit and notes what it was asked.
#[derive(Default)]
struct Notes(Vec<(Vec<u32>, usize)>);

impl Scorer for Notes {
    fn score(&mut self, window: &[u32], first: usize) -> Result<Vec<f32>> {
        self.0.push((window.to_vec(), first));
        Ok(vec![-std::f32::consts::LN_2; window.len() - first])
    }
}

fn numbered(tokens: usize, bos: Option<u32>) -> TokenizedText {
    TokenizedText { tokens: (0..tokens as u32).collect(), bos, bytes: (0..tokens).collect(), uncovered_bytes: 0 }
}

#[test]
fn llama_cpp_chunks_start_with_a_bos_only_where_the_model_adds_one() {
    for bos in [None, Some(9999)] {
        let (mut notes, text) = (Notes::default(), numbered(1600, bos));
        let mut heard = Vec::new();
        let sums = score(&mut notes, &text, Protocol::LLAMA_CPP, None, &mut |p| heard.push(p)).unwrap();
        assert_eq!(notes.0.len(), 3);
        for (i, (window, first)) in notes.0.iter().enumerate() {
            let start = i as u32 * 512;
            assert_eq!(window[0], bos.unwrap_or(start));
            assert!(window[1..].iter().copied().eq(start + 1..start + 512));
            assert_eq!(*first, 257);
        }
        assert_eq!((sums.tokens, sums.chunks), (3 * 255, 3));
        let scored = (0..3).flat_map(|i| i * 512 + 257..i * 512 + 512);
        assert_eq!(sums.bytes, scored.sum::<usize>(), "the bytes of the scored tokens only");
        assert!((sums.perplexity() - 2.0).abs() < 1e-6);
        assert!((sums.bits_per_byte() - sums.tokens as f64 / sums.bytes as f64).abs() < 1e-9);
        let chunks: Vec<_> = heard.iter().map(|p| (p.chunk, p.chunks)).collect();
        assert_eq!(chunks, [(1, 3), (2, 3), (3, 3)]);
        assert!(heard.iter().all(|p: &Progress| (p.perplexity - 2.0).abs() < 1e-6));
    }
}

#[test]
fn sliding_windows_hold_their_context_and_score_the_rest() {
    let (mut notes, text) = (Notes::default(), numbered(2000, Some(0)));
    let sums = score(&mut notes, &text, Protocol::SLIDING, None, &mut |_| {}).unwrap();
    let asked: Vec<_> = notes.0.iter().map(|(w, first)| (w[1], w.len(), *first)).collect();
    assert_eq!(asked, [(1, 1024, 1), (513, 1024, 512), (1025, 976, 512)]);
    assert!(notes.0.iter().all(|(w, _)| w[0] == 0));
    assert_eq!(sums.tokens, 1999, "each but the first, once");
    assert_eq!(sums.bytes, (1..2000).sum::<usize>());
}

#[test]
fn a_number_of_chunks_ends_early() {
    let text = numbered(5000, None);
    let mut notes = Notes::default();
    let sums = score(&mut notes, &text, Protocol::LLAMA_CPP, Some(2), &mut |_| {}).unwrap();
    assert_eq!((notes.0.len(), sums.tokens), (2, 510));
    let error = score(&mut notes, &text, Protocol::LLAMA_CPP, Some(0), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("0 chunks"), "{error}");
}

#[test]
fn a_model_without_numbers_is_found_out() {
    struct Broken;
    impl Scorer for Broken {
        fn score(&mut self, window: &[u32], first: usize) -> Result<Vec<f32>> {
            let mut scores = vec![-1.0; window.len() - first];
            scores[3] = f32::NAN;
            Ok(scores)
        }
    }
    let error = score(&mut Broken, &numbered(1024, None), Protocol::LLAMA_CPP, None, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::NotFinite { chunk: 1, token: 260, .. }), "{error}");
}

#[test]
fn texts_become_tokens_with_their_bytes() {
    let text = "the caf\u{e9}!\n";
    let with = TokenizedText::new(&letters(true), text.as_bytes(), Protocol::SLIDING).unwrap();
    let bos = with.bos.unwrap();
    assert_eq!(with.tokens[0], bos);
    // <s> th e Ġ c a f Ã © Ċ: the exclamation mark has no token.
    assert_eq!(with.bytes, [0, 2, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(with.uncovered_bytes, 1);
    let without = TokenizedText::new(&letters(false), text.as_bytes(), Protocol::LLAMA_CPP).unwrap();
    assert_eq!(without.bos, None);
    assert_eq!(without.tokens, with.tokens[1..9], "llama.cpp drops the last newline");
    let error = TokenizedText::new(&letters(true), b"ab\xffc", Protocol::SLIDING).unwrap_err();
    assert!(matches!(error, Error::NotUtf8 { offset: 2 }), "{error}");
    // What looks like a control token is text.
    let plain = TokenizedText::new(&letters(true), b"s<s>", Protocol::SLIDING).unwrap();
    assert_eq!(plain.tokens.iter().filter(|&&t| t == bos).count(), 1);
}

#[test]
fn the_decoder_scores_as_its_logits_say_across_chunks() {
    let decoder = toy_decoder();
    let ids = ids(3, 600);
    for activations in [Activations::F32, Activations::Int8] {
        // One pass over all rows, and the softmax here in f64.
        let mut batch = Batch::single(&ids, 0);
        batch.wanted = (0..ids.len()).collect();
        assert_eq!(batch.input, Input::Ids(ids.clone()));
        let mut states = [CpuState::new(&decoder.stack.config, KvType::F32)];
        let logits = decoder
            .forward(&mut cpu(1, activations), &batch, &mut states, HeadRequest::Logits)
            .and_then(|out| out.into_rows())
            .unwrap();
        let log_prob = |position: usize, id: u32| {
            let row: Vec<f64> = logits.row(position).iter().map(|&v| f64::from(v)).collect();
            row[id as usize] - row.iter().map(|v| v.exp()).sum::<f64>().ln()
        };
        for first in [1, 2, 255, 256, 257, 258, 512, 599, 600] {
            let mut scorer = DecoderScorer::new(&decoder, cpu(2, activations), KvType::F32);
            let scores = scorer.score(&ids, first).unwrap();
            assert_eq!(scores.len(), ids.len() - first);
            for (i, &got) in scores.iter().enumerate() {
                let at = first + i;
                let want = log_prob(at - 1, ids[at]);
                assert!((f64::from(got) - want).abs() < 2e-5 * (1.0 + want.abs()), "token {at}: {got}, {want}");
            }
        }
    }
}

/// "Perplexity", Part III: 10 is as uncertain as a choice among ten equally likely tokens.
#[test]
fn a_uniform_choice_among_ten_has_perplexity_ten() {
    struct Uniform;
    impl Scorer for Uniform {
        fn score(&mut self, window: &[u32], first: usize) -> Result<Vec<f32>> {
            Ok(vec![0.1f32.ln(); window.len() - first])
        }
    }
    let sums = score(&mut Uniform, &numbered(1024, None), Protocol::LLAMA_CPP, None, &mut |_| {}).unwrap();
    assert!((sums.perplexity() - 10.0).abs() < 1e-5, "{}", sums.perplexity());
    assert!((sums.standard_error()).abs() < 1e-6);
}

#[test]
fn a_window_does_not_see_the_one_before() {
    let decoder = toy_decoder();
    let window = ids(5, 40);
    let mut scorer = DecoderScorer::new(&decoder, cpu(1, Activations::F32), KvType::F16);
    let fresh = scorer.score(&window, 20).unwrap();
    scorer.score(&ids(6, 300), 1).unwrap();
    assert_eq!(scorer.score(&window, 20).unwrap(), fresh);
}
