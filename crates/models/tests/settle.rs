//! A decoder whose weights were copied into huge pages computes the same bits.

mod tiny_model;

use std::sync::Arc;

use porism_kernels::{Isa, Pool};
use porism_models::cpu::{Activations, CpuExecutor, CpuState, KvType};
use porism_models::{Batch, Decoder, HeadRequest, ModelSource, load_decoder};
use tiny_model::TinyModel;

fn logits(decoder: &Decoder) -> Vec<f32> {
    let mut steps = CpuExecutor::new(Arc::new(Pool::new(2)), Isa::detect(), Activations::Int8);
    let mut states = [CpuState::new(&decoder.stack.config, KvType::F16)];
    let batch = Batch::single(&[1, 2, 3, 4, 5], 0);
    let out = decoder.forward(&mut steps, &batch, &mut states, HeadRequest::Logits).expect("a forward pass");
    out.into_rows().expect("logits").data().to_vec()
}

#[test]
fn settled_weights_are_the_same_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    // Tied and with a head of its own; with biases; with a mixture, whose experts stay.
    for name in ["llama", "llama_tied_llama3", "qwen2", "qwen2_moe"] {
        let model = TinyModel::read(name);
        let source = ModelSource::open(&model.write(folder.path(), &model.config)).expect("a model");
        let mut decoder = load_decoder(&source).expect("a decoder");
        let before = logits(&decoder);
        let tied =
            |d: &Decoder| d.head.linear.weight.bytes().as_ptr() == d.stack.embeddings.tokens.weight.bytes().as_ptr();
        let (was_tied, at) = (tied(&decoder), decoder.head.linear.weight.bytes().as_ptr());
        let norms = |d: &Decoder| -> Vec<*const u8> {
            d.stack
                .blocks
                .iter()
                .flat_map(|b| b.norms())
                .chain([&d.head.norm])
                .map(|n| n.weight.bytes().as_ptr())
                .collect()
        };
        let norms_at = norms(&decoder);
        assert!(decoder.settled_bytes() > 0);
        decoder.settle(&Pool::new(2)).expect("memory");
        assert_ne!(decoder.head.linear.weight.bytes().as_ptr(), at, "{name}: the head did not move");
        assert_eq!(tied(&decoder), was_tied, "{name}");
        assert!(norms(&decoder).iter().zip(norms_at).all(|(now, then)| *now != then), "{name}: a norm did not move");
        assert!(logits(&decoder) == before, "{name}: other logits");
    }
}
