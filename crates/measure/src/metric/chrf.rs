//! chrF and chrF++ (Popović 2015 and 2017), as sacrebleu 2.6.0 computes them.

use super::grams::Grams;
use super::python::{is_space, words};
use super::vocabulary::Vocabulary;
use super::{Metric, Signature};

/// Bits of a character in a key.
const CHAR_BITS: u32 = 21;
/// Bits of a word in a key.
const WORD_BITS: u32 = 32;
/// What a precision or recall without n-grams counts as.
const EPSILON: f64 = 1e-16;

/// The F-score of character n-grams, from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chrf {
    char_order: u32,
    word_order: u32,
    /// How many times as much recall weighs as precision.
    pub beta: u32,
    /// Whether text is put in lower case.
    pub lowercase: bool,
    /// Whether whitespace counts among the characters.
    pub whitespace: bool,
    /// Whether the F-scores of all orders are averaged, with a tiny number instead of what is undefined; otherwise
    /// precisions and recalls are averaged over the orders that both texts are long enough for.
    pub epsilon_smoothing: bool,
}

impl Default for Chrf {
    fn default() -> Chrf {
        Chrf { char_order: 6, word_order: 0, beta: 2, lowercase: false, whitespace: false, epsilon_smoothing: false }
    }
}

impl Chrf {
    /// The highest order of character n-grams.
    pub const MAX_CHAR_ORDER: u32 = 128 / CHAR_BITS;
    /// The highest order of word n-grams.
    pub const MAX_WORD_ORDER: u32 = 128 / WORD_BITS;

    /// chrF++: word 1-grams and 2-grams join the characters.
    pub fn plus_plus() -> Chrf {
        Chrf { word_order: 2, ..Chrf::default() }
    }

    /// The same with other orders of n-grams: characters from 1 to [`Chrf::MAX_CHAR_ORDER`], words from 0 to
    /// [`Chrf::MAX_WORD_ORDER`]; what is beyond is cut to that.
    pub fn with_orders(self, char_order: u32, word_order: u32) -> Chrf {
        let char_order = char_order.clamp(1, Chrf::MAX_CHAR_ORDER);
        Chrf { char_order, word_order: word_order.min(Chrf::MAX_WORD_ORDER), ..self }
    }

    fn orders(&self) -> usize {
        (self.char_order + self.word_order) as usize
    }

    /// The score from n-grams of the hypothesis, of the reference, and common ones, for each order.
    fn f_score(&self, statistics: &[f64]) -> f64 {
        let factor = f64::from(self.beta).powi(2);
        let (mut sum, mut precisions, mut recalls, mut effective) = (0.0, 0.0, 0.0, 0u32);
        for counts in statistics.chunks_exact(3) {
            let (hypothesis, reference, common) = (counts[0], counts[1], counts[2]);
            let precision = if hypothesis > 0.0 { common / hypothesis } else { EPSILON };
            let recall = if reference > 0.0 { common / reference } else { EPSILON };
            let below = factor * precision + recall;
            sum += if below > 0.0 { (1.0 + factor) * precision * recall / below } else { EPSILON };
            if hypothesis > 0.0 && reference > 0.0 {
                precisions += precision;
                recalls += recall;
                effective += 1;
            }
        }
        if self.epsilon_smoothing {
            return 100.0 * sum / self.orders() as f64;
        }
        if effective == 0 {
            return 0.0;
        }
        let (precision, recall) = (precisions / f64::from(effective), recalls / f64::from(effective));
        if precision + recall == 0.0 {
            return 0.0;
        }
        100.0 * ((1.0 + factor) * precision * recall / (factor * precision + recall))
    }
}

/// Words with one mark of punctuation taken off their end, or else off their beginning.
fn bare_words(text: &str) -> impl Iterator<Item = &str> {
    words(text)
        .flat_map(|word| {
            let mut chars = word.chars();
            let (first, last) = (chars.next(), chars.next_back());
            match (first, last) {
                (Some(_), Some(last)) if last.is_ascii_punctuation() => {
                    let (body, mark) = word.split_at(word.len() - 1);
                    [Some(body), Some(mark)]
                }
                (Some(first), Some(_)) if first.is_ascii_punctuation() => {
                    let (mark, body) = word.split_at(1);
                    [Some(mark), Some(body)]
                }
                _ => [Some(word), None],
            }
        })
        .flatten()
}

/// What chrF keeps from one segment to the next.
#[derive(Debug, Default)]
pub struct ChrfScratch {
    vocabulary: Vocabulary,
    numbers: Vec<u32>,
    hypothesis: [Grams; 2],
    reference: [Grams; 2],
    statistics: Vec<f64>,
}

impl ChrfScratch {
    fn take(&mut self, chrf: &Chrf, text: &str, [mut chars, mut words]: [Grams; 2]) -> [Grams; 2] {
        let lowered = chrf.lowercase.then(|| text.to_lowercase());
        let text = lowered.as_deref().unwrap_or(text);
        self.numbers.clear();
        self.numbers.extend(text.chars().filter(|&c| chrf.whitespace || !is_space(c)).map(u32::from));
        chars.fill(self.numbers.iter().copied(), chrf.char_order, CHAR_BITS);
        if chrf.word_order > 0 {
            self.numbers.clear();
            self.numbers.extend(bare_words(text).map(|word| self.vocabulary.number(word)));
            words.fill(self.numbers.iter().copied(), chrf.word_order, WORD_BITS);
        }
        [chars, words]
    }
}

impl Metric for Chrf {
    type Scratch = ChrfScratch;

    fn name(&self) -> String {
        format!("chrF{}{}", self.beta, "+".repeat(self.word_order as usize))
    }

    fn width(&self) -> usize {
        3 * self.orders()
    }

    fn segment(&self, scratch: &mut ChrfScratch, hypothesis: &str, references: &[&str], row: &mut [f64]) {
        let own = std::mem::take(&mut scratch.hypothesis);
        let own = scratch.take(self, hypothesis, own);
        let mut best = -1.0;
        let mut statistics = std::mem::take(&mut scratch.statistics);
        for text in references {
            let reference = std::mem::take(&mut scratch.reference);
            let reference = scratch.take(self, text, reference);
            statistics.clear();
            for (kind, order) in [self.char_order, self.word_order].into_iter().enumerate() {
                for n in 1..=order {
                    let theirs = reference[kind].count(n);
                    // Where the reference has none, the hypothesis's do not count.
                    let mine = if theirs > 0 { own[kind].count(n) } else { 0 };
                    let common = own[kind].shared(&reference[kind..=kind], n);
                    statistics.extend([mine as f64, theirs as f64, common as f64]);
                }
            }
            let score = self.f_score(&statistics);
            if score > best {
                best = score;
                row.copy_from_slice(&statistics);
            }
            scratch.reference = reference;
        }
        (scratch.hypothesis, scratch.statistics) = (own, statistics);
    }

    fn score(&self, sums: &[f64], _segments: usize) -> f64 {
        self.f_score(sums)
    }

    fn signature(&self, references: usize) -> Signature {
        Signature::new(references)
            .with("case", if self.lowercase { "lc" } else { "mixed" })
            .with_flag("eff", !self.epsilon_smoothing)
            .with("nc", self.char_order)
            .with("nw", self.word_order)
            .with_flag("space", self.whitespace)
    }
}
