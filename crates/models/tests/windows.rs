//! Layers with a window: a ring of pages gives the same bits as a cache that keeps everything, in bounded memory, and
//! can be rolled back over its slack.

mod tiny_model;

use std::sync::Arc;

use porism_kernels::{Isa, Pool};
use porism_models::cpu::{Activations, CpuExecutor, CpuState, KvType};
use porism_models::{Batch, Decoder, HeadRequest, Mark, ModelSource, SequenceState, load_decoder};
use tiny_model::TinyModel;

const TOKENS: usize = 1500;

fn decoder() -> (tempfile::TempDir, Decoder) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut model = TinyModel::read("mistral");
    model.config["max_position_embeddings"] = 4096.into();
    let path = model.write(folder.path(), &model.config);
    let decoder = load_decoder(&ModelSource::open(&path).expect("a model")).expect("a decoder");
    (folder, decoder)
}

fn logits(decoder: &Decoder, states: &mut [CpuState; 1], ids: &[u32], chunk: usize) -> Vec<u32> {
    let mut steps = CpuExecutor::new(Arc::new(Pool::new(1)), Isa::detect(), Activations::F32);
    let mut out = Vec::new();
    let mut at = states[0].len();
    for part in ids.chunks(chunk) {
        let mut batch = Batch::single(part, at as u32);
        batch.wanted = (0..part.len()).collect();
        let rows = decoder.forward(&mut steps, &batch, states, HeadRequest::Logits).expect("a pass").into_rows();
        out.extend(rows.expect("logits").data().iter().map(|v| v.to_bits()));
        at += part.len();
    }
    out
}

#[test]
fn a_ring_gives_the_bits_of_a_whole_cache_in_bounded_memory() {
    let (_folder, decoder) = decoder();
    let ids: Vec<u32> = (0..TOKENS as u32).map(|i| i * 31 % 96).collect();
    let config = &decoder.stack.config;
    // All in one pass: nothing is given up before the last row is done.
    let mut whole = [CpuState::new(config, KvType::F32)];
    let want = logits(&decoder, &mut whole, &ids, TOKENS);
    let mut ring = [CpuState::new(config, KvType::F32)];
    assert!(logits(&decoder, &mut ring, &ids, 7) == want, "the ring changes the logits");
    assert_eq!(ring[0].len(), TOKENS);
    let bound = CpuState::bytes_at(config, KvType::F32, TOKENS) + 2 * CpuState::bytes_at(config, KvType::F32, 1);
    assert!(ring[0].bytes() <= bound, "{} bytes, {bound} were promised", ring[0].bytes());
    assert!(whole[0].bytes() > 2 * ring[0].bytes());
}

#[test]
fn a_ring_can_be_rolled_back_over_its_slack_and_no_further() {
    let (_folder, decoder) = decoder();
    let ids: Vec<u32> = (0..TOKENS as u32).map(|i| i * 17 % 96).collect();
    let mut states = [CpuState::new(&decoder.stack.config, KvType::F32)];
    let width = 96;
    let all = logits(&decoder, &mut states, &ids, 5);
    for back in [1, 30, 64] {
        let mark = Mark(TOKENS - back);
        assert!(states[0].keeps(mark));
        let mut forked = [states[0].fork()];
        forked[0].rollback(mark).expect("within the slack");
        assert!(logits(&decoder, &mut forked, &ids[mark.0..], 3) == all[mark.0 * width..], "{back} rows back");
    }
    let mark = Mark(100);
    assert!(!states[0].keeps(mark));
    let message = states[0].rollback(mark).expect_err("long gone").to_string();
    assert!(message.contains("row 100") && message.contains("begin anew"), "{message}");
    states[0].rollback(Mark(0)).expect("the beginning is always there");
    assert!(logits(&decoder, &mut states, &ids, 11) == all, "anew");
}
