//! Nomic BERT (Nussbaum et al. 2024): BERT with a rotary embedding and a gated network, without biases.

use porism_kernels::activation::Activation;
use porism_kernels::rope::RopeLayout;

use crate::Result;
use crate::config::{ModelConfig, ResidualKind};
use crate::facts::Facts;
use crate::names::{Entry, NameTable, Purpose};
use crate::site::{BlockSite, Site};

static ENTRIES: &[Entry] = &[
    Entry::new(Site::TokenEmbedding, "token_embd", "~embeddings.word_embeddings"),
    Entry::new(Site::TokenTypeEmbedding, "token_types", "~embeddings.token_type_embeddings"),
    Entry::new(Site::EmbeddingNorm, "token_embd_norm", "~emb_ln"),
    Entry::block(BlockSite::QueryKeyValue, "blk.{}.attn_qkv", "~encoder.layers.{}.attn.Wqkv"),
    Entry::block(BlockSite::AttentionOutput, "blk.{}.attn_output", "~encoder.layers.{}.attn.out_proj"),
    Entry::block(BlockSite::AttentionPostNorm, "blk.{}.attn_output_norm", "~encoder.layers.{}.norm1"),
    Entry::block(BlockSite::Up, "blk.{}.ffn_up", "~encoder.layers.{}.mlp.fc11"),
    Entry::block(BlockSite::Gate, "blk.{}.ffn_gate", "~encoder.layers.{}.mlp.fc12"),
    Entry::block(BlockSite::Down, "blk.{}.ffn_down", "~encoder.layers.{}.mlp.fc2"),
    Entry::block(BlockSite::FfnPostNorm, "blk.{}.layer_output_norm", "~encoder.layers.{}.norm2"),
];

/// Nomic BERT.
pub static NOMIC_BERT: NameTable = NameTable {
    gguf_architecture: "nomic-bert",
    hf_model_type: "nomic_bert",
    hf_class: "NomicBertModel",
    purpose: Purpose::Encoder,
    gguf_rope: RopeLayout::Halves,
    hf_prefixes: &["", "bert."],
    hf_keys: &[],
    entries: &[ENTRIES],
    ignored: &["pooler.", "cls."],
    describe: nomic,
};

fn nomic(facts: &Facts<'_>) -> Result<ModelConfig> {
    let mut config = facts.base()?;
    config.activation = facts.activation(Activation::Silu)?;
    config.residual = ResidualKind::Post;
    config.bidirectional = true;
    config.tied_embeddings = true;
    config.embedding_norm = true;
    Ok(config)
}
