//! The default model on the tape: transformers' golden logits and tokens, and a step of LoRA on its packed
//! weights.

mod support;

use candle_core::Tensor;
use porism_formats::Weight;
use porism_models::linear::{AdapterId, Delta, DeltaKind};
use porism_models::tape::{BlockMemory, DeltaPart, Parameter, Parameters, TapeExecutor, TapeState, loss_gradients};
use porism_models::{Batch, HeadRequest, Steps};
use porism_ops::OpContext;
use support::{default_decoder, golden};

#[test]
fn the_tape_gives_the_golden_logits_and_tokens() {
    let decoder = default_decoder();
    let mut steps = TapeExecutor::new(OpContext::new(2), Parameters::none());
    for golden in golden() {
        let mut states = [TapeState::new(&decoder.stack.config)];
        let mut ids = golden.prompt_ids.clone();
        let mut position = 0;
        for (i, &want) in golden.greedy_ids.iter().enumerate() {
            let batch = Batch::single(&ids, position);
            let rows = decoder.forward(&mut steps, &batch, &mut states, HeadRequest::Logits).unwrap();
            let logits = steps.to_vec(&rows.into_rows().unwrap()).unwrap();
            if i == 0 {
                let far = golden
                    .top_ids
                    .iter()
                    .zip(&golden.top_logits)
                    .map(|(&id, want)| (f64::from(logits[id as usize]) - want).abs())
                    .fold(0.0, f64::max);
                assert!(far < 1e-3 * golden.logits_std, "{:?}: {far} of {}", golden.prompt, golden.logits_std);
            }
            position += ids.len() as u32;
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
            assert_eq!(best, want, "{:?}: greedy token {i}", golden.prompt);
            ids = vec![best];
        }
    }
}

#[test]
fn a_step_of_lora_on_the_packed_weights_lowers_the_loss_as_its_gradient_says() {
    let mut decoder = default_decoder();
    let adapter = AdapterId(0);
    let rank = 4;
    let mut seed = 1u32;
    for linear in decoder.linears_mut() {
        let (inputs, outputs) = (linear.in_features(), linear.out_features());
        // A small and random, B zero, as LoRA begins.
        let a: Vec<f32> = (0..rank * inputs)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / (1 << 24) as f32 * 0.1 - 0.05
            })
            .collect();
        let kind = DeltaKind::LowRank {
            a: Weight::from_f32(&a, rank, inputs).unwrap(),
            b: Weight::from_f32(&vec![0.0; outputs * rank], outputs, rank).unwrap(),
            scale: 2.0,
        };
        linear.deltas.push(Delta { adapter: Some(adapter), kind });
    }
    let ids = golden()[1].prompt_ids.clone();
    let mut batch = Batch::packed(&[&ids[..ids.len() - 1]]);
    batch.spans[0].adapter = Some(adapter);
    let weights = vec![1.0; batch.len()];
    let request = HeadRequest::CrossEntropy { targets: &ids[1..], weights: &weights };
    let mut steps = TapeExecutor::new(OpContext::new(2), Parameters::adapter(&decoder, adapter).unwrap());
    assert_eq!(steps.parameters().len(), 2 * (7 * decoder.stack.config.layers + 1));
    let states = [TapeState::new(&decoder.stack.config)];
    let mut run =
        |memory: BlockMemory| loss_gradients(&decoder, &mut steps, &batch, &states, request, |_| memory).unwrap();

    let (before, gradients) = run(BlockMemory::Recompute);
    let (kept, _) = run(BlockMemory::Keep);
    assert_eq!(before, kept);
    let squares = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    let mut slope = 0.0;
    for (name, var) in steps.parameters().iter() {
        let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name:?} has no gradient"));
        let Parameter::Delta { part, .. } = name else { panic!("{name:?} is no delta") };
        // With B zero nothing depends on A yet.
        assert_eq!(squares(gradient) == 0.0, part == DeltaPart::A, "{name:?}");
        slope += squares(gradient);
    }
    // A step so long that the loss would fall by a hundredth if it fell along a line.
    let rate = 0.01 * before / slope;
    for (_, var) in steps.parameters().iter() {
        let step = gradients.get(var).unwrap().affine(f64::from(-rate), 0.0).unwrap();
        var.set(&(var.as_tensor() + step).unwrap()).unwrap();
    }
    let (after, _) = loss_gradients(&decoder, &mut steps, &batch, &states, request, |_| BlockMemory::Keep).unwrap();
    let (fell, said) = (before - after, rate * slope);
    assert!((fell / said - 1.0).abs() < 0.03, "the loss {before} fell by {fell} where the gradient says {said}");
}
