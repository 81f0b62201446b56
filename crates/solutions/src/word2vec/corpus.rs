//! A text of short sentences about eight people, who differ in three things: he or she, royal or not, old or young.
//!
//! A sentence about a person shows one of the three, by words that people alike in it share. No word stands for two of
//! them at once, so that what the vectors know of `queen` was put together from separate sentences.

use crate::random::Random;

/// A person of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person {
    /// The word.
    pub word: &'static str,
    /// Whether it is a she.
    pub she: bool,
    /// Whether she or he is royal.
    pub royal: bool,
    /// Whether she or he is young.
    pub young: bool,
}

const fn person(word: &'static str, she: bool, royal: bool, young: bool) -> Person {
    Person { word, she, royal, young }
}

/// Everybody, he and she in turn.
pub const PEOPLE: [Person; 8] = [
    person("king", false, true, false),
    person("queen", true, true, false),
    person("man", false, false, false),
    person("woman", true, false, false),
    person("prince", false, true, true),
    person("princess", true, true, true),
    person("boy", false, false, true),
    person("girl", true, false, true),
];

/// What he and she have in their sentences; `P` is the person.
const HIS: [&str; 4] =
    ["the P combs his beard", "the P himself shaves", "a sir is the P", "the P and his brother talk"];
const HERS: [&str; 4] =
    ["the P braids her hair", "the P herself dresses", "a lady is the P", "the P and her sister talk"];
const ROYAL: [&str; 4] =
    ["the P wears a crown", "guards follow the P home", "the P rules a palace", "the P sits on a throne"];
const COMMON: [&str; 4] =
    ["the P wears an apron", "neighbours greet the P daily", "the P sweeps a cottage", "the P sits on a bench"];
const OLD: [&str; 3] = ["the wise P remembers much", "the P is grey and slow", "years weigh on the P"];
const YOUNG: [&str; 3] = ["the small P learns much", "the P is lively and quick", "games amuse the P"];
/// What anybody does.
const ANY: [&str; 4] = ["the P eats bread", "the P sleeps at night", "we saw the P today", "the P walks in the rain"];

/// A text as words by number.
#[derive(Clone, Debug, PartialEq)]
pub struct Corpus {
    /// The words, in the order in which they first occur.
    pub words: Vec<&'static str>,
    /// The sentences.
    pub sentences: Vec<Vec<usize>>,
    /// How often each word occurs.
    pub counts: Vec<usize>,
}

impl Corpus {
    /// So many sentences, drawn with a seed.
    pub fn generate(sentences: usize, seed: u64) -> Corpus {
        let mut random = Random::new(seed);
        let mut corpus = Corpus { words: Vec::new(), sentences: Vec::new(), counts: Vec::new() };
        for _ in 0..sentences {
            let person = PEOPLE[random.below(PEOPLE.len())];
            let frames: &[&'static str] = match random.below(4) {
                0 if person.she => &HERS,
                0 => &HIS,
                1 if person.royal => &ROYAL,
                1 => &COMMON,
                2 if person.young => &YOUNG,
                2 => &OLD,
                _ => &ANY,
            };
            let frame = frames[random.below(frames.len())];
            let sentence = frame.split(' ').map(|w| corpus.number(if w == "P" { person.word } else { w })).collect();
            corpus.sentences.push(sentence);
        }
        corpus
    }

    /// The number of a word, which is counted.
    fn number(&mut self, word: &'static str) -> usize {
        let number = self.find(word).unwrap_or_else(|| {
            self.words.push(word);
            self.counts.push(0);
            self.words.len() - 1
        });
        self.counts[number] += 1;
        number
    }

    /// The number of a word, if it occurs.
    pub fn find(&self, word: &str) -> Option<usize> {
        self.words.iter().position(|w| *w == word)
    }

    /// Pairs of words that stand at most `window` words apart, both ways round.
    pub fn pairs(&self, window: usize) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        for sentence in &self.sentences {
            for (i, &center) in sentence.iter().enumerate() {
                let near = i.saturating_sub(window)..(i + window + 1).min(sentence.len());
                pairs.extend(near.filter(|&j| j != i).map(|j| (center, sentence[j])));
            }
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_text() {
        let corpus = Corpus::generate(200, 7);
        assert_eq!(corpus, Corpus::generate(200, 7));
        assert_ne!(corpus, Corpus::generate(200, 8));
        assert_eq!(corpus.counts.iter().sum::<usize>(), corpus.sentences.iter().map(Vec::len).sum::<usize>());
    }

    #[test]
    fn pairs_are_near_each_other() {
        let corpus = Corpus { words: vec!["a", "b", "c"], sentences: vec![vec![0, 1, 2]], counts: vec![1; 3] };
        assert_eq!(corpus.pairs(1), [(0, 1), (1, 0), (1, 2), (2, 1)]);
        assert_eq!(corpus.pairs(5).len(), 6);
    }

    #[test]
    fn no_person_meets_another() {
        let corpus = Corpus::generate(3000, 1);
        let people: Vec<usize> = PEOPLE.iter().map(|p| corpus.find(p.word).expect("everybody")).collect();
        for sentence in &corpus.sentences {
            assert_eq!(sentence.iter().filter(|w| people.contains(w)).count(), 1);
        }
    }
}
