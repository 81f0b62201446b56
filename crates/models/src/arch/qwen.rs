//! Qwen 2 and 2.5 (biases on query, key and value), and Qwen 3 (norms of queries and keys instead).

use porism_kernels::rope::RopeLayout;

use crate::Result;
use crate::arch::{ATTENTION, ENDS, GATED, PRE_NORMS, QUERY_KEY_NORMS};
use crate::config::{ModelConfig, QueryKeyNorm};
use crate::facts::Facts;
use crate::names::{NameTable, Purpose};

/// Qwen 2 and 2.5.
pub static QWEN2: NameTable = NameTable {
    gguf_architecture: "qwen2",
    hf_model_type: "qwen2",
    hf_class: "Qwen2ForCausalLM",
    purpose: Purpose::Decoder,
    gguf_rope: RopeLayout::Halves,
    hf_prefixes: &["model."],
    hf_keys: &[],
    entries: &[ENDS, PRE_NORMS, ATTENTION, GATED],
    ignored: &[],
    describe: qwen2,
};

/// Qwen 3.
pub static QWEN3: NameTable = NameTable {
    gguf_architecture: "qwen3",
    hf_model_type: "qwen3",
    hf_class: "Qwen3ForCausalLM",
    entries: &[ENDS, PRE_NORMS, ATTENTION, QUERY_KEY_NORMS, GATED],
    describe: |facts| Ok(ModelConfig { query_key_norm: Some(QueryKeyNorm::Head), ..qwen2(facts)? }),
    ..QWEN2
};

/// The layers from `max_window_layers` on have the window, where it is used at all.
pub(super) fn qwen2(facts: &Facts<'_>) -> Result<ModelConfig> {
    let mut config = facts.base()?;
    let first = match facts.bool("", "use_sliding_window")? {
        Some(true) => facts.usize("", "max_window_layers")?.unwrap_or(0),
        _ => config.layers,
    };
    facts.windows(&mut config, |i| i >= first)?;
    Ok(config)
}
