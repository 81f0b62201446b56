//! The numbers that describe a model: what an architecture's description makes of a file's metadata, and all
//! that the loader needs besides the weights.

use porism_kernels::activation::Activation;
use porism_kernels::attention::Mask;

use crate::moe::Routing;
use crate::parts::NormKind;
use crate::rope::RopeSpec;

/// How branches stand to the residual stream; see [`crate::parts::Residual`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResidualKind {
    /// Norms before the branches.
    Pre,
    /// Norms after the sums.
    Post,
    /// Norms before and after the branches.
    Sandwich,
}

/// What queries and keys are normed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKeyNorm {
    /// Each head by itself (Qwen 3, Gemma 3).
    Head,
    /// All heads together (OLMoE).
    Row,
}

/// What differs from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// Positions that a row sees; `None`: all.
    pub window: Option<usize>,
    /// Which of the model's rotary embeddings it has; `None`: none.
    pub rope: Option<usize>,
    /// Whether its feed-forward network is a mixture of experts.
    pub moe: bool,
}

/// The numbers of a mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MoeSpec {
    /// How experts are chosen.
    pub routing: Routing,
    /// Width of an expert.
    pub ffn: usize,
    /// Width of the expert that sees every row, if there is one.
    pub shared_ffn: Option<usize>,
}

/// The numbers that describe a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The architecture's name in GGUF files.
    pub architecture: String,
    /// Blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Features a head.
    pub head_dim: usize,
    /// Width of the feed-forward network.
    pub ffn: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// The longest context that the model, with its positions as they are scaled, is made for.
    pub context: usize,
    /// The norms' statistic.
    pub norm: NormKind,
    /// The norms' epsilon.
    pub norm_eps: f32,
    /// Added to the factors of RMSNorm (see [`crate::parts::Norm::offset`]).
    pub norm_offset: f32,
    /// Where the norms stand.
    pub residual: ResidualKind,
    /// Norms of queries and keys.
    pub query_key_norm: Option<QueryKeyNorm>,
    /// The feed-forward network's non-linearity.
    pub activation: Activation,
    /// Whether it is multiplied onto a second projection.
    pub gated: bool,
    /// The mixture of experts of the layers that have one.
    pub moe: Option<MoeSpec>,
    /// The rotary embeddings: of most models one.
    pub ropes: Vec<RopeSpec>,
    /// The length of text that their frequencies are chosen for; only longrope and dynamic NTK look at it.
    pub rope_length: usize,
    /// What differs from layer to layer, one a layer.
    pub layer_specs: Vec<LayerSpec>,
    /// Whether rows see what comes after them (encoders).
    pub bidirectional: bool,
    /// Factor on attention scores.
    pub attention_scale: f32,
    /// Cap of attention scores.
    pub attention_softcap: Option<f32>,
    /// Cap of logits.
    pub final_softcap: Option<f32>,
    /// Factor on token embeddings.
    pub embedding_scale: f32,
    /// A table of positions: the row of position 0 (RoBERTa: 2).
    pub learned_positions: Option<usize>,
    /// Whether a norm follows the embedding.
    pub embedding_norm: bool,
    /// Buckets of the relative position bias.
    pub relative_buckets: Option<usize>,
    /// Whether the head is the embedding table.
    pub tied_embeddings: bool,
}

impl Default for ModelConfig {
    /// What most decoders leave as it is: RMSNorm before the branches, a gated network with SiLU, causal layers with
    /// one rotary embedding, a head of its own. All sizes are 0.
    fn default() -> ModelConfig {
        ModelConfig {
            architecture: "llama".into(),
            layers: 0,
            width: 0,
            heads: 0,
            kv_heads: 0,
            head_dim: 0,
            ffn: 0,
            vocab: 0,
            context: 0,
            norm: NormKind::Rms,
            norm_eps: 1e-5,
            norm_offset: 0.0,
            residual: ResidualKind::Pre,
            query_key_norm: None,
            activation: Activation::Silu,
            gated: true,
            moe: None,
            ropes: Vec::new(),
            rope_length: 0,
            layer_specs: Vec::new(),
            bidirectional: false,
            attention_scale: 1.0,
            attention_softcap: None,
            final_softcap: None,
            embedding_scale: 1.0,
            learned_positions: None,
            embedding_norm: false,
            relative_buckets: None,
            tied_embeddings: false,
        }
    }
}

impl ModelConfig {
    /// Which entries a row of a layer sees.
    pub fn mask(&self, layer: usize) -> Mask {
        match (self.layer_specs[layer].window, self.bidirectional) {
            (None, false) => Mask::Causal,
            (Some(window), false) => Mask::Window(window),
            (None, true) => Mask::Full,
            (Some(window), true) => Mask::Around(window),
        }
    }

    /// The rotary embedding of the layers that see everything.
    pub fn rope(&self) -> Option<&RopeSpec> {
        self.ropes.first()
    }

    /// How far information can travel through all layers together, each of which passes it on by its window: the
    /// book's `L x W`. `None` if a layer sees everything.
    pub fn receptive_field(&self) -> Option<usize> {
        self.layer_specs.iter().map(|l| l.window).sum()
    }
}
