//! TER, the translation edit rate (Snover et al. 2006), as sacrebleu 2.6.0 computes it.

mod edit;
mod shift;
mod tokenize;

use super::python::words;
use super::vocabulary::Vocabulary;
use super::{Metric, Signature};
use shift::Shifts;

/// Edits for each hundred words of the reference: insertions, deletions, substitutions, and shifts of runs of words.
/// Less is better; there may be more than a hundred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ter {
    /// Whether punctuation is set off from words, and XML's escapes are undone.
    pub normalized: bool,
    /// Whether punctuation is removed.
    pub no_punctuation: bool,
    /// Whether the two above know Chinese and Japanese.
    pub asian_support: bool,
    /// Whether upper and lower case differ.
    pub case_sensitive: bool,
}

/// What TER keeps from one segment to the next.
#[derive(Debug, Default)]
pub struct TerScratch {
    vocabulary: Vocabulary,
    line: String,
    spare: String,
    hypothesis: Vec<u32>,
    reference: Vec<u32>,
    shifts: Shifts,
}

impl TerScratch {
    fn take(&mut self, ter: &Ter, text: &str, into: &mut Vec<u32>) {
        tokenize::write(ter, text, &mut self.line, &mut self.spare);
        into.clear();
        into.extend(words(&self.line).map(|word| self.vocabulary.number(word)));
    }
}

impl Metric for Ter {
    type Scratch = TerScratch;

    fn name(&self) -> String {
        "TER".into()
    }

    /// Edits, and words of the references on average.
    fn width(&self) -> usize {
        2
    }

    fn segment(&self, scratch: &mut TerScratch, hypothesis: &str, references: &[&str], row: &mut [f64]) {
        let (mut own, mut theirs) = (std::mem::take(&mut scratch.hypothesis), std::mem::take(&mut scratch.reference));
        scratch.take(self, hypothesis, &mut own);
        let mut least = u32::MAX;
        let mut length = 0;
        for text in references {
            scratch.take(self, text, &mut theirs);
            least = least.min(scratch.shifts.edits(&own, &theirs));
            length += theirs.len();
        }
        row[0] = least.into();
        row[1] = length as f64 / references.len() as f64;
        (scratch.hypothesis, scratch.reference) = (own, theirs);
    }

    fn score(&self, sums: &[f64], _segments: usize) -> f64 {
        match (sums[0], sums[1]) {
            (edits, words) if words > 0.0 => 100.0 * (edits / words),
            (edits, _) if edits > 0.0 => 100.0,
            _ => 0.0,
        }
    }

    fn signature(&self, references: usize) -> Signature {
        Signature::new(references)
            .with("case", if self.case_sensitive { "mixed" } else { "lc" })
            .with("tok", "tercom")
            .with_flag("norm", self.normalized)
            .with_flag("punct", !self.no_punctuation)
            .with_flag("asian", self.asian_support)
    }
}
