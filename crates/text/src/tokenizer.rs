//! [`Tokenizer`]: texts to token ids and back.
//!
//! What a GGUF file can hold runs on our own engines, whether it comes from one or from `tokenizer.json`; a
//! `tokenizer.json` with another pre-tokenizer or normalizer runs on Hugging Face's `tokenizers` crate. Why
//! two: the first token of an answer is due 0.4 s after the program's start, in 200 MB of which the default
//! model takes 98. Measured for byte-level BPE with the crate's own example
//! `load_time` (two cores, the file in the page cache), for its 49,152 tokens and 48,900 merges:
//!
//! | | load | memory to load | 1.3 MB of WikiText | peak memory then |
//! | --- | --- | --- | --- | --- |
//! | our engine, from GGUF | 17 ms | 6 MB | 0.06 s | 13 MB |
//! | `tokenizers` 0.23.2, its BPE alone | 46 ms | | 0.9 s | 179 MB |
//!
//! The crate's pure-Rust regex also stops silently at its backtracking limit on a long run of one kind of
//! character, after which the ids are wrong; here the pre-tokenizers are matched by hand.

use std::borrow::Cow;

use crate::engine::{BY_LINE, Buffers, Engine, Habits};
use crate::hf::Library;
use crate::source::{Charsmap, NamedTemplate, SpecialIds, Strip, TokenType, VocabModel, VocabSource};
use crate::special::{Literals, Piece};
use crate::vocab::Vocab;
use crate::{Error, Result, conversion};

/// Texts to token ids and back.
pub struct Tokenizer {
    vocab: Vocab,
    model: VocabModel,
    engine: Engine,
    literals: Literals,
    special: SpecialIds,
    more_end_ids: Vec<u32>,
    add_bos: bool,
    add_eos: bool,
    /// What `add_eos` adds.
    last: Option<u32>,
    strips: Vec<Strip>,
    chat_template: Option<String>,
    named_templates: Vec<NamedTemplate>,
}

impl Tokenizer {
    /// Builds a tokenizer on our own engine.
    ///
    /// # Errors
    /// The pre-tokenizer is unknown, or the vocabulary contradicts itself: no tokens, one text twice, a
    /// merge of what is no token, an id beyond the end.
    pub fn from_source(source: &VocabSource<'_>) -> Result<Tokenizer> {
        let vocab = Vocab::new(source)?;
        let (engine, habit) = Engine::new(source, &vocab)?;
        // A habit is no reason to fail where there is no BOS.
        let add_bos = source.add_bos.unwrap_or(habit && source.special.bos.is_some());
        Tokenizer::assemble(source, vocab, engine, add_bos)
    }

    /// Builds a tokenizer that leaves plain text to the library.
    pub(crate) fn with_library(source: &VocabSource<'_>, library: Library) -> Result<Tokenizer> {
        let vocab = Vocab::new(source)?;
        let add_bos = source.add_bos.unwrap_or(false);
        Tokenizer::assemble(source, vocab, Engine::Library(Box::new(library)), add_bos)
    }

    fn assemble(source: &VocabSource<'_>, vocab: Vocab, engine: Engine, add_bos: bool) -> Result<Tokenizer> {
        Ok(Tokenizer {
            literals: Literals::new(&vocab, &source.strips)?,
            vocab,
            model: source.model,
            engine,
            special: source.special,
            more_end_ids: source.end_ids.clone(),
            add_bos,
            add_eos: source.add_eos.unwrap_or(source.model == VocabModel::WordPiece && source.last().is_some()),
            last: source.last(),
            strips: source.strips.clone(),
            chat_template: source.chat_template.as_deref().map(str::to_owned),
            named_templates: source.named_templates.clone(),
        })
    }

    /// The token ids of a text.
    ///
    /// `add_special` puts the BOS and EOS where the model wants them (a rendered chat template holds its
    /// own: pass false). `parse_special` reads the spelling of control tokens, such as `<|im_end|>`, as
    /// the token: right for a rendered template, wrong for text that a user typed. User-defined tokens
    /// are always read. What a byte-level vocabulary has no token for is left out, as both llama.cpp and Hugging
    /// Face's library do ([`Tokenizer::uncovered_bytes`] counts it); the other models have bytes or an unknown
    /// token for it.
    ///
    /// # Errors
    /// The text has 4 GiB or more.
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>> {
        if text.len() >= u32::MAX as usize {
            return Err(Error::TooLong(text.len()));
        }
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        if add_special && self.add_bos {
            ids.extend(self.special.bos);
        }
        let mut buffers = Buffers::default();
        let mut outcome = Ok(());
        let whole = text.as_ptr();
        self.literals.split(text, parse_special, |piece| match piece {
            Piece::Token(id) => ids.push(id),
            Piece::Text(text) if outcome.is_ok() => {
                let first = text.as_ptr() == whole;
                outcome = self.engine.encode(text, first, &self.vocab, &mut buffers, &mut ids);
            }
            Piece::Text(_) => {}
        });
        outcome?;
        if add_special && self.add_eos {
            ids.extend(self.last);
        }
        Ok(ids)
    }

    /// The bytes that the tokens stand for, control tokens spelt out. Where a text gets a space before it, the
    /// first space is taken away again, so that what was encoded comes back.
    ///
    /// # Errors
    /// An id is outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>> {
        self.decode_some(ids.iter().copied())
    }

    fn decode_some(&self, ids: impl Iterator<Item = u32>) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(ids.size_hint().0 * 4);
        for (number, id) in ids.enumerate() {
            self.push_bytes(id, &mut bytes)?;
            if number == 0 && self.engine.adds_space() && self.vocab.is_piece(id) && bytes.first() == Some(&b' ') {
                bytes.remove(0);
            }
        }
        Ok(bytes)
    }

    /// The text that the tokens stand for, with U+FFFD for bytes that are not UTF-8; control tokens are
    /// spelt out, or left out with `skip_special`.
    ///
    /// # Errors
    /// An id is outside the vocabulary.
    pub fn decode_text(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= self.vocab.len()) {
            return Err(Error::TokenId { id, size: self.vocab.len() });
        }
        let shown = ids.iter().copied().filter(|&id| !(skip_special && self.is_special(id)));
        let bytes = self.decode_some(shown)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    /// The text that the tokens stand for, control tokens spelt out.
    ///
    /// # Errors
    /// The bytes are not UTF-8 (a character may be cut at either end), or an id is outside the
    /// vocabulary.
    pub fn decode_strict(&self, ids: &[u32]) -> Result<String> {
        String::from_utf8(self.decode(ids)?).map_err(|e| Error::NotUtf8 { valid_up_to: e.utf8_error().valid_up_to() })
    }

    /// Appends the bytes of one token.
    pub(crate) fn push_bytes(&self, id: u32, bytes: &mut Vec<u8>) -> Result<()> {
        match self.vocab.push_bytes(id, bytes) {
            true => Ok(()),
            false => Err(Error::TokenId { id, size: self.vocab.len() }),
        }
    }

    /// The bytes that a token stands for; None outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.vocab.push_bytes(id, &mut bytes).then_some(bytes)
    }

    /// A token's text as it stands in the vocabulary (`Ġthe`); None outside it.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.vocab.text(id)
    }

    /// The token with that text in the vocabulary.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.vocab.find(text)
    }

    /// Number of tokens; ids are below it.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The begin-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.special.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.special.eos
    }

    /// All tokens that the file names.
    pub fn special_ids(&self) -> SpecialIds {
        self.special
    }

    /// Whether `add_special` puts a BOS first.
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether `add_special` puts an EOS last.
    pub fn adds_eos(&self) -> bool {
        self.add_eos
    }

    /// Whether the token ends a generation: EOS, end of turn, end of message, and those that llama.cpp
    /// knows by their text, such as `<|im_end|>`.
    pub fn end_of_generation(&self, id: u32) -> bool {
        self.vocab.ends_generation(id)
    }

    /// All tokens that end a generation, ascending.
    pub fn end_of_generation_ids(&self) -> &[u32] {
        self.vocab.end_ids()
    }

    /// Whether the token is structure rather than text (a control or unknown token).
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.vocab.role(id), Some(TokenType::Control | TokenType::Unknown))
    }

    /// The default chat template's source.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// Further chat templates, by name.
    pub fn named_templates(&self) -> &[NamedTemplate] {
        &self.named_templates
    }

    /// How texts become tokens; None if the library does it in a way that has no name here.
    pub fn model(&self) -> Option<VocabModel> {
        match &self.engine {
            Engine::Library(_) => None,
            _ => Some(self.model),
        }
    }

    /// The pre-tokenizer's name, as in GGUF files; None if it has none there.
    pub fn pre_tokenizer(&self) -> Option<&'static str> {
        match &self.engine {
            Engine::Bytes { pre, .. } => Some(pre.name),
            Engine::Chars(chars) if chars.by_line => Some(BY_LINE),
            _ => None,
        }
    }

    /// How many of a text's bytes have no token and are left out by [`Tokenizer::encode`].
    pub fn uncovered_bytes(&self, text: &str) -> usize {
        self.engine.uncovered_bytes(text, &self.vocab)
    }

    /// What the tokenizer is made of, for a writer of another format. BPE on characters from a
    /// `tokenizer.json` is given as the SentencePiece model that gives the same ids.
    ///
    /// # Errors
    /// It runs on the library, or there is no such SentencePiece model: the file that it came from is the one
    /// to copy.
    pub fn source(&self) -> Result<VocabSource<'_>> {
        let text = |id| Cow::Borrowed(self.vocab.text(id).unwrap_or_default());
        let mut source = VocabSource {
            model: self.model,
            tokens: (0..self.vocab.len() as u32).map(text).collect(),
            types: self.vocab.types().to_vec(),
            special: self.special,
            end_ids: self.more_end_ids.clone(),
            add_bos: Some(self.add_bos),
            add_eos: Some(self.add_eos),
            strips: self.strips.clone(),
            chat_template: self.chat_template.as_deref().map(Cow::Borrowed),
            named_templates: self.named_templates.clone(),
            ..VocabSource::default()
        };
        match &self.engine {
            Engine::Bytes { bpe, pre, nfc } => {
                source.merges = bpe.merges().map(|(left, right)| (text(left), text(right))).collect();
                source.pre = Cow::Borrowed(pre.name);
                source.nfc = *nfc;
            }
            Engine::Chars(chars) => {
                source.merges = chars.bpe.merges().map(|(left, right)| (text(left), text(right))).collect();
                source.space_prefix = chars.prefix;
                if chars.by_line {
                    source.pre = Cow::Borrowed(BY_LINE);
                } else {
                    chars.habits.check_convertible(&source)?;
                    conversion::to_scores(&mut source, &self.vocab)?;
                }
            }
            Engine::SentencePiece { scores, prefix, .. } => {
                source.scores = scores.clone();
                source.space_prefix = *prefix;
            }
            Engine::Unigram(engine) => {
                source.scores = engine.model.scores().to_vec();
                let Charsmap { bytes, by_grapheme } = &engine.charsmap;
                source.charsmap = Charsmap { bytes: Cow::Borrowed(bytes), by_grapheme: *by_grapheme };
                source.space_prefix = engine.prefix;
                source.collapse_spaces = engine.collapse;
            }
            Engine::WordPiece(model) => source.word_rules = model.rules(),
            Engine::Library(library) => return Err(library.why_unknown()),
        }
        Ok(source)
    }

    /// The same with habits of `tokenizer.json`.
    pub(crate) fn with_habits(mut self, habits: Habits) -> Tokenizer {
        if let Engine::Chars(chars) = &mut self.engine {
            chars.habits = habits;
        }
        self
    }
}

impl std::fmt::Debug for Tokenizer {
    /// A summary: nobody wants to see 50,000 tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("tokens", &self.vocab_size())
            .field("pre_tokenizer", &self.pre_tokenizer())
            .finish_non_exhaustive()
    }
}
