//! A stream as pieces of text: whole characters, and what no word could be cut from yet is kept for the next piece.

use std::io::{ErrorKind, Read};

use crate::pre_tokenizer::PreTokenizer;
use crate::{Error, Result};

/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;
/// No word may be longer: it is no word of any language, and would be looked through once for each merge.
const MAX_WORD: usize = 16 << 20;
/// GPT-2's expression decides where a word ends by at most two more characters.
const AHEAD: usize = 8;

/// A stream, read piece by piece.
pub(super) struct Chunks<'n, R> {
    name: &'n str,
    from: R,
    /// What has been read and not taken.
    held: Vec<u8>,
    /// Where in the stream that begins.
    offset: u64,
    chunk: usize,
    ended: bool,
}

impl<'n, R: Read> Chunks<'n, R> {
    pub(super) fn new(name: &'n str, from: R) -> Chunks<'n, R> {
        Chunks { name, from, held: Vec::new(), offset: 0, chunk: CHUNK, ended: false }
    }

    /// Reads on, and gives the text that is not taken yet and whether it is the last.
    pub(super) fn next(&mut self) -> Result<Option<(&str, bool)>> {
        if self.ended && self.held.is_empty() {
            return Ok(None);
        }
        // As much again as is held: a long word is not looked at a thousand times.
        self.fill(self.chunk.max(self.held.len()))?;
        let (name, offset) = (self.name, self.offset);
        let valid = match std::str::from_utf8(&self.held) {
            Ok(_) => self.held.len(),
            // A character that is cut by the chunk's end.
            Err(e) if e.error_len().is_none() && !self.ended => e.valid_up_to(),
            Err(e) => {
                let at = e.valid_up_to();
                let byte = self.held.get(at).copied().unwrap_or_default();
                return Err(Error::NotText { name: name.to_owned(), offset: offset + at as u64, byte });
            }
        };
        let text = std::str::from_utf8(&self.held[..valid]).unwrap_or_default();
        Ok(Some((text, self.ended)))
    }

    fn fill(&mut self, wanted: usize) -> Result<()> {
        let start = self.held.len();
        self.held.resize(start + wanted, 0);
        let mut filled = start;
        while filled < self.held.len() {
            match self.from.read(&mut self.held[filled..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => filled += count.min(self.held.len() - filled),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Io { path: self.name.into(), source }),
            }
        }
        self.held.truncate(filled);
        Ok(())
    }

    /// Takes the first bytes of the text away.
    pub(super) fn take(&mut self, bytes: usize) -> Result<()> {
        self.held.drain(..bytes);
        self.offset += bytes as u64;
        if self.held.len() > MAX_WORD {
            let (name, offset) = (self.name, self.offset);
            return Err(Error::Train(format!(
                "{name}: a word of more than {MAX_WORD} bytes at offset {offset}: no text"
            )));
        }
        Ok(())
    }

    /// Bytes taken so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }
}

/// Calls `word` with the words of a text that nothing behind it can change; gives how many bytes they are.
pub(super) fn certain(text: &str, pre: &PreTokenizer, word: &mut impl FnMut(&str)) -> usize {
    let safe = text.len().saturating_sub(AHEAD);
    let (mut end, mut done) = (0, 0);
    pre.split(text, |piece| {
        end += piece.len();
        if end <= safe {
            word(piece);
            done = end;
        }
    });
    done
}

#[cfg(test)]
mod tests {
    use super::super::WordCounts;
    use super::*;
    use proptest::prelude::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    /// The words of the library's `ByteLevel`, counted.
    fn library(text: &str, across_lines: bool) -> Vec<(String, u64)> {
        let pre = tokenizers::pre_tokenizers::byte_level::ByteLevel::new(false, true, true);
        let mut words = std::collections::BTreeMap::<String, u64>::new();
        let parts: Vec<&str> = if across_lines { vec![text] } else { text.split_inclusive('\n').collect() };
        for part in parts {
            let mut cut = PreTokenizedString::from(part);
            pre.pre_tokenize(&mut cut).unwrap();
            for (_, (from, to), _) in cut.get_splits(OffsetReferential::Original, OffsetType::Byte) {
                *words.entry(part[from..to].to_owned()).or_default() += 1;
            }
        }
        words.into_iter().collect()
    }

    fn sorted(words: &WordCounts) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = words.iter().map(|(word, count)| (word.to_owned(), count)).collect();
        all.sort();
        all
    }

    /// A stream that gives a few bytes at a time.
    struct Drip<'t>(&'t [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let now = self.1.min(into.len()).min(self.0.len());
            into[..now].copy_from_slice(&self.0[..now]);
            self.0 = &self.0[now..];
            Ok(now)
        }
    }

    proptest! {
        #[test]
        fn words_do_not_depend_on_where_a_stream_is_cut(
            text in "([a-c]{0,3}|'(ll|re|s|LL|x)?|[ \n\t]{1,4}|[0-9]{1,4}|[!-.]{1,3}|[äßж好ी\u{a0}\u{3000}\u{2028}😀]{1,2}){0,25}",
            chunk in 1usize..12,
            drip in 1usize..9,
            across_lines in any::<bool>(),
        ) {
            let mut words = WordCounts::new(across_lines);
            let chunks = Chunks { chunk, ..Chunks::new("t", Drip(text.as_bytes(), drip)) };
            let mut seen = 0;
            words.read_chunks(chunks, &mut |bytes| seen = bytes).unwrap();
            prop_assert_eq!(sorted(&words), library(&text, across_lines));
            prop_assert_eq!((seen, words.bytes()), (text.len() as u64, text.len() as u64));
            let mut whole = WordCounts::new(across_lines);
            whole.add(&text).unwrap();
            prop_assert_eq!(sorted(&whole), sorted(&words));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_named_with_their_place() {
        for chunk in 1..12 {
            let fail = |bytes: &[u8]| {
                let chunks = Chunks { chunk, ..Chunks::new("notes.txt", bytes) };
                WordCounts::new(false).read_chunks(chunks, &mut |_| {}).unwrap_err().to_string()
            };
            assert_eq!(
                fail(b"some words\nand then\xffmore"),
                "notes.txt: byte 0xff at offset 19 is not UTF-8; convert the text to UTF-8 first"
            );
            // Half a character at the end.
            assert!(fail("a few words and é".as_bytes().split_last().unwrap().1).contains("byte 0xc3 at offset 16"));
        }
    }

    #[test]
    fn an_endless_word_is_refused_before_it_is_held() {
        let endless = std::io::repeat(b'a');
        let message = WordCounts::new(false).read("zeros", endless, &mut |_| {}).unwrap_err().to_string();
        assert!(message.contains("zeros: a word of more than 16777216 bytes at offset 0"), "{message}");
    }
}
