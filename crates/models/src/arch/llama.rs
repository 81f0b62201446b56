//! The llama family (Touvron et al. 2023): LLaMA, SmolLM 2, TinyLlama; Mistral, whose layers all have a window; and
//! SmolLM 3, where every fourth layer has no rotary embedding.

use porism_kernels::rope::RopeLayout;

use crate::Result;
use crate::arch::{ENDS, GATED, PRE_NORMS};
use crate::config::ModelConfig;
use crate::facts::Facts;
use crate::names::{Entry, NameTable, Purpose, Transform};
use crate::site::BlockSite;

/// Attention whose query and key rows GGUF files reorder.
pub(super) static PAIRED_ATTENTION: &[Entry] = &[
    Entry::block(BlockSite::Query, "blk.{}.attn_q", "~layers.{}.self_attn.q_proj").with(Transform::QueryPairs),
    Entry::block(BlockSite::Key, "blk.{}.attn_k", "~layers.{}.self_attn.k_proj").with(Transform::KeyPairs),
    Entry::block(BlockSite::Value, "blk.{}.attn_v", "~layers.{}.self_attn.v_proj"),
    Entry::block(BlockSite::AttentionOutput, "blk.{}.attn_output", "~layers.{}.self_attn.o_proj"),
];

/// LLaMA and its kin.
pub static LLAMA: NameTable = NameTable {
    gguf_architecture: "llama",
    hf_model_type: "llama",
    hf_class: "LlamaForCausalLM",
    purpose: Purpose::Decoder,
    gguf_rope: RopeLayout::Adjacent,
    hf_prefixes: &["model."],
    hf_keys: &[],
    entries: &[ENDS, PRE_NORMS, PAIRED_ATTENTION, GATED],
    ignored: &[],
    describe: |facts| facts.base(),
};

/// Mistral: every layer has the window, if there is one.
pub static MISTRAL: NameTable = NameTable {
    hf_model_type: "mistral",
    hf_class: "MistralForCausalLM",
    describe: |facts| {
        let mut config = facts.base()?;
        facts.windows(&mut config, |_| true)?;
        Ok(config)
    },
    ..LLAMA
};

/// SmolLM 3.
pub static SMOLLM3: NameTable = NameTable {
    gguf_architecture: "smollm3",
    hf_model_type: "smollm3",
    hf_class: "SmolLM3ForCausalLM",
    describe: smollm3,
    ..LLAMA
};

fn smollm3(facts: &Facts<'_>) -> Result<ModelConfig> {
    let mut config = facts.base()?;
    config.tied_embeddings = facts.tied(true)?;
    facts.windows(&mut config, |_| false)?;
    let turning = facts.numbers("no_rope_layers")?;
    for (i, layer) in config.layer_specs.iter_mut().enumerate() {
        let turns = match &turning {
            // The list says where RoPE is, whatever its name says.
            Some(list) => list.get(i).is_none_or(|&v| v != 0.0),
            None => (i + 1) % 4 != 0,
        };
        layer.rope = layer.rope.filter(|_| turns);
    }
    Ok(config)
}
