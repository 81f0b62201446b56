//! BLEU (Papineni et al. 2002; the book, "Generation Metrics"), as sacrebleu 2.6.0 computes it (Post 2018).

use super::grams::Grams;
use super::python::words;
use super::vocabulary::Vocabulary;
use super::{Metric, Signature, Tokenizer};

/// Orders of n-grams.
const ORDER: usize = 4;

/// What stands in for a precision of zero (Chen and Cherry 2014, "A Systematic Comparison of Smoothing Techniques for
/// Sentence-Level BLEU").
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Smoothing {
    /// Nothing: the score is zero.
    None,
    /// This count of matches instead of zero (method 1); 0.1 in the paper.
    Floor(f64),
    /// This is added to matches and totals of all orders but the first (method 2); 1 in the paper.
    AddK(f64),
    /// A half, a quarter, an eighth of a match for each order without one (method 3, as in mteval-v13a.pl).
    Exp,
}

impl Smoothing {
    fn signature(self) -> String {
        match self {
            Smoothing::None => "none".into(),
            Smoothing::Floor(value) => format!("floor[{value:.2}]"),
            Smoothing::AddK(value) => format!("add-k[{value:.2}]"),
            Smoothing::Exp => "exp".into(),
        }
    }
}

/// BLEU, from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bleu {
    /// How text is cut into words.
    pub tokenizer: Tokenizer,
    /// What stands in for a precision of zero.
    pub smoothing: Smoothing,
    /// Whether orders that a hypothesis is too short for are left out, as suits single sentences.
    pub effective_order: bool,
    /// Whether text is put in lower case.
    pub lowercase: bool,
}

impl Default for Bleu {
    fn default() -> Bleu {
        Bleu { tokenizer: Tokenizer::V13a, smoothing: Smoothing::Exp, effective_order: false, lowercase: false }
    }
}

/// The parts of a BLEU score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BleuDetail {
    /// The score, from 0 to 100.
    pub score: f64,
    /// The precisions of 1-grams to 4-grams, from 0 to 100, smoothed.
    pub precisions: [f64; ORDER],
    /// What short hypotheses cost: a factor of the score.
    pub brevity_penalty: f64,
    /// Words of the hypotheses.
    pub hypothesis_words: u64,
    /// Words of the references: of each segment those of the one nearest in length.
    pub reference_words: u64,
}

impl Bleu {
    /// The score and its parts from the sums of statistics: words of the hypothesis and of the nearest reference,
    /// matches of each order, n-grams of each order.
    pub fn detail(&self, sums: &[f64]) -> BleuDetail {
        let (hypothesis, reference) = (sums[0], sums[1]);
        let mut detail = BleuDetail {
            score: 0.0,
            precisions: [0.0; ORDER],
            brevity_penalty: 1.0,
            hypothesis_words: hypothesis as u64,
            reference_words: reference as u64,
        };
        if hypothesis < reference {
            detail.brevity_penalty = if hypothesis > 0.0 { (1.0 - reference / hypothesis).exp() } else { 0.0 };
        }
        let (matches, totals) = (&sums[2..2 + ORDER], &sums[2 + ORDER..2 + 2 * ORDER]);
        if matches.iter().all(|&m| m == 0.0) {
            return detail;
        }
        let mut halves = 1.0;
        let mut orders = ORDER;
        for n in 0..ORDER {
            let added = match self.smoothing {
                Smoothing::AddK(k) if n > 0 => k,
                _ => 0.0,
            };
            let (matched, total) = (matches[n] + added, totals[n] + added);
            if total == 0.0 {
                break;
            }
            if self.effective_order {
                orders = n + 1;
            }
            detail.precisions[n] = match self.smoothing {
                _ if matched != 0.0 => 100.0 * matched / total,
                Smoothing::Exp => {
                    halves *= 2.0;
                    100.0 / (halves * total)
                }
                Smoothing::Floor(value) => 100.0 * value / total,
                Smoothing::None | Smoothing::AddK(_) => 0.0,
            };
        }
        if detail.precisions[..orders].iter().all(|&p| p > 0.0) {
            let logs: f64 = detail.precisions[..orders].iter().map(|p| p.ln()).sum();
            detail.score = detail.brevity_penalty * (logs / orders as f64).exp();
        }
        detail
    }
}

/// What BLEU keeps from one segment to the next.
#[derive(Debug, Default)]
pub struct BleuScratch {
    vocabulary: Vocabulary,
    lowered: String,
    tokens: String,
    numbers: Vec<u32>,
    hypothesis: Grams,
    references: Vec<Grams>,
}

impl BleuScratch {
    /// A text's n-grams and how many words it has.
    fn take(&mut self, bleu: &Bleu, text: &str, mut into: Grams) -> (Grams, u64) {
        let text = if bleu.lowercase {
            self.lowered = text.to_lowercase();
            &self.lowered
        } else {
            text
        };
        bleu.tokenizer.write(text, &mut self.tokens);
        self.numbers.clear();
        self.numbers.extend(words(&self.tokens).map(|word| self.vocabulary.number(word)));
        into.fill(self.numbers.iter().copied(), ORDER as u32, 32);
        (into, self.numbers.len() as u64)
    }
}

impl Metric for Bleu {
    type Scratch = BleuScratch;

    fn name(&self) -> String {
        "BLEU".into()
    }

    fn width(&self) -> usize {
        2 + 2 * ORDER
    }

    fn segment(&self, scratch: &mut BleuScratch, hypothesis: &str, references: &[&str], row: &mut [f64]) {
        let own = std::mem::take(&mut scratch.hypothesis);
        let (own, length) = scratch.take(self, hypothesis, own);
        let mut others = std::mem::take(&mut scratch.references);
        others.resize_with(references.len(), Grams::default);
        // The nearest length, the shorter one of two.
        let mut nearest: Option<u64> = None;
        for (text, grams) in references.iter().zip(&mut others) {
            let (filled, words) = scratch.take(self, text, std::mem::take(grams));
            *grams = filled;
            let distance = |words: u64| (words.abs_diff(length), words);
            nearest = Some(nearest.map_or(words, |best| if distance(words) < distance(best) { words } else { best }));
        }
        row[0] = length as f64;
        row[1] = nearest.unwrap_or(0) as f64;
        for n in 0..ORDER {
            row[2 + n] = own.shared(&others, n as u32 + 1) as f64;
            row[2 + ORDER + n] = own.count(n as u32 + 1) as f64;
        }
        (scratch.hypothesis, scratch.references) = (own, others);
    }

    fn score(&self, sums: &[f64], _segments: usize) -> f64 {
        self.detail(sums).score
    }

    fn signature(&self, references: usize) -> Signature {
        Signature::new(references)
            .with("case", if self.lowercase { "lc" } else { "mixed" })
            .with_flag("eff", self.effective_order)
            .with("tok", self.tokenizer.name())
            .with("smooth", self.smoothing.signature())
    }
}
