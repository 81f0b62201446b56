//! Byte pair encoding: the merges, and their application to one word.
//!
//! A word starts as one token per byte; then, as long as any two neighbours are a merge, the pair of
//! the lowest rank (of equal ones the leftmost) becomes one token (Sennrich et al. 2016, section 3.2,
//! over bytes as in Radford et al. 2019, section 2.2). Short words are scanned for the lowest rank;
//! long ones keep the candidates in a heap, so that the time is n log n and a megabyte of one letter
//! is no different from a megabyte of prose.
//!
//! A byte that the vocabulary lacks is left out, and its neighbours become neighbours, as in Hugging
//! Face's `tokenizers` without an unknown token.
//!
//! A SentencePiece model in `tokenizer.json` is the same over characters: those that the vocabulary lacks are
//! written as their bytes, `<0xE4>`, or as the unknown token.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::pre_tokenizer::{PreTokenizer, shorten};
use crate::sentence_piece::Missing;
use crate::source::{VocabModel, VocabSource};
use crate::vocab::Vocab;
use crate::{Error, Result, byte_level};

/// Words of up to this many bytes are scanned.
const SCANNED: usize = 32;
/// No neighbour, no token.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Merge {
    left: u32,
    right: u32,
    result: u32,
}

/// The merges of a vocabulary, and the tokens of the bytes.
pub(crate) struct Bpe {
    /// By rank.
    merges: Vec<Merge>,
    /// Ranks, keyed by the pair.
    index: HashTable<u32>,
    seed: u64,
    bytes: [u32; 256],
}

/// Buffers that one call keeps from word to word.
#[derive(Default)]
pub(crate) struct Scratch {
    text: String,
    symbols: Vec<u32>,
    ranks: Vec<u32>,
    next: Vec<u32>,
    previous: Vec<u32>,
    heap: BinaryHeap<Reverse<(u32, u32)>>,
}

impl Bpe {
    /// Resolves the merges of `source` against its own `vocab`. The second of two equal merges is
    /// dropped.
    pub(crate) fn new(source: &VocabSource<'_>, vocab: &Vocab) -> Result<Bpe> {
        let count = source.merges.len();
        if count > 8 * crate::source::MAX_TOKENS {
            return Err(Error::Vocabulary(format!("{count} merges are too many")));
        }
        let mut bpe = Bpe {
            merges: Vec::with_capacity(count),
            index: HashTable::with_capacity(count),
            seed: RandomState::new().hash_one(0u8),
            bytes: [NONE; 256],
        };
        let bytes = (0..=255u8).filter(|_| source.model == VocabModel::ByteBpe);
        for byte in bytes {
            let text = byte_level::to_char(byte);
            if let Some(id) = vocab.find(text.encode_utf8(&mut [0; 4])) {
                bpe.bytes[usize::from(byte)] = id;
            }
        }
        let mut joined = String::new();
        for (number, (left, right)) in source.merges.iter().enumerate() {
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            let find = |text: &str| {
                vocab.find(text).ok_or_else(|| {
                    let (left, right, text) = (shorten(left), shorten(right), shorten(text));
                    Error::Vocabulary(format!("merge {number} (`{left}` `{right}`): there is no token `{text}`"))
                })
            };
            let merge = Merge { left: find(left)?, right: find(right)?, result: find(&joined)? };
            bpe.insert(merge);
        }
        Ok(bpe)
    }

    fn insert(&mut self, merge: Merge) {
        let (merges, seed) = (&self.merges, self.seed);
        let hash = |m: &Merge| pair_hash(seed, m.left, m.right);
        let same = |&rank: &u32| {
            let other = &merges[rank as usize];
            (other.left, other.right) == (merge.left, merge.right)
        };
        let entry = self.index.entry(hash(&merge), same, |&rank| hash(&merges[rank as usize]));
        if let Entry::Vacant(slot) = entry {
            slot.insert(merges.len() as u32);
            self.merges.push(merge);
        }
    }

    /// The rank of a pair, [`NONE`] if it is no merge.
    fn rank(&self, left: u32, right: u32) -> u32 {
        let hash = pair_hash(self.seed, left, right);
        let same = |&rank: &u32| {
            let merge = &self.merges[rank as usize];
            merge.left == left && merge.right == right
        };
        self.index.find(hash, same).copied().unwrap_or(NONE)
    }

    /// The merges as pairs of ids, by rank.
    pub(crate) fn merges(&self) -> impl ExactSizeIterator<Item = (u32, u32)> {
        self.merges.iter().map(|m| (m.left, m.right))
    }

    /// Whether a byte has a token.
    pub(crate) fn has_byte(&self, byte: u8) -> bool {
        self.bytes[usize::from(byte)] != NONE
    }

    /// Appends the tokens of a text: cut into words, each word merged.
    pub(crate) fn encode_text(
        &self,
        text: &str,
        pre: &PreTokenizer,
        vocab: &Vocab,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        pre.split(text, |word| {
            if pre.ignore_merges {
                scratch.text.clear();
                byte_level::encode_into(word.as_bytes(), &mut scratch.text);
                if let Some(id) = vocab.find(&scratch.text) {
                    out.push(id);
                    return;
                }
            }
            self.encode_word(word.as_bytes(), scratch, out);
        });
    }

    /// Appends the tokens of one word.
    fn encode_word(&self, word: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) {
        let tokens = word.iter().map(|&b| self.bytes[usize::from(b)]).filter(|&id| id != NONE);
        if word.len() <= SCANNED {
            scratch.symbols.clear();
            scratch.symbols.extend(tokens);
            self.merge_by_scan(&mut scratch.symbols, &mut scratch.ranks);
            out.extend_from_slice(&scratch.symbols);
        } else {
            scratch.symbols.clear();
            scratch.symbols.extend(tokens);
            self.merge_by_heap(scratch, out);
        }
    }

    /// Appends the tokens of a text whose spaces are U+2581 already, merged as one word. Without `fuse` each
    /// unknown character is a token of its own.
    pub(crate) fn encode_chars(
        &self,
        text: &str,
        vocab: &Vocab,
        missing: &Missing,
        fuse: bool,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        scratch.symbols.clear();
        let mut joined = false;
        let mut buffer = [0; 4];
        for c in text.chars() {
            let c = &*c.encode_utf8(&mut buffer);
            match vocab.find_piece(c) {
                Some(id) => {
                    scratch.symbols.push(id);
                    joined = false;
                }
                None => {
                    joined &= fuse;
                    missing.push(c, &mut joined, &mut scratch.symbols);
                }
            }
        }
        if text.len() <= SCANNED {
            self.merge_by_scan(&mut scratch.symbols, &mut scratch.ranks);
            out.extend_from_slice(&scratch.symbols);
        } else {
            self.merge_by_heap(scratch, out);
        }
    }

    fn merge_by_scan(&self, symbols: &mut Vec<u32>, ranks: &mut Vec<u32>) {
        ranks.clear();
        ranks.extend(symbols.windows(2).map(|pair| self.rank(pair[0], pair[1])));
        // `min_by_key` gives the first of equal ones.
        while let Some((at, &rank)) = ranks.iter().enumerate().min_by_key(|&(_, &rank)| rank)
            && rank != NONE
        {
            symbols[at] = self.merges[rank as usize].result;
            symbols.remove(at + 1);
            ranks.remove(at);
            if at > 0 {
                ranks[at - 1] = self.rank(symbols[at - 1], symbols[at]);
            }
            if at < ranks.len() {
                ranks[at] = self.rank(symbols[at], symbols[at + 1]);
            }
        }
    }

    /// The same with a linked list of symbols and a heap of (rank, position of the left one). An entry
    /// is stale, and skipped, when the pair at its position is gone or is another.
    fn merge_by_heap(&self, scratch: &mut Scratch, out: &mut Vec<u32>) {
        let Scratch { symbols, next, previous, heap, .. } = scratch;
        let count = symbols.len() as u32;
        next.clear();
        next.extend((1..count).chain(std::iter::repeat_n(NONE, usize::from(count > 0))));
        previous.clear();
        previous.extend((0..count).map(|i| i.wrapping_sub(1))); // the first has NONE
        heap.clear();
        for (at, pair) in symbols.windows(2).enumerate() {
            let rank = self.rank(pair[0], pair[1]);
            if rank != NONE {
                heap.push(Reverse((rank, at as u32)));
            }
        }
        while let Some(Reverse((rank, left))) = heap.pop() {
            let merge = self.merges[rank as usize];
            let right = next[left as usize];
            if symbols[left as usize] != merge.left || right == NONE || symbols[right as usize] != merge.right {
                continue;
            }
            let after = next[right as usize];
            let before = previous[left as usize];
            symbols[left as usize] = merge.result;
            symbols[right as usize] = NONE; // no merge has this id, so that its entries are stale
            next[left as usize] = after;
            if after != NONE {
                previous[after as usize] = left;
                let rank = self.rank(merge.result, symbols[after as usize]);
                if rank != NONE {
                    heap.push(Reverse((rank, left)));
                }
            }
            if before != NONE {
                let rank = self.rank(symbols[before as usize], merge.result);
                if rank != NONE {
                    heap.push(Reverse((rank, before)));
                }
            }
        }
        out.extend(symbols.iter().copied().filter(|&id| id != NONE));
    }
}

/// A hash of a pair that an attacker who does not know the seed cannot make collide at will.
fn pair_hash(seed: u64, left: u32, right: u32) -> u64 {
    let pair = (u64::from(left) << 32 | u64::from(right)) ^ seed;
    let wide = u128::from(pair) * 0x9e37_79b9_7f4a_7c15;
    let folded = (wide as u64) ^ ((wide >> 64) as u64) ^ seed.rotate_left(32);
    let wide = u128::from(folded) * u128::from(seed | 1);
    (wide as u64) ^ ((wide >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::TokenType;
    use proptest::prelude::*;

    /// A vocabulary over the letters a to d with these merges, which may build on one another.
    fn bpe(merges: &[(&'static str, &'static str)]) -> (Bpe, Vocab) {
        let mut tokens: Vec<String> = "abcd".chars().map(String::from).collect();
        for (left, right) in merges {
            let joined = format!("{left}{right}");
            if !tokens.contains(&joined) {
                tokens.push(joined);
            }
        }
        let source = VocabSource {
            types: vec![TokenType::Normal; tokens.len()],
            tokens: tokens.into_iter().map(Into::into).collect(),
            merges: merges.iter().map(|&(l, r)| (l.into(), r.into())).collect(),
            ..VocabSource::default()
        };
        let vocab = Vocab::new(&source).unwrap();
        (Bpe::new(&source, &vocab).unwrap(), vocab)
    }

    fn words(bpe: &Bpe, vocab: &Vocab, word: &str) -> Vec<String> {
        let mut out = Vec::new();
        bpe.encode_word(word.as_bytes(), &mut Scratch::default(), &mut out);
        out.iter().map(|&id| vocab.text(id).unwrap().to_owned()).collect()
    }

    const MERGES: [(&str, &str); 9] = [
        ("a", "a"),
        ("b", "c"),
        ("aa", "aa"),
        ("aa", "bc"),
        ("c", "d"),
        ("a", "b"),
        ("ab", "cd"),
        ("d", "a"),
        ("aabc", "da"),
    ];

    #[test]
    fn the_lowest_rank_goes_first_and_of_equals_the_leftmost() {
        let (bpe, vocab) = bpe(&MERGES);
        // b c (rank 1) before a b (5); then a stays alone.
        assert_eq!(words(&bpe, &vocab, "abcd"), ["a", "bc", "d"]);
        assert_eq!(words(&bpe, &vocab, "aaa"), ["aa", "a"]);
        assert_eq!(words(&bpe, &vocab, "aabcda"), ["aabcda"]);
        assert_eq!(words(&bpe, &vocab, ""), [""; 0]);
    }

    #[test]
    fn a_byte_without_a_token_is_left_out() {
        let (bpe, vocab) = bpe(&MERGES);
        assert!(bpe.has_byte(b'a') && !bpe.has_byte(b'z'));
        assert_eq!(words(&bpe, &vocab, "azaz"), ["aa"]);
        assert_eq!(words(&bpe, &vocab, "z"), [""; 0]);
        assert_eq!(words(&bpe, &vocab, &"z".repeat(100)), [""; 0]);
    }

    #[test]
    fn a_merge_of_unknown_tokens_is_refused() {
        for (left, right, missing) in [("a", "x", "x"), ("x", "a", "x"), ("a", "b", "ab")] {
            let source = VocabSource {
                tokens: vec!["a".into(), "b".into()],
                types: vec![TokenType::Normal; 2],
                merges: vec![(left.into(), right.into())],
                ..VocabSource::default()
            };
            let vocab = Vocab::new(&source).unwrap();
            let message = Bpe::new(&source, &vocab).err().unwrap().to_string();
            assert!(
                message.ends_with(&format!("merge 0 (`{left}` `{right}`): there is no token `{missing}`")),
                "{message}"
            );
        }
    }

    #[test]
    fn of_two_equal_merges_the_first_counts() {
        let (bpe, _) = bpe(&[("a", "b"), ("b", "c"), ("a", "b")]);
        assert_eq!(bpe.merges().len(), 2);
    }

    proptest! {
        /// Both ways against the definition: find the best pair in the whole word, merge it, repeat.
        #[test]
        fn scan_and_heap_follow_the_definition(word in "[abcdz]{0,80}") {
            let (bpe, vocab) = bpe(&MERGES);
            let mut want: Vec<String> = word.chars().filter(|c| *c != 'z').map(String::from).collect();
            while let Some((_, at)) = want
                .windows(2)
                .enumerate()
                .filter_map(|(at, p)| MERGES.iter().position(|m| m.0 == p[0] && m.1 == p[1]).map(|r| (r, at)))
                .min()
            {
                let right = want.remove(at + 1);
                want[at].push_str(&right);
            }
            let text = |ids: &[u32]| ids.iter().map(|&id| vocab.text(id).unwrap().to_owned()).collect::<Vec<_>>();
            let start = || word.bytes().map(|b| bpe.bytes[usize::from(b)]).filter(|&id| id != NONE).collect::<Vec<_>>();
            let mut scanned = start();
            bpe.merge_by_scan(&mut scanned, &mut Vec::new());
            prop_assert_eq!(text(&scanned), want.clone());
            let mut scratch = Scratch { symbols: start(), ..Scratch::default() };
            let mut heaped = Vec::new();
            bpe.merge_by_heap(&mut scratch, &mut heaped);
            prop_assert_eq!(text(&heaped), want);
        }
    }
}
