//! The words of texts and how often each occurs.

use std::hash::BuildHasher;
use std::io::Read;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::RULE;
use super::chunks::{Chunks, certain};
use crate::pre_tokenizer::PreTokenizer;
use crate::{Error, Result};

/// All distinct words together may have so many bytes: training takes about fifteen times as much memory.
pub const MAX_DISTINCT: usize = 256 << 20;

/// Counts the words of texts. Memory grows with the distinct words, not with the texts.
#[derive(Debug)]
pub struct WordCounts {
    across_lines: bool,
    table: Table,
    bytes: u64,
}

/// Distinct words, one after another in one string, found by a hash with a random key.
#[derive(Debug, Default)]
struct Table {
    text: String,
    /// Where each word ends.
    ends: Vec<u32>,
    counts: Vec<u64>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The words have no room any more.
    full: bool,
}

impl WordCounts {
    /// No words yet. With `across_lines` a word may reach over the ends of lines (some newlines and the spaces behind
    /// them), as it does when a whole text is tokenized; without, lines are cut one by one, as `tokenizers` reads
    /// training files.
    pub fn new(across_lines: bool) -> WordCounts {
        WordCounts { across_lines, table: Table::default(), bytes: 0 }
    }

    /// Counts the words of a text.
    ///
    /// # Errors
    /// The distinct words have more than [`MAX_DISTINCT`] bytes.
    pub fn add(&mut self, text: &str) -> Result<()> {
        let pre = PreTokenizer::named(RULE)?;
        self.bytes += text.len() as u64;
        if self.across_lines {
            pre.split(text, |word| self.table.count(word));
        } else {
            text.split_inclusive('\n').for_each(|line| pre.split(line, |word| self.table.count(word)));
        }
        self.table.check()
    }

    /// Counts the words of a file or a stream, which is never held whole. `name` stands for it in messages; `progress`
    /// is told the bytes read so far.
    ///
    /// # Errors
    /// It cannot be read, is not UTF-8 (the place is named), has a word of more than 16 MiB, or the distinct words have
    /// more than [`MAX_DISTINCT`] bytes.
    pub fn read(&mut self, name: &str, from: impl Read, progress: &mut dyn FnMut(u64)) -> Result<()> {
        self.read_chunks(Chunks::new(name, from), progress)
    }

    pub(super) fn read_chunks<R: Read>(
        &mut self,
        mut chunks: Chunks<'_, R>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let pre = PreTokenizer::named(RULE)?;
        let (across, table) = (self.across_lines, &mut self.table);
        let mut word = |word: &str| table.count(word);
        while let Some((text, last)) = chunks.next()? {
            let mut done = 0;
            if !across && let Some(newline) = text.rfind('\n') {
                done = newline + 1;
                text[..done].split_inclusive('\n').for_each(|line| pre.split(line, &mut word));
            }
            let rest = &text[done..];
            if last {
                pre.split(rest, &mut word);
                done = text.len();
            } else {
                done += certain(rest, &pre, &mut word);
            }
            chunks.take(done)?;
            progress(chunks.offset());
        }
        self.bytes += chunks.offset();
        self.table.check()
    }

    /// Bytes of text read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of distinct words.
    pub fn distinct(&self) -> usize {
        self.table.ends.len()
    }

    /// The distinct words and how often each occurs.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, u64)> {
        (0..self.distinct()).map(|word| (slice(&self.table.text, &self.table.ends, word), self.table.counts[word]))
    }

    /// Bytes of all distinct words.
    pub(super) fn distinct_bytes(&self) -> usize {
        self.table.text.len()
    }
}

impl Table {
    fn count(&mut self, word: &str) {
        let Table { text, ends, counts, index, hasher, full } = self;
        let same = |&other: &u32| slice(text, ends, other as usize) == word;
        let hash = hasher.hash_one(word);
        let rehash = |&other: &u32| hasher.hash_one(slice(text, ends, other as usize));
        match index.entry(hash, same, rehash) {
            Entry::Occupied(found) => counts[*found.get() as usize] += 1,
            Entry::Vacant(_) if text.len() + word.len() > MAX_DISTINCT => *full = true,
            Entry::Vacant(slot) => {
                slot.insert(ends.len() as u32);
                text.push_str(word);
                ends.push(text.len() as u32);
                counts.push(1);
            }
        }
    }

    fn check(&self) -> Result<()> {
        if self.full {
            return Err(Error::Train(format!(
                "the distinct words of the texts have more than {MAX_DISTINCT} bytes; train on fewer texts"
            )));
        }
        Ok(())
    }
}

fn slice<'a>(text: &'a str, ends: &[u32], word: usize) -> &'a str {
    let start = word.checked_sub(1).map_or(0, |before| ends[before] as usize);
    &text[start..ends[word] as usize]
}
