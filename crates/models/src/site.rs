//! Sites: the places of a model that hold weights or that a seam can touch, named once for all uses.
//!
//! A [`Site`] names one weight (loaders, adapters, quantizers and the tape's parameters use it). A
//! [`ProbeGroup`] names an input that several sites share, a [`SlotSite`] a place for an inserted module.

use std::fmt;

/// One weight of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// The token embedding table, `[vocab, width]`.
    TokenEmbedding,
    /// The norm before the head.
    OutputNorm,
    /// The head, `[vocab, width]`; with tied embeddings the same bytes as the table.
    Head,
    /// A weight of block `.0`.
    Block(u32, BlockSite),
    /// Gate, up or down of expert `.1` in block `.0`.
    Expert(u32, u32, BlockSite),
    /// The table of positions, `[positions, width]`.
    PositionEmbedding,
    /// The table of token types, `[types, width]`.
    TokenTypeEmbedding,
    /// The norm behind the embedding.
    EmbeddingNorm,
    /// The relative position bias, `[buckets, heads]`.
    RelativeBias,
    /// Projection `.0` behind an encoder's pooling.
    Dense(u32),
}

/// One weight of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum BlockSite {
    /// The norm before attention.
    AttentionNorm,
    /// Query projection, `[heads * head_dim, width]`.
    Query,
    /// Key projection, `[kv_heads * head_dim, width]`.
    Key,
    /// Value projection, `[kv_heads * head_dim, width]`.
    Value,
    /// Attention's output projection, `[width, heads * head_dim]`.
    AttentionOutput,
    /// The norm before the feed-forward network.
    FfnNorm,
    /// Gate projection, `[ffn, width]`.
    Gate,
    /// Up projection, `[ffn, width]`.
    Up,
    /// Down projection, `[width, ffn]`.
    Down,
    /// Query, key and value in one tensor, in this order.
    QueryKeyValue,
    /// Gate and up in one tensor, in this order.
    GateUp,
    /// The norm of queries.
    QueryNorm,
    /// The norm of keys.
    KeyNorm,
    /// The norm behind attention: of its branch or of the sum.
    AttentionPostNorm,
    /// The norm behind the feed-forward network: of its branch or of the sum.
    FfnPostNorm,
    /// The router of a mixture of experts, `[experts, width]`.
    Router,
    /// Gate projection of the expert for every row.
    SharedGate,
    /// Up projection of the expert for every row.
    SharedUp,
    /// Down projection of the expert for every row.
    SharedDown,
    /// The gate before the expert for every row, `[1, width]`.
    SharedRouter,
}

impl BlockSite {
    /// Whether this is a norm.
    pub const fn is_norm(self) -> bool {
        use BlockSite::{AttentionNorm, AttentionPostNorm, FfnNorm, FfnPostNorm, KeyNorm, QueryNorm};
        matches!(self, AttentionNorm | FfnNorm | QueryNorm | KeyNorm | AttentionPostNorm | FfnPostNorm)
    }
}

impl Site {
    /// Whether this is a norm.
    pub const fn is_norm(self) -> bool {
        match self {
            Site::OutputNorm | Site::EmbeddingNorm => true,
            Site::Block(_, site) => site.is_norm(),
            _ => false,
        }
    }

    /// The projections that a tensor of this site holds, one below the other: itself, or what it fuses.
    pub(crate) fn parts(self) -> Vec<Site> {
        use BlockSite::{Gate, GateUp, Key, Query, QueryKeyValue, Up, Value};
        match self {
            Site::Block(i, QueryKeyValue) => [Query, Key, Value].map(|s| Site::Block(i, s)).to_vec(),
            Site::Block(i, GateUp) => [Gate, Up].map(|s| Site::Block(i, s)).to_vec(),
            other => vec![other],
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Site::TokenEmbedding => f.write_str("token embedding"),
            Site::OutputNorm => f.write_str("output norm"),
            Site::Head => f.write_str("head"),
            Site::Block(i, site) => write!(f, "block {i} {site:?}"),
            Site::Expert(i, expert, site) => write!(f, "block {i} expert {expert} {site:?}"),
            Site::PositionEmbedding => f.write_str("position embedding"),
            Site::TokenTypeEmbedding => f.write_str("token type embedding"),
            Site::EmbeddingNorm => f.write_str("embedding norm"),
            Site::RelativeBias => f.write_str("relative position bias"),
            Site::Dense(i) => write!(f, "dense layer {i}"),
        }
    }
}

/// An activation that one or more projections read: where calibration looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ProbeGroup {
    /// The input of query, key and value of block `.0`, `[tokens, width]`.
    AttentionInput(u32),
    /// The input of attention's output projection, `[tokens, heads * head_dim]`.
    AttentionOutputInput(u32),
    /// The input of gate and up, `[tokens, width]`.
    FfnInput(u32),
    /// The input of down, `[tokens, ffn]`.
    DownInput(u32),
    /// The input of the head, `[wanted rows, width]`.
    HeadInput,
}

/// A place where a module can be inserted: on a branch, before it is added to the residual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SlotSite {
    /// Behind attention's output projection of block `.0`.
    AfterAttention(u32),
    /// Behind the down projection of block `.0`.
    AfterFfn(u32),
}
