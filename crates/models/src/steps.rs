//! The steps of a forward pass: what a model is written in, and what an executor provides.
//!
//! Fine steps are required. Coarse steps have default bodies made of fine ones; the CPU executor
//! overrides them with fused code, the tape executor keeps the defaults so that every gradient comes
//! from a fine step. Activations are f32 `[tokens, width]` at every seam.

use std::sync::Arc;

use porism_formats::Weight;
use porism_kernels::activation::Activation;
use porism_kernels::attention::Mask;
use porism_kernels::rope::RopeLayout;

use crate::batch::{Batch, Input};
use crate::linear::Linear;
use crate::site::{ProbeGroup, Site, SlotSite};
use crate::{Error, Result};

/// A token embedding table, `[vocab, width]`.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// Which weight this is.
    pub site: Site,
    /// The table.
    pub weight: Weight,
}

/// RMSNorm: `x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich 2019).
#[derive(Clone, Debug)]
pub struct Norm {
    /// Which weight this is.
    pub site: Site,
    /// One row of `width` factors.
    pub weight: Weight,
    /// Added to the mean square.
    pub eps: f32,
}

/// Rotary position embedding (Su et al. 2021): pairs of a head's features turn with the position.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Which features form a pair: it depends on the file that the projections came from.
    pub layout: RopeLayout,
    /// Radians a position for each pair, `rotary_dim / 2` numbers.
    pub inverse_frequencies: Arc<[f32]>,
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
}

/// The attention half of a block.
#[derive(Clone, Debug)]
pub struct Attention {
    /// The norm before it.
    pub norm: Norm,
    /// `[heads * head_dim, width]`.
    pub query: Linear,
    /// `[kv_heads * head_dim, width]`.
    pub key: Linear,
    /// `[kv_heads * head_dim, width]`.
    pub value: Linear,
    /// `[width, heads * head_dim]`.
    pub output: Linear,
    /// Positions.
    pub rope: Rope,
    /// Shape and mask.
    pub spec: AttentionSpec,
}

/// The feed-forward half of a block: `down(act(gate(x)) * up(x))`.
#[derive(Clone, Debug)]
pub struct Ffn {
    /// The norm before it.
    pub norm: Norm,
    /// `[ffn, width]`.
    pub gate: Linear,
    /// `[ffn, width]`.
    pub up: Linear,
    /// `[width, ffn]`.
    pub down: Linear,
    /// The non-linearity on the gate.
    pub activation: Activation,
}

/// The end of a model: norm and projection to the vocabulary.
#[derive(Clone, Debug)]
pub struct Head {
    /// The norm before it.
    pub norm: Norm,
    /// `[vocab, width]`.
    pub linear: Linear,
}

/// What is wanted of the head, for `n` wanted rows.
#[derive(Clone, Copy, Debug)]
pub enum HeadRequest<'a> {
    /// All logits, `[n, vocab]`.
    Logits,
    /// The natural log-probability of one given token a row, `[n, 1]`.
    LogProbOf(&'a [u32]),
    /// The `k` likeliest tokens a row with their natural log-probabilities, likeliest first.
    TopK(usize),
    /// `sum_i w_i * -log p(target_i) / sum_i w_i`, `[1, 1]`.
    CrossEntropy {
        /// One token a row.
        targets: &'a [u32],
        /// One weight a row.
        weights: &'a [f32],
    },
    /// The mean over rows of `KL(teacher || model)`, `[1, 1]`.
    KlTo {
        /// The teacher's natural log-probabilities, `[n, vocab]`.
        log_probs: &'a [f32],
    },
}

/// What the head gave.
#[derive(Debug)]
pub enum HeadOutput<R> {
    /// Logits, log-probabilities or a loss, in the executor's own form.
    Rows(R),
    /// For each row the likeliest tokens with their log-probabilities.
    TopK(Vec<Vec<(u32, f32)>>),
}

impl<R> HeadOutput<R> {
    /// The rows; an error for a top-k result.
    pub fn into_rows(self) -> Result<R> {
        match self {
            HeadOutput::Rows(rows) => Ok(rows),
            HeadOutput::TopK(_) => Err(Error::Batch("rows were expected where the top k were asked for".into())),
        }
    }
}

/// An executor: everything that a model's forward pass is made of.
pub trait Steps {
    /// Activations, f32 `[tokens, width]`, contiguous.
    type Rows;
    /// What is kept of a sequence between passes.
    type State;

    // ---- fine steps -------------------------------------------------------------------------

    /// Tokens and width of an activation.
    fn shape(&self, x: &Self::Rows) -> (usize, usize);
    /// Copies an activation out, row-major.
    fn to_vec(&self, x: &Self::Rows) -> Result<Vec<f32>>;
    /// The rows of the table for ids, or given rows as they are. An id outside the table is an error.
    fn embed(&mut self, table: &Embedding, input: &Input) -> Result<Self::Rows>;
    /// Normalizes each row.
    fn norm(&mut self, norm: &Norm, x: &Self::Rows) -> Result<Self::Rows>;
    /// Base and deltas; the batch says which rows run with which adapter. For rows that are no longer
    /// the batch's own (the head's wanted rows) pass the batch that describes them.
    fn linear(&mut self, linear: &Linear, x: &Self::Rows, batch: &Batch) -> Result<Self::Rows>;
    /// Turns each head of `head_dim` features by its row's position.
    fn rope(&mut self, rope: &Rope, x: Self::Rows, head_dim: usize, batch: &Batch) -> Result<Self::Rows>;
    /// Appends k and v to the states of layer `layer`, then attends. Shapes: q `[tokens, heads * head_dim]`,
    /// k and v `[tokens, kv_heads * head_dim]`; the result has q's.
    fn attend(
        &mut self,
        spec: &AttentionSpec,
        layer: usize,
        q: Self::Rows,
        k: Self::Rows,
        v: Self::Rows,
        batch: &Batch,
        states: &mut [Self::State],
    ) -> Result<Self::Rows>;
    /// `a + b`.
    fn add(&mut self, a: Self::Rows, b: Self::Rows) -> Result<Self::Rows>;
    /// `act(gate) * up`.
    fn act_mul(&mut self, activation: Activation, gate: Self::Rows, up: Self::Rows) -> Result<Self::Rows>;
    /// The given rows, in the given order.
    fn select_rows(&mut self, x: &Self::Rows, rows: &[usize]) -> Result<Self::Rows>;
    /// `x - logsumexp(x)` of each row.
    fn log_softmax(&mut self, x: Self::Rows) -> Result<Self::Rows>;
    /// Column `columns[i]` of row `i`, `[tokens, 1]`.
    fn gather(&mut self, x: &Self::Rows, columns: &[u32]) -> Result<Self::Rows>;
    /// Weighted mean cross-entropy of logits, `[1, 1]`; see [`HeadRequest::CrossEntropy`].
    fn cross_entropy(&mut self, logits: Self::Rows, targets: &[u32], weights: &[f32]) -> Result<Self::Rows>;
    /// Mean KL divergence from a teacher, `[1, 1]`; see [`HeadRequest::KlTo`].
    fn kl(&mut self, logits: Self::Rows, teacher_log_probs: &[f32]) -> Result<Self::Rows>;

    // ---- seams ------------------------------------------------------------------------------

    /// Passes a branch through an inserted module, if there is one for the site. Default: none.
    fn slot(&mut self, _site: SlotSite, x: Self::Rows, _batch: &Batch) -> Result<Self::Rows> {
        Ok(x)
    }
    /// Shows an activation to an observer, if there is one. Default: none.
    fn probe(&mut self, _group: ProbeGroup, _x: &Self::Rows) -> Result<()> {
        Ok(())
    }

    // ---- coarse steps -----------------------------------------------------------------------

    /// Norm, three projections, positions: `(q, k, v)`.
    fn qkv(
        &mut self,
        layer: usize,
        attention: &Attention,
        x: &Self::Rows,
        batch: &Batch,
    ) -> Result<(Self::Rows, Self::Rows, Self::Rows)> {
        let head_dim = attention.spec.head_dim;
        let normed = self.norm(&attention.norm, x)?;
        self.probe(ProbeGroup::AttentionInput(layer as u32), &normed)?;
        let q = self.linear(&attention.query, &normed, batch)?;
        let k = self.linear(&attention.key, &normed, batch)?;
        let v = self.linear(&attention.value, &normed, batch)?;
        let q = self.rope(&attention.rope, q, head_dim, batch)?;
        let k = self.rope(&attention.rope, k, head_dim, batch)?;
        Ok((q, k, v))
    }

    /// Attention's output projection.
    fn project(&mut self, layer: usize, output: &Linear, x: Self::Rows, batch: &Batch) -> Result<Self::Rows> {
        self.probe(ProbeGroup::AttentionOutputInput(layer as u32), &x)?;
        self.linear(output, &x, batch)
    }

    /// The feed-forward branch, norm included, without the residual.
    fn mlp(&mut self, layer: usize, ffn: &Ffn, x: &Self::Rows, batch: &Batch) -> Result<Self::Rows> {
        let normed = self.norm(&ffn.norm, x)?;
        self.probe(ProbeGroup::FfnInput(layer as u32), &normed)?;
        let gate = self.linear(&ffn.gate, &normed, batch)?;
        let up = self.linear(&ffn.up, &normed, batch)?;
        let hidden = self.act_mul(ffn.activation, gate, up)?;
        self.probe(ProbeGroup::DownInput(layer as u32), &hidden)?;
        self.linear(&ffn.down, &hidden, batch)
    }

    /// Norm, projection to the vocabulary and what is asked of it. `x` holds the wanted rows only and
    /// `batch` describes them.
    fn head(
        &mut self,
        head: &Head,
        x: &Self::Rows,
        batch: &Batch,
        request: HeadRequest<'_>,
    ) -> Result<HeadOutput<Self::Rows>> {
        let normed = self.norm(&head.norm, x)?;
        self.probe(ProbeGroup::HeadInput, &normed)?;
        let logits = self.linear(&head.linear, &normed, batch)?;
        match request {
            HeadRequest::Logits => Ok(HeadOutput::Rows(logits)),
            HeadRequest::LogProbOf(tokens) => {
                let log_probs = self.log_softmax(logits)?;
                self.gather(&log_probs, tokens).map(HeadOutput::Rows)
            }
            HeadRequest::TopK(k) => {
                let log_probs = self.log_softmax(logits)?;
                let (_, vocab) = self.shape(&log_probs);
                let values = self.to_vec(&log_probs)?;
                Ok(HeadOutput::TopK(values.chunks_exact(vocab).map(|row| top_k(row, k)).collect()))
            }
            HeadRequest::CrossEntropy { targets, weights } => {
                self.cross_entropy(logits, targets, weights).map(HeadOutput::Rows)
            }
            HeadRequest::KlTo { log_probs } => self.kl(logits, log_probs).map(HeadOutput::Rows),
        }
    }
}

/// The `k` largest entries of a row with their indexes, largest first, ties by the lower index.
pub fn top_k(row: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut entries: Vec<(u32, f32)> = row.iter().enumerate().map(|(i, &v)| (i as u32, v)).collect();
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if k == 0 {
        return Vec::new();
    }
    if k < entries.len() {
        entries.select_nth_unstable_by(k - 1, order);
        entries.truncate(k);
    }
    entries.sort_unstable_by(order);
    entries
}
