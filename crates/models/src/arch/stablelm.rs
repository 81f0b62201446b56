//! StableLM: LayerNorm around a gated network, and a rotary embedding of a part of each head.

use porism_kernels::rope::RopeLayout;

use crate::arch::{ATTENTION, ENDS, GATED, PRE_NORMS};
use crate::names::{NameTable, Purpose};

/// StableLM 3B and StableLM 2 1.6B.
pub static STABLELM: NameTable = NameTable {
    gguf_architecture: "stablelm",
    hf_model_type: "stablelm",
    hf_class: "StableLmForCausalLM",
    purpose: Purpose::Decoder,
    gguf_rope: RopeLayout::Halves,
    hf_prefixes: &["model."],
    hf_keys: &[],
    entries: &[ENDS, PRE_NORMS, ATTENTION, GATED],
    ignored: &[],
    describe: |facts| {
        facts.refuse("qk_layernorm", "this build has no norm with other factors for each head")?;
        facts.refuse("use_parallel_residual", "this build runs branches one after the other")?;
        let mut config = facts.base()?;
        if let (Some(rope), Some(part)) = (config.ropes.first_mut(), facts.f32("", "partial_rotary_factor")?) {
            rope.rotary_dim = (config.head_dim as f32 * part) as usize;
        }
        Ok(config)
    },
};
