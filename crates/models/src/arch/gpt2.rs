//! GPT-2 (Radford et al. 2019): learned positions, LayerNorm, biases, weights that Hugging Face keeps transposed.

use porism_kernels::activation::Activation;
use porism_kernels::rope::RopeLayout;

use crate::Result;
use crate::config::ModelConfig;
use crate::facts::Facts;
use crate::names::{Entry, NameTable, Purpose, Transform};
use crate::site::{BlockSite, Site};

static ENTRIES: &[Entry] = &[
    Entry::new(Site::TokenEmbedding, "token_embd", "~wte"),
    Entry::new(Site::PositionEmbedding, "position_embd", "~wpe"),
    Entry::new(Site::OutputNorm, "output_norm", "~ln_f"),
    Entry::new(Site::Head, "output", "lm_head"),
    Entry::block(BlockSite::AttentionNorm, "blk.{}.attn_norm", "~h.{}.ln_1"),
    Entry::block(BlockSite::QueryKeyValue, "blk.{}.attn_qkv", "~h.{}.attn.c_attn").with(Transform::Transposed),
    Entry::block(BlockSite::AttentionOutput, "blk.{}.attn_output", "~h.{}.attn.c_proj").with(Transform::Transposed),
    Entry::block(BlockSite::FfnNorm, "blk.{}.ffn_norm", "~h.{}.ln_2"),
    Entry::block(BlockSite::Up, "blk.{}.ffn_up", "~h.{}.mlp.c_fc").with(Transform::Transposed),
    Entry::block(BlockSite::Down, "blk.{}.ffn_down", "~h.{}.mlp.c_proj").with(Transform::Transposed),
];

/// GPT-2.
pub static GPT2: NameTable = NameTable {
    gguf_architecture: "gpt2",
    hf_model_type: "gpt2",
    hf_class: "GPT2LMHeadModel",
    purpose: Purpose::Decoder,
    gguf_rope: RopeLayout::Halves,
    hf_prefixes: &["transformer.", ""],
    hf_keys: &[
        ("num_hidden_layers", "n_layer"),
        ("num_attention_heads", "n_head"),
        ("hidden_size", "n_embd"),
        ("max_position_embeddings", "n_positions"),
        ("intermediate_size", "n_inner"),
    ],
    entries: &[ENTRIES],
    ignored: &[],
    describe: gpt2,
};

fn gpt2(facts: &Facts<'_>) -> Result<ModelConfig> {
    facts.refuse("scale_attn_by_inverse_layer_idx", "this build scales every layer's attention alike")?;
    let ffn = match facts.usize("feed_forward_length", "intermediate_size")? {
        Some(ffn) => ffn,
        None => facts.need("embedding_length", "hidden_size")?.saturating_mul(4),
    };
    let mut config = facts.base_of(ffn)?;
    config.activation = facts.activation(Activation::GeluTanh)?;
    config.gated = false;
    config.tied_embeddings = facts.tied(true)?;
    config.ropes = Vec::new();
    config.layer_specs.iter_mut().for_each(|l| l.rope = None);
    config.learned_positions = Some(0);
    Ok(config)
}
