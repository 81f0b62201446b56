//! WordNet's dictionary files (Fellbaum 1998), as far as synonyms need them: which synsets a word is in, by its own form
//! and by the base forms that WordNet's morphology finds, and which words are in a synset. As NLTK 3.10.4 reads them.

use std::path::Path;

use hashbrown::HashMap;

use crate::{Error, Result};

/// Endings and what replaces them, for nouns, verbs, adjectives, adverbs (WordNet's morphy).
const ENDINGS: [&[(&str, &str)]; 4] = [
    &[
        ("s", ""),
        ("ses", "s"),
        ("ves", "f"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ],
    &[("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")],
    &[("er", ""), ("est", ""), ("er", "e"), ("est", "e")],
    &[],
];

/// The files' endings, in the order of [`ENDINGS`].
const PARTS: [&str; 4] = ["noun", "verb", "adj", "adv"];

/// The files of one part of speech.
#[derive(Debug)]
struct Part {
    /// For each lemma where its synsets stand in `data`.
    index: HashMap<String, Vec<usize>>,
    data: String,
    /// Base forms of irregular ones.
    exceptions: HashMap<String, Vec<String>>,
    endings: &'static [(&'static str, &'static str)],
}

/// A WordNet dictionary.
#[derive(Debug)]
pub struct WordNet {
    parts: Vec<Part>,
}

fn bad(folder: &Path, name: &str, line: usize, what: &str) -> Error {
    let file = folder.join(name);
    Error::Options(format!("{}, line {line}: {what}; is it a file of WordNet 3.0?", file.display()))
}

/// A line of an index: `lemma pos synsets pointers [pointer..] senses ranked offset..`.
fn index_line(line: &str) -> Option<(&str, Vec<usize>)> {
    let mut fields = line.split_whitespace();
    let (lemma, _part) = (fields.next()?, fields.next()?);
    let synsets: usize = fields.next()?.parse().ok()?;
    let pointers: usize = fields.next()?.parse().ok()?;
    let mut offsets = fields.skip(pointers).skip(2);
    let offsets: Option<Vec<usize>> = (0..synsets).map(|_| offsets.next()?.parse().ok()).collect();
    Some((lemma, offsets?))
}

/// A line of data: `offset lexicographer-file type words [word id]..`, the number of words in hexadecimal. The words
/// without the syntactic marker in brackets that adjectives may carry.
fn data_line(line: &str) -> Option<(usize, impl Iterator<Item = &str>)> {
    let mut fields = line.split_ascii_whitespace();
    let offset = fields.next()?.parse().ok()?;
    let count = usize::from_str_radix(fields.nth(2)?, 16).ok()?;
    let words = fields.step_by(2).take(count);
    Some((offset, words.map(|word| word.strip_suffix(')').and_then(|w| w.rsplit_once('(')).map_or(word, |(w, _)| w))))
}

impl Part {
    fn open(folder: &Path, at: usize) -> Result<Part> {
        let read = |name: &str| {
            let file = folder.join(name);
            std::fs::read_to_string(&file).map_err(Error::io(format!("read WordNet's {}", file.display())))
        };
        let part = PARTS[at];
        let name = format!("index.{part}");
        let mut index = HashMap::new();
        // The licence stands in front, indented.
        for (i, line) in read(&name)?.lines().enumerate().filter(|(_, line)| !line.starts_with(' ')) {
            let (lemma, offsets) =
                index_line(line).ok_or_else(|| bad(folder, &name, i + 1, "not a lemma with its synsets"))?;
            index.insert(lemma.to_string(), offsets);
        }
        let mut exceptions = HashMap::new();
        for line in read(&format!("{part}.exc"))?.lines() {
            let mut forms = line.split_whitespace().map(str::to_string);
            if let Some(form) = forms.next() {
                exceptions.insert(form, forms.collect());
            }
        }
        let name = format!("data.{part}");
        let part = Part { index, data: read(&name)?, exceptions, endings: ENDINGS[at] };
        // Offsets are looked up later, without a chance to complain.
        for (lemma, offsets) in &part.index {
            if let Some(offset) = offsets.iter().find(|&&offset| part.synset(offset).is_none()) {
                return Err(bad(folder, &name, 1, &format!("no synset at byte {offset}, where {lemma} should be")));
            }
        }
        Ok(part)
    }

    /// The words of a synset.
    fn synset(&self, offset: usize) -> Option<impl Iterator<Item = &str>> {
        let line = self.data.get(offset..)?.lines().next()?;
        let (stated, words) = data_line(line)?;
        (stated == offset).then_some(words)
    }

    /// The forms of a word that the index has: its own, and the base forms that exceptions or endings lead to.
    fn forms(&self, word: &str) -> Vec<&Vec<usize>> {
        let bases: Vec<String> = match self.exceptions.get(word) {
            Some(bases) => bases.clone(),
            None => {
                let strip = |&(old, new): &(&str, &str)| Some(format!("{}{new}", word.strip_suffix(old)?));
                self.endings.iter().filter_map(strip).collect()
            }
        };
        std::iter::once(word).chain(bases.iter().map(String::as_str)).filter_map(|form| self.index.get(form)).collect()
    }
}

impl WordNet {
    /// Opens a folder with WordNet's `index.*`, `data.*` and `*.exc`.
    ///
    /// # Errors
    /// If a file is missing or not what WordNet's files look like.
    pub fn open(folder: &Path) -> Result<WordNet> {
        let parts: Result<Vec<Part>> = (0..PARTS.len()).map(|at| Part::open(folder, at)).collect();
        Ok(WordNet { parts: parts? })
    }

    /// Hands over every word that shares a synset with a word in lower case, itself among them if WordNet knows it;
    /// words of several parts (`a_la_carte`) are left out. A word may come several times.
    pub(crate) fn synonyms(&self, word: &str, mut each: impl FnMut(&str)) {
        for part in &self.parts {
            for &offset in part.forms(word).into_iter().flatten() {
                part.synset(offset).into_iter().flatten().filter(|w| !w.contains('_')).for_each(&mut each);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_manual_says() {
        // wndb(5WN) gives the fields.
        let (lemma, offsets) = index_line("abele n 1 2 @ #m 1 0 12345678  ").expect("a line");
        assert_eq!((lemma, offsets), ("abele", vec![12_345_678]));
        assert!(index_line("abele n 2 0 1 0 12345678").is_none());
        let (offset, words) =
            data_line("00001740 00 a 02 able 0 galore(ip) 0 005 = 05200169 n 0000 | x").expect("a line");
        assert_eq!((offset, words.collect::<Vec<_>>()), (1740, vec!["able", "galore"]));
    }
}
