//! [`Tokenizer`]: texts to token ids and back.
//!
//! Byte-level BPE with a known pre-tokenizer runs on our own engine, whether it comes from a GGUF file
//! or from `tokenizer.json`; a `tokenizer.json` with another pre-tokenizer or normalizer runs on Hugging
//! Face's `tokenizers` crate. Why two: the first token of an answer is due 0.4 s after the program's
//! start, in 200 MB of which the default model takes 98. Measured with the crate's own example
//! `load_time` (two cores, the file in the page cache), for its 49,152 tokens and 48,900 merges:
//!
//! | | load | memory to load | 1.3 MB of WikiText | peak memory then |
//! | --- | --- | --- | --- | --- |
//! | this engine, from GGUF | 17 ms | 6 MB | 0.06 s | 13 MB |
//! | `tokenizers` 0.23.2, its BPE alone | 46 ms | | 0.9 s | 179 MB |
//!
//! The crate's pure-Rust regex also stops silently at its backtracking limit on a long run of one kind of
//! character, after which the ids are wrong; here the pre-tokenizers are matched by hand.

use std::borrow::Cow;

use crate::bpe::{Bpe, Scratch};
use crate::hf::Library;
use crate::pre_tokenizer::PreTokenizer;
use crate::source::{NamedTemplate, SpecialIds, Strip, TokenType, VocabSource};
use crate::special::{Literals, Piece};
use crate::vocab::Vocab;
use crate::{Error, Result, byte_level};

/// Texts to token ids and back.
pub struct Tokenizer {
    vocab: Vocab,
    engine: Engine,
    literals: Literals,
    special: SpecialIds,
    more_end_ids: Vec<u32>,
    add_bos: bool,
    add_eos: bool,
    strips: Vec<Strip>,
    chat_template: Option<String>,
    named_templates: Vec<NamedTemplate>,
}

pub(crate) enum Engine {
    Own { bpe: Box<Bpe>, pre: PreTokenizer, nfc: bool },
    Library(Box<Library>),
}

impl Tokenizer {
    /// Builds a tokenizer on our own engine.
    ///
    /// # Errors
    /// The pre-tokenizer is unknown, or the vocabulary contradicts itself: no tokens, one text twice, a
    /// merge of what is no token, an id beyond the end.
    pub fn from_source(source: &VocabSource<'_>) -> Result<Tokenizer> {
        let pre = PreTokenizer::named(&source.pre)?;
        let vocab = Vocab::new(source)?;
        let bpe = Bpe::new(source, &vocab)?;
        let engine = Engine::Own { bpe: Box::new(bpe), pre, nfc: source.nfc };
        // A pre-tokenizer's habit is no reason to fail where there is no BOS.
        let add_bos = source.add_bos.unwrap_or(pre.add_bos && source.special.bos.is_some());
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
            engine,
            special: source.special,
            more_end_ids: source.end_ids.clone(),
            add_bos,
            add_eos: source.add_eos.unwrap_or(false),
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
    /// are always read. Bytes that the vocabulary has no token for are left out, as both llama.cpp and
    /// Hugging Face's library do: [`Tokenizer::uncovered_bytes`] counts them.
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
        let mut scratch = Scratch::default();
        let mut outcome = Ok(());
        self.literals.split(text, parse_special, |piece| match piece {
            Piece::Token(id) => ids.push(id),
            Piece::Text(text) if outcome.is_ok() => {
                outcome = self.engine.encode(text, &self.vocab, &mut scratch, &mut ids);
            }
            Piece::Text(_) => {}
        });
        outcome?;
        if add_special && self.add_eos {
            ids.extend(self.special.eos);
        }
        Ok(ids)
    }

    /// The bytes that the tokens stand for, control tokens spelt out.
    ///
    /// # Errors
    /// An id is outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            self.push_bytes(id, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// The text that the tokens stand for, with U+FFFD for bytes that are not UTF-8; control tokens are
    /// spelt out, or left out with `skip_special`.
    ///
    /// # Errors
    /// An id is outside the vocabulary.
    pub fn decode_text(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            if !(skip_special && self.is_special(id)) {
                self.push_bytes(id, &mut bytes)?;
            }
        }
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

    /// The pre-tokenizer's name, as in GGUF files; None if it has none there.
    pub fn pre_tokenizer(&self) -> Option<&'static str> {
        match &self.engine {
            Engine::Own { pre, .. } => Some(pre.name),
            Engine::Library(_) => None,
        }
    }

    /// How many of a text's bytes have no token and are left out by [`Tokenizer::encode`].
    pub fn uncovered_bytes(&self, text: &str) -> usize {
        match &self.engine {
            Engine::Own { bpe, .. } => text.bytes().filter(|&b| !bpe.has_byte(b)).count(),
            Engine::Library(_) => {
                let lacks = |b| self.vocab.find(byte_level::to_char(b).encode_utf8(&mut [0; 4])).is_none();
                text.bytes().filter(|&b| lacks(b)).count()
            }
        }
    }

    /// What the tokenizer is made of, for a writer of another format.
    ///
    /// # Errors
    /// It runs on the library: its pre-tokenizer has no name in GGUF files.
    pub fn source(&self) -> Result<VocabSource<'_>> {
        let (bpe, pre, nfc) = match &self.engine {
            Engine::Own { bpe, pre, nfc } => (bpe, pre, *nfc),
            Engine::Library(library) => return Err(library.why_unknown()),
        };
        let text = |id| Cow::Borrowed(self.vocab.text(id).unwrap_or_default());
        Ok(VocabSource {
            tokens: (0..self.vocab.len() as u32).map(text).collect(),
            types: self.vocab.types().to_vec(),
            merges: bpe.merges().map(|(left, right)| (text(left), text(right))).collect(),
            pre: Cow::Borrowed(pre.name),
            special: self.special,
            end_ids: self.more_end_ids.clone(),
            add_bos: Some(self.add_bos),
            add_eos: Some(self.add_eos),
            nfc,
            strips: self.strips.clone(),
            chat_template: self.chat_template.as_deref().map(Cow::Borrowed),
            named_templates: self.named_templates.clone(),
        })
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

impl Engine {
    /// Appends the tokens of a text without literal tokens.
    fn encode(&self, text: &str, vocab: &Vocab, scratch: &mut Scratch, ids: &mut Vec<u32>) -> Result<()> {
        match self {
            Engine::Own { bpe, pre, nfc: true } if !text.is_ascii() => {
                bpe.encode_text(&crate::hf::nfc(text)?, pre, vocab, scratch, ids);
            }
            Engine::Own { bpe, pre, .. } => bpe.encode_text(text, pre, vocab, scratch, ids),
            Engine::Library(library) => library.encode(text, ids)?,
        }
        Ok(())
    }
}
