//! StarCoder 2 (Lozhkov et al. 2024): LayerNorm, biases everywhere, a plain network, windows.

use porism_kernels::activation::Activation;
use porism_kernels::rope::RopeLayout;

use crate::arch::{ATTENTION, ENDS, PRE_NORMS};
use crate::names::{Entry, NameTable, Purpose};
use crate::site::BlockSite;

static PLAIN: &[Entry] = &[
    Entry::block(BlockSite::Up, "blk.{}.ffn_up", "~layers.{}.mlp.c_fc"),
    Entry::block(BlockSite::Down, "blk.{}.ffn_down", "~layers.{}.mlp.c_proj"),
];

/// StarCoder 2.
pub static STARCODER2: NameTable = NameTable {
    gguf_architecture: "starcoder2",
    hf_model_type: "starcoder2",
    hf_class: "Starcoder2ForCausalLM",
    purpose: Purpose::Decoder,
    gguf_rope: RopeLayout::Halves,
    hf_prefixes: &["model."],
    hf_keys: &[],
    entries: &[ENDS, PRE_NORMS, ATTENTION, PLAIN],
    ignored: &[],
    describe: |facts| {
        let mut config = facts.base()?;
        config.activation = facts.activation(Activation::GeluTanh)?;
        config.gated = false;
        config.tied_embeddings = facts.tied(true)?;
        facts.windows(&mut config, |_| true)?;
        Ok(config)
    },
};
