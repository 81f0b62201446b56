//! The default model against transformers' fp32 forward pass over the same, dequantized weights
//! (`smollm2-q4_1-logits.json`: last-token logits, their statistics and 16 greedy tokens of two prompts).

mod support;

use porism_models::cpu::{Activations, CpuState, KvType};
use porism_models::{Batch, Decoder, HeadRequest, Steps};
use support::{Golden, cpu, default_decoder, golden};

fn last_logits<S: Steps>(
    decoder: &Decoder,
    steps: &mut S,
    states: &mut [S::State],
    ids: &[u32],
    start: u32,
) -> Vec<f32> {
    let rows = decoder
        .forward(steps, &Batch::single(ids, start), states, HeadRequest::Logits)
        .and_then(|out| out.into_rows())
        .expect("a forward pass");
    steps.to_vec(&rows).expect("logits")
}

fn argmax(row: &[f32]) -> u32 {
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &v)| if v > best.1 { (i, v) } else { best }).0 as u32
}

/// The largest distance of the golden top logits and of the logits' statistics, in standard deviations.
fn distance(golden: &Golden, logits: &[f32]) -> f64 {
    let std = golden.logits_std;
    let n = logits.len() as f64;
    let mean = logits.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let top = logits.iter().map(|&v| f64::from(v)).fold(f64::NEG_INFINITY, f64::max);
    let lse = top + logits.iter().map(|&v| (f64::from(v) - top).exp()).sum::<f64>().ln();
    let tops =
        golden.top_ids.iter().zip(&golden.top_logits).map(|(&id, want)| (f64::from(logits[id as usize]) - want).abs());
    tops.chain([(mean - golden.logits_mean).abs(), (lse - golden.logsumexp).abs()]).fold(0.0, f64::max) / std
}

#[test]
fn exact_mode_gives_the_golden_logits_and_tokens() {
    let decoder = default_decoder();
    for golden in golden() {
        let mut steps = cpu(2, Activations::F32);
        let mut states = [CpuState::new(&decoder.stack.config, KvType::F32)];
        let mut logits = last_logits(&decoder, &mut steps, &mut states, &golden.prompt_ids, 0);
        let far = distance(&golden, &logits);
        assert!(far < 1e-3, "{:?}: {far} standard deviations", golden.prompt);
        let first = golden.prompt_ids.len() as u32;
        for (i, &want) in golden.greedy_ids.iter().enumerate() {
            let id = argmax(&logits);
            assert_eq!(id, want, "{:?}: greedy token {i}", golden.prompt);
            logits = last_logits(&decoder, &mut steps, &mut states, &[id], first + i as u32);
        }
    }
}

#[test]
fn int8_mode_stays_near() {
    let decoder = default_decoder();
    for golden in golden() {
        let mut states = [CpuState::new(&decoder.stack.config, KvType::F16)];
        let logits = last_logits(&decoder, &mut cpu(2, Activations::Int8), &mut states, &golden.prompt_ids, 0);
        let far = distance(&golden, &logits);
        // Rounding to 8 bits makes this move with the last bits of everything before it: between 0.05 and 0.16 for
        // these prompts, whether the cache is f32, f16 or q8_0. A broken scale is far beyond that.
        assert!(far < 0.3, "{:?}: {far} standard deviations", golden.prompt);
        assert_eq!(argmax(&logits), golden.greedy_ids[0]);
    }
}
