//! The merges: pairs counted once, then kept up to date as words change, with the candidates in a heap.
//!
//! The order is that of `tokenizers` (0.23.2, its `BpeTrainer`): the highest count first, of equal ones the pair with
//! the lower left id, then the lower right id. Two of its habits show in the merges and are kept:
//!
//! - A token's text may come about in two ways (`ab` and `c`, `a` and `bc`). The second pair is a merge too, but no new
//!   token, and does not bring the vocabulary nearer to its size.
//! - A candidate knows the words in which it arose. Where a pair arises anew later, through such a second way, it is a
//!   candidate of its own, and a merged pair's count is not taken back. So a pair can be merged twice; the later rank is
//!   the one that counts.
//!
//! One habit is not kept: counts are 64 bits here, 32 there.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::{TrainOptions, WordCounts};
use crate::{Error, Result};

/// All merged tokens together may have so many bytes: a quarter of the largest `tokenizer.json` that is read.
const MAX_TEXT: usize = 64 << 20;

/// Two ids, the left one in the upper half: ordered as the pair is.
type Pair = u64;

fn pair(left: u32, right: u32) -> Pair {
    u64::from(left) << 32 | u64::from(right)
}

fn halves(pair: Pair) -> (u32, u32) {
    ((pair >> 32) as u32, pair as u32)
}

/// How often a pair occurs, and the words in which it arose since it last became a candidate, ascending.
#[derive(Default)]
struct Seen {
    count: i64,
    words: Vec<u32>,
}

/// A pair that may be merged.
struct Candidate {
    count: i64,
    pair: Pair,
    words: Vec<u32>,
}

impl Candidate {
    fn key(&self) -> (i64, Reverse<Pair>) {
        (self.count, Reverse(self.pair))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Candidate) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// Words as tokens, which become fewer.
struct Words {
    symbols: Vec<u32>,
    /// Where each word begins among the symbols, and how many it has now.
    spans: Vec<(u32, u32)>,
    counts: Vec<i64>,
}

impl Words {
    fn new(words: &WordCounts, bytes: &[u32; 256]) -> Words {
        let mut all = Words {
            symbols: Vec::with_capacity(words.distinct_bytes()),
            spans: Vec::with_capacity(words.distinct()),
            counts: Vec::with_capacity(words.distinct()),
        };
        for (word, count) in words.iter() {
            all.spans.push((all.symbols.len() as u32, word.len() as u32));
            all.symbols.extend(word.bytes().map(|byte| bytes[usize::from(byte)]));
            all.counts.push(count as i64);
        }
        all
    }

    fn get(&self, word: u32) -> &[u32] {
        let (start, length) = self.spans[word as usize];
        &self.symbols[start as usize..][..length as usize]
    }

    /// Puts `new` in the place of each `left` and `right` in a word; `change` is told which pairs become how much more
    /// frequent.
    fn merge(&mut self, word: u32, (left, right): (u32, u32), new: u32, mut change: impl FnMut(Pair, i64)) {
        let (start, length) = &mut self.spans[word as usize];
        let symbols = &mut self.symbols[*start as usize..][..*length as usize];
        let count = self.counts[word as usize];
        let (mut from, mut to) = (0, 0);
        while from < symbols.len() {
            if symbols[from] == left && symbols.get(from + 1) == Some(&right) {
                if to > 0 {
                    change(pair(symbols[to - 1], left), -count);
                    change(pair(symbols[to - 1], new), count);
                }
                if let Some(&next) = symbols.get(from + 2) {
                    change(pair(right, next), -count);
                    change(pair(new, next), count);
                }
                symbols[to] = new;
                from += 2;
            } else {
                symbols[to] = symbols[from];
                from += 1;
            }
            to += 1;
        }
        *length = to as u32;
    }
}

/// All pairs, and the candidates among them.
struct Pairs {
    seen: hashbrown::HashMap<Pair, Seen>,
    /// Pairs that arose since the last [`Pairs::propose`].
    arisen: Vec<Pair>,
    candidates: BinaryHeap<Candidate>,
}

impl Pairs {
    fn new(words: &Words) -> Pairs {
        let mut pairs = Pairs { seen: hashbrown::HashMap::new(), arisen: Vec::new(), candidates: BinaryHeap::new() };
        for word in 0..words.spans.len() as u32 {
            for two in words.get(word).windows(2) {
                pairs.change(pair(two[0], two[1]), words.counts[word as usize], word);
            }
        }
        pairs.propose();
        pairs
    }

    fn change(&mut self, pair: Pair, by: i64, word: u32) {
        let seen = self.seen.entry(pair).or_default();
        seen.count += by;
        if by > 0 && seen.words.last() != Some(&word) {
            if seen.words.is_empty() {
                self.arisen.push(pair);
            }
            seen.words.push(word);
        }
    }

    /// Makes candidates of the pairs that arose.
    fn propose(&mut self) {
        for pair in self.arisen.drain(..) {
            let Some(seen) = self.seen.get_mut(&pair) else { continue };
            let words = std::mem::take(&mut seen.words);
            if seen.count > 0 {
                self.candidates.push(Candidate { count: seen.count, pair, words });
            }
        }
    }

    /// The candidate to merge next, with its count as it is now.
    fn best(&mut self) -> Option<Candidate> {
        while let Some(mut top) = self.candidates.pop() {
            let count = self.seen.get(&top.pair).map_or(0, |seen| seen.count);
            if top.count == count {
                return Some(top);
            }
            top.count = count;
            self.candidates.push(top);
        }
        None
    }
}

/// Merges until there are enough tokens, and gives the merges by rank. `tokens` has what every vocabulary has, `bytes`
/// the id of each byte there.
pub(super) fn merge(
    words: &WordCounts,
    bytes: &[u32; 256],
    tokens: &mut Vec<String>,
    options: &TrainOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<(u32, u32)>> {
    let mut ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
    let mut words = Words::new(words, bytes);
    let mut pairs = Pairs::new(&words);
    let mut merges = Vec::new();
    let mut length = 0;
    let least = i64::try_from(options.min_frequency).unwrap_or(i64::MAX).max(1);
    while tokens.len() < options.vocab_size {
        let Some(top) = pairs.best().filter(|top| top.count >= least) else { break };
        let (left, right) = halves(top.pair);
        let text = [tokens[left as usize].as_str(), tokens[right as usize].as_str()].concat();
        let new = match ids.get(&text) {
            Some(&id) => id,
            None => {
                let id = tokens.len() as u32;
                length += text.len();
                if length > MAX_TEXT {
                    return Err(Error::Train(format!(
                        "the first {id} tokens have more than {MAX_TEXT} bytes, since the texts repeat very long words; ask \
                         for fewer tokens"
                    )));
                }
                ids.insert(text.clone(), id);
                tokens.push(text);
                id
            }
        };
        merges.push((left, right));
        for &word in &top.words {
            words.merge(word, (left, right), new, |pair, by| pairs.change(pair, by, word));
        }
        pairs.propose();
        progress(tokens.len(), options.vocab_size);
    }
    // Of a pair that was merged twice the later rank counts.
    let mut later = HashSet::with_capacity(merges.len());
    let mut ranked: Vec<(u32, u32)> = merges.into_iter().rev().filter(|&merge| later.insert(merge)).collect();
    ranked.reverse();
    Ok(ranked)
}
