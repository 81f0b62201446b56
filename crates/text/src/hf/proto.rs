//! SentencePiece's own file, `tokenizer.model`: a protocol buffer, read by hand.
//!
//! Of `sentencepiece_model.proto`: the pieces (field 1: text, score, type), of the trainer's settings (field 2)
//! the kind of model and the ids of the special tokens, of the normalizer's (field 3) the replacements and what
//! is done about spaces. Tokens that `tokenizer_config.json` adds under `added_tokens_decoder` join them.

use std::borrow::Cow;

use super::settings::Settings;
use crate::pre_tokenizer::shorten;
use crate::source::{Charsmap, MAX_TOKENS, SpacePrefix, TokenType, VocabModel, VocabSource};
use crate::{Error, Result};

/// The score of a token that was added later.
const ADDED_SCORE: f64 = -1000.0;
/// Classes whose ids are not those of their `tokenizer.model`.
const RENUMBERED: [&str; 8] = ["XLMRoberta", "Camembert", "MBart", "Nllb", "M2M100", "XGLM", "Pegasus", "BigBird"];

/// One field: its number and what it holds.
enum Field<'a> {
    Number(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    /// Eight bytes; none of ours has them.
    Fixed64,
}

/// Reads a model.
pub(super) fn read<'a>(bytes: &'a [u8], settings: &Settings<'a>) -> Result<VocabSource<'a>> {
    if let Some(class) = RENUMBERED.iter().find(|class| settings.class().starts_with(**class)) {
        return Err(Error::Missing(format!(
            "{class} has other ids than its tokenizer.model: tokenizer.json is needed"
        )));
    }
    let mut source = VocabSource { space_prefix: SpacePrefix::Every, ..VocabSource::default() };
    let mut model = 1;
    let mut ids = [Some(0), Some(1), Some(2), None::<u32>]; // unknown, begin, end, padding
    let mut collapse = true;
    let mut charsmap: &[u8] = &[];
    let mut rest = bytes;
    while let Some((number, field)) = next(&mut rest)? {
        match (number, field) {
            (1, Field::Bytes(piece)) => read_piece(piece, &mut source)?,
            (2, Field::Bytes(mut trainer)) => {
                while let Some((number, field)) = next(&mut trainer)? {
                    match (number, field) {
                        (3, Field::Number(kind)) => model = kind,
                        (24, Field::Number(suffix)) if suffix != 0 => {
                            return Err(unsupported("option", "treat_whitespace_as_suffix", "spaces before words"));
                        }
                        // An int32: -1 means that there is none.
                        (40..=43, Field::Number(id)) => ids[number as usize - 40] = u32::try_from(id).ok(),
                        _ => {}
                    }
                }
            }
            (3, Field::Bytes(mut normalizer)) => {
                while let Some((number, field)) = next(&mut normalizer)? {
                    match (number, field) {
                        (2, Field::Bytes(map)) => charsmap = map,
                        (3, Field::Number(0)) => source.space_prefix = SpacePrefix::Never,
                        (3, Field::Number(_)) => source.space_prefix = SpacePrefix::Every,
                        (4, Field::Number(flag)) => collapse = flag != 0,
                        (5, Field::Number(0)) => {
                            return Err(unsupported("option", "escape_whitespaces false", "true"));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    match model {
        1 => {
            source.model = VocabModel::Unigram;
            source.collapse_spaces = collapse;
            source.charsmap = Charsmap { bytes: Cow::Borrowed(charsmap), by_grapheme: false };
        }
        2 if charsmap.is_empty() && !collapse => source.model = VocabModel::SentencePiece,
        2 => return Err(unsupported("normalizer of BPE", "replacements or removed spaces", "identity")),
        _ => return Err(unsupported("model", &format!("number {model}"), "unigram (1), BPE (2)")),
    }
    add_tokens(&mut source, settings)?;
    let there = |id: Option<u32>| id.filter(|&id| (id as usize) < source.tokens.len());
    let [unk, bos, eos, pad] = ids.map(there);
    (source.special.unk, source.special.bos, source.special.eos, source.special.pad) = (unk, bos, eos, pad);
    settings.apply(&mut source, &serde_json::Value::Null)?;
    source.special.unk = unk;
    // What the families' classes do where the settings do not say: Llama and Gemma begin, T5 ends.
    let unigram = source.model == VocabModel::Unigram;
    if source.add_bos.is_none() {
        source.add_bos = Some(!unigram && source.special.bos.is_some());
    }
    if source.add_eos.is_none() {
        source.add_eos = Some(unigram && source.special.eos.is_some());
    }
    source.check()?;
    Ok(source)
}

fn read_piece<'a>(mut bytes: &'a [u8], source: &mut VocabSource<'a>) -> Result<()> {
    let id = source.tokens.len();
    if id >= MAX_TOKENS {
        return Err(damaged(&format!("more than {MAX_TOKENS} pieces")));
    }
    let (mut text, mut score, mut role) = ("", 0.0, TokenType::Normal);
    while let Some((number, field)) = next(&mut bytes)? {
        match (number, field) {
            (1, Field::Bytes(piece)) => {
                text = std::str::from_utf8(piece).map_err(|_| damaged(&format!("piece {id} is not UTF-8")))?;
            }
            (2, Field::Fixed32(bits)) => score = f64::from(f32::from_bits(bits)),
            (3, Field::Number(number)) => {
                let known = i64::try_from(number).ok().and_then(TokenType::from_number);
                role = known.ok_or_else(|| damaged(&format!("piece {id} has type {number}; types are 1 to 6")))?;
            }
            _ => {}
        }
    }
    source.tokens.push(Cow::Borrowed(text));
    source.scores.push(score);
    source.types.push(role);
    Ok(())
}

/// Adds or renames the tokens that the settings list.
fn add_tokens(source: &mut VocabSource<'_>, settings: &Settings<'_>) -> Result<()> {
    for (id, text, special) in settings.added_tokens() {
        let at = id as usize;
        if at >= MAX_TOKENS {
            return Err(damaged(&format!("the added token `{}` has id {id}", shorten(text))));
        }
        while source.tokens.len() <= at {
            source.tokens.push(Cow::Owned(format!("[PAD{}]", source.tokens.len())));
            source.scores.push(ADDED_SCORE);
            source.types.push(TokenType::Unused);
        }
        source.tokens[at] = Cow::Owned(text.to_owned());
        if source.types[at] != TokenType::Unknown {
            source.types[at] = if special { TokenType::Control } else { TokenType::UserDefined };
        }
    }
    Ok(())
}

/// Takes the next field off the front of a message; None at its end.
fn next<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u64, Field<'a>)>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let key = varint(bytes)?;
    let field = match key & 7 {
        0 => Field::Number(varint(bytes)?),
        1 => {
            take(bytes, 8)?;
            Field::Fixed64
        }
        2 => {
            let length = varint(bytes)?;
            Field::Bytes(take(bytes, usize::try_from(length).unwrap_or(usize::MAX))?)
        }
        5 => {
            let four = take(bytes, 4)?;
            Field::Fixed32(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        }
        kind => return Err(damaged(&format!("a field of kind {kind}"))),
    };
    Ok(Some((key >> 3, field)))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(length).ok_or_else(|| damaged("it ends within a field"))?;
    *bytes = rest;
    Ok(front)
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(damaged("a number of more than 64 bits"))
}

fn damaged(what: &str) -> Error {
    Error::Vocabulary(format!("tokenizer.model: {what}"))
}

fn unsupported(what: &'static str, found: &str, supported: &str) -> Error {
    let what = match what {
        "model" => "kind of tokenizer.model",
        "option" => "tokenizer.model with",
        other => other,
    };
    Error::Unsupported { what, found: found.into(), supported: supported.into() }
}
