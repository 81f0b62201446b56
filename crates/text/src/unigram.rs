//! SentencePiece's unigram model: the sequence of pieces with the greatest sum of scores.
//!
//! Viterbi over the positions of the text (Kudo 2018, section 3.2): the best way to each position is extended
//! by every piece that begins there. Where no piece is the next character, the unknown token stands for it at
//! ten below the lowest score; a run of unknown characters is one token, or its bytes where the vocabulary has
//! byte tokens. Sums are in f64, as in Hugging Face's `tokenizers` and in llama.cpp, so that ties fall alike;
//! of equal ways the one found first stays.

use crate::prefixes::Prefixes;
use crate::sentence_piece::Missing;
use crate::source::TokenType;
use crate::vocab::Vocab;

/// How far an unknown character is below the lowest score.
const PENALTY: f64 = 10.0;
/// No token.
const NONE: u32 = u32::MAX;

/// The scores of a vocabulary.
pub(crate) struct Unigram {
    /// As in the file.
    scores: Vec<f64>,
    prefixes: Prefixes,
    unknown_score: f64,
    missing: Missing,
}

/// The best way to a position.
#[derive(Clone, Copy)]
struct Step {
    score: f64,
    /// Where its last piece begins.
    from: u32,
    /// That piece; [`NONE`] for an unknown character.
    id: u32,
}

/// Buffers that one call keeps.
#[derive(Default)]
pub(crate) struct Lattice {
    best: Vec<Step>,
    path: Vec<(u32, u32, u32)>,
}

impl Unigram {
    pub(crate) fn new(scores: &[f64], vocab: &Vocab, unknown: Option<u32>) -> Unigram {
        let normal = |id: &usize| vocab.role(*id as u32) == Some(TokenType::Normal);
        let lowest = (0..scores.len()).filter(normal).map(|id| scores[id]).fold(f64::INFINITY, f64::min);
        let lowest = if lowest.is_finite() { lowest } else { 0.0 };
        Unigram {
            scores: scores.to_vec(),
            prefixes: Prefixes::new(vocab),
            unknown_score: lowest - PENALTY,
            missing: Missing::new(vocab, unknown),
        }
    }

    pub(crate) fn scores(&self) -> &[f64] {
        &self.scores
    }

    pub(crate) fn missing(&self) -> &Missing {
        &self.missing
    }

    /// Appends the tokens of a text, which is normalized already.
    pub(crate) fn encode(&self, text: &str, vocab: &Vocab, lattice: &mut Lattice, out: &mut Vec<u32>) {
        let Lattice { best, path } = lattice;
        let bytes = text.as_bytes();
        best.clear();
        best.resize(bytes.len() + 1, Step { score: f64::NEG_INFINITY, from: 0, id: NONE });
        best[0].score = 0.0;
        for (at, c) in text.char_indices() {
            let here = best[at].score;
            let width = c.len_utf8();
            let mut covered = false;
            let mut offer = |end: usize, score: f64, id: u32| {
                if score > best[end].score {
                    best[end] = Step { score, from: at as u32, id };
                }
            };
            self.prefixes.of(&bytes[at..], vocab, |length, id| {
                covered |= length == width;
                // What was defined by hand always wins.
                let score = if vocab.role(id) == Some(TokenType::UserDefined) { 0.0 } else { self.scores[id as usize] };
                offer(at + length, here + score, id);
            });
            if !covered {
                offer(at + width, here + self.unknown_score, NONE);
            }
        }
        path.clear();
        let mut end = bytes.len();
        while end > 0 {
            let Step { from, id, .. } = best[end];
            path.push((from, end as u32, id));
            end = from as usize;
        }
        let mut joined = false;
        for &(from, end, id) in path.iter().rev() {
            if id != NONE {
                out.push(id);
                joined = false;
                continue;
            }
            self.missing.push(&text[from as usize..end as usize], &mut joined, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{VocabModel, VocabSource};
    use proptest::prelude::*;

    const TOKENS: [(&str, f64); 7] =
        [("a", -2.0), ("b", -2.25), ("ab", -3.5), ("aba", -4.75), ("bab", -5.5), ("é", -7.0), ("aé", -8.5)];

    fn small() -> (Unigram, Vocab) {
        let scores: Vec<f64> = TOKENS.iter().map(|t| t.1).chain([0.0]).collect();
        let mut types = vec![TokenType::Normal; TOKENS.len()];
        types.push(TokenType::Unknown);
        let source = VocabSource {
            model: VocabModel::Unigram,
            tokens: TOKENS.iter().map(|t| t.0).chain(["<unk>"]).map(Into::into).collect(),
            types,
            scores: scores.clone(),
            ..VocabSource::default()
        };
        let vocab = Vocab::new(&source).unwrap();
        (Unigram::new(&scores, &vocab, vocab.find("<unk>")), vocab)
    }

    fn ids(text: &str) -> Vec<u32> {
        let (model, vocab) = small();
        let mut out = Vec::new();
        model.encode(text, &vocab, &mut Lattice::default(), &mut out);
        out
    }

    #[test]
    fn unknown_characters_are_one_token_a_run() {
        assert_eq!(ids("axxb"), [0, 7, 1]);
        assert_eq!(ids("xax"), [7, 0, 7]);
        assert_eq!(ids(""), [0u32; 0]);
    }

    /// The greatest sum over all ways to cut the text.
    fn greatest(text: &str) -> f64 {
        if text.is_empty() {
            return 0.0;
        }
        let starts = TOKENS.iter().filter(|(t, _)| text.starts_with(t));
        starts.map(|(t, score)| score + greatest(&text[t.len()..])).fold(f64::NEG_INFINITY, f64::max)
    }

    proptest! {
        #[test]
        fn no_way_is_better(text in "[abé]{0,9}") {
            let found = ids(&text);
            let spelt: String = found.iter().map(|&id| TOKENS[id as usize].0).collect();
            prop_assert_eq!(&spelt, &text);
            let sum: f64 = found.iter().map(|&id| TOKENS[id as usize].1).sum();
            prop_assert_eq!(sum, greatest(&text));
        }
    }
}
