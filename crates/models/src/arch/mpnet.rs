//! MPNet (Song et al. 2020): BERT's blocks with a bias on attention scores by relative position, shared by all layers.

use porism_kernels::rope::RopeLayout;

use crate::arch::bert::bert;
use crate::names::{Entry, NameTable, Purpose};
use crate::site::{BlockSite, Site};

static ENTRIES: &[Entry] = &[
    Entry::new(Site::TokenEmbedding, "", "~embeddings.word_embeddings"),
    Entry::new(Site::PositionEmbedding, "", "~embeddings.position_embeddings"),
    Entry::new(Site::EmbeddingNorm, "", "~embeddings.LayerNorm"),
    Entry::new(Site::RelativeBias, "", "~encoder.relative_attention_bias"),
    Entry::block(BlockSite::Query, "", "~encoder.layer.{}.attention.attn.q"),
    Entry::block(BlockSite::Key, "", "~encoder.layer.{}.attention.attn.k"),
    Entry::block(BlockSite::Value, "", "~encoder.layer.{}.attention.attn.v"),
    Entry::block(BlockSite::AttentionOutput, "", "~encoder.layer.{}.attention.attn.o"),
    Entry::block(BlockSite::AttentionPostNorm, "", "~encoder.layer.{}.attention.LayerNorm"),
    Entry::block(BlockSite::Up, "", "~encoder.layer.{}.intermediate.dense"),
    Entry::block(BlockSite::Down, "", "~encoder.layer.{}.output.dense"),
    Entry::block(BlockSite::FfnPostNorm, "", "~encoder.layer.{}.output.LayerNorm"),
];

/// MPNet; it has no form in GGUF.
pub static MPNET: NameTable = NameTable {
    gguf_architecture: "",
    hf_model_type: "mpnet",
    hf_class: "MPNetModel",
    purpose: Purpose::Encoder,
    gguf_rope: RopeLayout::Halves,
    hf_prefixes: &["", "mpnet."],
    hf_keys: &[],
    entries: &[ENTRIES],
    ignored: &["pooler.", "lm_head.", "embeddings.position_ids"],
    describe: |facts| {
        let padding = facts.usize("", "pad_token_id")?.unwrap_or(1);
        let mut config = bert(facts, padding.saturating_add(1))?;
        config.relative_buckets = Some(facts.usize("", "relative_attention_num_buckets")?.unwrap_or(32));
        Ok(config)
    },
};
