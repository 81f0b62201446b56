//! The tokens: their texts, what each is for, and which of them end a generation.
//!
//! All texts lie in one string, so that 150,000 tokens cost about a megabyte, and are found through a
//! table of ids that is keyed by text (a hash with a random key: a hostile vocabulary cannot make it slow).

use std::borrow::Cow;
use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::pre_tokenizer::shorten;
use crate::source::{SpecialIds, TokenType, VocabModel, VocabSource};
use crate::{Error, Result, byte_level};

/// What SentencePiece writes for a space.
pub(crate) const SPACE: char = '\u{2581}';

/// Tokens that end a generation wherever they occur, by text: llama.cpp's list.
const END_TEXTS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];
/// The fill-in-the-middle tokens by text, for files that do not name them; one of each row is taken.
/// The first three only mark structure, the others (padding, repository, file) also end a generation.
const MIDDLE_TEXTS: [&[&str]; 6] = [
    &[
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    ],
    &[
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<｜fim▁hole｜>",
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
    ],
    &[
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<｜fim▁end｜>",
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "<|middle|>",
    ],
    &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    &["<|file_sep|>"],
];
/// Structure that is shown as text all the same (gpt-oss).
const SHOWN_TEXTS: [&str; 4] = ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// The tokens of a tokenizer.
pub(crate) struct Vocab {
    /// All texts, one after another.
    text: String,
    /// Where each token's text ends.
    ends: Vec<u32>,
    /// The types as in the file.
    types: Vec<TokenType>,
    /// What the tokens are treated as: the types with llama.cpp's corrections.
    roles: Vec<TokenType>,
    /// The texts are in the byte-level alphabet; else U+2581 stands for a space.
    byte_level: bool,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Tokens that end a generation, ascending.
    end_ids: Vec<u32>,
}

impl Vocab {
    /// Takes the tokens over. An empty text becomes `[EMPTY_<id>]`, as in llama.cpp.
    pub(crate) fn new(source: &VocabSource<'_>) -> Result<Vocab> {
        source.check()?;
        let size = source.tokens.len();
        let bytes: usize = source.tokens.iter().map(|t| t.len()).sum();
        if bytes > u32::MAX as usize / 2 {
            return Err(Error::Vocabulary(format!("its tokens have {bytes} bytes, more than 2 GiB")));
        }
        let mut vocab = Vocab {
            text: String::with_capacity(bytes),
            ends: Vec::with_capacity(size),
            types: source.types.clone(),
            roles: source.types.clone(),
            byte_level: source.model == VocabModel::ByteBpe,
            index: HashTable::with_capacity(size),
            hasher: DefaultHashBuilder::default(),
            end_ids: Vec::new(),
        };
        for (id, token) in source.tokens.iter().enumerate() {
            let token = match token {
                t if t.is_empty() => Cow::Owned(format!("[EMPTY_{id}]")),
                t => Cow::Borrowed(&**t),
            };
            let (text, ends, hasher) = (&vocab.text, &vocab.ends, &vocab.hasher);
            let same = |&other: &u32| slice(text, ends, other as usize) == token;
            let rehash = |&other: &u32| hasher.hash_one(slice(text, ends, other as usize));
            match vocab.index.entry(hasher.hash_one(&*token), same, rehash) {
                Entry::Occupied(first) => {
                    let (first, token) = (first.get(), shorten(&token));
                    return Err(Error::Vocabulary(format!("tokens {first} and {id} are both `{token}`")));
                }
                Entry::Vacant(slot) => slot.insert(id as u32),
            };
            vocab.text.push_str(&token);
            vocab.ends.push(vocab.text.len() as u32);
        }
        vocab.correct(&source.special, &source.end_ids);
        Ok(vocab)
    }

    /// Applies what llama.cpp knows about tokens by their texts, since files often get it wrong.
    fn correct(&mut self, special: &SpecialIds, more_ends: &[u32]) {
        let mut ends: Vec<u32> = more_ends.to_vec();
        let named =
            [special.fim_pre, special.fim_suf, special.fim_mid, special.fim_pad, special.fim_rep, special.fim_sep];
        for (row, (named, texts)) in named.into_iter().zip(MIDDLE_TEXTS).enumerate() {
            let found = named.or_else(|| {
                let id = texts.iter().find_map(|t| self.find(t))?;
                self.roles[id as usize] = TokenType::Control;
                Some(id)
            });
            if row >= 3 {
                ends.extend(found);
            }
        }
        for id in END_TEXTS.iter().filter_map(|t| self.find(t)).collect::<Vec<_>>() {
            ends.push(id);
            self.roles[id as usize] = TokenType::Control;
        }
        for id in SHOWN_TEXTS.iter().filter_map(|t| self.find(t)).collect::<Vec<_>>() {
            self.roles[id as usize] = TokenType::UserDefined;
        }
        ends.extend([special.eos, special.eot, special.eom].into_iter().flatten());
        // In gpt-oss and solar-open `<|end|>` only ends a part of an answer.
        let has = |text: &str| self.find(text).is_some();
        let harmony = has("<|return|>") && has("<|call|>");
        let solar = has("<|flush|>") && (has("<|call|>") || has("<|calls|>"));
        if let Some(end) = self.find("<|end|>")
            && (harmony || solar)
        {
            ends.retain(|&id| id != end);
            self.roles[end as usize] = TokenType::UserDefined;
        }
        // Where `<|tool_response>` ends an answer, `</s>` is an ordinary token.
        if let (Some(tag), Some(_)) = (self.find("</s>"), self.find("<|tool_response>")) {
            ends.retain(|&id| id != tag);
            self.roles[tag as usize] = TokenType::Normal;
        }
        ends.sort_unstable();
        ends.dedup();
        self.end_ids = ends;
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The id of the token with this text.
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        self.index.find(self.hasher.hash_one(text), |&id| slice(&self.text, &self.ends, id as usize) == text).copied()
    }

    /// A token's text as in the file.
    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        let id = id as usize;
        (id < self.len()).then(|| slice(&self.text, &self.ends, id))
    }

    /// The id of a token that a text may be made of: no control, unknown or byte token. What a user typed must
    /// not become structure.
    pub(crate) fn find_piece(&self, text: &str) -> Option<u32> {
        self.find(text).filter(|&id| self.is_piece(id))
    }

    /// Whether a text may be made of the token.
    pub(crate) fn is_piece(&self, id: u32) -> bool {
        use TokenType::{Normal, Undefined, Unused, UserDefined};
        matches!(self.role(id), Some(Normal | UserDefined | Unused | Undefined))
    }

    /// The tokens `<0x00>` to `<0xFF>`, as far as they are there.
    pub(crate) fn byte_tokens(&self) -> [Option<u32>; 256] {
        let mut tokens = [None; 256];
        for (id, _) in self.types.iter().enumerate().filter(|(_, t)| **t == TokenType::Byte) {
            if let Some(byte) = self.text(id as u32).and_then(hex_byte) {
                tokens[usize::from(byte)] = Some(id as u32);
            }
        }
        tokens
    }

    /// The types as in the file.
    pub(crate) fn types(&self) -> &[TokenType] {
        &self.types
    }

    /// What a token is treated as.
    pub(crate) fn role(&self, id: u32) -> Option<TokenType> {
        self.roles.get(id as usize).copied()
    }

    /// Ids and roles of the tokens that are found in a text by their literal spelling.
    pub(crate) fn literals(&self) -> impl Iterator<Item = (u32, TokenType)> {
        (0u32..).zip(&self.roles).filter_map(|(id, &role)| match role {
            TokenType::Control | TokenType::UserDefined | TokenType::Unknown => Some((id, role)),
            _ => None,
        })
    }

    /// Whether the token ends a generation.
    pub(crate) fn ends_generation(&self, id: u32) -> bool {
        self.end_ids.binary_search(&id).is_ok()
    }

    /// The tokens that end a generation, ascending.
    pub(crate) fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// Appends the bytes that a token stands for; false if there is no such token.
    pub(crate) fn push_bytes(&self, id: u32, bytes: &mut Vec<u8>) -> bool {
        let (Some(text), Some(role)) = (self.text(id), self.role(id)) else { return false };
        match role {
            TokenType::Byte if hex_byte(text).is_some() => bytes.extend(hex_byte(text)),
            TokenType::UserDefined if !self.byte_level => spaces_into(text, bytes),
            TokenType::Normal | TokenType::Undefined | TokenType::Unused | TokenType::Byte => match self.byte_level {
                true => byte_level::decode_into(text, bytes),
                false => spaces_into(text, bytes),
            },
            TokenType::Control | TokenType::UserDefined | TokenType::Unknown => {
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        true
    }
}

fn slice<'a>(text: &'a str, ends: &[u32], id: usize) -> &'a str {
    let start = id.checked_sub(1).map_or(0, |before| ends[before] as usize);
    &text[start..ends[id] as usize]
}

/// Appends a text with its U+2581 as spaces.
fn spaces_into(text: &str, bytes: &mut Vec<u8>) {
    for (number, part) in text.split(SPACE).enumerate() {
        if number > 0 {
            bytes.push(b' ');
        }
        bytes.extend_from_slice(part.as_bytes());
    }
}

/// The byte of a text like `<0x0A>`.
pub(crate) fn hex_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::TokenType::*;

    fn vocab(tokens: &[(&'static str, TokenType)], special: SpecialIds) -> Vocab {
        let source = VocabSource {
            tokens: tokens.iter().map(|&(t, _)| t.into()).collect(),
            types: tokens.iter().map(|&(_, t)| t).collect(),
            special,
            ..VocabSource::default()
        };
        Vocab::new(&source).unwrap()
    }

    #[test]
    fn texts_are_found_and_given_back() {
        let v = vocab(&[("a", Normal), ("", Unused), ("Ġbc", Normal), ("<0x0A>", Byte)], SpecialIds::default());
        assert_eq!((v.len(), v.find("Ġbc"), v.find("bc")), (4, Some(2), None));
        assert_eq!((v.text(2), v.text(4)), (Some("Ġbc"), None));
        assert_eq!(v.text(1), Some("[EMPTY_1]"));
        let mut bytes = Vec::new();
        assert!(v.push_bytes(2, &mut bytes) && v.push_bytes(3, &mut bytes) && !v.push_bytes(4, &mut bytes));
        assert_eq!(bytes, b" bc\n");
    }

    #[test]
    fn two_tokens_with_one_text_are_refused() {
        let source = VocabSource {
            tokens: vec!["a".into(), "b".into(), "a".into()],
            types: vec![Normal; 3],
            ..VocabSource::default()
        };
        let message = Vocab::new(&source).err().unwrap().to_string();
        assert_eq!(message, "damaged vocabulary: tokens 0 and 2 are both `a`");
    }

    #[test]
    fn ends_are_collected_by_name_by_text_and_from_middle_tokens() {
        let v = vocab(
            &[
                ("<s>", Control),
                ("<|im_end|>", Normal),
                ("x", Normal),
                ("<reponame>", Control),
                ("<fim_prefix>", Normal),
                ("<|endoftext|>", UserDefined),
            ],
            SpecialIds { eos: Some(2), ..SpecialIds::default() },
        );
        assert_eq!(v.end_ids(), [1, 2, 3, 5]);
        assert!(v.ends_generation(2) && !v.ends_generation(0) && !v.ends_generation(4));
        // Those that look like structure are structure, whatever the file says, but it is not rewritten.
        assert_eq!((v.role(1), v.role(4), v.role(5)), (Some(Control), Some(Control), Some(Control)));
        assert_eq!(v.types()[1], Normal);
    }

    #[test]
    fn the_end_of_a_part_is_not_the_end() {
        let all = [("<|return|>", Control), ("<|call|>", Control), ("<|end|>", Control), ("<|channel|>", Control)];
        let v = vocab(&all, SpecialIds::default());
        assert_eq!(v.end_ids(), [0, 1]);
        assert_eq!((v.role(2), v.role(3)), (Some(UserDefined), Some(UserDefined)));
        let v = vocab(&[("<|end|>", Control), ("<|call|>", Control)], SpecialIds::default());
        assert_eq!(v.end_ids(), [0, 1]);
        let v = vocab(&[("</s>", Control), ("<|tool_response>", Control)], SpecialIds::default());
        assert_eq!((v.end_ids(), v.role(0)), (&[1][..], Some(Normal)));
    }
}
