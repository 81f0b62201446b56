//! The architectures: each a name table and a description, nothing else. What they share is in groups here.
//!
//! To add one: a file with a [`NameTable`], a line in [`ARCHITECTURES`], a fixture from
//! `scripts/fixtures/tiny_architectures.py`, a line in the list of `tests/architectures.rs`.

pub mod bert;
pub mod gemma;
pub mod gpt2;
pub mod llama;
pub mod moe;
pub mod mpnet;
pub mod nomic;
pub mod phi3;
pub mod qwen;
pub mod stablelm;
pub mod starcoder2;

use crate::names::{Entry, NameTable};
use crate::site::{BlockSite, Site};

/// Every architecture of this build. Of several with one GGUF name, the first is the plain one.
pub static ARCHITECTURES: &[&NameTable] = &[
    &llama::LLAMA,
    &llama::MISTRAL,
    &llama::SMOLLM3,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &gemma::EMBEDDING_GEMMA,
    &phi3::PHI3,
    &moe::MIXTRAL,
    &moe::QWEN2_MOE,
    &moe::QWEN3_MOE,
    &moe::OLMOE,
    &gpt2::GPT2,
    &stablelm::STABLELM,
    &starcoder2::STARCODER2,
    &bert::BERT,
    &bert::ROBERTA,
    &bert::XLM_ROBERTA,
    &nomic::NOMIC_BERT,
    &mpnet::MPNET,
];

/// Token embedding, last norm and head.
pub(crate) static ENDS: &[Entry] = &[
    Entry::new(Site::TokenEmbedding, "token_embd", "~embed_tokens"),
    Entry::new(Site::OutputNorm, "output_norm", "~norm"),
    Entry::new(Site::Head, "output", "lm_head"),
];

/// Norms before the branches.
pub(crate) static PRE_NORMS: &[Entry] = &[
    Entry::block(BlockSite::AttentionNorm, "blk.{}.attn_norm", "~layers.{}.input_layernorm"),
    Entry::block(BlockSite::FfnNorm, "blk.{}.ffn_norm", "~layers.{}.post_attention_layernorm"),
];

/// Attention with a tensor for each projection.
pub(crate) static ATTENTION: &[Entry] = &[
    Entry::block(BlockSite::Query, "blk.{}.attn_q", "~layers.{}.self_attn.q_proj"),
    Entry::block(BlockSite::Key, "blk.{}.attn_k", "~layers.{}.self_attn.k_proj"),
    Entry::block(BlockSite::Value, "blk.{}.attn_v", "~layers.{}.self_attn.v_proj"),
    Entry::block(BlockSite::AttentionOutput, "blk.{}.attn_output", "~layers.{}.self_attn.o_proj"),
];

/// Norms of queries and keys.
pub(crate) static QUERY_KEY_NORMS: &[Entry] = &[
    Entry::block(BlockSite::QueryNorm, "blk.{}.attn_q_norm", "~layers.{}.self_attn.q_norm"),
    Entry::block(BlockSite::KeyNorm, "blk.{}.attn_k_norm", "~layers.{}.self_attn.k_norm"),
];

/// A gated feed-forward network.
pub(crate) static GATED: &[Entry] = &[
    Entry::block(BlockSite::Gate, "blk.{}.ffn_gate", "~layers.{}.mlp.gate_proj"),
    Entry::block(BlockSite::Up, "blk.{}.ffn_up", "~layers.{}.mlp.up_proj"),
    Entry::block(BlockSite::Down, "blk.{}.ffn_down", "~layers.{}.mlp.down_proj"),
];
