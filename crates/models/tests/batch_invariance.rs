//! A row's bits do not depend on its batch: sizes 1 to 16, other neighbours, 1 and 2 threads, prompts in one
//! piece or in chunks, both modes, on the default model.

mod support;

use porism_models::cpu::{Activations, CpuState, KvType};
use porism_models::{Batch, Decoder, HeadRequest, Input, SequenceState, Span, Steps};
use support::{cpu, default_decoder};

/// Logits of the wanted rows, as bits.
fn bits<S: Steps>(decoder: &Decoder, steps: &mut S, states: &mut [S::State], batch: &Batch) -> Vec<u32> {
    let out = decoder.forward(steps, batch, states, HeadRequest::Logits).and_then(|o| o.into_rows()).expect("logits");
    steps.to_vec(&out).expect("numbers").iter().map(|v| v.to_bits()).collect()
}

/// Sequences that differ in everything but their kind.
fn sequence(i: u32) -> Vec<u32> {
    (0..5 + i % 7).map(|j| 500 + (i * 7919 + j * 104_729) % 40_000).collect()
}

#[test]
fn a_row_is_the_same_in_every_batch() {
    let decoder = default_decoder();
    for (activations, kv) in [(Activations::Int8, KvType::F16), (Activations::F32, KvType::F32)] {
        let new = || CpuState::new(&decoder.stack.config, kv);
        // Each sequence alone: a prompt, then one more token.
        let mut steps = cpu(1, activations);
        let mut alone = Vec::new();
        let mut prompted = Vec::new();
        for i in 0..16 {
            let ids = sequence(i);
            let mut state = [new()];
            bits(&decoder, &mut steps, &mut state, &Batch::single(&ids, 0));
            prompted.push(state[0].fork());
            alone.push(bits(&decoder, &mut steps, &mut state, &Batch::single(&[42 + i], ids.len() as u32)));
        }
        for threads in [1, 2] {
            let mut steps = cpu(threads, activations);
            for size in [2, 3, 4, 5, 8, 11, 16] {
                for first in [0, 16 - size] {
                    let members: Vec<u32> = (first as u32..(first + size) as u32).collect();
                    let mut states: Vec<CpuState> = members.iter().map(|&i| prompted[i as usize].fork()).collect();
                    let batch = Batch {
                        input: Input::Ids(members.iter().map(|i| 42 + i).collect()),
                        positions: members.iter().map(|&i| sequence(i).len() as u32).collect(),
                        spans: (0..size)
                            .map(|s| Span { sequence: s, rows: s..s + 1, adapter: None, tree: None })
                            .collect(),
                        wanted: (0..size).collect(),
                    };
                    let together = bits(&decoder, &mut steps, &mut states, &batch);
                    let vocab = decoder.stack.config.vocab;
                    for (row, &i) in members.iter().enumerate() {
                        assert!(
                            together[row * vocab..(row + 1) * vocab] == alone[i as usize],
                            "{activations:?}, {threads} threads: row {row} of {size} differs from itself alone"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_prompt_in_pieces_gives_the_same_bits() {
    let decoder = default_decoder();
    let ids: Vec<u32> = (0..300).map(|j| 500 + (j * 104_729) % 40_000).collect();
    for (activations, kv) in [(Activations::Int8, KvType::F16), (Activations::F32, KvType::Q8_0)] {
        let mut steps = cpu(2, activations);
        let mut state = [CpuState::new(&decoder.stack.config, kv)];
        let whole = bits(&decoder, &mut steps, &mut state, &Batch::single(&ids, 0));
        for cuts in [vec![256], vec![1, 2, 255, 257], vec![150, 299]] {
            let mut state = [CpuState::new(&decoder.stack.config, kv)];
            let mut start = 0;
            let mut last = Vec::new();
            for end in cuts.iter().copied().chain([ids.len()]) {
                last = bits(&decoder, &mut steps, &mut state, &Batch::single(&ids[start..end], start as u32));
                start = end;
            }
            assert!(last == whole, "{activations:?}: cut at {cuts:?}");
            // Rolled back and done again, with a fork that went elsewhere in between.
            let mark = porism_models::Mark(100);
            let mut fork = [state[0].fork()];
            fork[0].rollback(mark).expect("a mark");
            bits(&decoder, &mut steps, &mut fork, &Batch::single(&[7; 60], 100));
            state[0].rollback(mark).expect("a mark");
            let again = bits(&decoder, &mut steps, &mut state, &Batch::single(&ids[100..], 100));
            assert!(again == whole, "{activations:?}: after a rollback");
        }
    }
}
