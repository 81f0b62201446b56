//! The parts that a model is made of: tables, norms, attention, feed-forward networks, the head.
//!
//! They hold weights and numbers and say nothing of how they are computed: that is [`crate::Steps`].

use std::sync::Arc;

use porism_formats::Weight;
use porism_kernels::activation::Activation;
use porism_kernels::attention::{Mask, RelativeBias};
use porism_kernels::rope::RopeLayout;

use crate::linear::Linear;
use crate::moe::Moe;
use crate::site::Site;

/// An embedding table, `[entries, width]`.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// Which weight this is.
    pub site: Site,
    /// The table.
    pub weight: Weight,
    /// Factor on what is looked up (Gemma: the root of the width).
    pub scale: f32,
}

/// Which statistic a norm divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich 2019).
    Rms,
    /// `(x - mean) / sqrt(variance + eps) * weight + bias` (Ba, Kiros and Hinton 2016).
    Layer,
}

/// A norm. It works on runs of as many features as it has factors: on whole rows, or on each head of a row.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Which weight this is.
    pub site: Site,
    /// The statistic.
    pub kind: NormKind,
    /// One row of factors.
    pub weight: Weight,
    /// One row of summands (LayerNorm only).
    pub bias: Option<Weight>,
    /// Added to the mean square.
    pub eps: f32,
    /// Added to each factor: 1 for Gemma's own files, which keep `weight - 1`.
    pub offset: f32,
}

/// Rotary position embedding (Su et al. 2021): pairs of a head's features turn with the position.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Which features form a pair: it depends on the file that the projections came from.
    pub layout: RopeLayout,
    /// Radians a position for each pair, `rotary_dim / 2` numbers.
    pub inverse_frequencies: Arc<[f32]>,
    /// Factor on sines and cosines: YaRN's and longrope's attention temperature, else 1.
    pub attention_factor: f32,
}

/// The shape of one attention step.
#[derive(Clone, Debug)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Features a head.
    pub head_dim: usize,
    /// Factor on the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// `cap * tanh(score / cap)`, where the model has it.
    pub softcap: Option<f32>,
    /// Which earlier entries a row sees.
    pub mask: Mask,
    /// A summand of each score by head and distance (MPNet); frozen on the tape.
    pub bias: Option<Arc<RelativeBias>>,
}

/// How a branch stands to the residual stream.
#[derive(Clone, Debug)]
pub enum Residual {
    /// `x + branch(norm(x))`.
    Pre(Norm),
    /// `norm(x + branch(x))` (BERT).
    Post(Norm),
    /// `x + after(branch(before(x)))` (Gemma).
    Sandwich {
        /// The norm of the branch's input.
        before: Norm,
        /// The norm of its result.
        after: Norm,
    },
}

impl Residual {
    /// The norm of the branch's input.
    pub fn before(&self) -> Option<&Norm> {
        match self {
            Residual::Pre(norm) | Residual::Sandwich { before: norm, .. } => Some(norm),
            Residual::Post(_) => None,
        }
    }

    /// All its norms.
    pub fn norms(&self) -> impl Iterator<Item = &Norm> {
        let (first, second) = match self {
            Residual::Pre(norm) | Residual::Post(norm) => (norm, None),
            Residual::Sandwich { before, after } => (before, Some(after)),
        };
        std::iter::once(first).chain(second)
    }

    /// As [`Residual::norms`].
    pub(crate) fn norms_mut(&mut self) -> impl Iterator<Item = &mut Norm> {
        let (first, second) = match self {
            Residual::Pre(norm) | Residual::Post(norm) => (norm, None),
            Residual::Sandwich { before, after } => (before, Some(after)),
        };
        std::iter::once(first).chain(second)
    }
}

/// The attention half of a block.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Its norms.
    pub residual: Residual,
    /// `[heads * head_dim, width]`.
    pub query: Linear,
    /// `[kv_heads * head_dim, width]`.
    pub key: Linear,
    /// `[kv_heads * head_dim, width]`.
    pub value: Linear,
    /// `[width, heads * head_dim]`.
    pub output: Linear,
    /// A norm of the queries, before positions.
    pub query_norm: Option<Norm>,
    /// A norm of the keys, before positions.
    pub key_norm: Option<Norm>,
    /// Positions; none where the model adds them to the embedding, or has none in this layer.
    pub rope: Option<Rope>,
    /// Shape and mask.
    pub spec: AttentionSpec,
}

/// `down(act(gate(x)) * up(x))`.
#[derive(Clone, Debug)]
pub struct Gated {
    /// `[ffn, width]`.
    pub gate: Linear,
    /// `[ffn, width]`.
    pub up: Linear,
    /// `[width, ffn]`.
    pub down: Linear,
    /// The non-linearity on the gate.
    pub activation: Activation,
}

/// `down(act(up(x)))`.
#[derive(Clone, Debug)]
pub struct Plain {
    /// `[ffn, width]`.
    pub up: Linear,
    /// `[width, ffn]`.
    pub down: Linear,
    /// The non-linearity.
    pub activation: Activation,
}

/// What computes the feed-forward branch.
#[derive(Clone, Debug)]
pub enum FfnKind {
    /// Two projections in, one multiplied onto the other.
    Gated(Gated),
    /// One projection in.
    Plain(Plain),
    /// A mixture of experts.
    Moe(Box<Moe>),
}

/// The feed-forward half of a block.
#[derive(Clone, Debug)]
pub struct Ffn {
    /// Its norms.
    pub residual: Residual,
    /// What it computes.
    pub kind: FfnKind,
}

impl Ffn {
    /// Every projection of it.
    pub fn linears(&self) -> Vec<&Linear> {
        match &self.kind {
            FfnKind::Gated(f) => vec![&f.gate, &f.up, &f.down],
            FfnKind::Plain(f) => vec![&f.up, &f.down],
            FfnKind::Moe(moe) => moe.linears(),
        }
    }
}

/// The end of a decoder: norm and projection to the vocabulary.
#[derive(Clone, Debug)]
pub struct Head {
    /// The norm before it.
    pub norm: Norm,
    /// `[vocab, width]`.
    pub linear: Linear,
    /// `cap * tanh(logit / cap)`, where the model has it.
    pub softcap: Option<f32>,
}
