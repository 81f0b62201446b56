//! BERT (Devlin et al. 2018), RoBERTa and XLM-RoBERTa: encoders with learned positions and norms behind the sums.

use porism_kernels::activation::Activation;
use porism_kernels::rope::RopeLayout;

use crate::Result;
use crate::config::{ModelConfig, ResidualKind};
use crate::facts::Facts;
use crate::names::{Entry, NameTable, Purpose};
use crate::site::{BlockSite, Site};

static ENTRIES: &[Entry] = &[
    Entry::new(Site::TokenEmbedding, "token_embd", "~embeddings.word_embeddings"),
    Entry::new(Site::PositionEmbedding, "position_embd", "~embeddings.position_embeddings"),
    Entry::new(Site::TokenTypeEmbedding, "token_types", "~embeddings.token_type_embeddings"),
    Entry::new(Site::EmbeddingNorm, "token_embd_norm", "~embeddings.LayerNorm"),
    Entry::block(BlockSite::Query, "blk.{}.attn_q", "~encoder.layer.{}.attention.self.query"),
    Entry::block(BlockSite::Key, "blk.{}.attn_k", "~encoder.layer.{}.attention.self.key"),
    Entry::block(BlockSite::Value, "blk.{}.attn_v", "~encoder.layer.{}.attention.self.value"),
    Entry::block(BlockSite::AttentionOutput, "blk.{}.attn_output", "~encoder.layer.{}.attention.output.dense"),
    Entry::block(
        BlockSite::AttentionPostNorm,
        "blk.{}.attn_output_norm",
        "~encoder.layer.{}.attention.output.LayerNorm",
    ),
    Entry::block(BlockSite::Up, "blk.{}.ffn_up", "~encoder.layer.{}.intermediate.dense"),
    Entry::block(BlockSite::Down, "blk.{}.ffn_down", "~encoder.layer.{}.output.dense"),
    Entry::block(BlockSite::FfnPostNorm, "blk.{}.layer_output_norm", "~encoder.layer.{}.output.LayerNorm"),
];

/// BERT.
pub static BERT: NameTable = NameTable {
    gguf_architecture: "bert",
    hf_model_type: "bert",
    hf_class: "BertModel",
    purpose: Purpose::Encoder,
    gguf_rope: RopeLayout::Halves,
    hf_prefixes: &["", "bert."],
    hf_keys: &[],
    entries: &[ENTRIES],
    ignored: &["pooler.", "cls.", "embeddings.position_ids"],
    describe: |facts| bert(facts, 0),
};

/// RoBERTa: positions begin behind the padding token's row.
pub static ROBERTA: NameTable = NameTable {
    gguf_architecture: "",
    hf_model_type: "roberta",
    hf_class: "RobertaModel",
    hf_prefixes: &["", "roberta."],
    ignored: &["pooler.", "lm_head.", "classifier.", "embeddings.position_ids"],
    describe: |facts| {
        let padding = facts.usize("", "pad_token_id")?.unwrap_or(1);
        bert(facts, padding.saturating_add(1))
    },
    ..BERT
};

/// XLM-RoBERTa (Conneau et al. 2019): RoBERTa with a tokenizer of a hundred languages.
pub static XLM_ROBERTA: NameTable = NameTable { hf_model_type: "xlm-roberta", hf_class: "XLMRobertaModel", ..ROBERTA };

/// `first` is the row of position 0. GGUF files leave out the rows before it.
pub(super) fn bert(facts: &Facts<'_>, first: usize) -> Result<ModelConfig> {
    let mut config = facts.base()?;
    config.activation = facts.activation(Activation::GeluErf)?;
    config.gated = false;
    config.residual = ResidualKind::Post;
    config.bidirectional = true;
    config.tied_embeddings = true;
    config.ropes = Vec::new();
    config.layer_specs.iter_mut().for_each(|l| l.rope = None);
    config.learned_positions = Some(first);
    config.context = config.context.saturating_sub(first);
    config.embedding_norm = true;
    Ok(config)
}
