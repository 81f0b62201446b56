//! sacrebleu's tokenizers: a line of text becomes words with spaces between them.
//!
//! Post 2018, "A Call for Clarity in Reporting BLEU Scores"; the rules are those of sacrebleu 2.6.0, slips included,
//! since a score is only worth something if others get the same.

mod international;
mod western;
mod zh;

use super::python::strip_end;

pub(crate) use western::{split_periods, split_symbols, unescape};

/// How text is cut into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokenizer {
    /// At whitespace only.
    None,
    /// As mteval-v13a.pl does, for Western languages.
    V13a,
    /// As mteval-v14.pl does, by Unicode's punctuation and symbols.
    International,
    /// Every character is a word.
    Char,
    /// Chinese characters are words, the rest is cut as mteval-v13a.pl does.
    Zh,
}

impl Tokenizer {
    /// All of them.
    pub const ALL: [Tokenizer; 5] =
        [Tokenizer::V13a, Tokenizer::International, Tokenizer::Char, Tokenizer::Zh, Tokenizer::None];

    /// The name in signatures.
    pub const fn name(self) -> &'static str {
        match self {
            Tokenizer::None => "none",
            Tokenizer::V13a => "13a",
            Tokenizer::International => "intl",
            Tokenizer::Char => "char",
            Tokenizer::Zh => "zh",
        }
    }

    /// Writes a line with spaces between its words into a buffer. Whitespace at its end is dropped first.
    pub fn write(self, line: &str, out: &mut String) {
        out.clear();
        let line = strip_end(line);
        match self {
            Tokenizer::None => out.push_str(line),
            Tokenizer::V13a => western::v13a(line, out),
            Tokenizer::International => international::write(line, out),
            Tokenizer::Char => {
                for c in line.chars() {
                    out.push(c);
                    out.push(' ');
                }
            }
            Tokenizer::Zh => zh::write(line, out),
        }
    }
}
