//! Gemma 2 and 3 (norms before and after each branch, alternating windows, scaled embeddings, soft caps) and
//! EmbeddingGemma, a bidirectional Gemma 3.

use porism_kernels::activation::Activation;
use porism_kernels::rope::RopeLayout;

use crate::Result;
use crate::arch::ATTENTION;
use crate::config::{LayerSpec, ModelConfig, QueryKeyNorm, ResidualKind};
use crate::facts::Facts;
use crate::names::{Entry, NameTable, Purpose, Transform};
use crate::rope::RopeSpec;
use crate::site::{BlockSite, Site};

static ENDS: &[Entry] = &[
    Entry::new(Site::TokenEmbedding, "token_embd", "~embed_tokens"),
    Entry::new(Site::OutputNorm, "output_norm", "~norm").with(Transform::LessOne),
    Entry::new(Site::Head, "output", "lm_head"),
];

static BLOCK: &[Entry] = &[
    Entry::block(BlockSite::AttentionNorm, "blk.{}.attn_norm", "~layers.{}.input_layernorm").with(Transform::LessOne),
    Entry::block(BlockSite::AttentionPostNorm, "blk.{}.post_attention_norm", "~layers.{}.post_attention_layernorm")
        .with(Transform::LessOne),
    Entry::block(BlockSite::FfnNorm, "blk.{}.ffn_norm", "~layers.{}.pre_feedforward_layernorm")
        .with(Transform::LessOne),
    Entry::block(BlockSite::FfnPostNorm, "blk.{}.post_ffw_norm", "~layers.{}.post_feedforward_layernorm")
        .with(Transform::LessOne),
    Entry::block(BlockSite::Gate, "blk.{}.ffn_gate", "~layers.{}.mlp.gate_proj"),
    Entry::block(BlockSite::Up, "blk.{}.ffn_up", "~layers.{}.mlp.up_proj"),
    Entry::block(BlockSite::Down, "blk.{}.ffn_down", "~layers.{}.mlp.down_proj"),
];

static NORMED: &[Entry] = &[
    Entry::block(BlockSite::QueryNorm, "blk.{}.attn_q_norm", "~layers.{}.self_attn.q_norm").with(Transform::LessOne),
    Entry::block(BlockSite::KeyNorm, "blk.{}.attn_k_norm", "~layers.{}.self_attn.k_norm").with(Transform::LessOne),
];

/// Gemma 2.
pub static GEMMA2: NameTable = NameTable {
    gguf_architecture: "gemma2",
    hf_model_type: "gemma2",
    hf_class: "Gemma2ForCausalLM",
    purpose: Purpose::Decoder,
    gguf_rope: RopeLayout::Halves,
    hf_prefixes: &["model.", ""],
    hf_keys: &[],
    entries: &[ENDS, BLOCK, ATTENTION],
    ignored: &[],
    describe: gemma2,
};

/// Gemma 3, text only.
pub static GEMMA3: NameTable = NameTable {
    gguf_architecture: "gemma3",
    hf_model_type: "gemma3_text",
    hf_class: "Gemma3ForCausalLM",
    entries: &[ENDS, BLOCK, ATTENTION, NORMED],
    describe: gemma3,
    ..GEMMA2
};

/// EmbeddingGemma: `gemma3_text` with `use_bidirectional_attention`.
pub static EMBEDDING_GEMMA: NameTable = NameTable {
    gguf_architecture: "gemma-embedding",
    hf_model_type: "gemma3_text",
    hf_class: "Gemma3TextModel",
    purpose: Purpose::Encoder,
    hf_prefixes: &["", "model."],
    describe: embedding_gemma,
    ..GEMMA3
};

/// What all of them share; `usual` is the width that the query scale stands for where the file is silent.
fn gemma(facts: &Facts<'_>, usual_scale: impl Fn(&ModelConfig) -> usize) -> Result<ModelConfig> {
    let mut config = facts.base()?;
    let scale = facts.f32("", "query_pre_attn_scalar")?.unwrap_or(usual_scale(&config) as f32);
    config.activation = facts.activation(Activation::GeluTanh)?;
    config.residual = ResidualKind::Sandwich;
    config.attention_scale = 1.0 / scale.sqrt();
    config.embedding_scale = (config.width as f32).sqrt();
    config.norm_offset = if facts.is_gguf() { 0.0 } else { 1.0 };
    config.tied_embeddings = facts.tied(true)?;
    config.attention_softcap = facts.f32("attn_logit_softcapping", "attn_logit_softcapping")?;
    config.final_softcap = facts.f32("final_logit_softcapping", "final_logit_softcapping")?;
    Ok(config)
}

fn gemma2(facts: &Facts<'_>) -> Result<ModelConfig> {
    // The 27B model, alone, scales by the width of a head as if the heads shared the residual stream.
    let mut config = gemma(facts, |c| if c.layers == 46 { c.width / c.heads } else { c.head_dim })?;
    facts.windows(&mut config, |i| i % 2 == 0)?;
    Ok(config)
}

fn gemma3(facts: &Facts<'_>) -> Result<ModelConfig> {
    let mut config = gemma(facts, |c| if c.layers == 62 { c.width / c.heads } else { c.head_dim })?;
    config.query_key_norm = Some(QueryKeyNorm::Head);
    let every = match facts.usize("", "sliding_window_pattern")? {
        Some(every) => every.max(1),
        None => facts.usize("", "_sliding_window_pattern")?.unwrap_or(6).max(1),
    };
    facts.windows(&mut config, |i| (i + 1) % every != 0)?;
    // Layers with a window have a rotary embedding of their own, which nothing stretches.
    config.ropes = match facts.object("rope_parameters")? {
        Some(kinds) if kinds.get("full_attention").is_some() => {
            let json = facts.json().unwrap_or(&kinds);
            let of =
                |kind| -> Result<RopeSpec> { facts.rope_of(config.head_dim, json, kinds.find_object(kind)?.as_ref()) };
            vec![of("full_attention")?, of("sliding_attention")?]
        }
        _ => {
            let local = facts.f32("rope.freq_base_swa", "rope_local_base_freq")?.unwrap_or(10_000.0);
            let rotary_dim = config.head_dim;
            let scaling = crate::rope::RopeScaling::None;
            vec![facts.rope(config.head_dim)?, RopeSpec { theta: local, rotary_dim, scaling }]
        }
    };
    for LayerSpec { window, rope, .. } in &mut config.layer_specs {
        *rope = Some(usize::from(window.is_some()));
    }
    Ok(config)
}

fn embedding_gemma(facts: &Facts<'_>) -> Result<ModelConfig> {
    let mut config = gemma3(facts)?;
    config.bidirectional = true;
    for layer in &mut config.layer_specs {
        // The window reaches to both sides: half of it each way (transformers' Gemma 3).
        layer.window = layer.window.map(|w| w / 2 + 1);
    }
    Ok(config)
}
