//! The decoder: a stack and a head. `finish` is the head of the wanted rows; `forward` is the whole pass.

use crate::batch::Batch;
use crate::parts::Head;
use crate::stack::Stack;
use crate::steps::{HeadOutput, HeadRequest, Steps};
use crate::{Linear, Result};

/// A decoder-only transformer.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Embeddings and blocks.
    pub stack: Stack,
    /// Norm and projection to the vocabulary.
    pub head: Head,
}

impl Decoder {
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
        let x = self.stack.forward(steps, batch, states)?;
        self.finish(steps, &x, batch, request)
    }

    /// Every projection, in the order of a forward pass.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.stack.linears().chain(std::iter::once(&self.head.linear))
    }

    /// Every projection outside of mixtures of experts, in the order of a forward pass: where adapters attach.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.stack.linears_mut().chain(std::iter::once(&mut self.head.linear))
    }
}
