//! Phi-3 and Phi-4 (Abdin et al. 2024): query, key and value in one tensor, gate and up in another, longrope.

use porism_kernels::rope::RopeLayout;

use crate::arch::{ENDS, PRE_NORMS};
use crate::names::{Entry, NameTable, Purpose};
use crate::site::BlockSite;

static BLOCK: &[Entry] = &[
    Entry::block(BlockSite::QueryKeyValue, "blk.{}.attn_qkv", "~layers.{}.self_attn.qkv_proj"),
    Entry::block(BlockSite::AttentionOutput, "blk.{}.attn_output", "~layers.{}.self_attn.o_proj"),
    Entry::block(BlockSite::GateUp, "blk.{}.ffn_up", "~layers.{}.mlp.gate_up_proj"),
    Entry::block(BlockSite::Down, "blk.{}.ffn_down", "~layers.{}.mlp.down_proj"),
];

/// Phi-3 and Phi-4.
pub static PHI3: NameTable = NameTable {
    gguf_architecture: "phi3",
    hf_model_type: "phi3",
    hf_class: "Phi3ForCausalLM",
    purpose: Purpose::Decoder,
    gguf_rope: RopeLayout::Halves,
    hf_prefixes: &["model."],
    hf_keys: &[],
    entries: &[ENDS, PRE_NORMS, BLOCK],
    ignored: &[],
    describe: |facts| {
        let mut config = facts.base()?;
        facts.windows(&mut config, |_| true)?;
        Ok(config)
    },
};
