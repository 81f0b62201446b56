//! The tokenizer in a GGUF file's metadata, read and written.
//!
//! Keys (GGUF specification, `tokenizer.ggml.*`): `model`, `pre`, `tokens`, `token_type`, `merges`,
//! `<name>_token_id`, `add_bos_token`, `add_eos_token`, and `tokenizer.chat_template`. A missing BOS or
//! EOS id of a byte-level BPE stays missing (llama.cpp falls back to 11, GPT-2's comma); for the other models
//! the customary ids stand in, as in llama.cpp, where such a token is there. Further keys by model:
//!
//! | `model` | keys |
//! | --- | --- |
//! | `gpt2` | `pre`, `merges` |
//! | `gemma4` | `merges` |
//! | `llama` | `scores`, `add_space_prefix` |
//! | `t5` | `scores`, `add_space_prefix`, `remove_extra_whitespaces`, `precompiled_charsmap` |
//! | `bert` | `normalizer.lowercase`, `normalizer.strip_accents`, `cls_token_id` in older files |

use std::borrow::Cow;

use porism_formats::Gguf;
use porism_formats::gguf::{Array, Value, ValueType};

use crate::engine::BY_LINE;
use crate::pre_tokenizer::shorten;
use crate::source::{Charsmap, NamedTemplate, SpacePrefix, Strip, TokenType, VocabModel, VocabSource, WordRules};
use crate::{Error, Result, Tokenizer};

const TEMPLATE: &str = "tokenizer.chat_template";
const TEMPLATE_NAMES: &str = "tokenizer.chat_templates";
/// The names that older files use for three of the ids.
const OLD_NAMES: [(&str, &str); 3] = [("prefix", "fim_pre"), ("suffix", "fim_suf"), ("middle", "fim_mid")];

fn ggml(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

/// The models' names in files.
const MODELS: [(&str, VocabModel); 5] = [
    ("gpt2", VocabModel::ByteBpe),
    ("llama", VocabModel::SentencePiece),
    ("t5", VocabModel::Unigram),
    ("bert", VocabModel::WordPiece),
    ("gemma4", VocabModel::CharBpe),
];

/// What a caller decides against the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TokenizerOptions {
    /// The pre-tokenizer, by its name in GGUF files, instead of the one that the file names
    /// (`--pre-tokenizer NAME`). Only byte-level BPE has one.
    pub pre_tokenizer: Option<String>,
}

impl Tokenizer {
    /// The tokenizer of a GGUF file.
    ///
    /// # Errors
    /// There is none, it is of an unknown kind, its pre-tokenizer is unknown, or its parts contradict each
    /// other.
    pub fn from_gguf(gguf: &Gguf) -> Result<Tokenizer> {
        Tokenizer::from_gguf_with(gguf, &TokenizerOptions::default())
    }

    /// The same with the caller's decisions.
    ///
    /// # Errors
    /// As for [`Tokenizer::from_gguf`]; and a pre-tokenizer is given for a model that has none.
    pub fn from_gguf_with(gguf: &Gguf, options: &TokenizerOptions) -> Result<Tokenizer> {
        let named = |error| match error {
            Error::Vocabulary(what) => Error::Vocabulary(format!("{}: {what}", gguf.name())),
            other => other,
        };
        let mut source = VocabSource::from_gguf(gguf).map_err(named)?;
        if let Some(pre) = &options.pre_tokenizer {
            if source.model != VocabModel::ByteBpe {
                return Err(Error::Unsupported {
                    what: "pre-tokenizer",
                    found: shorten(pre),
                    supported: format!("none, since {} has no byte-level BPE", gguf.name()),
                });
            }
            source.pre = Cow::Borrowed(pre);
        }
        Tokenizer::from_source(&source).map_err(named)
    }

    /// The metadata that holds this tokenizer in a GGUF file: keys and values, in the usual order.
    ///
    /// Two things cannot be said there and are lost: normalization to NFC (Qwen 2's `tokenizer.json` asks
    /// for it, its GGUF files cannot) and white space that a literal token swallows.
    ///
    /// # Errors
    /// The pre-tokenizer has no name in GGUF files.
    pub fn to_gguf_metadata(&self) -> Result<Vec<(String, Value<'static>)>> {
        Ok(self.source()?.to_gguf_metadata())
    }
}

impl<'a> VocabSource<'a> {
    /// Reads a GGUF file's metadata. The strings stay in the file.
    ///
    /// # Errors
    /// As for [`Tokenizer::from_gguf`], as far as it can be seen without building the tokenizer.
    pub fn from_gguf(gguf: &'a Gguf) -> Result<VocabSource<'a>> {
        let model = match gguf.find_str(&ggml("model"))? {
            Some(name) => MODELS.iter().find(|(known, _)| *known == name).map(|m| m.1).ok_or_else(|| {
                let known: Vec<&str> = MODELS.iter().map(|m| m.0).collect();
                Error::Unsupported { what: "tokenizer model", found: shorten(name), supported: known.join(", ") }
            })?,
            None => {
                let file = gguf.name();
                return Err(Error::Missing(format!("{file} has no key tokenizer.ggml.model")));
            }
        };
        let flag = |name: &str| gguf.find_bool(&ggml(name));
        let mut source = VocabSource {
            model,
            tokens: gguf.strings(&ggml("tokens"))?.map(Cow::Borrowed).collect(),
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            chat_template: gguf.find_str(TEMPLATE)?.map(Cow::Borrowed),
            named_templates: templates(gguf)?,
            ..VocabSource::default()
        };
        let prefix = |default| {
            Ok::<_, Error>(match flag("add_space_prefix")?.unwrap_or(default) {
                true => SpacePrefix::Every,
                false => SpacePrefix::Never,
            })
        };
        match model {
            VocabModel::ByteBpe => {
                source.merges = merges(gguf)?;
                source.pre = gguf.find_str(&ggml("pre"))?.unwrap_or_default().into();
            }
            VocabModel::CharBpe => {
                source.merges = merges(gguf)?;
                source.pre = BY_LINE.into();
                // Files say false by mistake; llama.cpp adds it all the same.
                source.add_bos = None;
            }
            VocabModel::SentencePiece => {
                source.scores = scores(gguf)?;
                source.space_prefix = prefix(true)?;
            }
            VocabModel::Unigram => {
                source.scores = scores(gguf)?;
                source.space_prefix = prefix(false)?;
                source.collapse_spaces = flag("remove_extra_whitespaces")?.unwrap_or(false);
                source.charsmap = charsmap(gguf)?;
                source.add_eos.get_or_insert(true);
            }
            VocabModel::WordPiece => {
                let lowercase = flag("normalizer.lowercase")?.unwrap_or(true);
                let strip_accents = flag("normalizer.strip_accents")?.unwrap_or(lowercase);
                source.word_rules = WordRules { lowercase, strip_accents, ..WordRules::default() };
                // Both are always there, whatever a file says.
                (source.add_bos, source.add_eos) = (None, None);
            }
        }
        source.types = types(gguf, source.tokens.len())?;
        for (name, id) in source.special.named_mut() {
            *id = gguf.find_u32(&ggml(&format!("{name}_token_id")))?;
            if let Some((old, _)) = OLD_NAMES.iter().find(|(_, new)| *new == name)
                && id.is_none()
            {
                *id = gguf.find_u32(&ggml(&format!("{old}_token_id")))?;
            }
        }
        customary_ids(&mut source, gguf.find_u32(&ggml("cls_token_id"))?);
        source.strips = strips(gguf, &source)?;
        if let Some(scores) = gguf.find_array(&ggml("scores"))?
            && scores.len() != source.tokens.len()
        {
            let (tokens, scores) = (source.tokens.len(), scores.len());
            return Err(Error::Vocabulary(format!("{tokens} tokens but {scores} scores")));
        }
        source.check()?;
        Ok(source)
    }

    /// The metadata that holds this vocabulary in a GGUF file.
    pub fn to_gguf_metadata(&self) -> Vec<(String, Value<'static>)> {
        let string = |s: &str| Value::String(Cow::Owned(s.as_bytes().to_vec()));
        let types: Vec<i32> = self.types.iter().map(|&t| t as i32).collect();
        let model = MODELS.iter().find(|m| m.1 == self.model).map_or("gpt2", |m| m.0);
        let pre = if self.model == VocabModel::ByteBpe { &*self.pre } else { "default" };
        let mut entries = vec![
            (ggml("model"), string(model)),
            (ggml("pre"), string(pre)),
            (ggml("tokens"), Value::Array(Array::strings(self.tokens.iter().map(|t| t.as_bytes())))),
            (ggml("token_type"), Value::from(&types[..])),
        ];
        if matches!(self.model, VocabModel::ByteBpe | VocabModel::CharBpe) {
            let merges = self.merges.iter().map(|(left, right)| format!("{left} {right}"));
            entries.push((ggml("merges"), Value::Array(Array::strings(merges))));
        } else if !self.scores.is_empty() {
            let scores: Vec<f32> = self.scores.iter().map(|&s| s as f32).collect();
            entries.push((ggml("scores"), Value::from(&scores[..])));
        }
        if self.model == VocabModel::Unigram {
            entries.push((ggml("remove_extra_whitespaces"), Value::Bool(self.collapse_spaces)));
            let bytes = self.charsmap.bytes.iter().map(|&b| Value::U8(b));
            let array = Array::new(ValueType::U8, bytes).filter(|a| !a.is_empty());
            entries.extend(array.map(|a| (ggml("precompiled_charsmap"), Value::Array(a))));
        }
        if self.model == VocabModel::WordPiece {
            let WordRules { lowercase, strip_accents, .. } = self.word_rules;
            entries.push((ggml("normalizer.lowercase"), Value::Bool(lowercase)));
            entries.push((ggml("normalizer.strip_accents"), Value::Bool(strip_accents)));
        }
        entries.extend(self.special.named().map(|(name, id)| (ggml(&format!("{name}_token_id")), Value::U32(id))));
        entries.extend(self.add_bos.map(|add| (ggml("add_bos_token"), Value::Bool(add))));
        entries.extend(self.add_eos.map(|add| (ggml("add_eos_token"), Value::Bool(add))));
        entries.push((ggml("add_space_prefix"), Value::Bool(self.space_prefix != SpacePrefix::Never)));
        entries.extend(self.chat_template.as_deref().map(|t| (TEMPLATE.to_owned(), string(t))));
        if !self.named_templates.is_empty() {
            let names = self.named_templates.iter().map(|t| t.name.as_bytes());
            entries.push((TEMPLATE_NAMES.to_owned(), Value::Array(Array::strings(names))));
            for template in &self.named_templates {
                entries.push((format!("{TEMPLATE}.{}", template.name), string(&template.source)));
            }
        }
        entries
    }
}

fn types(gguf: &Gguf, count: usize) -> Result<Vec<TokenType>> {
    let key = ggml("token_type");
    if gguf.find_array(&key)?.is_none() {
        return Ok(vec![TokenType::Normal; count]);
    }
    let numbers = gguf.integers::<i64>(&key)?;
    let types = numbers.iter().enumerate().map(|(id, &number)| {
        TokenType::from_number(number)
            .ok_or_else(|| Error::Vocabulary(format!("token {id} has type {number}; types are 0 to 6")))
    });
    types.collect()
}

/// The scores; some files have integers.
fn scores(gguf: &Gguf) -> Result<Vec<f64>> {
    let key = ggml("scores");
    let Some(array) = gguf.find_array(&key)? else {
        return Err(Error::Vocabulary(format!("there is no {key}, which this tokenizer model needs")));
    };
    if array.kind() == ValueType::F32 {
        return Ok(gguf.f32s(&key)?.into_iter().map(f64::from).collect());
    }
    Ok(gguf.integers::<i32>(&key)?.into_iter().map(f64::from).collect())
}

fn charsmap<'a>(gguf: &Gguf) -> Result<Charsmap<'a>> {
    let key = ggml("precompiled_charsmap");
    let Some(array) = gguf.find_array(&key)? else { return Ok(Charsmap::default()) };
    let bytes = match array.kind() {
        ValueType::I8 => gguf.integers::<i8>(&key)?.into_iter().map(i8::cast_unsigned).collect(),
        _ => gguf.integers::<u8>(&key)?,
    };
    Ok(Charsmap { bytes: Cow::Owned(bytes), by_grapheme: false })
}

/// The ids that a model's kind customarily has, where the file does not say and such a token is no text.
fn customary_ids(source: &mut VocabSource<'_>, cls: Option<u32>) {
    let structure = |id: u32| {
        let role = source.types.get(id as usize).copied();
        matches!(role, Some(TokenType::Control | TokenType::Unknown | TokenType::UserDefined)).then_some(id)
    };
    let [bos, eos, unk, sep, pad, mask] = match source.model {
        VocabModel::ByteBpe | VocabModel::CharBpe => return,
        VocabModel::SentencePiece => [Some(1), Some(2), Some(0), None, None, None],
        VocabModel::Unigram => [None, Some(1), Some(2), None, Some(0), None],
        VocabModel::WordPiece => [cls.or(Some(101)), None, Some(100), Some(102), Some(0), Some(103)],
    }
    .map(|id| id.and_then(structure));
    let special = &mut source.special;
    for (named, customary) in [
        (&mut special.bos, bos),
        (&mut special.eos, eos),
        (&mut special.unk, unk),
        (&mut special.sep, sep),
        (&mut special.pad, pad),
        (&mut special.mask, mask),
    ] {
        *named = named.or(customary);
    }
    // A habit is no reason to fail where there is no such token.
    if source.model == VocabModel::Unigram && source.special.eos.is_none() {
        source.add_eos = None;
    }
}

/// White space that literal tokens swallow: a GGUF file does not say so, and llama.cpp knows it of these.
fn strips(gguf: &Gguf, source: &VocabSource<'_>) -> Result<Vec<Strip>> {
    let text = |key: &str| Ok::<_, Error>(gguf.find_str(key)?.unwrap_or_default().to_lowercase());
    let pre = text(&ggml("pre"))?;
    let name = text("general.name")?;
    let architecture = text("general.architecture")?;
    let known = ["jina-v2-de", "jina-v2-es", "jina-v2-code"].iter().any(|p| pre.contains(p))
        || ["nomic-bert-moe", "jina-bert-v3"].iter().any(|a| architecture.contains(a));
    let literal = |id: &u32| {
        let role = source.types.get(*id as usize);
        matches!(role, Some(TokenType::Control | TokenType::Unknown | TokenType::UserDefined))
    };
    let ids = (0..source.tokens.len() as u32).filter(literal);
    let token = |id: u32| &*source.tokens[id as usize];
    Ok(if known {
        ids.filter(|&id| token(id) == "<mask>").map(|id| Strip { id, left: true, right: false }).collect()
    } else if name.contains("phi-3") || name.contains("phi3") {
        let all = ids.filter(|&id| !["<unk>", "<s>", "<|endoftext|>"].contains(&token(id)));
        all.map(|id| Strip { id, left: false, right: true }).collect()
    } else if name.contains("modern-bert") {
        ids.filter(|&id| token(id) == "[MASK]").map(|id| Strip { id, left: true, right: false }).collect()
    } else {
        Vec::new()
    })
}

/// The merges; a line is cut at its first space that is not its first character.
fn merges<'a>(gguf: &'a Gguf) -> Result<Vec<(Cow<'a, str>, Cow<'a, str>)>> {
    let lines = gguf.strings(&ggml("merges"))?;
    lines
        .enumerate()
        .map(|(number, line)| {
            let at = line.bytes().skip(1).position(|b| b == b' ').map(|at| at + 1);
            let cut = at.map(|at| (&line[..at], &line[at + 1..]));
            match cut {
                Some((left, right)) if !right.is_empty() => Ok((left.into(), right.into())),
                _ => {
                    let line = shorten(line);
                    Err(Error::Vocabulary(format!("merge {number} is `{line}`, not two tokens")))
                }
            }
        })
        .collect()
}

fn templates(gguf: &Gguf) -> Result<Vec<NamedTemplate>> {
    if gguf.get(TEMPLATE_NAMES).is_none() {
        return Ok(Vec::new());
    }
    let mut templates = Vec::new();
    for name in gguf.strings(TEMPLATE_NAMES)? {
        // The default one has the plain key.
        if let Some(source) = gguf.find_str(&format!("{TEMPLATE}.{name}"))? {
            templates.push(NamedTemplate { name: name.to_owned(), source: source.to_owned() });
        }
    }
    Ok(templates)
}
