//! Training a tokenizer: byte-level BPE from texts to a `tokenizer.json`.
//!
//! Texts are cut into words by GPT-2's expression and the words counted ([`WordCounts`]; Radford et al. 2019,
//! section 2.2). Then the most frequent pair of neighbours in all words becomes a token, again and again, until the
//! vocabulary has the wanted size (Sennrich et al. 2016, section 3.2; [`learn`]). The vocabulary is the special
//! tokens, the 256 bytes in the order of their stand-ins, and the merged tokens as they came.
//!
//! The merges are those of Hugging Face's `tokenizers` (`BpeTrainer` with the `ByteLevel` pre-tokenizer without a
//! space before the text, and its alphabet of 256 as `initial_alphabet`), one by one; `merge.rs` says what that takes.
//!
//! ```
//! use porism_text::train::{TrainOptions, WordCounts, learn};
//!
//! let mut words = WordCounts::new(false);
//! words.add("low lower lowest\n")?;
//! let options = TrainOptions { vocab_size: 258, min_frequency: 2, special: Vec::new() };
//! let trained = learn(&words, &options, &mut |_, _| {})?;
//! assert_eq!(trained.tokens()[256..], ["lo", "low"]);
//! # Ok::<(), porism_text::Error>(())
//! ```

mod chunks;
mod merge;
mod save;
mod words;

use crate::bpe::{Bpe, Scratch};
use crate::pre_tokenizer::{PreTokenizer, shorten};
use crate::source::{MAX_TOKENS, SpecialIds, TokenType, VocabModel, VocabSource};
use crate::vocab::Vocab;
use crate::{Error, Result, byte_level};

pub use words::{MAX_DISTINCT, WordCounts};

/// The name of the pre-tokenizer that words are cut by.
const RULE: &str = "gpt-2";
/// Special tokens whose part is known by their text: they end a text, begin one, or fill up a batch.
const ENDS: [&str; 6] = ["<|endoftext|>", "</s>", "<|im_end|>", "<|end_of_text|>", "<eos>", "[EOS]"];
const BEGINNINGS: [&str; 4] = ["<s>", "<|begin_of_text|>", "<bos>", "[BOS]"];
const PADDINGS: [&str; 3] = ["<pad>", "<|pad|>", "[PAD]"];

/// What kind of tokenizer is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainOptions {
    /// Tokens in all: special ones, 256 bytes, merged ones.
    pub vocab_size: usize,
    /// A pair that occurs less often is not merged; training ends there.
    pub min_frequency: u64,
    /// Special tokens, which get the first ids. One given twice counts once.
    pub special: Vec<String>,
}

impl TrainOptions {
    /// Whether [`learn`] could follow them: worth asking before hours of reading. Gives the special tokens, each once.
    ///
    /// # Errors
    /// The size leaves no room for the 256 bytes or is above [`MAX_TOKENS`]; a special token is empty, or a word that texts
    /// are made of.
    pub fn check(&self) -> Result<Vec<String>> {
        let mut special: Vec<String> = Vec::new();
        for token in &self.special {
            check_special(token)?;
            if !special.contains(token) {
                special.push(token.clone());
            }
        }
        let (size, least) = (self.vocab_size, special.len() + 256);
        if size < least || size > MAX_TOKENS {
            return Err(Error::Train(format!(
                "a vocabulary of {size} tokens: at least {least} are needed (256 bytes, {} special tokens) and at most \
                 {MAX_TOKENS} possible",
                special.len()
            )));
        }
        Ok(special)
    }
}

/// A trained vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trained {
    tokens: Vec<String>,
    special: usize,
    merges: Vec<(u32, u32)>,
}

/// Learns merges from words. `progress` is told the tokens so far and in the end.
///
/// A vocabulary smaller than asked for is no error: there was no more to merge.
///
/// # Errors
/// As for [`TrainOptions::check`]; there is no text; or the tokens have become so long that no file could hold them.
pub fn learn(words: &WordCounts, options: &TrainOptions, progress: &mut dyn FnMut(usize, usize)) -> Result<Trained> {
    let mut tokens = options.check()?;
    let special = tokens.len();
    if words.distinct() == 0 {
        return Err(Error::Train("there is no text".into()));
    }
    let mut alphabet: Vec<u8> = (0..=255).collect();
    alphabet.sort_unstable_by_key(|&byte| byte_level::to_char(byte));
    let mut ids = [0; 256];
    for byte in alphabet {
        ids[usize::from(byte)] = tokens.len() as u32;
        tokens.push(byte_level::to_char(byte).to_string());
    }
    let merges = merge::merge(words, &ids, &mut tokens, options, progress)?;
    Ok(Trained { tokens, special, merges })
}

/// Refuses a special token that ordinary text could become.
fn check_special(token: &str) -> Result<()> {
    if token.is_empty() {
        return Err(Error::Train("a special token is empty".into()));
    }
    let bytes: Option<Vec<u8>> = token.chars().map(byte_level::from_char).collect();
    let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) else { return Ok(()) };
    let mut words = 0;
    PreTokenizer::named(RULE)?.split(&text, |_| words += 1);
    if words == 1 {
        return Err(Error::Train(format!(
            "the special token `{}` is a word that texts may hold; mix signs and letters, as in <|name|>",
            shorten(token)
        )));
    }
    Ok(())
}

impl Trained {
    /// All tokens by id, as they stand in a vocabulary: special ones as they are, the others in the byte-level alphabet.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// How many of the tokens, from the first on, are special.
    pub fn special(&self) -> usize {
        self.special
    }

    /// The merges by rank, as pairs of ids. Several may lead to the same token.
    pub fn merges(&self) -> &[(u32, u32)] {
        &self.merges
    }

    /// The vocabulary for a tokenizer or a writer. Special tokens with well-known texts get their part: `<|endoftext|>`
    /// and its kin the EOS's, `<s>` the BOS's, `<pad>` the padding's; none is added to a text.
    pub fn source(&self) -> VocabSource<'_> {
        let text = |id: u32| self.tokens[id as usize].as_str().into();
        let specials = &self.tokens[..self.special];
        let named = |texts: &[&str]| specials.iter().position(|t| texts.contains(&t.as_str())).map(|id| id as u32);
        let mut types = vec![TokenType::Control; self.special];
        types.resize(self.tokens.len(), TokenType::Normal);
        VocabSource {
            model: VocabModel::ByteBpe,
            tokens: self.tokens.iter().map(|t| t.as_str().into()).collect(),
            types,
            merges: self.merges.iter().map(|&(left, right)| (text(left), text(right))).collect(),
            pre: RULE.into(),
            special: SpecialIds {
                bos: named(&BEGINNINGS),
                eos: named(&ENDS),
                pad: named(&PADDINGS),
                ..SpecialIds::default()
            },
            add_bos: Some(false),
            add_eos: Some(false),
            ..VocabSource::default()
        }
    }

    /// How many tokens texts of these words become.
    ///
    /// # Errors
    /// None that a vocabulary from [`learn`] could bring about.
    pub fn count_tokens(&self, words: &WordCounts) -> Result<u64> {
        let source = self.source();
        let vocab = Vocab::new(&source)?;
        let (bpe, pre) = (Bpe::new(&source, &vocab)?, PreTokenizer::named(RULE)?);
        let (mut scratch, mut ids, mut total) = (Scratch::default(), Vec::new(), 0);
        for (word, count) in words.iter() {
            ids.clear();
            // A word is a text of one word.
            bpe.encode_text(word, &pre, &vocab, &mut scratch, &mut ids);
            total += count * ids.len() as u64;
        }
        Ok(total)
    }
}
