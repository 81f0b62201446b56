//! The three kinds of model in `tokenizer.json`, as sources for our own engines; or why they cannot be.

use std::borrow::Cow;
use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::json::{Bpe, Merge, Scored, TokenizerJson, Unigram, WordPiece};
use super::pre::{has_byte_level, rule_of};
use super::read::{Read, Unknown, fill_tokens, short};
use super::settings::Settings;
use crate::charsmap::Replacements;
use crate::engine::Habits;
use crate::pre_tokenizer::PreTokenizer;
use crate::source::{Charsmap, SpacePrefix, TokenType, VocabModel, VocabSource, WordRules};
use crate::vocab::{SPACE, hex_byte};
use crate::{Error, Result};

/// BPE, on bytes or on characters.
pub(super) fn bpe<'a>(read: TokenizerJson<'a, Bpe<'a>>, settings: &Settings<'a>) -> Result<Read<'a>> {
    check_added(&read)?;
    let bytes = has_byte_level(&read.decoder) && has_byte_level(&read.pre_tokenizer);
    let (model, pre, prefix, mut unknown) = if bytes {
        if read.model.byte_fallback {
            return Err(Error::Unsupported {
                what: "BPE option",
                found: "byte_fallback of a model on bytes".into(),
                supported: "one of the two".into(),
            });
        }
        let (pre, unknown) = byte_rules(&read);
        (VocabModel::ByteBpe, pre, SpacePrefix::Never, unknown)
    } else {
        let (prefix, unknown) = char_rules(&read);
        (VocabModel::CharBpe, "", prefix, unknown)
    };
    let set = |s: &Option<String>| s.as_ref().is_some_and(|s| !s.is_empty());
    if set(&read.model.continuing_subword_prefix) || set(&read.model.end_of_word_suffix) {
        unknown = Some(("BPE option", "continuing_subword_prefix or end_of_word_suffix".into(), "neither".into()));
    }
    if read.model.dropout.is_some_and(|d| d != 0.0) {
        unknown = Some(("BPE option", "dropout".into(), "no dropout".into()));
    }
    let habits = Habits { ignore_merges: read.model.ignore_merges, fuse_unknown: read.model.fuse_unk };
    let mut source = VocabSource {
        model,
        pre: pre.into(),
        space_prefix: prefix,
        nfc: bytes && read.normalizer.get("type").and_then(Value::as_str) == Some("NFC"),
        ..VocabSource::default()
    };
    let unk = read.model.unk_token.as_deref().filter(|t| !t.is_empty());
    let unk = unk.and_then(|unk| read.model.vocab.0.iter().find(|(token, _)| token == unk)).map(|found| found.1);
    fill_tokens(&mut source, read.model.vocab.0, &read.added_tokens)?;
    source.merges = read.model.merges.into_iter().map(|Merge(left, right)| (left, right)).collect();
    if !bytes {
        source.special.unk = unk;
        if read.model.byte_fallback && mark_bytes(&mut source) < 256 && unknown.is_none() {
            unknown = Some(("BPE option", "byte_fallback without a token for every byte".into(), "all 256".into()));
        }
    }
    settings.apply(&mut source, &read.post_processor)?;
    if !bytes {
        // What stands for the missing is the model's matter, whatever the settings name.
        source.special.unk = unk;
    }
    guard(&read.normalizer, unknown.is_some())?;
    Ok(Read { source, habits, unknown })
}

/// The unigram model.
pub(super) fn unigram<'a>(read: TokenizerJson<'a, Unigram<'a>>, settings: &Settings<'a>) -> Result<Read<'a>> {
    check_added(&read)?;
    let rules = unigram_rules(&read);
    let mut unknown = None;
    let mut source = VocabSource { model: VocabModel::Unigram, ..VocabSource::default() };
    match rules {
        Ok((prefix, collapse, charsmap)) => {
            source.space_prefix = prefix;
            source.collapse_spaces = collapse;
            source.charsmap = Charsmap { bytes: Cow::Owned(charsmap), by_grapheme: true };
        }
        Err(reason) => unknown = Some(reason),
    }
    let mut scores: Vec<f64> = read.model.vocab.iter().map(|token| token.1).collect();
    let vocab = read.model.vocab.into_iter().zip(0u32..).map(|(Scored(token, _), id)| (token, id)).collect();
    fill_tokens(&mut source, vocab, &read.added_tokens)?;
    scores.resize(source.tokens.len(), 0.0);
    source.scores = scores;
    let unk = read.model.unk_id;
    if let Some(role) = unk.and_then(|id| source.types.get_mut(id as usize)) {
        *role = TokenType::Unknown;
    }
    if read.model.byte_fallback {
        mark_bytes(&mut source);
    }
    settings.apply(&mut source, &read.post_processor)?;
    source.special.unk = unk;
    guard(&read.normalizer, unknown.is_some())?;
    Ok(Read { source, habits: Habits::default(), unknown })
}

/// WordPiece.
pub(super) fn word_piece<'a>(read: TokenizerJson<'a, WordPiece<'a>>, settings: &Settings<'a>) -> Result<Read<'a>> {
    check_added(&read)?;
    let (rules, unknown) = match word_rules(&read) {
        Ok(rules) => (rules, None),
        Err(reason) => (WordRules::default(), Some(reason)),
    };
    let mut source = VocabSource { model: VocabModel::WordPiece, word_rules: rules, ..VocabSource::default() };
    let unk = read.model.unk_token.as_deref().unwrap_or("[UNK]");
    let unk = read.model.vocab.0.iter().find(|(token, _)| token == unk).map(|found| found.1);
    fill_tokens(&mut source, read.model.vocab.0, &read.added_tokens)?;
    if let Some(role) = unk.and_then(|id| source.types.get_mut(id as usize))
        && *role == TokenType::Normal
    {
        *role = TokenType::Unknown;
    }
    settings.apply(&mut source, &read.post_processor)?;
    source.special.unk = unk;
    // Where the file adds nothing, nothing is added.
    source.add_bos.get_or_insert(false);
    source.add_eos.get_or_insert(false);
    // From here on as in a GGUF file: a mark before words, none before what continues them.
    for (token, role) in source.tokens.iter_mut().zip(&source.types) {
        if *role == TokenType::Normal {
            *token = match token.strip_prefix("##") {
                Some(rest) if !rest.is_empty() => Cow::Owned(rest.to_owned()),
                _ => Cow::Owned(format!("{SPACE}{token}")),
            };
        }
    }
    guard(&read.normalizer, unknown.is_some())?;
    Ok(Read { source, habits: Habits::default(), unknown })
}

fn check_added<M>(read: &TokenizerJson<'_, M>) -> Result<()> {
    match read.added_tokens.iter().find(|t| t.single_word) {
        None => Ok(()),
        Some(token) => Err(Error::Unsupported {
            what: "added token with single_word",
            found: crate::pre_tokenizer::shorten(&token.content),
            supported: "single_word false".into(),
        }),
    }
}

/// Gives the tokens `<0x00>` to `<0xFF>` their type; how many there are.
fn mark_bytes(source: &mut VocabSource<'_>) -> usize {
    let mut found = 0;
    for (token, role) in source.tokens.iter().zip(&mut source.types) {
        if *role == TokenType::Normal && hex_byte(token).is_some() {
            *role = TokenType::Byte;
            found += 1;
        }
    }
    found
}

/// The library follows a charsmap blindly: what leads outside is refused before it does.
fn guard(normalizer: &Value, to_library: bool) -> Result<()> {
    if to_library {
        for bytes in charsmaps(normalizer, 0)? {
            if let Some(replacements) = Replacements::new(&bytes, true)? {
                replacements.check()?;
            }
        }
    }
    Ok(())
}

/// All charsmaps in a normalizer.
fn charsmaps(normalizer: &Value, depth: usize) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    if normalizer.get("type").and_then(Value::as_str) == Some("Precompiled") {
        found.push(charsmap(normalizer)?);
    }
    if let Some(inner) = normalizer.get("normalizers").and_then(Value::as_array).filter(|_| depth < 100) {
        for normalizer in inner {
            found.extend(charsmaps(normalizer, depth + 1)?);
        }
    }
    Ok(found)
}

/// The bytes of a `Precompiled` normalizer.
fn charsmap(normalizer: &Value) -> Result<Vec<u8>> {
    let text = normalizer.get("precompiled_charsmap").and_then(Value::as_str).unwrap_or_default();
    STANDARD.decode(text).map_err(|e| Error::Vocabulary(format!("precompiled_charsmap: {e}")))
}

fn byte_rules(read: &TokenizerJson<'_, Bpe<'_>>) -> (&'static str, Option<Unknown>) {
    let model = &read.model;
    let Some(rule) = rule_of(&read.pre_tokenizer) else {
        return ("", Some(("pre_tokenizer", short(&read.pre_tokenizer), known_rules())));
    };
    let Some(pre) = PreTokenizer::with(rule, model.ignore_merges) else {
        let found = format!("{} with ignore_merges {}", short(&read.pre_tokenizer), model.ignore_merges);
        return ("", Some(("pre_tokenizer", found, known_rules())));
    };
    match read.normalizer.get("type").and_then(Value::as_str) {
        None | Some("NFC") => {}
        Some("Sequence") if read.normalizer["normalizers"].as_array().is_some_and(Vec::is_empty) => {}
        Some(_) => return (pre.name, Some(("normalizer", short(&read.normalizer), "none, NFC".into()))),
    }
    // An unknown token only matters where a byte lacks one.
    let lacks_a_byte = || {
        let tokens: HashSet<&str> = model.vocab.0.iter().map(|(t, _)| &**t).collect();
        (0..=255).any(|b| !tokens.contains(&*crate::byte_level::to_char(b).encode_utf8(&mut [0; 4])))
    };
    if model.unk_token.as_ref().is_some_and(|t| !t.is_empty()) && lacks_a_byte() {
        let supported = "a token for every byte, or no unk_token".into();
        return (pre.name, Some(("BPE option", "unk_token".into(), supported)));
    }
    (pre.name, None)
}

fn known_rules() -> String {
    "those of gpt-2, smollm, qwen2, qwen35, llama-bpe, dbrx, tekken, gpt-4o, deepseek-coder, deepseek-llm, deepseek-v3"
        .into()
}

fn kind(json: &Value) -> Option<&str> {
    json.get("type").and_then(Value::as_str)
}

fn text<'v>(json: &'v Value, key: &str) -> Option<&'v str> {
    json.get(key).and_then(Value::as_str)
}

/// Whether it replaces spaces by U+2581.
fn replaces_spaces(json: &Value) -> bool {
    let pattern = json.get("pattern").and_then(|p| text(p, "String"));
    kind(json) == Some("Replace") && pattern == Some(" ") && text(json, "content") == Some("\u{2581}")
}

/// The prefix that a `Metaspace` puts there, and whether it cuts words apart.
fn metaspace(json: &Value) -> Option<(SpacePrefix, bool)> {
    if kind(json) != Some("Metaspace") || text(json, "replacement").unwrap_or("\u{2581}") != "\u{2581}" {
        return None;
    }
    let scheme = text(json, "prepend_scheme");
    let prefix = match (scheme, json.get("add_prefix_space").and_then(Value::as_bool)) {
        (Some("always"), _) | (None, Some(true) | None) => SpacePrefix::EveryUnlessSpace,
        (Some("first"), _) => SpacePrefix::FirstUnlessSpace,
        (Some("never"), _) | (None, Some(false)) => SpacePrefix::Never,
        _ => return None,
    };
    Some((prefix, json.get("split").and_then(Value::as_bool).unwrap_or(true)))
}

/// How BPE on characters treats spaces.
fn char_rules(read: &TokenizerJson<'_, Bpe<'_>>) -> (SpacePrefix, Option<Unknown>) {
    let steps: &[Value] = match read.normalizer.get("normalizers").and_then(Value::as_array) {
        Some(steps) => steps,
        None if read.normalizer.is_null() => &[],
        None => std::slice::from_ref(&read.normalizer),
    };
    let prepends = |json: &Value| kind(json) == Some("Prepend") && text(json, "prepend") == Some("\u{2581}");
    let normalized = match steps {
        [] => None,
        [replace] if replaces_spaces(replace) => Some(SpacePrefix::Never),
        [prepend, replace] if prepends(prepend) && replaces_spaces(replace) => Some(SpacePrefix::Every),
        _ => {
            let supported = "none, or spaces to U+2581 with or without one before".into();
            return (SpacePrefix::Never, Some(("normalizer", short(&read.normalizer), supported)));
        }
    };
    let pre = &read.pre_tokenizer;
    let on_spaces = kind(pre) == Some("Split") && pre.get("pattern").and_then(|p| text(p, "String")) == Some(" ");
    match normalized {
        // After the replacement there are no spaces to cut at.
        Some(prefix) if pre.is_null() || on_spaces => (prefix, None),
        None if let Some((prefix, false)) = metaspace(pre) => (prefix, None),
        _ => {
            let supported = "none after spaces have become U+2581, or Metaspace without split".into();
            (SpacePrefix::Never, Some(("pre_tokenizer", short(pre), supported)))
        }
    }
}

/// Prefix, whether spaces collapse, and the charsmap of a unigram model.
fn unigram_rules(read: &TokenizerJson<'_, Unigram<'_>>) -> std::result::Result<(SpacePrefix, bool, Vec<u8>), Unknown> {
    let normalizer = &read.normalizer;
    let steps: &[Value] = match normalizer.get("normalizers").and_then(Value::as_array) {
        Some(steps) => steps,
        None if normalizer.is_null() => &[],
        None => std::slice::from_ref(normalizer),
    };
    let odd = || ("normalizer", short(normalizer), "Precompiled, or none".to_owned());
    let bytes = |json: &Value| charsmap(json).map_err(|_| odd());
    let precompiled = |json: &Value| kind(json) == Some("Precompiled");
    let (charsmap, replaced) = match steps {
        [] => (Vec::new(), None),
        [map] if precompiled(map) => (bytes(map)?, None),
        [replace] if replaces_spaces(replace) => (Vec::new(), Some(SpacePrefix::Never)),
        [map, replace] if precompiled(map) && replaces_spaces(replace) => (bytes(map)?, Some(SpacePrefix::Never)),
        _ => return Err(odd()),
    };
    let pre = &read.pre_tokenizer;
    if let Some(prefix) = replaced.filter(|_| pre.is_null()) {
        return Ok((prefix, false, charsmap));
    }
    let steps = pre.get("pretokenizers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let found = match (steps, metaspace(pre)) {
        ([first, second], _) if kind(first) == Some("WhitespaceSplit") => metaspace(second).map(|m| (m.0, true)),
        ([], Some((prefix, _))) => Some((prefix, false)),
        _ => None,
    };
    // A piece may hold a space in its middle only where words are not cut apart.
    let whole_words = read.model.vocab.iter().all(|token| !token.0.chars().skip(1).any(|c| c == SPACE));
    let cuts = steps.len() == 2 || metaspace(pre).is_some_and(|m| m.1);
    match found.filter(|_| replaced.is_none() && (whole_words || !cuts)) {
        Some((SpacePrefix::FirstUnlessSpace | SpacePrefix::Never, true)) | None => {
            Err(("pre_tokenizer", short(pre), "WhitespaceSplit and Metaspace, or Metaspace".into()))
        }
        Some((prefix, collapse)) => Ok((prefix, collapse, charsmap)),
    }
}

/// The rules of a WordPiece model.
fn word_rules(read: &TokenizerJson<'_, WordPiece<'_>>) -> std::result::Result<WordRules, Unknown> {
    let normalizer = &read.normalizer;
    let flag = |key: &str| normalizer.get(key).and_then(Value::as_bool);
    if kind(normalizer) != Some("BertNormalizer") {
        return Err(("normalizer", short(normalizer), "BertNormalizer".into()));
    }
    if kind(&read.pre_tokenizer) != Some("BertPreTokenizer") {
        return Err(("pre_tokenizer", short(&read.pre_tokenizer), "BertPreTokenizer".into()));
    }
    let prefix = read.model.continuing_subword_prefix.as_deref().unwrap_or("##");
    if prefix != "##" || read.model.max_input_chars_per_word.is_some_and(|most| most != 100) {
        return Err(("WordPiece option", "another prefix or word length".into(), "## and 100".into()));
    }
    let lowercase = flag("lowercase").unwrap_or(true);
    Ok(WordRules {
        clean: flag("clean_text").unwrap_or(true),
        split_chinese: flag("handle_chinese_chars").unwrap_or(true),
        strip_accents: flag("strip_accents").unwrap_or(lowercase),
        lowercase,
    })
}
