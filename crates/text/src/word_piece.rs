//! WordPiece: the longest pieces of each word, from the left (BERT; Devlin et al. 2019).
//!
//! A text is cleaned, its letters may lose case and accents, and it is cut at white space, around every
//! punctuation mark and every Chinese character: the rules and character tables of Hugging Face's
//! `BertNormalizer` and `BertPreTokenizer`. Of each word the longest beginning that is a token is taken, then
//! the longest continuation, and so on; a word that cannot be made of tokens, or of more than 100 characters,
//! is the unknown token.
//!
//! Vocabularies are in GGUF's form: a token that begins a word has U+2581 before it, one that continues a word
//! stands plain (`##ing` of `vocab.txt` is `ing`, `the` is `▁the`).

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;

use crate::source::WordRules;
use crate::vocab::{SPACE, Vocab};

/// Longer words are unknown.
const LONGEST_WORD: usize = 100;

/// The pieces of a vocabulary.
pub(crate) struct WordPiece {
    rules: WordRules,
    unknown: Option<u32>,
    /// No token is longer, in bytes.
    longest: usize,
}

impl WordPiece {
    pub(crate) fn new(rules: WordRules, vocab: &Vocab, unknown: Option<u32>) -> WordPiece {
        let pieces = (0..vocab.len() as u32).filter(|&id| vocab.is_piece(id));
        let longest = pieces.filter_map(|id| vocab.text(id)).map(str::len).max().unwrap_or(0);
        WordPiece { rules, unknown, longest }
    }

    pub(crate) fn rules(&self) -> WordRules {
        self.rules
    }

    /// Appends the tokens of a text.
    pub(crate) fn encode(&self, text: &str, vocab: &Vocab, out: &mut Vec<u32>) {
        let mut word = String::new();
        let mut end_word = |word: &mut String| {
            if !word.is_empty() {
                self.encode_word(word, vocab, out);
                word.clear();
            }
        };
        for c in clean(text, self.rules).chars() {
            if c.is_whitespace() {
                end_word(&mut word);
            } else if c.is_ascii_punctuation() || c.is_punctuation() {
                end_word(&mut word);
                word.push(c);
                end_word(&mut word);
            } else {
                word.push(c);
            }
        }
        end_word(&mut word);
    }

    fn encode_word(&self, word: &str, vocab: &Vocab, out: &mut Vec<u32>) {
        let before = out.len();
        if word.chars().nth(LONGEST_WORD).is_some() {
            out.extend(self.unknown);
            return;
        }
        let marked = format!("{SPACE}{word}");
        let mut rest = &marked[..];
        // The mark alone is no beginning of a word.
        let mut shortest = SPACE.len_utf8() + 1;
        while !rest.is_empty() {
            // A continuation with the mark itself would be taken for a beginning.
            let marked_inside = shortest == 1 && rest.starts_with(SPACE);
            let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
            let mut ends =
                ends.skip_while(|&end| end > self.longest).take_while(|&end| end >= shortest && !marked_inside);
            let Some((end, id)) = ends.find_map(|end| Some((end, vocab.find_piece(&rest[..end])?))) else {
                out.truncate(before);
                out.extend(self.unknown);
                return;
            };
            out.push(id);
            rest = &rest[end..];
            shortest = 1;
        }
    }
}

/// The text with what is to be removed removed, white space as spaces, and spaces around Chinese characters.
fn clean(text: &str, rules: WordRules) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' | '\n' | '\r' if rules.clean => out.push(' '),
            '\0' | '\u{fffd}' if rules.clean => {}
            c if rules.clean && c.is_other() => {}
            c if rules.clean && c.is_whitespace() => out.push(' '),
            c if rules.split_chinese && is_chinese(c) => out.extend([' ', c, ' ']),
            c => out.push(c),
        }
    }
    if rules.strip_accents && !out.is_ascii() {
        out = out.nfd().map(|(c, _)| c).filter(|c| !c.is_mark_nonspacing()).collect();
    }
    if rules.lowercase {
        out = out.chars().flat_map(char::to_lowercase).collect();
    }
    out
}

/// As BERT has it; one block begins 0x100 late in Hugging Face's code, and so here.
fn is_chinese(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4e00..=0x9fff
            | 0x3400..=0x4dbf
            | 0x20000..=0x2a6df
            | 0x2a700..=0x2b73f
            | 0x2b740..=0x2b81f
            | 0x2b920..=0x2ceaf
            | 0xf900..=0xfaff
            | 0x2f800..=0x2fa1f
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{TokenType, VocabModel, VocabSource};

    const TOKENS: [&str; 11] = ["[UNK]", "▁un", "aff", "able", "▁a", "▁,", "▁", "▁ß", "▁中", "ß", "▁affa"];

    fn words(text: &str, rules: WordRules) -> String {
        let mut types = vec![TokenType::Normal; TOKENS.len()];
        types[0] = TokenType::Unknown;
        let source = VocabSource {
            model: VocabModel::WordPiece,
            tokens: TOKENS.iter().map(|&t| t.into()).collect(),
            types,
            ..VocabSource::default()
        };
        let vocab = Vocab::new(&source).unwrap();
        let mut out = Vec::new();
        WordPiece::new(rules, &vocab, Some(0)).encode(text, &vocab, &mut out);
        out.iter().map(|&id| TOKENS[id as usize]).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_longest_pieces_are_taken_from_the_left() {
        let rules = WordRules::default();
        assert_eq!(words("unaffable", rules), "▁un aff able");
        assert_eq!(words("UNÁFFABLE a", rules), "▁un aff able ▁a");
        // After the longest beginning nothing fits: the word as a whole is unknown.
        assert_eq!(words("affable", rules), "[UNK]");
        assert_eq!(words("unaffx a,a", rules), "[UNK] ▁a ▁, ▁a");
        assert_eq!(words("a中a\u{0}\u{200b}ß", rules), "▁a ▁中 ▁a ß");
        assert_eq!(words(&"a".repeat(101), rules), "[UNK]");
        assert_eq!(words("▁ß un▁a", rules), "[UNK] [UNK]");
        assert_eq!(words(" \u{a0}\u{3000}\t", rules), "");
    }

    #[test]
    fn a_cased_model_keeps_case_and_accents() {
        let rules = WordRules { lowercase: false, strip_accents: false, ..WordRules::default() };
        assert_eq!(words("Un un á", rules), "[UNK] ▁un [UNK]");
    }
}
