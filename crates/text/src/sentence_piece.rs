//! SentencePiece's BPE: characters merged by the score of what they become.
//!
//! A text starts as one symbol per character; as long as any two neighbours together are a token, the pair
//! whose token has the highest score (of equal ones the leftmost) becomes one symbol (Kudo and Richardson
//! 2018, section 3.2). The candidates lie in a heap and the symbols in a linked list, so that the time is
//! n log n however long a line is. A character that is no token is written as its bytes, `<0xE4>`, or, where
//! the vocabulary has no such tokens, as the unknown token, one for each run of such characters.
//!
//! llama.cpp lets neighbours become any token, and so `</s>` in a user's text the end of a sequence; here, as
//! in SentencePiece itself, a text is made of ordinary tokens only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::vocab::Vocab;

/// No neighbour.
const NONE: u32 = u32::MAX;

/// The scores of a vocabulary, as ranks, and what stands for the characters that it lacks.
pub(crate) struct SentencePiece {
    /// Of each token: 0 for the highest score; equal scores have equal ranks.
    ranks: Vec<u32>,
    /// No token is longer, in bytes.
    longest: usize,
    missing: Missing,
}

/// What stands for a character that is no token.
pub(crate) struct Missing {
    bytes: [Option<u32>; 256],
    unknown: Option<u32>,
}

/// Buffers that one call keeps.
#[derive(Default)]
pub(crate) struct Symbols {
    /// Of each symbol its start in the text and its length; 0 when it has joined the one before.
    spans: Vec<(u32, u32)>,
    next: Vec<u32>,
    previous: Vec<u32>,
    /// (rank, left symbol, length of both).
    heap: BinaryHeap<Reverse<(u32, u32, u32)>>,
}

impl Missing {
    pub(crate) fn new(vocab: &Vocab, unknown: Option<u32>) -> Missing {
        Missing { bytes: vocab.byte_tokens(), unknown }
    }

    /// Appends what stands for a character; `joined` says that the one before was unknown too.
    pub(crate) fn push(&self, text: &str, joined: &mut bool, out: &mut Vec<u32>) {
        let bytes = text.bytes().map(|b| self.bytes[usize::from(b)]);
        if bytes.clone().all(|id| id.is_some()) {
            out.extend(bytes.flatten());
            *joined = false;
        } else if !std::mem::replace(joined, true) {
            out.extend(self.unknown);
        }
    }

    /// How many of a character's bytes leave no trace at all.
    pub(crate) fn lost(&self, text: &str) -> usize {
        let covered = self.unknown.is_some() || text.bytes().all(|b| self.bytes[usize::from(b)].is_some());
        if covered { 0 } else { text.len() }
    }
}

impl SentencePiece {
    pub(crate) fn new(scores: &[f64], vocab: &Vocab, unknown: Option<u32>) -> SentencePiece {
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        let score = |id: u32| scores.get(id as usize).copied().unwrap_or(f64::NEG_INFINITY);
        order.sort_unstable_by(|&a, &b| score(b).total_cmp(&score(a)));
        let mut ranks = vec![0; scores.len()];
        let mut rank = 0;
        for (at, &id) in order.iter().enumerate() {
            if at > 0 && score(order[at - 1]) != score(id) {
                rank = at as u32;
            }
            ranks[id as usize] = rank;
        }
        let longest = (0..vocab.len() as u32).filter_map(|id| vocab.text(id)).map(str::len).max().unwrap_or(0);
        SentencePiece { ranks, longest, missing: Missing::new(vocab, unknown) }
    }

    /// What stands for a character that is no token.
    pub(crate) fn missing(&self) -> &Missing {
        &self.missing
    }

    /// Appends the tokens of a text, whose spaces are U+2581 already.
    pub(crate) fn encode(&self, text: &str, vocab: &Vocab, symbols: &mut Symbols, out: &mut Vec<u32>) {
        let Symbols { spans, next, previous, heap } = symbols;
        spans.clear();
        spans.extend(text.char_indices().map(|(at, c)| (at as u32, c.len_utf8() as u32)));
        let count = spans.len() as u32;
        next.clear();
        next.extend((1..count).chain(std::iter::repeat_n(NONE, usize::from(count > 0))));
        previous.clear();
        previous.extend((0..count).map(|i| i.wrapping_sub(1))); // the first has NONE
        heap.clear();
        let candidate = |spans: &[(u32, u32)], left: u32, right: u32| {
            let ((start, first), (_, second)) = (spans[left as usize], spans[right as usize]);
            let length = first + second;
            if length as usize > self.longest {
                return None;
            }
            let id = vocab.find_piece(&text[start as usize..(start + length) as usize])?;
            Some(Reverse((self.ranks[id as usize], left, length)))
        };
        heap.extend((1..count).filter_map(|right| candidate(spans, right - 1, right)));
        while let Some(Reverse((_, left, length))) = heap.pop() {
            let right = next[left as usize];
            // Stale: one of the two has joined another since.
            if right == NONE || spans[left as usize].1 == 0 {
                continue;
            }
            if spans[left as usize].1 + spans[right as usize].1 != length {
                continue;
            }
            spans[left as usize].1 = length;
            spans[right as usize].1 = 0;
            let after = next[right as usize];
            let before = previous[left as usize];
            next[left as usize] = after;
            if after != NONE {
                previous[after as usize] = left;
                heap.extend(candidate(spans, left, after));
            }
            if before != NONE {
                heap.extend(candidate(spans, before, left));
            }
        }
        let mut joined = false;
        for &(start, length) in spans.iter().filter(|(_, length)| *length > 0) {
            let piece = &text[start as usize..(start + length) as usize];
            match vocab.find_piece(piece) {
                Some(id) => {
                    out.push(id);
                    joined = false;
                }
                None => self.missing.push(piece, &mut joined, out),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{TokenType, VocabModel, VocabSource};
    use proptest::prelude::*;

    const TOKENS: [(&str, f64); 10] = [
        ("a", 0.0),
        ("b", 0.0),
        ("▁", 0.0),
        ("ab", -1.0),
        ("▁a", -2.0),
        ("aa", -2.0),
        ("▁ab", -3.0),
        ("abab", -4.0),
        ("aab", -0.5),
        ("bb", -6.0),
    ];

    fn small(extra: &[(&'static str, TokenType)]) -> (SentencePiece, Vocab) {
        let types = TOKENS.iter().map(|_| TokenType::Normal).chain(extra.iter().map(|e| e.1)).collect();
        let scores: Vec<f64> = TOKENS.iter().map(|t| t.1).chain(extra.iter().map(|_| 0.0)).collect();
        let source = VocabSource {
            model: VocabModel::SentencePiece,
            tokens: TOKENS.iter().map(|t| t.0).chain(extra.iter().map(|e| e.0)).map(Into::into).collect(),
            types,
            scores: scores.clone(),
            ..VocabSource::default()
        };
        let vocab = Vocab::new(&source).unwrap();
        let unknown = vocab.find("<unk>");
        (SentencePiece::new(&scores, &vocab, unknown), vocab)
    }

    fn pieces(model: &(SentencePiece, Vocab), text: &str) -> Vec<String> {
        let mut out = Vec::new();
        model.0.encode(text, &model.1, &mut Symbols::default(), &mut out);
        out.iter().map(|&id| model.1.text(id).unwrap().to_owned()).collect()
    }

    #[test]
    fn missing_characters_are_bytes_or_unknown() {
        let model = small(&[("<unk>", TokenType::Unknown), ("<0xC3>", TokenType::Byte), ("<0xA9>", TokenType::Byte)]);
        assert_eq!(pieces(&model, "aéa"), ["a", "<0xC3>", "<0xA9>", "a"]);
        assert_eq!(pieces(&model, "axyéz"), ["a", "<unk>", "<0xC3>", "<0xA9>", "<unk>"]);
        assert_eq!(pieces(&small(&[]), "axya"), ["a", "a"]);
        assert_eq!(small(&[]).0.missing().lost("x"), 1);
        assert_eq!(model.0.missing().lost("x"), 0);
    }

    #[test]
    fn a_text_does_not_become_a_control_token() {
        let model = small(&[("aabb", TokenType::Control), ("abb", TokenType::UserDefined)]);
        assert_eq!(pieces(&model, "aabb"), ["a", "abb"]);
        assert_eq!(pieces(&model, "abb"), ["abb"]);
    }

    proptest! {
        /// Against the definition: look at all pairs, merge the best, repeat.
        #[test]
        fn the_heap_follows_the_definition(text in "[ab▁]{0,60}") {
            let mut want: Vec<String> = text.chars().map(String::from).collect();
            let score = |t: &str| TOKENS.iter().find(|(token, _)| *token == t).map(|(_, score)| *score);
            loop {
                let mut best: Option<(f64, usize)> = None;
                for (at, pair) in want.windows(2).enumerate() {
                    if let Some(found) = score(&pair.concat())
                        && best.is_none_or(|(highest, _)| found > highest)
                    {
                        best = Some((found, at));
                    }
                }
                let Some((_, at)) = best else { break };
                let right = want.remove(at + 1);
                want[at].push_str(&right);
            }
            prop_assert_eq!(pieces(&small(&[]), &text), want);
        }
    }
}
