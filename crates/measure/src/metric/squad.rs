//! Exact match and token F1 of short answers (Rajpurkar et al. 2016, "SQuAD"), with the normalization and the rules of
//! SQuAD 2.0's evaluation script. Both are means over all segments, from 0 to 100; of several references the best counts.

use super::category::word_characters;
use super::python::words;
use super::vocabulary::Vocabulary;
use super::{Metric, Signature};

/// The share of answers that equal a reference once both are normalized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExactMatch;

/// The F-score of the words that answer and reference share, as bags. If one of the two has no words, it is 100 if the
/// other has none either, else 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenF1;

/// What the two keep from one segment to the next.
#[derive(Debug, Default)]
pub struct SquadScratch {
    vocabulary: Vocabulary,
    own: Vec<u32>,
    theirs: Vec<u32>,
}

impl SquadScratch {
    /// An answer's words: lower case, no ASCII punctuation, no articles.
    fn take(&mut self, text: &str, into: &mut Vec<u32>) {
        into.clear();
        let mut line = text.to_lowercase();
        line.retain(|c| !c.is_ascii_punctuation());
        let line = without_articles(&line);
        into.extend(words(&line).map(|word| self.vocabulary.number(word)));
    }
}

/// A space for each article that stands between characters which do not belong to words. Only letters, digits and the
/// underscore do: not the marks that may combine with an article's letters.
fn without_articles(line: &str) -> String {
    let inside = |c: char| word_characters().has(c);
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c| !inside(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        out.push_str(if matches!(word, "a" | "an" | "the") { " " } else { word });
        let next = behind.find(inside).unwrap_or(behind.len());
        out.push_str(&behind[..next]);
        rest = &behind[next..];
    }
    out
}

impl Metric for ExactMatch {
    type Scratch = SquadScratch;

    fn name(&self) -> String {
        "exact match".into()
    }

    fn width(&self) -> usize {
        1
    }

    fn segment(&self, scratch: &mut SquadScratch, hypothesis: &str, references: &[&str], row: &mut [f64]) {
        let (mut own, mut theirs) = (std::mem::take(&mut scratch.own), std::mem::take(&mut scratch.theirs));
        scratch.take(hypothesis, &mut own);
        for text in references {
            scratch.take(text, &mut theirs);
            row[0] = f64::max(row[0], (own == theirs).into());
        }
        (scratch.own, scratch.theirs) = (own, theirs);
    }

    fn score(&self, sums: &[f64], segments: usize) -> f64 {
        100.0 * sums[0] / segments as f64
    }

    fn signature(&self, references: usize) -> Signature {
        Signature::new(references).with("norm", "squad2")
    }
}

impl Metric for TokenF1 {
    type Scratch = SquadScratch;

    fn name(&self) -> String {
        "token F1".into()
    }

    fn width(&self) -> usize {
        1
    }

    fn segment(&self, scratch: &mut SquadScratch, hypothesis: &str, references: &[&str], row: &mut [f64]) {
        let (mut own, mut theirs) = (std::mem::take(&mut scratch.own), std::mem::take(&mut scratch.theirs));
        scratch.take(hypothesis, &mut own);
        own.sort_unstable();
        for text in references {
            scratch.take(text, &mut theirs);
            theirs.sort_unstable();
            row[0] = row[0].max(f1(&own, &theirs));
        }
        (scratch.own, scratch.theirs) = (own, theirs);
    }

    fn score(&self, sums: &[f64], segments: usize) -> f64 {
        100.0 * sums[0] / segments as f64
    }

    fn signature(&self, references: usize) -> Signature {
        Signature::new(references).with("norm", "squad2")
    }
}

/// The F-score of two sorted bags.
fn f1(own: &[u32], theirs: &[u32]) -> f64 {
    if own.is_empty() || theirs.is_empty() {
        return (own == theirs).into();
    }
    let (mut i, mut j, mut common) = (0, 0, 0u32);
    while let (Some(a), Some(b)) = (own.get(i), theirs.get(j)) {
        match a.cmp(b) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, common) = (i + 1, j + 1, common + 1),
        }
    }
    if common == 0 {
        return 0.0;
    }
    let (precision, recall) = (f64::from(common) / own.len() as f64, f64::from(common) / theirs.len() as f64);
    2.0 * precision * recall / (precision + recall)
}
