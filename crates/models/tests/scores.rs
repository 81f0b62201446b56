//! `HeadRequest::Score`: a token's log-probability and the likeliest token, rows wanted several times, against a softmax in
//! f64 over whole rows of logits.

mod support;

use porism_models::cpu::{Activations, CpuState, KvType};
use porism_models::{Batch, HeadRequest};
use support::{cpu, default_decoder, golden};

#[test]
fn scores_are_the_softmax_of_the_logits() {
    let decoder = default_decoder();
    let ids = &golden()[0].prompt_ids;
    let state = || [CpuState::new(&decoder.stack.config, KvType::F32)];
    let vocab = decoder.head.linear.out_features();
    for activations in [Activations::F32, Activations::Int8] {
        let mut steps = cpu(2, activations);
        let mut batch = Batch::single(ids, 0);
        // The last row for many tokens, as for the choices of a question; others once or not at all.
        batch.wanted = [vec![0, 2, 2], vec![ids.len() - 1; 70]].concat();
        let targets: Vec<u32> = (0..batch.wanted.len()).map(|i| (i * 7919 % vocab) as u32).collect();
        let out = decoder.forward(&mut steps, &batch, &mut state(), HeadRequest::Score(&targets));
        let scores = out.and_then(|out| out.into_scores()).expect("scores");
        let out = decoder.forward(&mut steps, &batch, &mut state(), HeadRequest::Logits);
        let logits = out.and_then(|out| out.into_rows()).expect("logits");
        assert_eq!(scores.len(), targets.len());
        let mut likeliest = Vec::new();
        for (i, (score, &target)) in scores.iter().zip(&targets).enumerate() {
            let row: Vec<f64> = logits.row(i).iter().map(|&l| f64::from(l)).collect();
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let want = row[target as usize] - most - row.iter().map(|l| (l - most).exp()).sum::<f64>().ln();
            assert!((f64::from(score.log_prob) - want).abs() < 1e-5 * want.abs(), "{i}: {} {want}", score.log_prob);
            assert_eq!(row[score.likeliest as usize], most, "row {i}");
            likeliest.push(score.likeliest);
        }
        likeliest.dedup();
        assert!(likeliest.len() > 1, "rows with different continuations");
    }
}

#[test]
fn targets_that_do_not_fit_are_refused() {
    let decoder = default_decoder();
    let vocab = decoder.head.linear.out_features() as u32;
    for (targets, word) in [(vec![1, 2], "targets"), (vec![vocab], "vocabulary")] {
        let mut states = [CpuState::new(&decoder.stack.config, KvType::F32)];
        let batch = Batch::single(&[1, 2, 3], 0);
        let out = decoder.forward(&mut cpu(1, Activations::F32), &batch, &mut states, HeadRequest::Score(&targets));
        let error = out.map(|_| ()).expect_err("a refusal").to_string();
        assert!(error.contains(word), "{error}");
    }
}
