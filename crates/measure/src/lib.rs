//! Measuring: how well a model predicts a text, how fast it runs, and what the machine could do.
//!
//! - [`perplexity`]: two protocols, each defined to the token, over any [`perplexity::Scorer`].
//! - [`mod@divergence`]: how far one model's predictions are from another's.
//! - [`long_context`]: perplexity against the length of the text.
//! - [`benchmark`]: tasks with questions and answers, with lm-evaluation-harness's numbers.
//! - [`diff`]: two logs of benchmarks, item by item.
//! - [`metric`]: generated text against references, with the reference programs' numbers.
//! - [`limits`]: the machine's read bandwidth and arithmetic peaks.
//! - [`mod@bench`]: what one row of `porism bench` does, and the bytes and operations that it takes.

pub mod bench;
pub mod benchmark;
mod chunks;
pub mod diff;
pub mod divergence;
mod error;
pub mod limits;
pub mod long_context;
pub mod metric;
mod names;
pub mod perplexity;

pub use error::{Error, Result};

/// A page of plain text of several kinds, some 800 tokens, for measurements that were given none.
pub const SAMPLE_TEXT: &str = include_str!("sample.txt");
