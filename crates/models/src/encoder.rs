//! The encoder: a stack, pooling over a text's rows, projections behind it, one vector a text
//! (Reimers and Gurevych 2019, "Sentence-BERT").

use porism_formats::Weight;

use crate::batch::Batch;
use crate::linear::Linear;
use crate::parts::{Head, Norm};
use crate::stack::Stack;
use crate::steps::Steps;
use crate::{Decoder, Error, Result};

/// How a text's rows become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first row.
    Cls,
    /// The last row.
    Last,
}

impl Pooling {
    /// The name used in flags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
            Pooling::Last => "last",
        }
    }
}

/// A model that turns texts into vectors.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Embeddings and blocks.
    pub stack: Stack,
    /// A norm behind the last block.
    pub output_norm: Option<Norm>,
    /// How a text's rows become one.
    pub pooling: Pooling,
    /// Projections behind pooling, in order, without non-linearities.
    pub dense: Vec<Linear>,
    /// Whether the vectors are scaled to length one.
    pub normalize: bool,
    /// The most tokens of a text that the model is made for.
    pub longest: usize,
}

impl Encoder {
    /// A decoder as an encoder: its last row, through its last norm, is what it knows of the whole text.
    pub fn of_decoder(decoder: Decoder) -> Encoder {
        let Decoder { stack, head: Head { norm, .. } } = decoder;
        let longest = stack.config.context;
        Encoder { stack, output_norm: Some(norm), pooling: Pooling::Last, dense: Vec::new(), normalize: true, longest }
    }

    /// Numbers of a vector.
    pub fn dimension(&self) -> usize {
        self.dense.last().map_or(self.stack.config.width, Linear::out_features)
    }

    /// Activations behind the last block and norm, `[tokens, width]`.
    pub fn hidden<S: Steps>(&self, steps: &mut S, batch: &Batch, states: &mut [S::State]) -> Result<S::Rows> {
        let x = self.stack.forward(steps, batch, states)?;
        match &self.output_norm {
            Some(norm) => steps.norm(norm, &x),
            None => Ok(x),
        }
    }

    /// One vector for each span of the batch, `[spans, dimension]`.
    pub fn embed<S: Steps>(&self, steps: &mut S, batch: &Batch, states: &mut [S::State]) -> Result<S::Rows> {
        let hidden = self.hidden(steps, batch, states)?;
        let mut x = match self.pooling {
            Pooling::Mean => steps.mean_of_spans(&hidden, batch)?,
            Pooling::Cls => {
                let first: Vec<usize> = batch.spans.iter().map(|s| s.rows.start).collect();
                steps.select_rows(&hidden, &first)?
            }
            Pooling::Last => {
                let last: Vec<usize> = batch.spans.iter().map(|s| s.rows.end - 1).collect();
                steps.select_rows(&hidden, &last)?
            }
        };
        let firsts: Vec<usize> = batch.spans.iter().map(|s| s.rows.start).collect();
        let pooled = batch.select(&firsts);
        for linear in &self.dense {
            x = steps.linear(linear, &x, &pooled)?;
        }
        if self.normalize { steps.unit_rows(x) } else { Ok(x) }
    }

    /// A projection behind pooling, from its weight `[out, in]`.
    pub(crate) fn push_dense(&mut self, weight: Weight) -> Result<()> {
        if weight.cols() != self.dimension() {
            return Err(Error::Batch(format!("a dense layer of {weight:?} behind {} features", self.dimension())));
        }
        let site = crate::Site::Dense(self.dense.len() as u32);
        self.dense.push(Linear::new(site, weight));
        Ok(())
    }
}
