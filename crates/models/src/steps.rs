//! The steps of a forward pass: what a model is written in, and what an executor provides.
//!
//! Fine steps are required. Coarse steps have default bodies made of fine ones; the CPU executor
//! overrides them with fused code, the tape executor keeps the defaults so that every gradient comes
//! from a fine step. Activations are f32 `[tokens, width]` at every seam.

use porism_kernels::activation::Activation;

use crate::batch::{Batch, Input};
use crate::linear::Linear;
use crate::moe::{Moe, Routes, Routing};
use crate::parts::{Attention, AttentionSpec, Embedding, Ffn, FfnKind, Head, Norm, Rope};
use crate::site::{ProbeGroup, SlotSite};
use crate::{Error, Result};

/// What is wanted of the head, for `n` wanted rows.
#[derive(Clone, Copy, Debug)]
pub enum HeadRequest<'a> {
    /// All logits, `[n, vocab]`.
    Logits,
    /// The natural log-probability of one given token a row, `[n, 1]`.
    LogProbOf(&'a [u32]),
    /// The same with the likeliest token in its place.
    Score(&'a [u32]),
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
    /// For each row what its target is worth.
    Scores(Vec<Score>),
}

/// A target and what the model would have said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The target's natural log-probability.
    pub log_prob: f32,
    /// The likeliest token; of several the one with the lowest id.
    pub likeliest: u32,
}

impl<R> HeadOutput<R> {
    /// The rows; an error for a top-k result and for scores.
    pub fn into_rows(self) -> Result<R> {
        match self {
            HeadOutput::Rows(rows) => Ok(rows),
            HeadOutput::TopK(_) => Err(Error::Batch("rows were expected where the top k were asked for".into())),
            HeadOutput::Scores(_) => Err(Error::Batch("rows were expected where scores were asked for".into())),
        }
    }

    /// The scores; an error for everything else.
    pub fn into_scores(self) -> Result<Vec<Score>> {
        match self {
            HeadOutput::Scores(scores) => Ok(scores),
            _ => Err(Error::Batch("scores were not asked for".into())),
        }
    }
}

/// An executor: everything that a model's forward pass is made of.
pub trait Steps: Sized {
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
    /// Normalizes each run of as many features as the norm has factors: a row, or each head of it.
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
    /// `act(x)`.
    fn act(&mut self, activation: Activation, x: Self::Rows) -> Result<Self::Rows>;
    /// `cap * tanh(x / cap)`.
    fn softcap(&mut self, cap: f32, x: Self::Rows) -> Result<Self::Rows>;
    /// Chooses each row's experts from the router's logits `[tokens, experts]`.
    fn route(&mut self, layer: usize, routing: &Routing, logits: Self::Rows) -> Result<Routes<Self::Rows>>;
    /// Row `i` of the result is `sum over j of weights[i, j] * part[from[i][j]]`, summed in order of `j`; `parts`
    /// are counted through, one after the other. Shapes: weights `[tokens, k]`, from `tokens * k` numbers.
    fn weighted_sum(&mut self, parts: Vec<Self::Rows>, from: &[u32], weights: &Self::Rows) -> Result<Self::Rows>;
    /// The given rows, in the given order.
    fn select_rows(&mut self, x: &Self::Rows, rows: &[usize]) -> Result<Self::Rows>;
    /// `x - logsumexp(x)` of each row.
    fn log_softmax(&mut self, x: Self::Rows) -> Result<Self::Rows>;
    /// Column `columns[i]` of row `i`, `[tokens, 1]`.
    fn gather(&mut self, x: &Self::Rows, columns: &[u32]) -> Result<Self::Rows>;
    /// For each span of the batch the mean of its rows, `[spans, width]`.
    fn mean_of_spans(&mut self, x: &Self::Rows, batch: &Batch) -> Result<Self::Rows>;
    /// Each row at Euclidean length one; a row of zeros stays.
    fn unit_rows(&mut self, x: Self::Rows) -> Result<Self::Rows>;
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
        let normed = match attention.residual.before() {
            Some(norm) => &self.norm(norm, x)?,
            None => x,
        };
        self.probe(ProbeGroup::AttentionInput(layer as u32), normed)?;
        let q = self.linear(&attention.query, normed, batch)?;
        let k = self.linear(&attention.key, normed, batch)?;
        let v = self.linear(&attention.value, normed, batch)?;
        let q = self.position(attention, attention.query_norm.as_ref(), q, batch)?;
        let k = self.position(attention, attention.key_norm.as_ref(), k, batch)?;
        Ok((q, k, v))
    }

    /// Queries or keys through their norm, if they have one, and turned to their positions.
    fn position(
        &mut self,
        attention: &Attention,
        norm: Option<&Norm>,
        mut x: Self::Rows,
        batch: &Batch,
    ) -> Result<Self::Rows> {
        if let Some(norm) = norm {
            x = self.norm(norm, &x)?;
        }
        match &attention.rope {
            Some(rope) => self.rope(rope, x, attention.spec.head_dim, batch),
            None => Ok(x),
        }
    }

    /// Attention's output projection.
    fn project(&mut self, layer: usize, output: &Linear, x: Self::Rows, batch: &Batch) -> Result<Self::Rows> {
        self.probe(ProbeGroup::AttentionOutputInput(layer as u32), &x)?;
        self.linear(output, &x, batch)
    }

    /// The feed-forward branch, norm included, without the residual.
    fn mlp(&mut self, layer: usize, ffn: &Ffn, x: &Self::Rows, batch: &Batch) -> Result<Self::Rows> {
        self.mlp_in_fine_steps(layer, ffn, x, batch)
    }

    /// What [`Steps::mlp`] is made of.
    fn mlp_in_fine_steps(&mut self, layer: usize, ffn: &Ffn, x: &Self::Rows, batch: &Batch) -> Result<Self::Rows> {
        let normed = match ffn.residual.before() {
            Some(norm) => &self.norm(norm, x)?,
            None => x,
        };
        self.probe(ProbeGroup::FfnInput(layer as u32), normed)?;
        let (hidden, down) = match &ffn.kind {
            FfnKind::Gated(f) => {
                let gate = self.linear(&f.gate, normed, batch)?;
                let up = self.linear(&f.up, normed, batch)?;
                (self.act_mul(f.activation, gate, up)?, &f.down)
            }
            FfnKind::Plain(f) => {
                let up = self.linear(&f.up, normed, batch)?;
                (self.act(f.activation, up)?, &f.down)
            }
            FfnKind::Moe(moe) => return self.moe(layer, moe, normed, batch),
        };
        self.probe(ProbeGroup::DownInput(layer as u32), &hidden)?;
        self.linear(down, &hidden, batch)
    }

    /// A mixture of experts on normed rows: each row through the experts that its router chose.
    fn moe(&mut self, layer: usize, moe: &Moe, x: &Self::Rows, batch: &Batch) -> Result<Self::Rows> {
        crate::moe::mix(self, layer, moe, x, batch)
    }

    /// The projection to the vocabulary and its cap, of normed rows.
    fn logits(&mut self, head: &Head, normed: &Self::Rows, batch: &Batch) -> Result<Self::Rows> {
        let logits = self.linear(&head.linear, normed, batch)?;
        match head.softcap {
            Some(cap) => self.softcap(cap, logits),
            None => Ok(logits),
        }
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
        let logits = self.logits(head, &normed, batch)?;
        match request {
            HeadRequest::Logits => Ok(HeadOutput::Rows(logits)),
            HeadRequest::LogProbOf(tokens) => {
                let log_probs = self.log_softmax(logits)?;
                self.gather(&log_probs, tokens).map(HeadOutput::Rows)
            }
            HeadRequest::Score(tokens) => {
                let (_, vocab) = self.shape(&logits);
                let likeliest: Vec<u32> = self.to_vec(&logits)?.chunks_exact(vocab).map(likeliest).collect();
                let log_probs = self.log_softmax(logits)?;
                let log_probs = self.gather(&log_probs, tokens)?;
                let pairs = self.to_vec(&log_probs)?.into_iter().zip(likeliest);
                Ok(HeadOutput::Scores(pairs.map(|(log_prob, likeliest)| Score { log_prob, likeliest }).collect()))
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

/// The index of a row's largest entry, of several the first.
pub fn likeliest(row: &[f32]) -> u32 {
    // Lanes that the compiler makes vectors of: a vocabulary has many entries.
    let mut most = [f32::NEG_INFINITY; 16];
    let larger = |most: &mut f32, v: f32| *most = if v > *most { v } else { *most };
    let (whole, rest) = row.as_chunks::<16>();
    for part in whole {
        most.iter_mut().zip(part).for_each(|(m, &v)| larger(m, v));
    }
    most.iter_mut().zip(rest).for_each(|(m, &v)| larger(m, v));
    let most = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
    row.iter().position(|&v| v == most).unwrap_or(0) as u32
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
