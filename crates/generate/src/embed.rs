//! Embedding: texts to vectors, several of them packed into one pass.

use porism_models::cpu::{CpuExecutor, CpuState, KvType};
use porism_models::{Batch, Encoder};
use porism_text::Tokenizer;

use crate::Result;

/// Rows of a pass, unless one text alone has more.
const PASS_ROWS: usize = 1024;

/// A text's vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// Tokens that the model saw.
    pub tokens: usize,
    /// Tokens that it did not see, since it is not made for so many.
    pub cut: usize,
    /// The vector.
    pub vector: Vec<f32>,
}

/// A text's activations behind the last block and norm.
#[derive(Clone, Debug, PartialEq)]
pub struct Hidden {
    /// Tokens that the model saw.
    pub tokens: Vec<u32>,
    /// Tokens that it did not see, since it is not made for so many.
    pub cut: usize,
    /// A row of the model's width for each token.
    pub rows: Vec<f32>,
}

/// Texts of one pass: the tokens of each, and how many were cut off.
struct Pass {
    texts: Vec<(Vec<u32>, usize)>,
}

impl Pass {
    fn batch(&self) -> Batch {
        let sequences: Vec<&[u32]> = self.texts.iter().map(|(ids, _)| ids.as_slice()).collect();
        Batch::packed(&sequences)
    }
}

/// An encoder with its tokenizer.
#[derive(Debug)]
pub struct Embedder<'a> {
    encoder: &'a Encoder,
    tokenizer: &'a Tokenizer,
    steps: CpuExecutor,
}

impl<'a> Embedder<'a> {
    /// An embedder on an executor.
    pub fn new(encoder: &'a Encoder, tokenizer: &'a Tokenizer, steps: CpuExecutor) -> Embedder<'a> {
        Embedder { encoder, tokenizer, steps }
    }

    /// A text's tokens with those that the model wants around it, and how many were cut off its end. The last
    /// token stays if it is one that ends every text.
    pub fn tokens(&self, text: &str) -> Result<(Vec<u32>, usize)> {
        let mut ids = self.tokenizer.encode(text, true, false)?;
        let longest = self.encoder.longest;
        let cut = ids.len().saturating_sub(longest);
        if let (true, Some(&end)) = (cut > 0, ids.last()) {
            ids.truncate(longest);
            if let (true, Some(last)) = (self.tokenizer.is_special(end), ids.last_mut()) {
                *last = end;
            }
        }
        Ok((ids, cut))
    }

    /// As many of the next texts as go into one pass.
    fn pass<T: AsRef<str>>(&self, texts: &[T]) -> Result<Pass> {
        let mut pass = Pass { texts: Vec::new() };
        let mut rows = 0;
        for text in texts {
            let (ids, cut) = self.tokens(text.as_ref())?;
            if ids.is_empty() {
                return Err(crate::Error::EmptyPrompt);
            }
            if rows > 0 && rows + ids.len() > PASS_ROWS {
                break;
            }
            rows += ids.len();
            pass.texts.push((ids, cut));
        }
        Ok(pass)
    }

    fn states(&self, pass: &Pass) -> Vec<CpuState> {
        vec![CpuState::new(&self.encoder.stack.config, KvType::F32); pass.texts.len()]
    }

    /// The vectors of texts, in their order; `done` hears how many there are so far.
    pub fn embed<T: AsRef<str>>(&mut self, texts: &[T], done: &mut dyn FnMut(usize)) -> Result<Vec<Embedded>> {
        let mut out = Vec::with_capacity(texts.len());
        while out.len() < texts.len() {
            let pass = self.pass(&texts[out.len()..])?;
            let mut states = self.states(&pass);
            let vectors = self.encoder.embed(&mut self.steps, &pass.batch(), &mut states)?;
            for (i, (ids, cut)) in pass.texts.iter().enumerate() {
                out.push(Embedded { tokens: ids.len(), cut: *cut, vector: vectors.row(i).to_vec() });
            }
            done(out.len());
        }
        Ok(out)
    }

    /// The activations of texts behind the encoder's last block and norm, in the texts' order.
    pub fn hidden<T: AsRef<str>>(&mut self, texts: &[T]) -> Result<Vec<Hidden>> {
        let mut out = Vec::with_capacity(texts.len());
        while out.len() < texts.len() {
            let pass = self.pass(&texts[out.len()..])?;
            let batch = pass.batch();
            let mut states = self.states(&pass);
            let hidden = self.encoder.hidden(&mut self.steps, &batch, &mut states)?;
            for ((tokens, cut), span) in pass.texts.into_iter().zip(&batch.spans) {
                let rows = span.rows.clone().flat_map(|row| hidden.row(row)).copied().collect();
                out.push(Hidden { tokens, cut, rows });
            }
        }
        Ok(out)
    }
}
