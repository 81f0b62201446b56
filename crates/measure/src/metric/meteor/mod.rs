//! METEOR (Banerjee and Lavie 2005; Lavie and Agarwal 2007), as NLTK 3.10.4 computes it.
//!
//! Words are matched in three stages: the same word, the same stem, a synonym. In each stage the hypothesis is gone
//! through from its end, and each word takes the last free match. NLTK hands the stems, not the words, to the third
//! stage; so it is here.

mod wordnet;

use std::sync::Arc;

use super::porter::stem;
use super::python::words;
use super::vocabulary::Vocabulary;
use super::{Metric, Signature, Tokenizer};

pub use wordnet::WordNet;

/// METEOR, the mean of all segments' scores, from 0 to 1. Of several references the best counts.
#[derive(Clone, Debug)]
pub struct Meteor {
    /// How text is cut into words. NLTK takes words; its documentation cuts at whitespace.
    pub tokenizer: Tokenizer,
    /// Where synonyms are looked up; without it there are none.
    pub wordnet: Option<Arc<WordNet>>,
    /// How precision and recall weigh: 1 is precision alone.
    pub alpha: f64,
    /// The exponent of fragmentation.
    pub beta: f64,
    /// What full fragmentation costs.
    pub gamma: f64,
}

impl Default for Meteor {
    fn default() -> Meteor {
        Meteor { tokenizer: Tokenizer::None, wordnet: None, alpha: 0.9, beta: 3.0, gamma: 0.5 }
    }
}

/// What METEOR keeps from one segment to the next.
#[derive(Debug, Default)]
pub struct MeteorScratch {
    words: Vocabulary,
    /// For each word its stem's number. Stems have numbers of their own.
    stem_of: Vec<u32>,
    stems: Vocabulary,
    stem_texts: Vec<String>,
    /// For each stem what its synonyms are, itself included, if that was asked already.
    synonyms: Vec<Option<Vec<u32>>>,
    tokens: String,
    own: Vec<u32>,
    theirs: Vec<u32>,
    /// For each word of the hypothesis its match's place.
    matches: Vec<Option<u32>>,
    /// For each word of the reference whether it is matched.
    taken: Vec<bool>,
    /// By number, the free places in the reference, the last on top.
    free: Vec<Vec<u32>>,
}

impl MeteorScratch {
    /// A text's words, in lower case.
    fn take(&mut self, tokenizer: Tokenizer, text: &str, into: &mut Vec<u32>) {
        into.clear();
        tokenizer.write(text, &mut self.tokens);
        let tokens = std::mem::take(&mut self.tokens);
        for word in words(&tokens) {
            let word = word.to_lowercase();
            let number = self.words.number(&word);
            if number as usize == self.stem_of.len() {
                let mut stemmed = String::new();
                stem(&word, &mut stemmed);
                let stemmed = self.stem_number(&stemmed);
                self.stem_of.push(stemmed);
            }
            into.push(number);
        }
        self.tokens = tokens;
    }

    fn stem_number(&mut self, text: &str) -> u32 {
        let number = self.stems.number(text);
        if number as usize == self.stem_texts.len() {
            self.stem_texts.push(text.to_string());
        }
        number
    }

    /// Looks up the synonyms of a stem, if that was not done yet.
    fn look_up(&mut self, wordnet: &WordNet, stem: u32) {
        let at = stem as usize;
        if self.synonyms.len() <= at {
            self.synonyms.resize(at + 1, None);
        }
        if self.synonyms[at].is_none() {
            let text = self.stem_texts[at].clone();
            let mut synonyms = vec![stem];
            wordnet.synonyms(&text, |word| synonyms.push(self.stem_number(word)));
            synonyms.sort_unstable();
            synonyms.dedup();
            self.synonyms[at] = Some(synonyms);
        }
    }

    /// One stage: the words of both texts as numbers, and the numbers that a number matches.
    fn stage(
        &mut self,
        own: &[u32],
        theirs: &[u32],
        candidates: impl for<'a> Fn(&'a MeteorScratch, &'a u32) -> &'a [u32],
    ) {
        for (place, &number) in theirs.iter().enumerate().filter(|&(place, _)| !self.taken[place]) {
            let at = number as usize;
            if self.free.len() <= at {
                self.free.resize_with(at + 1, Vec::new);
            }
            self.free[at].push(place as u32);
        }
        for (place, number) in own.iter().enumerate().rev() {
            if self.matches[place].is_some() {
                continue;
            }
            let last = |&c: &u32| self.free.get(c as usize).and_then(|places| Some((*places.last()?, c)));
            if let Some((other, candidate)) = candidates(self, number).iter().filter_map(last).max() {
                self.free[candidate as usize].pop();
                self.matches[place] = Some(other);
                self.taken[other as usize] = true;
            }
        }
        for &number in theirs {
            if let Some(places) = self.free.get_mut(number as usize) {
                places.clear();
            }
        }
    }

    /// Matches the words of both texts in all stages.
    fn align(&mut self, own: &[u32], theirs: &[u32], wordnet: Option<&WordNet>) {
        self.matches.clear();
        self.matches.resize(own.len(), None);
        self.taken.clear();
        self.taken.resize(theirs.len(), false);
        self.stage(own, theirs, |_, number| std::slice::from_ref(number));
        let stems = |words: &[u32]| -> Vec<u32> { words.iter().map(|&word| self.stem_of[word as usize]).collect() };
        let (own, theirs) = (stems(own), stems(theirs));
        self.stage(&own, &theirs, |_, number| std::slice::from_ref(number));
        if let Some(wordnet) = wordnet {
            for (place, &stem) in own.iter().enumerate() {
                if self.matches[place].is_none() {
                    self.look_up(wordnet, stem);
                }
            }
            self.stage(&own, &theirs, |scratch, &stem| match scratch.synonyms.get(stem as usize) {
                Some(Some(synonyms)) => synonyms,
                _ => &[],
            });
        }
    }

    /// How many words are matched, and in how many runs that stand side by side in both texts.
    fn chunks(&self) -> (usize, usize) {
        let (mut matches, mut chunks) = (0, 0);
        let mut before: Option<u32> = None;
        for matched in &self.matches {
            if let &Some(place) = matched {
                matches += 1;
                chunks += usize::from(before.is_none_or(|b| b + 1 != place));
            }
            before = *matched;
        }
        (matches, chunks)
    }
}

impl Metric for Meteor {
    type Scratch = MeteorScratch;

    fn name(&self) -> String {
        "METEOR".into()
    }

    fn width(&self) -> usize {
        1
    }

    fn segment(&self, scratch: &mut MeteorScratch, hypothesis: &str, references: &[&str], row: &mut [f64]) {
        let (mut own, mut theirs) = (std::mem::take(&mut scratch.own), std::mem::take(&mut scratch.theirs));
        scratch.take(self.tokenizer, hypothesis, &mut own);
        for text in references {
            scratch.take(self.tokenizer, text, &mut theirs);
            scratch.align(&own, &theirs, self.wordnet.as_deref());
            let (matches, chunks) = scratch.chunks();
            if matches == 0 {
                continue;
            }
            let precision = matches as f64 / own.len() as f64;
            let recall = matches as f64 / theirs.len() as f64;
            let mean = precision * recall / (self.alpha * precision + (1.0 - self.alpha) * recall);
            let penalty = self.gamma * (chunks as f64 / matches as f64).powf(self.beta);
            row[0] = row[0].max((1.0 - penalty) * mean);
        }
        (scratch.own, scratch.theirs) = (own, theirs);
    }

    fn score(&self, sums: &[f64], segments: usize) -> f64 {
        sums[0] / segments as f64
    }

    fn signature(&self, references: usize) -> Signature {
        Signature::new(references)
            .with("case", "lc")
            .with("tok", self.tokenizer.name())
            .with("match", if self.wordnet.is_some() { "exact+stem+synonym" } else { "exact+stem" })
            .with("alpha", self.alpha)
            .with("beta", self.beta)
            .with("gamma", self.gamma)
    }
}
