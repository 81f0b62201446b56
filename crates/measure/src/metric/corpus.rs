//! Hypotheses and references side by side, and their rows of statistics, computed on all threads.

use std::sync::OnceLock;

use porism_kernels::Pool;

use super::Metric;
use crate::{Error, Result};

/// Segments that a thread takes at a time.
const TILE: usize = 256;

/// Hypotheses with their references.
#[derive(Clone, Debug)]
pub struct Corpus<'a> {
    hypotheses: Vec<&'a str>,
    /// One list for each set of references, each as long as the hypotheses.
    references: Vec<Vec<&'a str>>,
}

impl<'a> Corpus<'a> {
    /// Hypotheses, and one or more sets of references in the same order.
    ///
    /// # Errors
    /// If there is no hypothesis or no set, or a set is longer or shorter than the hypotheses.
    pub fn new(hypotheses: Vec<&'a str>, references: Vec<Vec<&'a str>>) -> Result<Corpus<'a>> {
        if hypotheses.is_empty() {
            return Err(Error::Options("there are no segments to score".into()));
        }
        if references.is_empty() {
            return Err(Error::Options("there are no references to score against".into()));
        }
        if let Some(set) = references.iter().position(|r| r.len() != hypotheses.len()) {
            let (hypotheses, references) = (hypotheses.len(), references[set].len());
            return Err(Error::Lengths { set: set + 1, hypotheses, references });
        }
        Ok(Corpus { hypotheses, references })
    }

    /// How many segments there are.
    pub fn len(&self) -> usize {
        self.hypotheses.len()
    }

    /// Whether there are none, which is never so.
    pub fn is_empty(&self) -> bool {
        self.hypotheses.is_empty()
    }

    /// References of a segment.
    pub fn sets(&self) -> usize {
        self.references.len()
    }

    /// A segment's hypothesis, and its references in `into`.
    fn segment(&self, i: usize, into: &mut Vec<&'a str>) -> &'a str {
        into.clear();
        into.extend(self.references.iter().map(|set| set[i]));
        self.hypotheses[i]
    }

    /// All hypotheses.
    pub fn hypotheses(&self) -> &[&'a str] {
        &self.hypotheses
    }

    /// All sets of references.
    pub fn references(&self) -> &[Vec<&'a str>] {
        &self.references
    }
}

/// A corpus's statistics and what follows from them.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The score of the whole corpus.
    pub score: f64,
    /// The sums of the statistics.
    pub sums: Vec<f64>,
    /// The statistics, [`Metric::width`] numbers a segment, one segment after the other.
    pub rows: Vec<f64>,
}

/// The statistics of a corpus's segments and its score. The same on any number of threads.
pub fn score<M: Metric>(metric: &M, corpus: &Corpus<'_>, pool: &Pool) -> Scored {
    let width = metric.width();
    let tiles = corpus.len().div_ceil(TILE);
    let parts: Vec<OnceLock<Vec<f64>>> = (0..tiles).map(|_| OnceLock::new()).collect();
    pool.run(tiles, &|tile| {
        let segments = tile * TILE..corpus.len().min((tile + 1) * TILE);
        let mut rows = vec![0.0; segments.len() * width];
        let mut scratch = M::Scratch::default();
        let mut references = Vec::with_capacity(corpus.sets());
        for (i, row) in segments.zip(rows.chunks_exact_mut(width)) {
            let hypothesis = corpus.segment(i, &mut references);
            metric.segment(&mut scratch, hypothesis, &references, row);
        }
        // Each tile runs once.
        let _ = parts[tile].set(rows);
    });
    let rows: Vec<f64> = parts.into_iter().filter_map(OnceLock::into_inner).flatten().collect();
    let mut sums = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    Scored { score: metric.score(&sums, corpus.len()), sums, rows }
}
