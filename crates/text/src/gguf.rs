//! The tokenizer in a GGUF file's metadata, read and written.
//!
//! Keys (GGUF specification, `tokenizer.ggml.*`): `model`, `pre`, `tokens`, `token_type`, `merges`,
//! `<name>_token_id`, `add_bos_token`, `add_eos_token`, and `tokenizer.chat_template`. A missing BOS or
//! EOS id stays missing (llama.cpp falls back to 11, GPT-2's comma). `scores` are read by no BPE and
//! only checked for their number; `add_space_prefix` has no meaning for BPE.

use std::borrow::Cow;

use porism_formats::Gguf;
use porism_formats::gguf::{Array, Value};

use crate::pre_tokenizer::shorten;
use crate::source::{NamedTemplate, TokenType, VocabSource};
use crate::{Error, Result, Tokenizer};

const TEMPLATE: &str = "tokenizer.chat_template";
const TEMPLATE_NAMES: &str = "tokenizer.chat_templates";
/// The names that older files use for three of the ids.
const OLD_NAMES: [(&str, &str); 3] = [("prefix", "fim_pre"), ("suffix", "fim_suf"), ("middle", "fim_mid")];

fn ggml(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

impl Tokenizer {
    /// The tokenizer of a GGUF file.
    ///
    /// # Errors
    /// There is none, it is of another kind than byte-level BPE, its pre-tokenizer is unknown, or its
    /// parts contradict each other.
    pub fn from_gguf(gguf: &Gguf) -> Result<Tokenizer> {
        let named = |error| match error {
            Error::Vocabulary(what) => Error::Vocabulary(format!("{}: {what}", gguf.name())),
            other => other,
        };
        Tokenizer::from_source(&VocabSource::from_gguf(gguf).map_err(named)?).map_err(named)
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
        match gguf.find_str(&ggml("model"))? {
            Some("gpt2") => {}
            Some(other) => {
                return Err(Error::Unsupported {
                    what: "tokenizer model",
                    found: shorten(other),
                    supported: "gpt2 (byte-level BPE)".into(),
                });
            }
            None => {
                let file = gguf.name();
                return Err(Error::Missing(format!("{file} has no key tokenizer.ggml.model")));
            }
        }
        let mut source = VocabSource {
            tokens: gguf.strings(&ggml("tokens"))?.map(Cow::Borrowed).collect(),
            merges: merges(gguf)?,
            pre: gguf.find_str(&ggml("pre"))?.unwrap_or_default().into(),
            add_bos: gguf.find_bool(&ggml("add_bos_token"))?,
            add_eos: gguf.find_bool(&ggml("add_eos_token"))?,
            chat_template: gguf.find_str(TEMPLATE)?.map(Cow::Borrowed),
            named_templates: templates(gguf)?,
            ..VocabSource::default()
        };
        source.types = types(gguf, source.tokens.len())?;
        for (name, id) in source.special.named_mut() {
            *id = gguf.find_u32(&ggml(&format!("{name}_token_id")))?;
            if let Some((old, _)) = OLD_NAMES.iter().find(|(_, new)| *new == name)
                && id.is_none()
            {
                *id = gguf.find_u32(&ggml(&format!("{old}_token_id")))?;
            }
        }
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
        let merges = self.merges.iter().map(|(left, right)| format!("{left} {right}"));
        let mut entries = vec![
            (ggml("model"), string("gpt2")),
            (ggml("pre"), string(&self.pre)),
            (ggml("tokens"), Value::Array(Array::strings(self.tokens.iter().map(|t| t.as_bytes())))),
            (ggml("token_type"), Value::from(&types[..])),
            (ggml("merges"), Value::Array(Array::strings(merges))),
        ];
        entries.extend(self.special.named().map(|(name, id)| (ggml(&format!("{name}_token_id")), Value::U32(id))));
        entries.extend(self.add_bos.map(|add| (ggml("add_bos_token"), Value::Bool(add))));
        entries.extend(self.add_eos.map(|add| (ggml("add_eos_token"), Value::Bool(add))));
        entries.push((ggml("add_space_prefix"), Value::Bool(false)));
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
