//! A tokenizer as `tokenizer.json` and `tokenizer_config.json`, so that transformers' AutoTokenizer gives
//! the ids that we give.

use serde_json::{Map, Value, json};

use super::pre::pre_tokenizer_json;
use crate::pre_tokenizer::PreTokenizer;
use crate::source::{SpecialIds, TokenType, VocabSource};
use crate::{Error, Result, Tokenizer};

impl Tokenizer {
    /// The contents of a `tokenizer.json`.
    ///
    /// # Errors
    /// The tokenizer runs on the library: then the file that it came from is the one to copy.
    pub fn to_tokenizer_json(&self) -> Result<Value> {
        self.source()?.to_tokenizer_json()
    }

    /// The contents of a `tokenizer_config.json`, with the chat templates.
    ///
    /// # Errors
    /// As for [`Tokenizer::to_tokenizer_json`].
    pub fn to_tokenizer_config(&self) -> Result<Value> {
        Ok(self.source()?.to_tokenizer_config())
    }
}

impl VocabSource<'_> {
    /// The contents of a `tokenizer.json`.
    ///
    /// # Errors
    /// The pre-tokenizer is unknown.
    pub fn to_tokenizer_json(&self) -> Result<Value> {
        self.check()?;
        let pre = PreTokenizer::named(&self.pre)?;
        let vocab: Map<String, Value> =
            self.tokens.iter().zip(0u32..).map(|(token, id)| (token.to_string(), id.into())).collect();
        if vocab.len() != self.tokens.len() {
            return Err(Error::Vocabulary("a text occurs twice among its tokens".into()));
        }
        let merges: Vec<Value> = self.merges.iter().map(|(left, right)| format!("{left} {right}").into()).collect();
        let normalizer = if self.nfc { json!({ "type": "NFC" }) } else { Value::Null };
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false
        });
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added_tokens(),
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer_json(pre.rule),
            "post_processor": self.post_processor(&pre, &byte_level),
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": pre.ignore_merges,
                "vocab": vocab,
                "merges": merges,
            },
        }))
    }

    /// The contents of a `tokenizer_config.json`.
    pub fn to_tokenizer_config(&self) -> Value {
        let mut config = Map::new();
        // The class that takes tokenizer.json as it is; classes named after a model may rebuild it.
        config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        config.insert("clean_up_tokenization_spaces".into(), json!(false));
        config.insert("add_prefix_space".into(), json!(false));
        let pre_adds = PreTokenizer::named(&self.pre).is_ok_and(|p| p.add_bos);
        let add_bos = self.add_bos.unwrap_or(pre_adds) && self.special.bos.is_some();
        config.insert("add_bos_token".into(), json!(add_bos));
        config.insert("add_eos_token".into(), json!(self.add_eos.unwrap_or(false)));
        let SpecialIds { bos, eos, unk, sep, pad, mask, .. } = self.special;
        for (key, id) in [
            ("bos_token", bos),
            ("eos_token", eos),
            ("unk_token", unk),
            ("sep_token", sep),
            ("pad_token", pad),
            ("mask_token", mask),
        ] {
            if let Some(text) = id.and_then(|id| self.tokens.get(id as usize)) {
                config.insert(key.into(), json!(text));
            }
        }
        let template = self.chat_template.as_deref();
        if self.named_templates.is_empty() {
            config.extend(template.map(|t| ("chat_template".to_owned(), json!(t))));
        } else {
            let default = template.map(|t| json!({ "name": "default", "template": t }));
            let named = self.named_templates.iter().map(|t| json!({ "name": t.name, "template": t.source }));
            let list: Vec<Value> = default.into_iter().chain(named).collect();
            config.insert("chat_template".into(), list.into());
        }
        Value::Object(config)
    }

    /// The tokens that are found by their spelling. The unknown, BOS, EOS, ... tokens that
    /// `tokenizer_config.json` names count as special there whatever is said here.
    fn added_tokens(&self) -> Vec<Value> {
        let added = self.tokens.iter().zip(&self.types).zip(0u32..).filter_map(|((token, role), id)| {
            let special = match role {
                TokenType::Control | TokenType::Unknown => true,
                TokenType::UserDefined => false,
                _ => return None,
            };
            let strip = self.strips.iter().find(|s| s.id == id);
            Some(json!({
                "id": id,
                "content": token,
                "single_word": false,
                "lstrip": strip.is_some_and(|s| s.left),
                "rstrip": strip.is_some_and(|s| s.right),
                "normalized": false,
                "special": special,
            }))
        });
        added.collect()
    }

    fn post_processor(&self, pre: &PreTokenizer, byte_level: &Value) -> Value {
        let bos = self.special.bos.filter(|_| self.add_bos.unwrap_or(pre.add_bos));
        let eos = self.special.eos.filter(|_| self.add_eos.unwrap_or(false));
        if bos.is_none() && eos.is_none() {
            return byte_level.clone();
        }
        let text = |id: u32| self.tokens.get(id as usize).map_or("", |t| &**t);
        let token =
            |id: Option<u32>, part: u8| id.map(|id| json!({ "SpecialToken": { "id": text(id), "type_id": part } }));
        let sequence = |name: &str, part: u8| json!({ "Sequence": { "id": name, "type_id": part } });
        let whole = |name: &str, part: u8| {
            [token(bos, part), Some(sequence(name, part)), token(eos, part)].into_iter().flatten()
        };
        let special: Map<String, Value> = [bos, eos]
            .into_iter()
            .flatten()
            .map(|id| (text(id).to_owned(), json!({ "id": text(id), "ids": [id], "tokens": [text(id)] })))
            .collect();
        json!({
            "type": "Sequence",
            "processors": [byte_level, {
                "type": "TemplateProcessing",
                "single": whole("A", 0).collect::<Vec<_>>(),
                "pair": whole("A", 0).chain(whole("B", 1)).collect::<Vec<_>>(),
                "special_tokens": special,
            }],
        })
    }
}
