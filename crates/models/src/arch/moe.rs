//! Mixtures of experts: Mixtral (Jiang et al. 2024), Qwen 2 MoE with its shared expert, Qwen 3 MoE, and OLMoE
//! (Muennighoff et al. 2024).

use crate::Result;
use crate::arch::llama::{LLAMA, PAIRED_ATTENTION};
use crate::arch::qwen::{QWEN2, QWEN3, qwen2};
use crate::arch::{ATTENTION, ENDS, GATED, PRE_NORMS, QUERY_KEY_NORMS};
use crate::config::{ModelConfig, QueryKeyNorm};
use crate::facts::Facts;
use crate::names::{Entry, NameTable};
use crate::site::BlockSite;

static MIXTRAL_EXPERTS: &[Entry] = &[
    Entry::block(BlockSite::Router, "blk.{}.ffn_gate_inp", "~layers.{}.block_sparse_moe.gate"),
    Entry::expert(BlockSite::Gate, "blk.{}.ffn_gate_exps", "~layers.{}.block_sparse_moe.experts.{}.w1"),
    Entry::expert(BlockSite::Down, "blk.{}.ffn_down_exps", "~layers.{}.block_sparse_moe.experts.{}.w2"),
    Entry::expert(BlockSite::Up, "blk.{}.ffn_up_exps", "~layers.{}.block_sparse_moe.experts.{}.w3"),
];

static EXPERTS: &[Entry] = &[
    Entry::block(BlockSite::Router, "blk.{}.ffn_gate_inp", "~layers.{}.mlp.gate"),
    Entry::expert(BlockSite::Gate, "blk.{}.ffn_gate_exps", "~layers.{}.mlp.experts.{}.gate_proj"),
    Entry::expert(BlockSite::Up, "blk.{}.ffn_up_exps", "~layers.{}.mlp.experts.{}.up_proj"),
    Entry::expert(BlockSite::Down, "blk.{}.ffn_down_exps", "~layers.{}.mlp.experts.{}.down_proj"),
];

static SHARED: &[Entry] = &[
    Entry::block(BlockSite::SharedRouter, "blk.{}.ffn_gate_inp_shexp", "~layers.{}.mlp.shared_expert_gate"),
    Entry::block(BlockSite::SharedGate, "blk.{}.ffn_gate_shexp", "~layers.{}.mlp.shared_expert.gate_proj"),
    Entry::block(BlockSite::SharedUp, "blk.{}.ffn_up_shexp", "~layers.{}.mlp.shared_expert.up_proj"),
    Entry::block(BlockSite::SharedDown, "blk.{}.ffn_down_shexp", "~layers.{}.mlp.shared_expert.down_proj"),
];

/// Mixtral: in GGUF files a llama with experts.
pub static MIXTRAL: NameTable = NameTable {
    hf_model_type: "mixtral",
    hf_class: "MixtralForCausalLM",
    entries: &[ENDS, PRE_NORMS, PAIRED_ATTENTION, MIXTRAL_EXPERTS],
    describe: |facts| {
        let mut config = facts.base()?;
        facts.windows(&mut config, |_| true)?;
        config.moe = Some(facts.moe(config.ffn, true)?);
        config.layer_specs.iter_mut().for_each(|l| l.moe = true);
        Ok(config)
    },
    ..LLAMA
};

/// Qwen 2 MoE.
pub static QWEN2_MOE: NameTable = NameTable {
    gguf_architecture: "qwen2moe",
    hf_model_type: "qwen2_moe",
    hf_class: "Qwen2MoeForCausalLM",
    entries: &[ENDS, PRE_NORMS, ATTENTION, GATED, EXPERTS, SHARED],
    describe: |facts| {
        let mut config = qwen_moe(facts, false)?;
        let shared = facts.need("expert_shared_feed_forward_length", "shared_expert_intermediate_size")?;
        config.moe = config.moe.map(|moe| crate::config::MoeSpec { shared_ffn: Some(shared), ..moe });
        Ok(config)
    },
    ..QWEN2
};

/// Qwen 3 MoE.
pub static QWEN3_MOE: NameTable = NameTable {
    gguf_architecture: "qwen3moe",
    hf_model_type: "qwen3_moe",
    hf_class: "Qwen3MoeForCausalLM",
    entries: &[ENDS, PRE_NORMS, ATTENTION, QUERY_KEY_NORMS, GATED, EXPERTS],
    describe: |facts| {
        let config = qwen_moe(facts, facts.is_gguf())?;
        Ok(ModelConfig { query_key_norm: Some(QueryKeyNorm::Head), ..config })
    },
    ..QWEN3
};

/// OLMoE: queries and keys are normed over all heads at once.
pub static OLMOE: NameTable = NameTable {
    gguf_architecture: "olmoe",
    hf_model_type: "olmoe",
    hf_class: "OlmoeForCausalLM",
    entries: &[ENDS, PRE_NORMS, ATTENTION, QUERY_KEY_NORMS, EXPERTS],
    describe: |facts| {
        let mut config = facts.base()?;
        if facts.f32("attention.clamp_kqv", "clip_qkv")?.is_some() {
            return Err(facts.problem("clip_qkv is set, which this build does not do"));
        }
        config.query_key_norm = Some(QueryKeyNorm::Row);
        config.moe = Some(facts.moe(config.ffn, false)?);
        config.layer_specs.iter_mut().for_each(|l| l.moe = true);
        Ok(config)
    },
    ..QWEN2
};

/// The layers that are no mixture stand in `mlp_only_layers`, or follow from `decoder_sparse_step`.
fn qwen_moe(facts: &Facts<'_>, normalize: bool) -> Result<ModelConfig> {
    let mut config = qwen2(facts)?;
    let ffn = facts.usize("expert_feed_forward_length", "moe_intermediate_size")?.unwrap_or(config.ffn);
    config.moe = Some(facts.moe(ffn, normalize)?);
    let dense = facts.numbers("mlp_only_layers")?.unwrap_or_default();
    let step = facts.usize("", "decoder_sparse_step")?.unwrap_or(1).max(1);
    for (i, layer) in config.layer_specs.iter_mut().enumerate() {
        layer.moe = (i + 1) % step == 0 && !dense.contains(&(i as f64));
    }
    Ok(config)
}
