//! The divergence of two decoders against distributions computed here, from whole rows of logits in f64.

mod toy;

use std::sync::Arc;

use porism_kernels::{Isa, Pool};
use porism_measure::divergence::{Divergence, Side, divergence};
use porism_measure::perplexity::{Protocol, TokenizedText};
use porism_models::cpu::{Activations, CpuExecutor, CpuState, KvType};
use porism_models::{Batch, Decoder, HeadRequest};
use toy::toy_decoder;

const PROTOCOL: Protocol = Protocol::LlamaCpp { context: 300 };

fn cpu(threads: usize, activations: Activations) -> CpuExecutor {
    CpuExecutor::new(Arc::new(Pool::new(threads)), Isa::detect(), activations)
}

/// 1,000 of the toy's 50 tokens.
fn text() -> TokenizedText {
    let tokens: Vec<u32> = (0..1000u64).map(|i| (i * i * 7919 % 101 % 50) as u32).collect();
    TokenizedText { bytes: vec![1; tokens.len()], tokens, bos: None, uncovered_bytes: 0 }
}

/// The toy with another norm before its head.
fn other() -> Decoder {
    let mut decoder = toy_decoder();
    decoder.head.norm.eps = 100.0;
    decoder
}

/// Log-probabilities of all positions of a window.
fn log_probs(decoder: &Decoder, window: &[u32]) -> Vec<Vec<f64>> {
    let mut batch = Batch::single(window, 0);
    batch.wanted = (0..window.len()).collect();
    let mut states = [CpuState::new(&decoder.stack.config, KvType::F32)];
    let out = decoder.forward(&mut cpu(1, Activations::F32), &batch, &mut states, HeadRequest::Logits);
    let logits = out.and_then(|out| out.into_rows()).expect("logits");
    (0..window.len())
        .map(|position| {
            let row: Vec<f64> = logits.row(position).iter().map(|&v| f64::from(v)).collect();
            let sum = row.iter().map(|v| v.exp()).sum::<f64>().ln();
            row.iter().map(|v| v - sum).collect()
        })
        .collect()
}

fn measured(a: &Decoder, b: &Decoder, threads: usize) -> Divergence {
    let mut a = Side::new(a, cpu(threads, Activations::F32), KvType::F32);
    let mut b = Side::new(b, cpu(threads, Activations::F32), KvType::F32);
    divergence(&mut a, &mut b, &text(), PROTOCOL, None, &mut |_| {}).expect("a divergence")
}

#[test]
fn it_is_what_the_distributions_say() {
    let (a, b, text) = (toy_decoder(), other(), text());
    let (mut kls, mut same, mut nll) = (Vec::new(), 0, [0.0, 0.0]);
    for window in PROTOCOL.windows(text.tokens.len()).expect("windows") {
        let tokens = &text.tokens[window.tokens.clone()];
        let (of_a, of_b) = (log_probs(&a, tokens), log_probs(&b, tokens));
        for scored in window.scored.clone() {
            let (row_a, row_b) = (&of_a[scored - 1 - window.tokens.start], &of_b[scored - 1 - window.tokens.start]);
            kls.push(row_a.iter().zip(row_b).map(|(a, b)| a.exp() * (a - b)).sum::<f64>());
            let top = |row: &[f64]| (0..row.len()).max_by(|&i, &j| row[i].total_cmp(&row[j]));
            same += usize::from(top(row_a) == top(row_b));
            nll[0] -= row_a[text.tokens[scored] as usize];
            nll[1] -= row_b[text.tokens[scored] as usize];
        }
    }
    let n = kls.len() as f64;
    kls.sort_by(f64::total_cmp);
    let got = measured(&a, &b, 2);
    let close = |got: f64, want: f64, what: &str| {
        assert!((got - want).abs() <= 1e-5 * want.abs().max(1e-3), "{what}: {got} and not {want}");
    };
    assert_eq!((got.tokens, got.chunks), (kls.len(), 3));
    assert!(got.mean_kl > 1e-4, "the two differ: {}", got.mean_kl);
    close(got.mean_kl, kls.iter().sum::<f64>() / n, "mean");
    close(got.max_kl, kls[kls.len() - 1], "largest");
    close(got.same_top, same as f64 / n, "same top");
    close(got.perplexity_a, (nll[0] / n).exp(), "perplexity of a");
    close(got.perplexity_b, (nll[1] / n).exp(), "perplexity of b");
    close(got.perplexity_difference, (nll[1] / n).exp() - (nll[0] / n).exp(), "difference");
    let apart = got.perplexity_a_standard_error.hypot(got.perplexity_b_standard_error);
    assert!(got.perplexity_difference_standard_error < apart, "pairs are surer: {got:?}");
}

#[test]
fn with_itself_it_is_exactly_zero() {
    let decoder = toy_decoder();
    let got = measured(&decoder, &decoder, 2);
    assert_eq!((got.mean_kl, got.p999_kl, got.max_kl, got.mean_kl_standard_error), (0.0, 0.0, 0.0, 0.0));
    assert_eq!((got.same_top, got.perplexity_difference), (1.0, 0.0));
    assert_eq!(got.perplexity_difference_standard_error, 0.0);
}

#[test]
fn threads_do_not_matter() {
    let (a, b) = (toy_decoder(), other());
    assert_eq!(measured(&a, &b, 1), measured(&a, &b, 3));
}

#[test]
fn heads_of_another_size_are_refused() {
    let (a, mut b) = (toy_decoder(), toy_decoder());
    let rows = b.head.linear.weight.rows();
    b.head.linear.weight = b.head.linear.weight.slice_rows(0..rows - 1).expect("rows");
    let (mut a, mut b) =
        (Side::new(&a, cpu(1, Activations::F32), KvType::F32), Side::new(&b, cpu(1, Activations::F32), KvType::F32));
    let error = divergence(&mut a, &mut b, &text(), PROTOCOL, None, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("do not share a vocabulary") && error.contains("50 tokens and 49"), "{error}");
}
