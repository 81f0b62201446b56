//! `tokenizer.json` as serde types that borrow from the document where they can.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::pre_tokenizer::shorten;

/// `tokenizer.json`, as far as it is read here, with one kind of model.
#[derive(Deserialize)]
#[serde(bound(deserialize = "M: Deserialize<'de>"))]
pub(super) struct TokenizerJson<'a, M> {
    pub(super) model: M,
    #[serde(borrow, default)]
    pub(super) added_tokens: Vec<AddedToken<'a>>,
    #[serde(default)]
    pub(super) normalizer: Value,
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    #[serde(default)]
    pub(super) post_processor: Value,
    #[serde(default)]
    pub(super) decoder: Value,
}

/// A `BPE` model.
#[derive(Deserialize)]
pub(super) struct Bpe<'a> {
    #[serde(borrow)]
    pub(super) vocab: Vocab<'a>,
    #[serde(borrow)]
    pub(super) merges: Vec<Merge<'a>>,
    #[serde(default)]
    pub(super) unk_token: Option<String>,
    #[serde(default)]
    pub(super) continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) dropout: Option<f32>,
    #[serde(default)]
    pub(super) fuse_unk: bool,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
}

/// A `WordPiece` model.
#[derive(Deserialize)]
pub(super) struct WordPiece<'a> {
    #[serde(borrow)]
    pub(super) vocab: Vocab<'a>,
    #[serde(default)]
    pub(super) unk_token: Option<String>,
    #[serde(default)]
    pub(super) continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub(super) max_input_chars_per_word: Option<u64>,
}

/// A `Unigram` model.
#[derive(Deserialize)]
pub(super) struct Unigram<'a> {
    #[serde(borrow)]
    pub(super) vocab: Vec<Scored<'a>>,
    #[serde(default)]
    pub(super) unk_id: Option<u32>,
    #[serde(default)]
    pub(super) byte_fallback: bool,
}

/// A token and its score.
#[derive(Deserialize)]
pub(super) struct Scored<'a>(#[serde(borrow)] pub(super) Cow<'a, str>, pub(super) f64);

#[derive(Deserialize)]
pub(super) struct AddedToken<'a> {
    pub(super) id: u32,
    #[serde(borrow)]
    pub(super) content: Cow<'a, str>,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    pub(super) special: bool,
}

/// Only the kind of model, since the other kinds have another shape.
#[derive(Deserialize)]
pub(super) struct Kind {
    pub(super) model: ModelKind,
}

#[derive(Deserialize)]
pub(super) struct ModelKind {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    /// Only WordPiece has it; files of before 2020 do not name the kind.
    #[serde(default)]
    pub(super) max_input_chars_per_word: Option<u64>,
}

/// The `vocab` object, in the file's order; a `HashMap` would cost its weight twice and hide duplicates.
pub(super) struct Vocab<'a>(pub(super) Vec<(Cow<'a, str>, u32)>);

impl<'de: 'a, 'a> Deserialize<'de> for Vocab<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vec<(Cow<'de, str>, u32)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tokens and their ids")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((Text(token), id)) = map.next_entry()? {
                    entries.push((token, id));
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Entries).map(Vocab)
    }
}

/// A string that borrows from the document unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A merge: `"a b"` in older files, `["a", "b"]` in newer ones.
pub(super) struct Merge<'a>(pub(super) Cow<'a, str>, pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Merge<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = (Cow<'de, str>, Cow<'de, str>);
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge: two tokens, in one string or in an array of two")
            }
            fn visit_borrowed_str<E: serde::de::Error>(self, line: &'de str) -> std::result::Result<Self::Value, E> {
                let cut = line.split_once(' ').filter(|(_, right)| !right.contains(' '));
                let (left, right) = cut.ok_or_else(|| E::custom(format!("`{}` is no merge", shorten(line))))?;
                Ok((left.into(), right.into()))
            }
            fn visit_str<E: serde::de::Error>(self, line: &str) -> std::result::Result<Self::Value, E> {
                let cut = line.split_once(' ').filter(|(_, right)| !right.contains(' '));
                let (left, right) = cut.ok_or_else(|| E::custom(format!("`{}` is no merge", shorten(line))))?;
                Ok((left.to_owned().into(), right.to_owned().into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Self::Value, A::Error> {
                let mut next = || -> std::result::Result<Cow<'de, str>, A::Error> {
                    let text: Option<Text<'de>> = seq.next_element()?;
                    text.map(|t| t.0).ok_or_else(|| serde::de::Error::custom("a merge has two tokens"))
                };
                let pair = (next()?, next()?);
                match seq.next_element::<serde::de::IgnoredAny>()? {
                    None => Ok(pair),
                    Some(_) => Err(serde::de::Error::custom("a merge has two tokens")),
                }
            }
        }
        deserializer.deserialize_any(Pair).map(|(left, right)| Merge(left, right))
    }
}
