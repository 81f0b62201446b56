//! ROUGE (Lin 2004; the book, "Generation Metrics"), as rouge_score 0.1.2 computes it.

mod lcs;
mod words;

use hashbrown::HashMap;

use super::grams::Grams;
use super::{Metric, Signature};
use lcs::Lcs;
use words::Words;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RougeKind {
    /// n-grams of this order, from 1 to 4.
    N(u32),
    /// The longest common subsequence of the whole texts.
    L,
    /// The union of longest common subsequences of each line of the reference with all lines of the hypothesis.
    Lsum,
}

/// ROUGE, the mean of all segments' F-scores, from 0 to 1. Of several references the one with the best F-score counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rouge {
    /// What is compared.
    pub kind: RougeKind,
    /// Whether words are stemmed, by Porter's stemmer with NLTK's extensions.
    pub stemmed: bool,
}

/// What ROUGE keeps from one segment to the next.
#[derive(Debug, Default)]
pub struct RougeScratch {
    words: Words,
    lcs: Lcs,
    own: Text,
    theirs: Text,
}

#[derive(Debug, Default)]
struct Text {
    words: Vec<u32>,
    /// Where each line ends.
    lines: Vec<usize>,
    grams: Grams,
}

impl Text {
    fn take(&mut self, rouge: &Rouge, words: &mut Words, text: &str) {
        self.words.clear();
        self.lines.clear();
        match rouge.kind {
            RougeKind::Lsum => {
                for line in text.split('\n') {
                    words.take(line, rouge.stemmed, &mut self.words);
                    self.lines.push(self.words.len());
                }
            }
            RougeKind::L => words.take(text, rouge.stemmed, &mut self.words),
            RougeKind::N(n) => {
                words.take(text, rouge.stemmed, &mut self.words);
                self.grams.fill(self.words.iter().copied(), n, 32);
            }
        }
    }

    fn lines(&self) -> impl Iterator<Item = &[u32]> {
        let begins = std::iter::once(0).chain(self.lines.iter().copied());
        begins.zip(&self.lines).map(|(begin, &end)| &self.words[begin..end])
    }
}

/// Words of the union of longest common subsequences, none counted more often than either text has it.
fn union_hits(lcs: &mut Lcs, reference: &Text, hypothesis: &Text) -> u64 {
    let counts = |text: &Text| {
        let mut counts: HashMap<u32, u32> = HashMap::new();
        text.words.iter().for_each(|&word| *counts.entry(word).or_default() += 1);
        counts
    };
    let (mut left, mut left_own) = (counts(reference), counts(hypothesis));
    let mut marks = Vec::new();
    let mut hits = 0;
    for line in reference.lines() {
        marks.clear();
        marks.resize(line.len(), false);
        hypothesis.lines().for_each(|own| lcs.mark(line, own, &mut marks));
        for (word, _) in line.iter().zip(&marks).filter(|(_, mark)| **mark) {
            if let (Some(a @ 1..), Some(b @ 1..)) = (left.get_mut(word), left_own.get_mut(word)) {
                (*a, *b) = (*a - 1, *b - 1);
                hits += 1;
            }
        }
    }
    hits
}

impl Metric for Rouge {
    type Scratch = RougeScratch;

    fn name(&self) -> String {
        match self.kind {
            RougeKind::N(n) => format!("rouge{n}"),
            RougeKind::L => "rougeL".into(),
            RougeKind::Lsum => "rougeLsum".into(),
        }
    }

    /// F-score, precision, recall.
    fn width(&self) -> usize {
        3
    }

    fn segment(&self, scratch: &mut RougeScratch, hypothesis: &str, references: &[&str], row: &mut [f64]) {
        let RougeScratch { words, lcs, own, theirs } = scratch;
        own.take(self, words, hypothesis);
        for (set, text) in references.iter().enumerate() {
            theirs.take(self, words, text);
            let (hits, of_own, of_theirs) = match self.kind {
                RougeKind::N(n) => {
                    let hits = own.grams.shared(std::slice::from_ref(&theirs.grams), n);
                    (hits, own.grams.count(n), theirs.grams.count(n))
                }
                RougeKind::L => {
                    let hits = lcs.length(&theirs.words, &own.words).into();
                    (hits, own.words.len() as u64, theirs.words.len() as u64)
                }
                RougeKind::Lsum => {
                    let hits = union_hits(lcs, theirs, own);
                    (hits, own.words.len() as u64, theirs.words.len() as u64)
                }
            };
            let precision = hits as f64 / of_own.max(1) as f64;
            let recall = hits as f64 / of_theirs.max(1) as f64;
            let sum = precision + recall;
            let f = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
            if set == 0 || f > row[0] {
                row.copy_from_slice(&[f, precision, recall]);
            }
        }
    }

    fn score(&self, sums: &[f64], segments: usize) -> f64 {
        sums[0] / segments as f64
    }

    fn signature(&self, references: usize) -> Signature {
        Signature::new(references)
            .with("case", "lc")
            .with("tok", "rouge_score")
            .with("stem", if self.stemmed { "porter-nltk" } else { "no" })
    }
}
