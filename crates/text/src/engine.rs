//! What turns a text without literal tokens into ids: one engine for each [`VocabModel`], and the library for
//! the rest.

use std::borrow::Cow;

use crate::bpe::{Bpe, Scratch};
use crate::charsmap::Replacements;
use crate::hf::Library;
use crate::pre_tokenizer::PreTokenizer;
use crate::sentence_piece::{Missing, SentencePiece, Symbols};
use crate::source::{Charsmap, SpacePrefix, TokenType, VocabModel, VocabSource};
use crate::unigram::{Lattice, Unigram};
use crate::vocab::{SPACE, Vocab};
use crate::word_piece::WordPiece;
use crate::{Error, Result, byte_level};

pub(crate) enum Engine {
    /// Byte-level BPE.
    Bytes { bpe: Box<Bpe>, pre: PreTokenizer, nfc: bool },
    /// BPE on characters, merges by rank.
    Chars(Box<Chars>),
    /// BPE on characters, merges by score.
    SentencePiece { model: Box<SentencePiece>, scores: Vec<f64>, prefix: SpacePrefix },
    /// The unigram model.
    Unigram(Box<UnigramEngine>),
    /// WordPiece.
    WordPiece(WordPiece),
    /// Whatever else `tokenizer.json` can say.
    Library(Box<Library>),
}

pub(crate) struct Chars {
    pub(crate) bpe: Bpe,
    missing: Missing,
    pub(crate) prefix: SpacePrefix,
    /// Lines are merged one by one, and a run of newlines that is a token is that token (Gemma 4 in GGUF files).
    pub(crate) by_line: bool,
    pub(crate) habits: Habits,
}

/// Two habits of BPE on characters that only `tokenizer.json` can ask for.
#[derive(Clone, Copy)]
pub(crate) struct Habits {
    /// A text that is a token is that token.
    pub(crate) ignore_merges: bool,
    /// A run of unknown characters is one unknown token.
    pub(crate) fuse_unknown: bool,
}

impl Default for Habits {
    /// SentencePiece's.
    fn default() -> Habits {
        Habits { ignore_merges: false, fuse_unknown: true }
    }
}

impl Habits {
    /// Whether a SentencePiece model gives the same ids.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn check_convertible(self, source: &VocabSource<'_>) -> Result<()> {
        let covers_all = source.types.iter().filter(|t| **t == TokenType::Byte).count() == 256;
        let found = match (self.ignore_merges, self.fuse_unknown || covers_all) {
            (true, _) => "ignore_merges",
            (_, false) => "fuse_unk false",
            _ => return Ok(()),
        };
        Err(Error::Unsupported {
            what: "BPE option",
            found: found.into(),
            supported: "none of these in a SentencePiece model".into(),
        })
    }
}

pub(crate) struct UnigramEngine {
    pub(crate) model: Unigram,
    replacements: Option<Replacements>,
    pub(crate) charsmap: Charsmap<'static>,
    pub(crate) prefix: SpacePrefix,
    pub(crate) collapse: bool,
}

/// Buffers that one call keeps from text to text.
#[derive(Default)]
pub(crate) struct Buffers {
    bpe: Scratch,
    symbols: Symbols,
    lattice: Lattice,
    text: String,
}

/// The name of the pre-tokenizer that merges line by line.
pub(crate) const BY_LINE: &str = "gemma4";

impl Engine {
    /// Builds the engine of a vocabulary, and says whether a BOS is added where the file does not say.
    pub(crate) fn new(source: &VocabSource<'_>, vocab: &Vocab) -> Result<(Engine, bool)> {
        let unknown = source.special.unk;
        Ok(match source.model {
            VocabModel::ByteBpe => {
                let pre = PreTokenizer::named(&source.pre)?;
                let bpe = Box::new(Bpe::new(source, vocab)?);
                (Engine::Bytes { bpe, pre, nfc: source.nfc }, pre.add_bos)
            }
            VocabModel::CharBpe => {
                let chars = Chars {
                    bpe: Bpe::new(source, vocab)?,
                    missing: Missing::new(vocab, unknown),
                    prefix: source.space_prefix,
                    by_line: source.pre == BY_LINE,
                    habits: Habits::default(),
                };
                (Engine::Chars(Box::new(chars)), source.pre == BY_LINE)
            }
            VocabModel::SentencePiece => {
                let model = Box::new(SentencePiece::new(&source.scores, vocab, unknown));
                let scores = source.scores.clone();
                (Engine::SentencePiece { model, scores, prefix: source.space_prefix }, true)
            }
            VocabModel::Unigram => {
                let Charsmap { bytes, by_grapheme } = &source.charsmap;
                let engine = UnigramEngine {
                    model: Unigram::new(&source.scores, vocab, unknown),
                    replacements: Replacements::new(bytes, *by_grapheme)?,
                    charsmap: Charsmap { bytes: Cow::Owned(bytes.to_vec()), by_grapheme: *by_grapheme },
                    prefix: source.space_prefix,
                    collapse: source.collapse_spaces,
                };
                (Engine::Unigram(Box::new(engine)), false)
            }
            VocabModel::WordPiece => (Engine::WordPiece(WordPiece::new(source.word_rules, vocab, unknown)), true),
        })
    }

    /// Appends the tokens of a text without literal tokens; `first` if nothing comes before it.
    pub(crate) fn encode(
        &self,
        text: &str,
        first: bool,
        vocab: &Vocab,
        buffers: &mut Buffers,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let Buffers { bpe: scratch, symbols, lattice, text: buffer } = buffers;
        match self {
            Engine::Bytes { bpe, pre, nfc: true } if !text.is_ascii() => {
                bpe.encode_text(&crate::hf::nfc(text)?, pre, vocab, scratch, ids);
            }
            Engine::Bytes { bpe, pre, .. } => bpe.encode_text(text, pre, vocab, scratch, ids),
            Engine::Chars(chars) => {
                mark_spaces(text, chars.prefix, first, buffer)?;
                chars.encode(buffer, vocab, scratch, ids);
            }
            Engine::SentencePiece { model, prefix, .. } => {
                mark_spaces(text, *prefix, first, buffer)?;
                model.encode(buffer, vocab, symbols, ids);
            }
            Engine::Unigram(engine) => {
                let text = engine.replacements.as_ref().map_or(Cow::Borrowed(text), |r| r.apply(text));
                if engine.collapse {
                    mark_collapsed(&text, engine, first, buffer)?;
                } else {
                    mark_spaces(&text, engine.prefix, first, buffer)?;
                }
                engine.model.encode(buffer, vocab, lattice, ids);
            }
            Engine::WordPiece(model) => model.encode(text, vocab, ids),
            Engine::Library(library) => library.encode(text, ids)?,
        }
        Ok(())
    }

    /// How many bytes of a text leave no trace in its tokens.
    pub(crate) fn uncovered_bytes(&self, text: &str, vocab: &Vocab) -> usize {
        let lost = |missing: &Missing| {
            let lacking = text.chars().filter(|&c| c != ' ' && vocab.find_piece(c.encode_utf8(&mut [0; 4])).is_none());
            lacking.map(|c| missing.lost(c.encode_utf8(&mut [0; 4]))).sum()
        };
        match self {
            Engine::Bytes { bpe, .. } => text.bytes().filter(|&b| !bpe.has_byte(b)).count(),
            Engine::Chars(chars) => lost(&chars.missing),
            Engine::SentencePiece { model, .. } => lost(model.missing()),
            Engine::Unigram(engine) => lost(engine.model.missing()),
            Engine::WordPiece(_) => 0,
            Engine::Library(library) if library.is_byte_level() => {
                let lacks = |b| vocab.find(byte_level::to_char(b).encode_utf8(&mut [0; 4])).is_none();
                text.bytes().filter(|&b| lacks(b)).count()
            }
            Engine::Library(_) => 0,
        }
    }

    /// Whether the first space of a decoded text is the one that was put there.
    pub(crate) fn adds_space(&self) -> bool {
        match self {
            Engine::Bytes { .. } => false,
            Engine::Chars(chars) => chars.prefix != SpacePrefix::Never,
            Engine::SentencePiece { prefix, .. } => *prefix != SpacePrefix::Never,
            Engine::Unigram(engine) => engine.prefix != SpacePrefix::Never,
            Engine::WordPiece(_) => true,
            Engine::Library(library) => !library.is_byte_level(),
        }
    }
}

impl Chars {
    fn encode(&self, text: &str, vocab: &Vocab, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        if self.habits.ignore_merges
            && let Some(id) = vocab.find_piece(text)
        {
            ids.push(id);
            return;
        }
        let mut rest = text;
        while !rest.is_empty() {
            let line = if self.by_line { rest.find('\n').unwrap_or(rest.len()) } else { rest.len() };
            self.bpe.encode_chars(&rest[..line], vocab, &self.missing, self.habits.fuse_unknown, scratch, ids);
            rest = &rest[line..];
            let (newlines, after) = rest.split_at(rest.bytes().take_while(|&b| b == b'\n').count());
            match vocab.find_piece(newlines) {
                Some(id) if !newlines.is_empty() => ids.push(id),
                _ => self.bpe.encode_chars(newlines, vocab, &self.missing, self.habits.fuse_unknown, scratch, ids),
            }
            rest = after;
        }
    }
}

/// Whether to put a space before a text.
fn wants_space(text: &str, prefix: SpacePrefix, first: bool) -> bool {
    let spaced = text.starts_with([' ', SPACE]);
    match prefix {
        SpacePrefix::Never => false,
        SpacePrefix::Every => true,
        SpacePrefix::EveryUnlessSpace => !spaced,
        SpacePrefix::FirstUnlessSpace => first && !spaced,
    }
}

/// Puts a text into `out` with U+2581 for its spaces.
fn mark_spaces(text: &str, prefix: SpacePrefix, first: bool, out: &mut String) -> Result<()> {
    out.clear();
    if wants_space(text, prefix, first) {
        out.push(SPACE);
    }
    for (number, part) in text.split(' ').enumerate() {
        if number > 0 {
            out.push(SPACE);
        }
        out.push_str(part);
    }
    check_length(out)
}

/// The same with runs of spaces as one U+2581, and none at the ends but the one that is asked for. Hugging Face's
/// library cuts at all white space; in SentencePiece the replacements have made spaces of most of it.
fn mark_collapsed(text: &str, engine: &UnigramEngine, first: bool, out: &mut String) -> Result<()> {
    out.clear();
    let all = engine.charsmap.by_grapheme;
    let words = text.split(|c: char| c == ' ' || all && c.is_whitespace()).filter(|word| !word.is_empty());
    for (number, word) in words.enumerate() {
        let spaced = if all { !word.starts_with(SPACE) } else { number > 0 };
        if spaced || wants_space(word, engine.prefix, first) {
            out.push(SPACE);
        }
        out.push_str(word);
    }
    check_length(out)
}

/// Positions have 32 bits, and a space has become three bytes.
fn check_length(text: &str) -> Result<()> {
    if text.len() >= u32::MAX as usize { Err(Error::TooLong(text.len())) } else { Ok(()) }
}
