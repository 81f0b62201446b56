//! SentencePiece's compiled replacements of characters (`precompiled_charsmap`).
//!
//! The format: the length in bytes of a double array trie (u32, little-endian), its units (u32 each), then the
//! replacements as strings that end in NUL. A unit has a label in bits 0 to 7 and 31, says in bit 8 whether a
//! string ends there, and leads on by the offset in bits 10 to 30 (shifted by 8 where bit 9 is set): the format
//! of Yata's darts-clone. The value of a string is the place of its replacement.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation;

use crate::{Error, Result};

/// Grapheme clusters of this length and more are not looked up whole (Hugging Face's rule).
const LONG: usize = 6;

/// The replacements of a vocabulary.
pub(crate) struct Replacements {
    units: Vec<u32>,
    texts: String,
    by_grapheme: bool,
}

impl Replacements {
    /// Reads them; None if there are none.
    pub(crate) fn new(bytes: &[u8], by_grapheme: bool) -> Result<Option<Replacements>> {
        let damaged = |what: &str| Error::Vocabulary(format!("precompiled_charsmap: {what}"));
        if bytes.is_empty() {
            return Ok(None);
        }
        let Some((size, rest)) = bytes.split_first_chunk::<4>() else {
            return Err(damaged("it has less than 4 bytes"));
        };
        let size = u32::from_le_bytes(*size) as usize;
        let Some((trie, texts)) = rest.split_at_checked(size).filter(|_| size.is_multiple_of(4)) else {
            return Err(damaged("its trie is longer than itself"));
        };
        let units = trie.chunks_exact(4).map(|u| u32::from_le_bytes([u[0], u[1], u[2], u[3]])).collect();
        let texts = std::str::from_utf8(texts).map_err(|_| damaged("a replacement is not UTF-8"))?.to_owned();
        Ok(Some(Replacements { units, texts, by_grapheme }))
    }

    /// Whether every string leads through units that are there to replacements that are there.
    ///
    /// # Errors
    /// One leads outside.
    pub(crate) fn check(&self) -> Result<()> {
        let outside = || Error::Vocabulary("precompiled_charsmap: it leads outside of itself".into());
        let unit = |at: usize| self.units.get(at).copied().ok_or_else(outside);
        let mut seen = vec![false; self.units.len()];
        let mut open = vec![offset(unit(0)?)];
        while let Some(at) = open.pop() {
            for byte in 1..=255u8 {
                let place = at ^ usize::from(byte);
                let here = unit(place)?;
                if here & (1 << 31 | 0xff) != u32::from(byte) || std::mem::replace(&mut seen[place], true) {
                    continue;
                }
                let next = place ^ offset(here);
                if here >> 8 & 1 == 1 && self.texts.get((unit(next)? & !(1 << 31)) as usize..).is_none() {
                    return Err(outside());
                }
                open.push(next);
            }
        }
        Ok(())
    }

    /// The text with all replacements made.
    pub(crate) fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = String::with_capacity(text.len());
        if self.by_grapheme {
            for cluster in text.graphemes(true) {
                match self.find(cluster).first.filter(|_| cluster.len() < LONG) {
                    Some(replacement) => out.push_str(replacement),
                    None => {
                        for c in cluster.chars() {
                            match self.find(c.encode_utf8(&mut [0; 4])).first {
                                Some(replacement) => out.push_str(replacement),
                                None => out.push(c),
                            }
                        }
                    }
                }
            }
        } else {
            let mut rest = text;
            while let Some(c) = rest.chars().next() {
                let length = match self.find(rest).longest {
                    Some((length, replacement)) => {
                        out.push_str(replacement);
                        length
                    }
                    None => {
                        out.push(c);
                        c.len_utf8()
                    }
                };
                rest = &rest[length..];
            }
        }
        Cow::Owned(out)
    }

    /// The replacements of the shortest and the longest prefix of `text` that has one. What leads outside the
    /// tables, or to the middle of a character, is no replacement.
    fn find(&self, text: &str) -> Found<'_> {
        let mut found = Found { first: None, longest: None };
        let unit = |at: usize| self.units.get(at).copied();
        let Some(root) = unit(0) else { return found };
        let mut at = offset(root);
        for (number, &byte) in text.as_bytes().iter().enumerate() {
            at ^= usize::from(byte);
            let Some(here) = unit(at).filter(|&u| byte != 0 && u & (1 << 31 | 0xff) == u32::from(byte)) else { break };
            at ^= offset(here);
            if here >> 8 & 1 == 1
                && let Some(value) = unit(at)
                && let Some(tail) = self.texts.get((value & !(1 << 31)) as usize..)
                && text.is_char_boundary(number + 1)
            {
                let replacement = tail.find('\0').map_or(tail, |end| &tail[..end]);
                found.first.get_or_insert(replacement);
                found.longest = Some((number + 1, replacement));
            }
        }
        found
    }
}

struct Found<'r> {
    first: Option<&'r str>,
    /// With the length of the prefix in bytes.
    longest: Option<(usize, &'r str)>,
}

fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A trie for `a` -> `xy` and `ab` -> nothing, laid out by hand: the root leads to 0x100, `a` to 0x161.
    fn charsmap() -> Vec<u8> {
        let mut units = vec![0u32; 0x400];
        let offset = |by: u32| by << 10;
        units[0] = offset(0x100);
        // at 0x100 ^ 'a' = 0x161, a string ends here; its value lies at 0x161 ^ 0x261 = 0x300
        units[0x161] = offset(0x261) | 1 << 8 | u32::from(b'a');
        units[0x300] = 0;
        // at 0x300 ^ 'b' = 0x362; value at 0x362 ^ 0x100 = 0x262
        units[0x362] = offset(0x100) | 1 << 8 | u32::from(b'b');
        units[0x262] = 3;
        let mut bytes = ((units.len() * 4) as u32).to_le_bytes().to_vec();
        bytes.extend(units.iter().flat_map(|u| u.to_le_bytes()));
        bytes.extend(b"xy\0\0");
        bytes
    }

    #[test]
    fn the_longest_prefix_is_replaced() {
        let map = Replacements::new(&charsmap(), false).unwrap().unwrap();
        assert_eq!(map.apply("a ab aab é"), "xy  xy é");
        let map = Replacements::new(&charsmap(), true).unwrap().unwrap();
        assert_eq!(map.apply("a ab é"), "xy xyb é");
        map.check().unwrap();
    }

    #[test]
    fn damage_is_named() {
        assert!(Replacements::new(&[], false).unwrap().is_none());
        let error = |bytes: &[u8]| Replacements::new(bytes, false).err().unwrap().to_string();
        assert!(error(&[1, 0]).contains("less than 4 bytes"));
        assert!(error(&[9, 0, 0, 0, 1]).contains("longer than itself"));
        assert!(error(&[0, 0, 0, 0, 0xff]).contains("not UTF-8"));
    }

    proptest! {
        #[test]
        fn hostile_tries_do_not_panic(noise in prop::collection::vec(any::<u32>(), 1..300), text in "[ab\0é😀]{0,12}") {
            let mut bytes = ((noise.len() * 4) as u32).to_le_bytes().to_vec();
            bytes.extend(noise.iter().flat_map(|u| u.to_le_bytes()));
            bytes.extend("é\0b😀".as_bytes());
            for by_grapheme in [false, true] {
                Replacements::new(&bytes, by_grapheme).unwrap().unwrap().apply(&text);
            }
        }
    }
}
