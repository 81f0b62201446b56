//! The decoder: a stack of blocks, written once in [`Steps`].
//!
//! `embed`, `block` and `finish` are pure functions of activations, weights and state; `forward` is the
//! loop over them. Training block by block and calibration use them one at a time.

use crate::batch::{Batch, Input};
use crate::site::SlotSite;
use crate::steps::{Attention, Embedding, Ffn, Head, HeadOutput, HeadRequest, Steps};
use crate::{Linear, Result};

/// The numbers that describe a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
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
    /// The longest context that the model was trained for.
    pub context: usize,
    /// RMSNorm's epsilon.
    pub norm_eps: f32,
    /// RoPE's base.
    pub rope_theta: f32,
    /// Features of a head that RoPE turns.
    pub rotary_dim: usize,
    /// Whether the head is the embedding table.
    pub tied_embeddings: bool,
}

/// One block: attention and feed-forward network, each behind a norm and added to the residual.
#[derive(Clone, Debug)]
pub struct Block {
    /// The mixer.
    pub attention: Attention,
    /// The feed-forward network.
    pub ffn: Ffn,
}

/// A decoder-only transformer with pre-norm residuals.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Its numbers.
    pub config: DecoderConfig,
    /// Token embeddings.
    pub embedding: Embedding,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
    /// Norm and projection to the vocabulary.
    pub head: Head,
}

impl Decoder {
    /// Ids or rows to activations `[tokens, width]`.
    pub fn embed<S: Steps>(&self, steps: &mut S, input: &Input) -> Result<S::Rows> {
        steps.embed(&self.embedding, input)
    }

    /// Block `i`: activations in, activations out; appends to the states of layer `i`.
    pub fn block<S: Steps>(
        &self,
        i: usize,
        steps: &mut S,
        x: S::Rows,
        batch: &Batch,
        states: &mut [S::State],
    ) -> Result<S::Rows> {
        let Block { attention, ffn } = &self.blocks[i];
        let (q, k, v) = steps.qkv(i, attention, &x, batch)?;
        let attended = steps.attend(&attention.spec, i, q, k, v, batch, states)?;
        let branch = steps.project(i, &attention.output, attended, batch)?;
        let branch = steps.slot(SlotSite::AfterAttention(i as u32), branch, batch)?;
        let x = steps.add(x, branch)?;
        let branch = steps.mlp(i, ffn, &x, batch)?;
        let branch = steps.slot(SlotSite::AfterFfn(i as u32), branch, batch)?;
        steps.add(x, branch)
    }

    /// The wanted rows through the head.
    pub fn finish<S: Steps>(
        &self,
        steps: &mut S,
        x: &S::Rows,
        batch: &Batch,
        request: HeadRequest<'_>,
    ) -> Result<HeadOutput<S::Rows>> {
        let wanted = steps.select_rows(x, &batch.wanted)?;
        steps.head(&self.head, &wanted, &batch.select(&batch.wanted), request)
    }

    /// The whole pass.
    pub fn forward<S: Steps>(
        &self,
        steps: &mut S,
        batch: &Batch,
        states: &mut [S::State],
        request: HeadRequest<'_>,
    ) -> Result<HeadOutput<S::Rows>> {
        batch.check(states.len())?;
        let mut x = self.embed(steps, &batch.input)?;
        for i in 0..self.blocks.len() {
            x = self.block(i, steps, x, batch, states)?;
        }
        self.finish(steps, &x, batch, request)
    }

    /// Every projection, in the order of a forward pass: where adapters attach.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.blocks
            .iter_mut()
            .flat_map(|b| {
                [
                    &mut b.attention.query,
                    &mut b.attention.key,
                    &mut b.attention.value,
                    &mut b.attention.output,
                    &mut b.ffn.gate,
                    &mut b.ffn.up,
                    &mut b.ffn.down,
                ]
            })
            .chain(std::iter::once(&mut self.head.linear))
    }
}
