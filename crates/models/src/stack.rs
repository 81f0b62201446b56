//! The stack: embeddings and blocks, which decoders and encoders share, written once in [`Steps`].
//!
//! `embed` and `block` are pure functions of activations, weights and state; `forward` is the loop over them.
//! Training block by block and calibration use them one at a time.

use crate::batch::{Batch, Input};
use crate::config::ModelConfig;
use crate::parts::{Attention, Embedding, Ffn, FfnKind, Norm, Residual};
use crate::site::SlotSite;
use crate::steps::Steps;
use crate::{Error, Linear, Result};

/// What happens before the first block.
#[derive(Clone, Debug)]
pub struct Embeddings {
    /// A row for each token.
    pub tokens: Embedding,
    /// A row for each position, and the row of position 0.
    pub positions: Option<(Embedding, usize)>,
    /// A row for each type of token; every token is of the first.
    pub token_types: Option<Embedding>,
    /// A norm of the sum.
    pub norm: Option<Norm>,
}

/// One block: attention and feed-forward network, each added to the residual.
#[derive(Clone, Debug)]
pub struct Block {
    /// The mixer.
    pub attention: Attention,
    /// The feed-forward network.
    pub ffn: Ffn,
}

impl Block {
    /// Every projection, in the order of a forward pass.
    pub fn linears(&self) -> Vec<&Linear> {
        let a = &self.attention;
        let mut linears = vec![&a.query, &a.key, &a.value, &a.output];
        linears.extend(self.ffn.linears());
        linears
    }

    /// Every projection outside of a mixture, in the order of a forward pass, and every norm.
    pub(crate) fn linears_and_norms_mut(&mut self) -> (Vec<&mut Linear>, Vec<&mut Norm>) {
        let (a, ffn) = (&mut self.attention, &mut self.ffn);
        let mut linears = vec![&mut a.query, &mut a.key, &mut a.value, &mut a.output];
        match &mut ffn.kind {
            FfnKind::Gated(f) => linears.extend([&mut f.gate, &mut f.up, &mut f.down]),
            FfnKind::Plain(f) => linears.extend([&mut f.up, &mut f.down]),
            FfnKind::Moe(_) => {}
        }
        let mut norms: Vec<&mut Norm> = a.residual.norms_mut().collect();
        norms.extend(a.query_norm.iter_mut().chain(&mut a.key_norm).chain(ffn.residual.norms_mut()));
        (linears, norms)
    }

    /// Every norm.
    pub fn norms(&self) -> impl Iterator<Item = &Norm> {
        let a = &self.attention;
        a.residual.norms().chain(&a.query_norm).chain(&a.key_norm).chain(self.ffn.residual.norms())
    }
}

/// Embeddings and blocks.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Its numbers.
    pub config: ModelConfig,
    /// Token embeddings and what is added to them.
    pub embeddings: Embeddings,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
}

impl Stack {
    /// Ids or rows to activations `[tokens, width]`.
    pub fn embed<S: Steps>(&self, steps: &mut S, batch: &Batch) -> Result<S::Rows> {
        let Embeddings { tokens, positions, token_types, norm } = &self.embeddings;
        let mut x = steps.embed(tokens, &batch.input)?;
        if let Some((table, offset)) = positions {
            let ids: Vec<u32> = batch.positions.iter().map(|&p| p.saturating_add(*offset as u32)).collect();
            if let Some(&beyond) = ids.iter().find(|&&id| id as usize >= table.weight.rows()) {
                return Err(Error::Batch(format!(
                    "position {} where the model knows {}: shorten the text",
                    beyond as usize - offset,
                    table.weight.rows() - offset
                )));
            }
            let rows = steps.embed(table, &Input::Ids(ids))?;
            x = steps.add(x, rows)?;
        }
        if let Some(table) = token_types {
            let rows = steps.embed(table, &Input::Ids(vec![0; batch.len()]))?;
            x = steps.add(x, rows)?;
        }
        match norm {
            Some(norm) => steps.norm(norm, &x),
            None => Ok(x),
        }
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
        let x = join(steps, &attention.residual, SlotSite::AfterAttention(i as u32), x, branch, batch)?;
        let branch = steps.mlp(i, ffn, &x, batch)?;
        join(steps, &ffn.residual, SlotSite::AfterFfn(i as u32), x, branch, batch)
    }

    /// Embedding and all blocks: `[tokens, width]`.
    pub fn forward<S: Steps>(&self, steps: &mut S, batch: &Batch, states: &mut [S::State]) -> Result<S::Rows> {
        batch.check(states.len())?;
        let mut x = self.embed(steps, batch)?;
        for i in 0..self.blocks.len() {
            x = self.block(i, steps, x, batch, states)?;
        }
        Ok(x)
    }

    /// Every projection, in the order of a forward pass.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(Block::linears)
    }

    /// Every projection outside of mixtures of experts, in the order of a forward pass: where adapters attach.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.blocks.iter_mut().flat_map(|block| block.linears_and_norms_mut().0)
    }
}

/// Adds a branch to the residual stream.
fn join<S: Steps>(
    steps: &mut S,
    residual: &Residual,
    slot: SlotSite,
    x: S::Rows,
    mut branch: S::Rows,
    batch: &Batch,
) -> Result<S::Rows> {
    if let Residual::Sandwich { after, .. } = residual {
        branch = steps.norm(after, &branch)?;
    }
    let branch = steps.slot(slot, branch, batch)?;
    let sum = steps.add(x, branch)?;
    match residual {
        Residual::Post(norm) => steps.norm(norm, &sum),
        _ => Ok(sum),
    }
}
