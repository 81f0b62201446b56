//! rouge_score's words: runs of the letters a to z and the digits, in lower case, as numbers; on request their stems.

use super::super::porter::stem;
use super::super::vocabulary::Vocabulary;

/// Words that are longer are stemmed.
const UNSTEMMED: usize = 3;

/// Words and what they become.
#[derive(Debug, Default)]
pub(super) struct Words {
    vocabulary: Vocabulary,
    /// For each word its stem's number, from when it was first seen.
    stems: Vec<Option<u32>>,
    lowered: String,
    stem: String,
}

impl Words {
    /// A text's words.
    pub(super) fn take(&mut self, text: &str, stemmed: bool, into: &mut Vec<u32>) {
        let mut lowered = std::mem::take(&mut self.lowered);
        lowered.clear();
        if text.is_ascii() {
            lowered.push_str(text);
            lowered.make_ascii_lowercase();
        } else {
            lowered = text.to_lowercase();
        }
        let is_other = |c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit();
        for word in lowered.split(is_other).filter(|word| !word.is_empty()) {
            let number = self.vocabulary.number(word);
            into.push(if stemmed && word.len() > UNSTEMMED { self.stem_of(word, number) } else { number });
        }
        self.lowered = lowered;
    }

    fn stem_of(&mut self, word: &str, number: u32) -> u32 {
        let at = number as usize;
        if let Some(&Some(known)) = self.stems.get(at) {
            return known;
        }
        stem(word, &mut self.stem);
        let stemmed = self.vocabulary.number(&self.stem);
        if self.stems.len() <= at {
            self.stems.resize(at + 1, None);
        }
        self.stems[at] = Some(stemmed);
        stemmed
    }
}
