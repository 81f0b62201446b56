//! Perplexity: `exp` of the mean negative log-likelihood of a text's tokens.
//!
//! The number means something only with the protocol that says which tokens are scored and what the model
//! sees before each: see [`Protocol`]. The text is tokenized once, as plain text, with a BOS in front where
//! the model adds one; such a model sees a BOS in place of the first token of every window, as in
//! llama.cpp, since it was not made for texts without. (The loop in transformers' guide to perplexity, which
//! `sliding` follows otherwise, does not put one there.) An EOS is never added.

mod protocol;
mod score;

use porism_models::cpu::{Activations, KvType};
use porism_text::Tokenizer;
use serde::Serialize;

pub use protocol::{Protocol, Window};
pub use score::{DecoderScorer, Scorer};

use crate::{Error, Result};

/// A text's tokens with what their scoring needs.
#[derive(Clone, Debug)]
pub struct TokenizedText {
    /// All tokens, the BOS included where the model adds one.
    pub tokens: Vec<u32>,
    /// The BOS that goes in place of a window's first token.
    pub bos: Option<u32>,
    /// UTF-8 bytes that each token stands for; 0 for the BOS.
    pub bytes: Vec<usize>,
    /// Bytes of the text that the vocabulary has no token for: they are in no token and in no count.
    pub uncovered_bytes: usize,
}

impl TokenizedText {
    /// Tokenizes a text for a protocol.
    ///
    /// # Errors
    /// The text is not UTF-8 or too large.
    pub fn new(tokenizer: &Tokenizer, text: &[u8], protocol: Protocol) -> Result<TokenizedText> {
        let text = std::str::from_utf8(text).map_err(|e| Error::NotUtf8 { offset: e.valid_up_to() })?;
        let text = match protocol {
            Protocol::LlamaCpp { .. } => text.strip_suffix('\n').unwrap_or(text),
            Protocol::Sliding { .. } => text,
        };
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let mut tokens: Vec<u32> = bos.into_iter().collect();
        tokens.extend(tokenizer.encode(text, false, false)?);
        let length = |&id: &u32| tokenizer.token_bytes(id).map_or(0, |bytes| bytes.len());
        let mut bytes: Vec<usize> = tokens.iter().map(length).collect();
        if bos.is_some() {
            bytes[0] = 0;
        }
        Ok(TokenizedText { tokens, bos, bytes, uncovered_bytes: tokenizer.uncovered_bytes(text) })
    }

    /// What a model sees of a window.
    pub(crate) fn window(&self, window: &Window) -> Vec<u32> {
        let mut seen = self.tokens[window.tokens.clone()].to_vec();
        if let (Some(bos), Some(first)) = (self.bos, seen.first_mut()) {
            *first = bos;
        }
        seen
    }
}

/// Where a measurement stands, after each window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Windows done.
    pub chunk: usize,
    /// Windows in all.
    pub chunks: usize,
    /// The perplexity of the tokens so far.
    pub perplexity: f64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Perplexity {
    /// `exp` of the mean negative log-likelihood.
    pub perplexity: f64,
    /// Its standard error as llama.cpp reports it: `perplexity * sqrt(variance / (tokens - 1))`, with
    /// the variance of the tokens' negative log-likelihoods, as though they were independent.
    pub standard_error: f64,
    /// Scored tokens.
    pub tokens: usize,
    /// The protocol's name.
    pub protocol: &'static str,
    /// Tokens that the model saw at a time.
    pub context: usize,
    /// Tokens that a window moved by, where windows overlapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// Windows that were scored.
    pub chunks: usize,
    /// Bits of the scored tokens over their bytes: comparable between vocabularies.
    pub bits_per_byte: f64,
    /// UTF-8 bytes of the scored tokens.
    pub bytes: usize,
    /// Bytes of the whole text that the vocabulary has no token for.
    pub uncovered_bytes: usize,
    /// Of a mixture of experts: how often each was chosen, by layer, then by expert.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expert_load: Vec<Vec<u64>>,
    /// The executor's mode.
    #[serde(serialize_with = "crate::names::activations::serialize")]
    pub activations: Activations,
    /// How keys and values were kept.
    #[serde(serialize_with = "crate::names::kv_type::serialize")]
    pub kv_type: KvType,
}

/// Sums over scored tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Scored tokens.
    pub tokens: usize,
    /// Their UTF-8 bytes.
    pub bytes: usize,
    /// Windows.
    pub chunks: usize,
    /// The sum of negative log-likelihoods, in nats.
    pub nll: f64,
    /// The sum of their squares.
    pub nll_squares: f64,
}

impl Score {
    /// Counts a token.
    pub(crate) fn push(&mut self, log_prob: f32, bytes: usize) {
        let nll = -f64::from(log_prob);
        self.tokens += 1;
        self.bytes += bytes;
        self.nll += nll;
        self.nll_squares += nll * nll;
    }

    /// `exp` of the mean negative log-likelihood.
    pub fn perplexity(&self) -> f64 {
        (self.nll / self.tokens as f64).exp()
    }

    /// See [`Perplexity::standard_error`]; for two tokens or more.
    pub fn standard_error(&self) -> f64 {
        let n = self.tokens as f64;
        let mean = self.nll / n;
        // Rounding can bring equal numbers below zero.
        let variance = (self.nll_squares / n - mean * mean).max(0.0);
        self.perplexity() * (variance / (n - 1.0)).sqrt()
    }

    /// Bits over bytes.
    pub fn bits_per_byte(&self) -> f64 {
        self.nll / std::f64::consts::LN_2 / self.bytes as f64
    }

    /// The report.
    pub fn report(
        &self,
        text: &TokenizedText,
        protocol: Protocol,
        activations: Activations,
        kv_type: KvType,
    ) -> Perplexity {
        Perplexity {
            perplexity: self.perplexity(),
            standard_error: self.standard_error(),
            tokens: self.tokens,
            protocol: protocol.name(),
            context: protocol.context(),
            stride: protocol.stride(),
            chunks: self.chunks,
            bits_per_byte: self.bits_per_byte(),
            bytes: self.bytes,
            uncovered_bytes: text.uncovered_bytes,
            expert_load: Vec::new(),
            activations,
            kv_type,
        }
    }
}

/// Scores a text, its first `chunks` windows or all; `progress` hears of each.
///
/// # Errors
/// The protocol cannot be followed ([`Protocol::windows`]), `chunks` is 0, the forward pass fails or
/// gives something that is no finite number.
pub fn score(
    scorer: &mut dyn Scorer,
    text: &TokenizedText,
    protocol: Protocol,
    chunks: Option<usize>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Score> {
    let windows = protocol.first_windows(text.tokens.len(), chunks)?;
    let mut sums = Score::default();
    for (i, window) in windows.iter().enumerate() {
        let log_probs = scorer.score(&text.window(window), window.scored.start - window.tokens.start)?;
        for (token, &value) in window.scored.clone().zip(&log_probs) {
            if !value.is_finite() {
                return Err(Error::NotFinite { chunk: i + 1, token, value });
            }
            sums.push(value, text.bytes[token]);
        }
        sums.chunks = i + 1;
        progress(Progress { chunk: i + 1, chunks: windows.len(), perplexity: sums.perplexity() });
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_error_is_that_of_llama_cpp() {
        // Four tokens of 1, 2, 3, 4 bits: mean 2.5 bits, variance 30/4 - 2.5^2 = 1.25 bits^2, so the
        // perplexity is 2^2.5 = 5.656854 and its error 5.656854 * ln 2 * sqrt(1.25 / 3) = 2.531018.
        let mut score = Score::default();
        for bits in 1..=4 {
            score.push((-f64::from(bits) * std::f64::consts::LN_2) as f32, 2);
        }
        assert!((score.perplexity() - 5.656_854).abs() < 1e-5, "{}", score.perplexity());
        assert!((score.standard_error() - 2.531_018).abs() < 1e-5, "{}", score.standard_error());
        assert!((score.bits_per_byte() - 10.0 / 8.0).abs() < 1e-6, "{}", score.bits_per_byte());
    }

    #[test]
    fn equal_tokens_have_no_error() {
        let mut score = Score::default();
        (0..7).for_each(|_| score.push(-0.1, 1));
        assert!(score.standard_error() >= 0.0 && score.standard_error() < 1e-6);
    }
}
