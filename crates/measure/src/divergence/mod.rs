//! How far one model's predictions are from another's: what quantizing, pruning or tuning changed, token by token.
//!
//! Both read the same text, cut by the same [`Protocol`]. Of each scored position the whole distributions are compared,
//! `KL(a || b) = sum_i a_i * (ln a_i - ln b_i)` in nats, in f64 over all tokens of the vocabulary; so it says more than the two
//! perplexities, which see one token of each. Nothing of the logits is kept: the models go side by side, 32 positions at a time.

mod quantile;
mod row;
mod sides;

use porism_text::Tokenizer;
use serde::Serialize;

pub use sides::Side;

use crate::perplexity::{Protocol, Score, TokenizedText};
use crate::{Error, Result};
use quantile::{quantile, quantile_error};
use row::Row;

/// Where a measurement stands, after each window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Windows done.
    pub chunk: usize,
    /// Windows in all.
    pub chunks: usize,
    /// The mean divergence of the positions so far.
    pub mean_kl: f64,
}

/// What was measured. Standard errors take the positions as independent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Divergence {
    /// The mean of `KL(a || b)`, in nats.
    pub mean_kl: f64,
    /// Its standard error.
    pub mean_kl_standard_error: f64,
    /// The median.
    pub median_kl: f64,
    /// Its standard error, which is the bootstrap's (Maritz and Jarrett 1978), as of the other quantiles.
    pub median_kl_standard_error: f64,
    /// 99 of 100 positions have less.
    pub p99_kl: f64,
    /// Its standard error.
    pub p99_kl_standard_error: f64,
    /// 999 of 1,000 have less.
    pub p999_kl: f64,
    /// Its standard error.
    pub p999_kl_standard_error: f64,
    /// The largest.
    pub max_kl: f64,
    /// The share of positions where both have the same likeliest token.
    pub same_top: f64,
    /// Its standard error.
    pub same_top_standard_error: f64,
    /// The perplexity of the first model.
    pub perplexity_a: f64,
    /// Its standard error.
    pub perplexity_a_standard_error: f64,
    /// The perplexity of the second model.
    pub perplexity_b: f64,
    /// Its standard error.
    pub perplexity_b_standard_error: f64,
    /// `perplexity_b - perplexity_a`.
    pub perplexity_difference: f64,
    /// Its standard error. Both models read the same tokens, so it is less than those of the two would make.
    pub perplexity_difference_standard_error: f64,
    /// Compared positions.
    pub tokens: usize,
    /// Windows.
    pub chunks: usize,
    /// The protocol's name.
    pub protocol: &'static str,
    /// Tokens that the models saw at a time.
    pub context: usize,
}

/// Whether two models speak of the same tokens.
///
/// # Errors
/// They do not: the first token that differs is named.
pub fn same_vocabulary(a: &Tokenizer, b: &Tokenizer) -> Result<()> {
    let (sizes, differs) = ((a.vocab_size(), b.vocab_size()), "the models do not share a vocabulary");
    if sizes.0 != sizes.1 {
        return Err(Error::Options(format!(
            "{differs}: {} tokens and {}; their distributions cannot be compared",
            sizes.0, sizes.1
        )));
    }
    match (0..sizes.0 as u32).find(|&id| a.token_bytes(id) != b.token_bytes(id)) {
        None => Ok(()),
        Some(id) => {
            let show = |t: &Tokenizer| match t.token_bytes(id) {
                Some(bytes) => format!("{:?}", String::from_utf8_lossy(&bytes)),
                None => "nothing".into(),
            };
            Err(Error::Options(format!(
                "{differs}: token {id} is {} and {}; their distributions cannot be compared",
                show(a),
                show(b)
            )))
        }
    }
}

/// Compares two models on a text, its first `chunks` windows or all; `progress` hears of each.
///
/// # Errors
/// As [`crate::perplexity::score`], or the models' heads have different numbers of tokens.
pub fn divergence(
    a: &mut Side<'_>,
    b: &mut Side<'_>,
    text: &TokenizedText,
    protocol: Protocol,
    chunks: Option<usize>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Divergence> {
    sides::same_heads(a, b)?;
    let windows = protocol.first_windows(text.tokens.len(), chunks)?;
    let (mut rows, mut sum) = (Vec::new(), 0.0);
    for (i, window) in windows.iter().enumerate() {
        let first = window.scored.start - window.tokens.start;
        let before = rows.len();
        sides::compare(a, b, &text.window(window), first, &mut rows)?;
        for (token, row) in window.scored.clone().zip(&rows[before..]) {
            row.check(i + 1, token)?;
            sum += row.kl;
        }
        let mean_kl = sum / rows.len() as f64;
        progress(Progress { chunk: i + 1, chunks: windows.len(), mean_kl });
    }
    Ok(summary(&rows, windows.len(), protocol))
}

fn summary(rows: &[Row], chunks: usize, protocol: Protocol) -> Divergence {
    let n = rows.len() as f64;
    let mean = |of: &dyn Fn(&Row) -> f64| rows.iter().map(of).sum::<f64>() / n;
    let mean_kl = mean(&|row| row.kl);
    let spread = mean(&|row| (row.kl - mean_kl).powi(2));
    let mut sorted: Vec<f64> = rows.iter().map(|row| row.kl).collect();
    sorted.sort_by(f64::total_cmp);
    let same_top = mean(&|row| f64::from(row.same_top));
    let (mut a, mut b) = (Score::default(), Score::default());
    for row in rows {
        a.push(row.log_prob_a as f32, 0);
        b.push(row.log_prob_b as f32, 0);
    }
    let (perplexity_a, perplexity_b) = (a.perplexity(), b.perplexity());
    let (mean_a, mean_b) = (mean(&|row| row.log_prob_a), mean(&|row| row.log_prob_b));
    // The delta method: how the difference follows the two mean log-likelihoods.
    let spread_of_difference =
        mean(&|row| (perplexity_b * (row.log_prob_b - mean_b) - perplexity_a * (row.log_prob_a - mean_a)).powi(2));
    let error = |variance: f64| (variance / (n - 1.0)).sqrt();
    Divergence {
        mean_kl,
        mean_kl_standard_error: error(spread),
        median_kl: quantile(&sorted, 0.5),
        median_kl_standard_error: quantile_error(&sorted, 0.5),
        p99_kl: quantile(&sorted, 0.99),
        p99_kl_standard_error: quantile_error(&sorted, 0.99),
        p999_kl: quantile(&sorted, 0.999),
        p999_kl_standard_error: quantile_error(&sorted, 0.999),
        max_kl: sorted.last().copied().unwrap_or(0.0),
        same_top,
        same_top_standard_error: error(same_top * (1.0 - same_top)),
        perplexity_a,
        perplexity_a_standard_error: a.standard_error(),
        perplexity_b,
        perplexity_b_standard_error: b.standard_error(),
        perplexity_difference: perplexity_b - perplexity_a,
        perplexity_difference_standard_error: error(spread_of_difference),
        tokens: rows.len(),
        chunks,
        protocol: protocol.name(),
        context: protocol.context(),
    }
}
