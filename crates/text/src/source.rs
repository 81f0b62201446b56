//! What a tokenizer is made of, whichever file it came from.
//!
//! A GGUF file's metadata and a Hugging Face folder both become a [`VocabSource`], a [`Tokenizer`]
//! is built from it, and gives one back for the other format's writer: it is the one place where the
//! two meet. It borrows its strings from the file where it can: a vocabulary has hundreds of thousands.
//!
//! [`Tokenizer`]: crate::Tokenizer

use std::borrow::Cow;

use crate::{Error, Result};

/// No vocabulary may be larger: eight times the largest one in use (256 Ki tokens).
pub const MAX_TOKENS: usize = 1 << 21;

/// What a token is for; the numbers are those of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum TokenType {
    /// Not said.
    Undefined = 0,
    /// A piece of text, in the byte-level alphabet.
    Normal = 1,
    /// Stands for what the vocabulary lacks.
    Unknown = 2,
    /// Marks structure, is not text: `<|im_end|>`.
    Control = 3,
    /// A literal text that is always one token.
    UserDefined = 4,
    /// Fills a gap in the numbering.
    Unused = 5,
    /// A single byte, written `<0x0A>`.
    Byte = 6,
}

impl TokenType {
    /// The type with that number.
    pub fn from_number(number: i64) -> Option<TokenType> {
        Some(match number {
            0 => TokenType::Undefined,
            1 => TokenType::Normal,
            2 => TokenType::Unknown,
            3 => TokenType::Control,
            4 => TokenType::UserDefined,
            5 => TokenType::Unused,
            6 => TokenType::Byte,
            _ => return None,
        })
    }
}

/// The tokens that have a part to play, by id. A file may name any of them, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SpecialIds {
    /// Begin of sequence.
    pub bos: Option<u32>,
    /// End of sequence.
    pub eos: Option<u32>,
    /// Unknown.
    pub unk: Option<u32>,
    /// Separator.
    pub sep: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
    /// Mask.
    pub mask: Option<u32>,
    /// End of turn.
    pub eot: Option<u32>,
    /// End of message.
    pub eom: Option<u32>,
    /// Fill in the middle: before the prefix.
    pub fim_pre: Option<u32>,
    /// Fill in the middle: before the suffix.
    pub fim_suf: Option<u32>,
    /// Fill in the middle: before the middle.
    pub fim_mid: Option<u32>,
    /// Fill in the middle: padding.
    pub fim_pad: Option<u32>,
    /// Fill in the middle: before a repository's name.
    pub fim_rep: Option<u32>,
    /// Fill in the middle: between files.
    pub fim_sep: Option<u32>,
}

impl SpecialIds {
    /// Each part with its GGUF key, which is `tokenizer.ggml.<name>_token_id`.
    pub fn named_mut(&mut self) -> [(&'static str, &mut Option<u32>); 14] {
        [
            ("bos", &mut self.bos),
            ("eos", &mut self.eos),
            ("unknown", &mut self.unk),
            ("seperator", &mut self.sep), // spelt so in the format
            ("padding", &mut self.pad),
            ("mask", &mut self.mask),
            ("eot", &mut self.eot),
            ("eom", &mut self.eom),
            ("fim_pre", &mut self.fim_pre),
            ("fim_suf", &mut self.fim_suf),
            ("fim_mid", &mut self.fim_mid),
            ("fim_pad", &mut self.fim_pad),
            ("fim_rep", &mut self.fim_rep),
            ("fim_sep", &mut self.fim_sep),
        ]
    }

    /// The parts that are set, with the names of [`SpecialIds::named_mut`].
    pub fn named(mut self) -> impl Iterator<Item = (&'static str, u32)> {
        self.named_mut().map(|(name, id)| (name, *id)).into_iter().filter_map(|(name, id)| Some((name, id?)))
    }
}

/// How texts become tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum VocabModel {
    /// Words of bytes, merged by rank (GPT-2 and its kin): `gpt2` in GGUF files.
    #[default]
    ByteBpe,
    /// Characters with U+2581 for the space, merged by rank: what `tokenizer.json` makes of a SentencePiece
    /// model; `gemma4` in GGUF files.
    CharBpe,
    /// Characters with U+2581 for the space, merged by score (SentencePiece's BPE): `llama` in GGUF files.
    SentencePiece,
    /// The most probable sequence of pieces (SentencePiece's unigram model): `t5` in GGUF files.
    Unigram,
    /// The longest pieces of each word from the left (BERT): `bert` in GGUF files.
    WordPiece,
}

/// Whether a space is put before a text, so that its first word looks like any other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum SpacePrefix {
    /// No.
    #[default]
    Never,
    /// Before each text between literal tokens, and at the start.
    Every,
    /// The same, unless the text begins with a space.
    EveryUnlessSpace,
    /// At the start of the whole text, unless it begins with a space.
    FirstUnlessSpace,
}

/// What is done to a text before it is cut into words (WordPiece).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct WordRules {
    /// Control characters are removed.
    pub clean: bool,
    /// Chinese characters are words of their own.
    pub split_chinese: bool,
    /// Letters lose their accents.
    pub strip_accents: bool,
    /// Letters become small.
    pub lowercase: bool,
}

impl Default for WordRules {
    /// Those of an uncased BERT.
    fn default() -> WordRules {
        WordRules { clean: true, split_chinese: true, strip_accents: true, lowercase: true }
    }
}

/// SentencePiece's compiled replacements of characters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Charsmap<'a> {
    /// The bytes of `precompiled_charsmap`; empty if there are none.
    pub bytes: Cow<'a, [u8]>,
    /// Whether whole grapheme clusters are looked up, as Hugging Face's `tokenizers` does; SentencePiece and
    /// llama.cpp look for the longest match.
    pub by_grapheme: bool,
}

/// A chat template by name, as a list in `tokenizer_config.json` or `tokenizer.chat_template.<name>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedTemplate {
    /// For example `tool_use`.
    pub name: String,
    /// Its Jinja source.
    pub source: String,
}

/// A literal token that takes the white space beside it along (`lstrip`, `rstrip` of an added token).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Strip {
    /// The token.
    pub id: u32,
    /// It swallows the white space before it.
    pub left: bool,
    /// It swallows the white space after it.
    pub right: bool,
}

/// A vocabulary with everything that goes with it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct VocabSource<'a> {
    /// How texts become tokens.
    pub model: VocabModel,
    /// The tokens' texts by id. Normal ones are in the byte-level alphabet, or have U+2581 for the space; a
    /// WordPiece that begins a word has U+2581 before it, one that continues a word has nothing.
    pub tokens: Vec<Cow<'a, str>>,
    /// As many types as tokens.
    pub types: Vec<TokenType>,
    /// The merges by rank: two token texts whose concatenation is a token.
    pub merges: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// As many scores as tokens, for the models that have scores; else none.
    pub scores: Vec<f64>,
    /// Name of the pre-tokenizer, as in `tokenizer.ggml.pre`.
    pub pre: Cow<'a, str>,
    /// The tokens with a part to play.
    pub special: SpecialIds,
    /// Further tokens that end a generation (the list in `generation_config.json`).
    pub end_ids: Vec<u32>,
    /// Whether a BOS starts an encoded text; the pre-tokenizer's habit where the file does not say.
    pub add_bos: Option<bool>,
    /// Whether an EOS ends an encoded text.
    pub add_eos: Option<bool>,
    /// Whether a text gets a space before it (the models that write it U+2581).
    pub space_prefix: SpacePrefix,
    /// Whether runs of spaces become one, and those at the ends none (unigram).
    pub collapse_spaces: bool,
    /// Replacements of characters (unigram).
    pub charsmap: Charsmap<'a>,
    /// How a text is cut into words (WordPiece).
    pub word_rules: WordRules,
    /// Whether texts are brought to Unicode's NFC first. A GGUF file cannot say so.
    pub nfc: bool,
    /// Literal tokens that swallow white space. A GGUF file cannot say so.
    pub strips: Vec<Strip>,
    /// The default chat template.
    pub chat_template: Option<Cow<'a, str>>,
    /// Further chat templates.
    pub named_templates: Vec<NamedTemplate>,
}

impl VocabSource<'_> {
    /// Fills the vocabulary up to `size` with unused tokens, as a model's embedding matrix may have
    /// more rows than its tokenizer has tokens.
    ///
    /// # Errors
    /// The vocabulary is larger than `size`, or `size` is above [`MAX_TOKENS`].
    pub fn pad_to(&mut self, size: usize) -> Result<()> {
        if size < self.tokens.len() || size > MAX_TOKENS {
            return Err(Error::Vocabulary(format!(
                "the tokenizer has {} tokens, the model {size} (at most {MAX_TOKENS})",
                self.tokens.len()
            )));
        }
        for id in self.tokens.len()..size {
            self.tokens.push(Cow::Owned(format!("[PAD{id}]")));
            self.types.push(TokenType::Unused);
        }
        if !self.scores.is_empty() {
            // Below all others: an unused token is never the better choice.
            let lowest = self.scores.iter().copied().fold(0.0, f64::min);
            self.scores.resize(size, lowest);
        }
        Ok(())
    }

    /// The token that ends an encoded text where one does: the separator of a WordPiece model, else the EOS.
    pub(crate) fn last(&self) -> Option<u32> {
        match self.model {
            VocabModel::WordPiece => self.special.sep.or(self.special.eos),
            _ => self.special.eos,
        }
    }

    /// Checks what can be checked without building anything: counts and ids.
    pub(crate) fn check(&self) -> Result<()> {
        let size = self.tokens.len();
        if size == 0 {
            return Err(Error::Vocabulary("it has no tokens".into()));
        }
        if size > MAX_TOKENS {
            return Err(Error::Vocabulary(format!("{size} tokens; at most {MAX_TOKENS} are supported")));
        }
        if self.types.len() != size {
            return Err(Error::Vocabulary(format!("{size} tokens but {} token types", self.types.len())));
        }
        let scored = matches!(self.model, VocabModel::SentencePiece | VocabModel::Unigram);
        if scored && self.scores.len() != size {
            return Err(Error::Vocabulary(format!("{size} tokens but {} scores", self.scores.len())));
        }
        if let Some(id) = self.scores.iter().position(|s| s.is_nan()) {
            return Err(Error::Vocabulary(format!("token {id} has no number for a score")));
        }
        let ends = self.end_ids.iter().map(|&id| ("end-of-generation", id));
        let strips = self.strips.iter().map(|s| ("stripping", s.id));
        let named = self.special.named().chain(ends).chain(strips);
        for (name, id) in named {
            if id as usize >= size {
                return Err(Error::Vocabulary(format!("the {name} token is id {id}, beyond the {size} tokens")));
            }
        }
        if self.add_bos == Some(true) && self.special.bos.is_none() {
            return Err(Error::Vocabulary("a BOS is to be added but none is named".into()));
        }
        if self.add_eos == Some(true) && self.last().is_none() {
            return Err(Error::Vocabulary("an EOS is to be added but none is named".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_tokens() -> VocabSource<'static> {
        VocabSource {
            tokens: vec!["a".into(), "<s>".into()],
            types: vec![TokenType::Normal, TokenType::Control],
            ..VocabSource::default()
        }
    }

    #[test]
    fn contradictions_are_named() {
        let message = |change: &dyn Fn(&mut VocabSource<'static>)| {
            let mut source = two_tokens();
            change(&mut source);
            source.check().unwrap_err().to_string()
        };
        assert!(two_tokens().check().is_ok());
        assert!(message(&|s| s.tokens.clear()).contains("no tokens"));
        assert!(message(&|s| s.types.truncate(1)).contains("2 tokens but 1 token types"));
        assert!(message(&|s| s.special.eos = Some(2)).contains("the eos token is id 2, beyond the 2"));
        assert!(message(&|s| s.end_ids.push(u32::MAX)).contains("end-of-generation"));
        assert!(message(&|s| s.add_bos = Some(true)).contains("BOS"));
    }

    #[test]
    fn padding_counts_on_from_the_last_token() {
        let mut source = two_tokens();
        source.pad_to(4).unwrap();
        assert_eq!(source.tokens[2..], ["[PAD2]", "[PAD3]"]);
        assert_eq!(source.types[3], TokenType::Unused);
        assert!(source.pad_to(3).is_err());
        assert!(source.pad_to(MAX_TOKENS + 1).is_err());
    }

    #[test]
    fn type_numbers_are_those_of_the_format() {
        for number in 0..=6 {
            assert_eq!(TokenType::from_number(number).unwrap() as i64, number);
        }
        assert_eq!(TokenType::from_number(7), None);
        assert_eq!(TokenType::from_number(-1), None);
    }
}
