//! Scoring: the log-probabilities that a model gives the tokens of a window.

use porism_models::cpu::{CpuExecutor, CpuState, KvType};
use porism_models::{Batch, Decoder, HeadRequest};

use crate::Result;
use crate::chunks::chunks;

/// Gives tokens their log-probabilities.
pub trait Scorer {
    /// The natural log-probabilities of `window[first..]`, each after all tokens of the window before it.
    /// The window is a text's beginning to the scorer: nothing is kept from one call to the next.
    /// `1 <= first <= window.len()`.
    fn score(&mut self, window: &[u32], first: usize) -> Result<Vec<f32>>;
}

/// A decoder on the CPU executor, with an empty cache for each window.
#[derive(Debug)]
pub struct DecoderScorer<'a> {
    decoder: &'a Decoder,
    steps: CpuExecutor,
    kv: KvType,
}

impl<'a> DecoderScorer<'a> {
    /// A scorer that keeps keys and values as `kv` says.
    pub fn new(decoder: &'a Decoder, steps: CpuExecutor, kv: KvType) -> DecoderScorer<'a> {
        DecoderScorer { decoder, steps, kv }
    }
}

impl DecoderScorer<'_> {
    /// How often each expert of a mixture was chosen while scoring: by layer, then by expert.
    pub fn expert_load(&self) -> &[Vec<u64>] {
        self.steps.expert_load()
    }
}

impl Scorer for DecoderScorer<'_> {
    fn score(&mut self, window: &[u32], first: usize) -> Result<Vec<f32>> {
        let mut states = [CpuState::new(&self.decoder.stack.config, self.kv)];
        let mut scores = Vec::with_capacity(window.len() - first);
        // The last token predicts nothing that is scored.
        for part in chunks(0..window.len() - 1) {
            let mut batch = Batch::single(&window[part.clone()], part.start as u32);
            let wanted = part.start.max(first - 1)..part.end.max(first - 1);
            batch.wanted = wanted.clone().map(|position| position - part.start).collect();
            let targets = &window[wanted.start + 1..wanted.end + 1];
            let request = HeadRequest::LogProbOf(targets);
            let out = self.decoder.forward(&mut self.steps, &batch, &mut states, request)?;
            scores.extend_from_slice(out.into_rows()?.data());
        }
        Ok(scores)
    }
}
