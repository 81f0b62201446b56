//! A batch: packed rows with explicit positions, spans that say whose they are, and the rows whose
//! output is wanted. There is no padding; training, scoring, generation and encoders all use it.

use std::ops::Range;
use std::sync::Arc;

use porism_kernels::attention::Tree;

use crate::linear::AdapterId;
use crate::{Error, Result};

/// What enters the model.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Token ids, one a row.
    Ids(Vec<u32>),
    /// Activations `[rows, width]`, row-major: soft prompts, image patches.
    Rows {
        /// Row-major values.
        values: Vec<f32>,
        /// Numbers a row.
        width: usize,
    },
}

impl Input {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Input::Ids(ids) => ids.len(),
            Input::Rows { values, width } => values.len() / (*width).max(1),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A run of rows of one sequence, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Index of the sequence's state in the slice of states given to the forward pass.
    pub sequence: usize,
    /// The rows.
    pub rows: Range<usize>,
    /// The adapter that these rows run with.
    pub adapter: Option<AdapterId>,
    /// How the rows branch, if they are not one after the other: each then sees of them its ancestors and itself.
    /// Their positions are the first one behind the sequence plus [`Tree::depth`]. Before other rows follow, the
    /// sequence must be rolled back to rows that are one branch.
    pub tree: Option<Arc<Tree>>,
}

/// Packed rows of one forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Ids or activations, one a row.
    pub input: Input,
    /// The position of each row within its sequence: what RoPE and windows see. Not a cache index.
    pub positions: Vec<u32>,
    /// Who owns which rows: consecutive ranges that cover all rows.
    pub spans: Vec<Span>,
    /// Rows whose output is wanted, ascending; a row may be named several times, once for each target that is asked of
    /// it.
    pub wanted: Vec<usize>,
}

impl Batch {
    /// One sequence (state 0) of ids at positions `start..`, output wanted for the last row only.
    pub fn single(ids: &[u32], start: u32) -> Batch {
        let n = ids.len();
        Batch {
            input: Input::Ids(ids.to_vec()),
            positions: (start..start + n as u32).collect(),
            spans: vec![Span { sequence: 0, rows: 0..n, adapter: None, tree: None }],
            wanted: n.checked_sub(1).into_iter().collect(),
        }
    }

    /// Several whole sequences, each from position 0 with a state of its own, packed one after the
    /// other; output wanted for every row.
    pub fn packed(sequences: &[&[u32]]) -> Batch {
        let mut batch =
            Batch { input: Input::Ids(Vec::new()), positions: Vec::new(), spans: Vec::new(), wanted: Vec::new() };
        let mut ids = Vec::new();
        for (sequence, tokens) in sequences.iter().enumerate() {
            let start = ids.len();
            ids.extend_from_slice(tokens);
            batch.positions.extend(0..tokens.len() as u32);
            batch.spans.push(Span { sequence, rows: start..ids.len(), adapter: None, tree: None });
        }
        batch.wanted = (0..ids.len()).collect();
        batch.input = Input::Ids(ids);
        batch
    }

    /// Rows of the batch.
    pub fn len(&self) -> usize {
        self.input.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks that positions, spans and wanted rows fit the input and that each span has its state.
    pub fn check(&self, states: usize) -> Result<()> {
        let n = self.len();
        let bad = |what: String| Err(Error::Batch(what));
        if n == 0 {
            return bad("it has no rows".into());
        }
        if self.positions.len() != n {
            return bad(format!("{} positions for {n} rows", self.positions.len()));
        }
        let mut next = 0;
        for span in &self.spans {
            if span.rows.start != next || span.rows.end <= span.rows.start {
                return bad(format!("span {:?} where row {next} comes next", span.rows));
            }
            if span.sequence >= states {
                return bad(format!("a span names sequence {}, and there are {states} states", span.sequence));
            }
            if let Some(tree) = span.tree.as_deref().filter(|tree| tree.len() != span.rows.len()) {
                return bad(format!("a tree of {} rows for rows {:?}", tree.len(), span.rows));
            }
            next = span.rows.end;
        }
        if next != n {
            return bad(format!("the spans cover {next} of {n} rows"));
        }
        if self.wanted.iter().any(|&row| row >= n) || self.wanted.windows(2).any(|w| w[0] > w[1]) {
            return bad("the wanted rows are not ascending rows of the batch".into());
        }
        Ok(())
    }

    /// The given rows, ascending, as a batch of their own: whose they are and where they stand. Its input
    /// is not meant to be read.
    pub fn select(&self, rows: &[usize]) -> Batch {
        let mut spans: Vec<Span> = Vec::new();
        let mut owners = self.spans.iter();
        let mut owner = owners.next();
        for (new, &row) in rows.iter().enumerate() {
            while owner.is_some_and(|s| row >= s.rows.end) {
                owner = owners.next();
            }
            let Some(span) = owner else { break };
            match spans.last_mut() {
                Some(last) if last.sequence == span.sequence && last.adapter == span.adapter => last.rows.end = new + 1,
                _ => {
                    spans.push(Span { sequence: span.sequence, rows: new..new + 1, adapter: span.adapter, tree: None })
                }
            }
        }
        Batch {
            input: Input::Rows { values: vec![0.0; rows.len()], width: 1 },
            positions: rows.iter().map(|&row| self.positions[row]).collect(),
            spans,
            wanted: (0..rows.len()).collect(),
        }
    }
}
