//! Metrics of generated text against references, with the reference programs' numbers.
//!
//! A [`Metric`] turns each segment (a hypothesis and its references) into a row of statistics; the corpus's score is a
//! function of the sum of the rows. So a sentence's score, the corpus's and that of every bootstrap resample come out of
//! the same rows. [`BertScorer`] needs a model and [`PassAtK`] no text: they have functions of their own.
//!
//! | metric | reference program | range |
//! | --- | --- | --- |
//! | [`Bleu`], [`Chrf`], [`Ter`] | sacrebleu 2.6.0 | 0 to 100 (TER: from 0 up, less is better) |
//! | [`Rouge`] | rouge_score 0.1.2 | 0 to 1 |
//! | [`Meteor`] | NLTK 3.10.4 | 0 to 1 |
//! | [`ExactMatch`], [`TokenF1`] | SQuAD's evaluation script, version 2.0 | 0 to 100 |
//! | [`BertScorer`] | bert_score 0.3.13 | -1 to 1 |
//! | [`PassAtK`] | the estimator of HumanEval | 0 to 1 |

mod bert_score;
mod bleu;
mod category;
mod chrf;
mod corpus;
mod grams;
mod meteor;
mod pass_at_k;
mod porter;
pub(crate) mod python;
mod rouge;
mod signature;
mod squad;
mod ter;
mod tokenize;
mod vocabulary;

pub use bert_score::{Baseline, BertScorer, cut_encoder, read_baseline};
pub use bleu::{Bleu, BleuDetail, Smoothing};
pub use chrf::Chrf;
pub use corpus::{Corpus, Scored, score};
pub use meteor::{Meteor, WordNet};
pub use pass_at_k::{PassAtK, Samples, pass_at_k};
pub use rouge::{Rouge, RougeKind};
pub use signature::Signature;
pub use squad::{ExactMatch, SquadScratch, TokenF1};
pub use ter::Ter;
pub use tokenize::Tokenizer;

/// A score of hypotheses against references.
pub trait Metric: Sync {
    /// What a thread keeps from one segment to the next.
    type Scratch: Default + Send;

    /// The metric's name.
    fn name(&self) -> String;

    /// Numbers of a segment's row of statistics.
    fn width(&self) -> usize;

    /// A segment's statistics; `row` has [`Metric::width`] zeros, and `references` at least one text.
    fn segment(&self, scratch: &mut Self::Scratch, hypothesis: &str, references: &[&str], row: &mut [f64]);

    /// The score of so many segments, from the sums of their statistics.
    fn score(&self, sums: &[f64], segments: usize) -> f64;

    /// What fixes the score, for a number of references.
    fn signature(&self, references: usize) -> Signature;
}
