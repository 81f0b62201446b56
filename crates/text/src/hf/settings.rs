//! The files beside `tokenizer.json`: which tokens start, end and pad, what is added, and chat templates.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use super::read::{HfFiles, short};
use crate::pre_tokenizer::shorten;
use crate::source::{NamedTemplate, VocabSource};
use crate::{Error, Result};

/// The files beside `tokenizer.json`.
pub(super) struct Settings<'a> {
    tokenizer: Value,
    generation: Value,
    config: Value,
    template: Option<&'a str>,
}

impl<'a> Settings<'a> {
    pub(super) fn parse(files: &'a HfFiles) -> Result<Settings<'a>> {
        let value = |name: &str, text: &Option<String>| match text {
            None => Ok(Value::Null),
            Some(text) => serde_json::from_str(text).map_err(|e| Error::json(name, &e)),
        };
        Ok(Settings {
            tokenizer: value("tokenizer_config.json", &files.tokenizer_config)?,
            generation: value("generation_config.json", &files.generation_config)?,
            config: value("config.json", &files.config)?,
            template: files.chat_template.as_deref(),
        })
    }

    /// `added_tokens_decoder` of `tokenizer_config.json`: id, text, and whether it is special. Entries of another
    /// shape are left out.
    pub(super) fn added_tokens(&self) -> Vec<(u32, &str, bool)> {
        let entries = self.tokenizer.get("added_tokens_decoder").and_then(Value::as_object);
        let mut added: Vec<(u32, &str, bool)> = entries
            .into_iter()
            .flatten()
            .filter_map(|(id, entry)| {
                let special = entry.get("special").and_then(Value::as_bool).unwrap_or(false);
                Some((id.parse().ok()?, entry.get("content")?.as_str()?, special))
            })
            .collect();
        added.sort_unstable_by_key(|entry| entry.0);
        added
    }

    /// The class that transformers would take.
    pub(super) fn class(&self) -> &str {
        self.tokenizer.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn apply(&self, source: &mut VocabSource<'a>, post_processor: &Value) -> Result<()> {
        let index: HashMap<&str, u32> = source.tokens.iter().map(|t| &**t).zip(0..).collect();
        let named = |key: &str| self.named_token(key, &index);
        let mut special = source.special;
        for (id, key) in [
            (&mut special.bos, "bos_token"),
            (&mut special.eos, "eos_token"),
            (&mut special.unk, "unk_token"),
            (&mut special.sep, "sep_token"),
            (&mut special.pad, "pad_token"),
            (&mut special.mask, "mask_token"),
        ] {
            *id = named(key)?.or(*id);
        }
        for file in [&self.generation, &self.config] {
            let size = source.tokens.len();
            let bos = ids(file, "bos_token_id", size)?;
            let eos = ids(file, "eos_token_id", size)?;
            special.bos = special.bos.or(bos.first().copied());
            special.eos = special.eos.or(eos.first().copied());
            source.end_ids.extend(eos);
        }
        source.end_ids.retain(|id| Some(*id) != special.eos);
        source.end_ids.sort_unstable();
        source.end_ids.dedup();

        let flag = |key: &str| self.tokenizer.get(key).and_then(Value::as_bool);
        source.add_bos = flag("add_bos_token");
        source.add_eos = flag("add_eos_token");
        if let Some((first, last)) = template_processing(post_processor)? {
            let find = |text: &str| {
                index.get(text).copied().ok_or_else(|| {
                    Error::Vocabulary(format!("post_processor adds `{}`, which is no token", shorten(text)))
                })
            };
            source.add_bos = Some(first.is_some());
            source.add_eos = Some(last.is_some());
            if let Some(first) = first {
                special.bos = Some(find(&first)?);
            }
            if let Some(last) = last {
                // An embedding model may close its texts with another token than its answers.
                let last = Some(find(&last)?);
                if special.eos != last {
                    special.eot = special.eos;
                    special.eos = last;
                }
            }
        }
        // Without such a token there is nothing to add.
        source.add_bos = source.add_bos.map(|add| add && special.bos.is_some());
        source.add_eos = source.add_eos.map(|add| add && special.eos.is_some());
        source.special = special;
        self.templates(source)
    }

    /// A token of `tokenizer_config.json`: a string, or an object with `content`.
    fn named_token(&self, key: &str, index: &HashMap<&str, u32>) -> Result<Option<u32>> {
        let text = match self.tokenizer.get(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text,
            Some(other) => match other.get("content").and_then(Value::as_str) {
                Some(text) => text,
                None => {
                    let found = short(other);
                    return Err(Error::Vocabulary(format!("tokenizer_config.json: {key} is {found}, no token")));
                }
            },
        };
        match index.get(text) {
            Some(&id) => Ok(Some(id)),
            // Transformers would add it; nothing ever produces it.
            None if !matches!(key, "bos_token" | "eos_token") => Ok(None),
            None => {
                let text = shorten(text);
                Err(Error::Vocabulary(format!("tokenizer_config.json: {key} `{text}` is not in the vocabulary")))
            }
        }
    }

    fn templates(&self, source: &mut VocabSource<'a>) -> Result<()> {
        let bad = || {
            Error::Vocabulary(
                "tokenizer_config.json: chat_template is neither a string nor a list of names and templates".into(),
            )
        };
        match self.tokenizer.get("chat_template") {
            None | Some(Value::Null) => {}
            Some(Value::String(template)) => source.chat_template = Some(Cow::Owned(template.clone())),
            Some(Value::Array(list)) => {
                for entry in list {
                    let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(bad);
                    let (name, template) = (text("name")?, text("template")?);
                    match name.as_str() {
                        "default" => source.chat_template = Some(Cow::Owned(template)),
                        _ => source.named_templates.push(NamedTemplate { name, source: template }),
                    }
                }
            }
            Some(_) => return Err(bad()),
        }
        if let Some(template) = self.template {
            source.chat_template = Some(Cow::Borrowed(template));
        }
        Ok(())
    }
}

/// The ids under a key: one, a list, or none. Ids beyond the vocabulary are an error.
fn ids(file: &Value, key: &str, size: usize) -> Result<Vec<u32>> {
    let id = |value: &Value| {
        let id = value.as_u64().filter(|&id| id < size as u64);
        id.map(|id| id as u32)
            .ok_or_else(|| Error::Vocabulary(format!("{key} is {}, no id of the {size} tokens", short(value))))
    };
    match file.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}

/// What the post-processor puts first and last; None if it has no template.
fn template_processing(post: &Value) -> Result<Option<(Option<String>, Option<String>)>> {
    let unsupported = |found: String| Error::Unsupported {
        what: "post_processor",
        found,
        supported:
            "none, ByteLevel, BertProcessing, RobertaProcessing, and a TemplateProcessing of at most one token before \
                    and after"
                .into(),
    };
    let list = match post.get("processors").and_then(Value::as_array) {
        Some(list) => list.as_slice(),
        None if post.is_null() => return Ok(None),
        None => std::slice::from_ref(post),
    };
    let mut found = None;
    for processor in list {
        match processor.get("type").and_then(Value::as_str) {
            Some("ByteLevel") => {}
            Some("BertProcessing" | "RobertaProcessing") if found.is_none() => {
                let text = |key: &str| processor.get(key)?.get(0)?.as_str().map(str::to_owned);
                let (Some(first), Some(last)) = (text("cls"), text("sep")) else {
                    return Err(unsupported(short(processor)));
                };
                found = Some((Some(first), Some(last)));
            }
            Some("TemplateProcessing") if found.is_none() => {
                let single = processor.get("single").and_then(Value::as_array);
                let special = |piece: &Value| piece.get("SpecialToken").is_some();
                let text = |piece: &Value| Some(piece.get("SpecialToken")?.get("id")?.as_str()?.to_owned());
                let single = single.ok_or_else(|| unsupported(short(processor)))?;
                let shape: Vec<bool> = single.iter().map(special).collect();
                let (first, last) = match shape[..] {
                    [false] => (None, None),
                    [true, false] => (text(&single[0]), None),
                    [false, true] => (None, text(&single[1])),
                    [true, false, true] => (text(&single[0]), text(&single[2])),
                    _ => return Err(unsupported(short(processor))),
                };
                found = Some((first, last));
            }
            _ => return Err(unsupported(short(processor))),
        }
    }
    Ok(found)
}
