//! Perplexity against length: how well a model still predicts when the text is longer than what it was trained with.
//!
//! For each length the first so many tokens of a text are one window; every token but the first is scored. The last
//! 1,024 of them stand apart too: a mean over the whole window hides what happens at its end.

use serde::Serialize;

use crate::perplexity::{Score, Scorer, TokenizedText};
use crate::{Error, Result};

/// Tokens at the end of a window that are counted apart.
pub const TAIL: usize = 1024;

/// One length under one way of stretching RoPE.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LengthRow {
    /// How RoPE was stretched.
    pub rope_scaling: String,
    /// By how much.
    pub rope_factor: f32,
    /// Tokens that the model saw.
    pub length: usize,
    /// `exp` of the mean negative log-likelihood of all scored tokens.
    pub perplexity: f64,
    /// Its standard error, tokens taken as independent.
    pub standard_error: f64,
    /// The perplexity of the last [`TAIL`] tokens.
    pub tail_perplexity: f64,
    /// Scored tokens.
    pub tokens: usize,
    /// How long it took.
    pub seconds: f64,
}

impl LengthRow {
    /// The names of the columns of a CSV file.
    pub const CSV_HEADER: &str =
        "rope_scaling,rope_factor,length,perplexity,standard_error,tail_perplexity,tokens,seconds";

    /// The row of a CSV file.
    pub fn csv(&self) -> String {
        format!(
            "{},{},{},{:.4},{:.4},{:.4},{},{:.1}",
            self.rope_scaling,
            self.rope_factor,
            self.length,
            self.perplexity,
            self.standard_error,
            self.tail_perplexity,
            self.tokens,
            self.seconds
        )
    }
}

/// Scores the first `length` tokens of a text: all of them, and the last [`TAIL`].
///
/// # Errors
/// The text is shorter, the length is below 8, the forward pass fails or gives something that is no finite number.
pub fn score_length(scorer: &mut dyn Scorer, text: &TokenizedText, length: usize) -> Result<(Score, Score)> {
    if length < 8 {
        return Err(Error::Options(format!("a length of {length} tokens; at least 8 are needed")));
    }
    let Some(tokens) = text.tokens.get(..length) else {
        return Err(Error::TooShort { protocol: "long-context", tokens: text.tokens.len(), needed: length });
    };
    let (mut all, mut tail) = (Score::default(), Score::default());
    for (i, &value) in scorer.score(tokens, 1)?.iter().enumerate() {
        let token = i + 1;
        if !value.is_finite() {
            return Err(Error::NotFinite { chunk: 1, token, value });
        }
        all.push(value, text.bytes[token]);
        if token + TAIL >= length {
            tail.push(value, text.bytes[token]);
        }
    }
    Ok((all, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives token `i` of a window the log-probability `-i`.
    struct Ramp;

    impl Scorer for Ramp {
        fn score(&mut self, window: &[u32], first: usize) -> Result<Vec<f32>> {
            Ok((first..window.len()).map(|i| -(i as f32)).collect())
        }
    }

    fn text(n: usize) -> TokenizedText {
        TokenizedText { tokens: vec![0; n], bos: None, bytes: vec![1; n], uncovered_bytes: 0 }
    }

    #[test]
    fn every_token_but_the_first_counts_and_the_last_ones_apart() {
        let (all, tail) = score_length(&mut Ramp, &text(3000), 2000).unwrap();
        assert_eq!((all.tokens, tail.tokens), (1999, TAIL));
        // The sums of 1..=1999 and of 976..=1999.
        assert_eq!((all.nll, tail.nll), (1999.0 * 1000.0, 1024.0 * (976.0 + 1999.0) / 2.0));
        let (all, tail) = score_length(&mut Ramp, &text(10), 10).unwrap();
        assert_eq!((all.tokens, tail.tokens), (9, 9));
    }

    #[test]
    fn a_text_that_is_too_short_says_so() {
        let message = score_length(&mut Ramp, &text(10), 11).unwrap_err().to_string();
        assert!(message.contains("10 tokens") && message.contains("11"), "{message}");
    }
}
