//! The benchmark: what a row is, which rows there are, and what is reported.
//!
//! A row is meant to run in a process of its own ([`run_row`], or [`first_token`] which starts the measured
//! program itself), so that its peak memory is its own and no row warms another's caches.

pub(crate) mod memory;
mod neighbour;
mod program;
mod row;
mod work;

use porism_models::cpu::{Activations, KvType};
use serde::{Deserialize, Serialize};

pub use memory::Memory;
pub use neighbour::{Neighbour, keep_busy};
pub use program::first_token;
pub use row::run_row;
pub use work::{Work, work};

use crate::limits::Limits;
use crate::names;

/// What a row measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// `n` tokens of a prompt behind `depth` others, in chunks as generation computes them; logits of
    /// the last.
    Prefill,
    /// `n` tokens one after the other behind `depth` others, each with its logits. Tokens are given, not
    /// chosen.
    Generate,
    /// From the start of the process to the first byte of an answer to a prompt of `n` tokens.
    FirstToken,
    /// The attention step alone, in all layers, for `n` rows behind `depth` cached entries.
    Attention,
    /// One pass of `n` tokens of one sequence behind `depth` others, with the logits of all: what checking a draft
    /// takes.
    Batch,
    /// One pass of one token of each of `n` sequences, each with a cache of its own of `depth` entries.
    Sequences,
    /// [`Test::Generate`] while a [`Neighbour`] keeps one core busy.
    Contention,
}

impl Test {
    /// All tests, in the order in which they run.
    pub const ALL: [Test; 7] = [
        Test::Prefill,
        Test::Generate,
        Test::FirstToken,
        Test::Attention,
        Test::Batch,
        Test::Sequences,
        Test::Contention,
    ];

    /// The name used in flags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Test::Prefill => "prefill",
            Test::Generate => "generate",
            Test::FirstToken => "first_token",
            Test::Attention => "attention",
            Test::Batch => "batch",
            Test::Sequences => "sequences",
            Test::Contention => "contention",
        }
    }
}

/// One row, before it has run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowSpec {
    /// What it measures.
    pub test: Test,
    /// Tokens; rows for attention, sequences for sequences.
    pub n: usize,
    /// Tokens that the cache holds before.
    pub depth: usize,
    /// Threads.
    pub threads: usize,
    /// How keys and values are kept.
    #[serde(with = "names::kv_type")]
    pub kv_type: KvType,
    /// The executor's mode.
    #[serde(with = "names::activations")]
    pub activations: Activations,
}

impl RowSpec {
    /// Positions that it reaches: more than a model was trained for is allowed, and worth a word.
    pub fn positions(&self) -> usize {
        self.depth + if self.test == Test::Sequences { 1 } else { self.n }
    }
}

/// A row's result: medians over its repetitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    #[serde(flatten)]
    pub spec: RowSpec,
    /// Tokens a second; for `first_token` the inverse of the seconds to it.
    pub tokens_per_second: f64,
    /// Weights and cache read, each byte counted once a pass, in 10^9 bytes a second ([`Work::bytes`]).
    pub gb_per_second: f64,
    /// What the process took.
    #[serde(flatten)]
    pub memory: Memory,
    /// The part of it that is the cache, at its largest.
    pub cache_bytes: u64,
    /// Operations of the projections ([`Work::projection_operations`]), in 10^9 a second.
    pub gops_per_second: f64,
}

impl Row {
    fn new(spec: &RowSpec, work: &Work, seconds: f64, memory: Memory, cache_bytes: u64) -> Row {
        let tokens = if spec.test == Test::FirstToken { 1 } else { spec.n };
        Row {
            spec: spec.clone(),
            tokens_per_second: tokens as f64 / seconds,
            gb_per_second: work.bytes as f64 / seconds / 1e9,
            memory,
            cache_bytes,
            gops_per_second: work.projection_operations as f64 / seconds / 1e9,
        }
    }
}

/// A whole benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What the machine can do, with the instructions of `isa`.
    pub machine: Limits,
    /// The level of vector instructions that everything ran with, by its [name](porism_kernels::Isa::name).
    pub isa: String,
    /// The model's file or folder.
    pub model: String,
    /// The rows, in the order in which they ran.
    pub rows: Vec<Row>,
}

/// Which rows are wanted.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// Tests.
    pub tests: &'a [Test],
    /// Lengths of prompts.
    pub prompt: &'a [usize],
    /// Numbers of generated tokens.
    pub generate: &'a [usize],
    /// Depths, for all tests but `first_token`.
    pub depth: &'a [usize],
    /// Tokens of a pass of `batch`, sequences of `sequences`.
    pub batch: &'a [usize],
    /// Tokens of the prompt of `first_token`.
    pub first_token_prompt: usize,
    /// Threads.
    pub threads: &'a [usize],
    /// Modes, each with the type of its cache.
    pub modes: &'a [(Activations, KvType)],
}

/// Rows of the attention test: one token, and a prompt's worth.
const ATTENTION_ROWS: [usize; 2] = [1, 512];

impl Plan<'_> {
    /// The rows: for each number of threads and mode, test after test.
    pub fn rows(&self) -> Vec<RowSpec> {
        let mut rows = Vec::new();
        let first_token = [self.first_token_prompt];
        for &threads in self.threads {
            for &(activations, kv_type) in self.modes {
                for &test in self.tests {
                    let (lengths, depths) = match test {
                        Test::Prefill => (self.prompt, self.depth),
                        Test::Generate | Test::Contention => (self.generate, self.depth),
                        Test::Batch | Test::Sequences => (self.batch, self.depth),
                        Test::FirstToken => (&first_token[..], &[0][..]),
                        Test::Attention => (&ATTENTION_ROWS[..], self.depth),
                    };
                    for &depth in depths {
                        for &n in lengths {
                            rows.push(RowSpec { test, n, depth, threads, kv_type, activations });
                        }
                    }
                }
            }
        }
        rows
    }
}

/// The middle of some numbers; the mean of the two in the middle of an even count.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(low), values.get(high)) {
        (Some(a), Some(b)) => (a + b) / 2.0,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn a_plan_has_the_documented_rows() {
        let plan = Plan {
            tests: &Test::ALL,
            batch: &[2, 16],
            prompt: &[128, 512],
            generate: &[128],
            depth: &[0, 2048],
            first_token_prompt: 30,
            threads: &[2],
            modes: &[(Activations::Int8, KvType::F16)],
        };
        let rows: Vec<_> = plan.rows().iter().map(|r| (r.test.name(), r.n, r.depth)).collect();
        let want = [
            ("prefill", 128, 0),
            ("prefill", 512, 0),
            ("prefill", 128, 2048),
            ("prefill", 512, 2048),
            ("generate", 128, 0),
            ("generate", 128, 2048),
            ("first_token", 30, 0),
            ("attention", 1, 0),
            ("attention", 512, 0),
            ("attention", 1, 2048),
            ("attention", 512, 2048),
            ("batch", 2, 0),
            ("batch", 16, 0),
            ("batch", 2, 2048),
            ("batch", 16, 2048),
            ("sequences", 2, 0),
            ("sequences", 16, 0),
            ("sequences", 2, 2048),
            ("sequences", 16, 2048),
            ("contention", 128, 0),
            ("contention", 128, 2048),
        ];
        assert_eq!(rows, want);
    }
}
