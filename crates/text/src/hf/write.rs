//! A tokenizer as `tokenizer.json` and `tokenizer_config.json`, so that transformers' AutoTokenizer gives
//! the ids that we give.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::pre::pre_tokenizer_json;
use crate::pre_tokenizer::PreTokenizer;
use crate::source::{SpacePrefix, SpecialIds, TokenType, VocabModel, VocabSource};
use crate::vocab::{SPACE, Vocab};
use crate::{Error, Result, Tokenizer, conversion};

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
        let vocab = Vocab::new(self)?;
        let form = match self.model {
            VocabModel::ByteBpe => self.byte_bpe()?,
            VocabModel::CharBpe => self.char_bpe(&self.merges),
            VocabModel::SentencePiece => self.char_bpe(&conversion::to_merges(self, &vocab)),
            VocabModel::Unigram => self.unigram()?,
            VocabModel::WordPiece => self.word_piece()?,
        };
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added_tokens(),
            "normalizer": form.normalizer,
            "pre_tokenizer": form.pre_tokenizer,
            "post_processor": self.post_processor(form.post_processor),
            "decoder": form.decoder,
            "model": form.model,
        }))
    }

    /// The tokens with their ids.
    fn vocabulary<'t>(&'t self, text: impl Fn(u32, &'t str) -> Cow<'t, str>) -> Result<Map<String, Value>> {
        let tokens = self.tokens.iter().zip(0u32..);
        let vocab: Map<String, Value> = tokens.map(|(t, id)| (text(id, t).into_owned(), id.into())).collect();
        if vocab.len() != self.tokens.len() {
            return Err(Error::Vocabulary("a text occurs twice among its tokens".into()));
        }
        Ok(vocab)
    }

    fn byte_bpe(&self) -> Result<Form> {
        let pre = PreTokenizer::named(&self.pre)?;
        let vocab = self.vocabulary(|_, t| Cow::Borrowed(t))?;
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false
        });
        Ok(Form {
            normalizer: if self.nfc { json!({ "type": "NFC" }) } else { Value::Null },
            pre_tokenizer: pre_tokenizer_json(pre.rule),
            post_processor: Some(byte_level.clone()),
            decoder: byte_level,
            model: json!({
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": pre.ignore_merges,
                "vocab": vocab,
                "merges": merge_lines(&self.merges),
            }),
        })
    }

    /// Spaces are written U+2581, and what the vocabulary lacks as bytes: the form that transformers gives the
    /// tokenizers of Llama and Gemma.
    fn char_bpe(&self, merges: &[(Cow<'_, str>, Cow<'_, str>)]) -> Form {
        let vocab: Map<String, Value> =
            self.tokens.iter().zip(0u32..).map(|(t, id)| (t.to_string(), id.into())).collect();
        let (normalizer, pre_tokenizer) = self.spaces();
        Form {
            normalizer,
            pre_tokenizer,
            post_processor: None,
            decoder: self.spaces_decoder(),
            model: json!({
                "type": "BPE",
                "dropout": null,
                "unk_token": self.special.unk.and_then(|id| self.tokens.get(id as usize)),
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": true,
                "byte_fallback": self.types.contains(&TokenType::Byte),
                "ignore_merges": false,
                "vocab": vocab,
                "merges": merge_pairs(merges),
            }),
        }
    }

    /// The normalizer and pre-tokenizer that write spaces as U+2581.
    fn spaces(&self) -> (Value, Value) {
        let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" });
        let metaspace = |scheme: &str| json!({ "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": false });
        match self.space_prefix {
            SpacePrefix::Never => (replace, Value::Null),
            SpacePrefix::Every => {
                let prepend = json!({ "type": "Prepend", "prepend": "\u{2581}" });
                (json!({ "type": "Sequence", "normalizers": [prepend, replace] }), Value::Null)
            }
            SpacePrefix::EveryUnlessSpace => (Value::Null, metaspace("always")),
            SpacePrefix::FirstUnlessSpace => (Value::Null, metaspace("first")),
        }
    }

    fn spaces_decoder(&self) -> Value {
        let mut steps = vec![
            json!({ "type": "Replace", "pattern": { "String": "\u{2581}" }, "content": " " }),
            json!({ "type": "ByteFallback" }),
            json!({ "type": "Fuse" }),
        ];
        if self.space_prefix != SpacePrefix::Never {
            steps.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        }
        json!({ "type": "Sequence", "decoders": steps })
    }

    fn unigram(&self) -> Result<Form> {
        self.vocabulary(|_, t| Cow::Borrowed(t))?;
        let scored: Vec<Value> = self.tokens.iter().zip(&self.scores).map(|(t, s)| json!([t, s])).collect();
        let charsmap = (!self.charsmap.bytes.is_empty())
            .then(|| json!({ "type": "Precompiled", "precompiled_charsmap": STANDARD.encode(&self.charsmap.bytes) }));
        let (normalizer, pre_tokenizer) = if self.collapse_spaces {
            let metaspace = json!({
                "type": "Metaspace", "replacement": "\u{2581}", "split": true,
                "prepend_scheme": if self.space_prefix == SpacePrefix::Never { "never" } else { "always" },
            });
            let steps = [json!({ "type": "WhitespaceSplit" }), metaspace];
            (charsmap.unwrap_or_default(), json!({ "type": "Sequence", "pretokenizers": steps }))
        } else {
            let (spaces, pre) = self.spaces();
            let steps: Vec<Value> = charsmap.into_iter().chain((!spaces.is_null()).then_some(spaces)).collect();
            (json!({ "type": "Sequence", "normalizers": steps }), pre)
        };
        Ok(Form {
            normalizer,
            pre_tokenizer,
            post_processor: None,
            decoder: self.spaces_decoder(),
            model: json!({
                "type": "Unigram",
                "unk_id": self.special.unk,
                "byte_fallback": self.types.contains(&TokenType::Byte),
                "vocab": scored,
            }),
        })
    }

    fn word_piece(&self) -> Result<Form> {
        let vocab = self.vocabulary(|id, token| match self.types.get(id as usize) {
            Some(TokenType::Normal | TokenType::Undefined) => match token.strip_prefix(SPACE) {
                Some(beginning) => Cow::Borrowed(beginning),
                None => Cow::Owned(format!("##{token}")),
            },
            _ => Cow::Borrowed(token),
        })?;
        let rules = self.word_rules;
        Ok(Form {
            normalizer: json!({
                "type": "BertNormalizer",
                "clean_text": rules.clean,
                "handle_chinese_chars": rules.split_chinese,
                "strip_accents": rules.strip_accents,
                "lowercase": rules.lowercase,
            }),
            pre_tokenizer: json!({ "type": "BertPreTokenizer" }),
            post_processor: None,
            decoder: json!({ "type": "WordPiece", "prefix": "##", "cleanup": true }),
            model: json!({
                "type": "WordPiece",
                "unk_token": self.special.unk.and_then(|id| self.tokens.get(id as usize)),
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": vocab,
            }),
        })
    }

    /// The contents of a `tokenizer_config.json`.
    pub fn to_tokenizer_config(&self) -> Value {
        let mut config = Map::new();
        // The class that takes tokenizer.json as it is; classes named after a model may rebuild it.
        config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        config.insert("clean_up_tokenization_spaces".into(), json!(false));
        config.insert("add_prefix_space".into(), json!(self.space_prefix != SpacePrefix::Never));
        config.insert("add_bos_token".into(), json!(self.adds_bos()));
        config.insert("add_eos_token".into(), json!(self.adds_eos()));
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

    fn adds_bos(&self) -> bool {
        let habit = match self.model {
            VocabModel::ByteBpe => PreTokenizer::named(&self.pre).is_ok_and(|p| p.add_bos),
            VocabModel::CharBpe | VocabModel::SentencePiece | VocabModel::WordPiece => true,
            VocabModel::Unigram => false,
        };
        self.add_bos.unwrap_or(habit) && self.special.bos.is_some()
    }

    fn adds_eos(&self) -> bool {
        self.add_eos.unwrap_or(self.model == VocabModel::WordPiece) && self.last().is_some()
    }

    /// A template with the tokens that are added, after `first` if there is one.
    fn post_processor(&self, first: Option<Value>) -> Value {
        let bos = self.special.bos.filter(|_| self.adds_bos());
        let eos = self.last().filter(|_| self.adds_eos());
        if bos.is_none() && eos.is_none() {
            return first.unwrap_or_default();
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
        // BERT opens only the first of two texts.
        let again = if self.model == VocabModel::WordPiece { None } else { bos };
        let second = [token(again, 1), Some(sequence("B", 1)), token(eos, 1)].into_iter().flatten();
        let template = json!({
            "type": "TemplateProcessing",
            "single": whole("A", 0).collect::<Vec<_>>(),
            "pair": whole("A", 0).chain(second).collect::<Vec<_>>(),
            "special_tokens": special,
        });
        match first {
            Some(first) => json!({ "type": "Sequence", "processors": [first, template] }),
            None => template,
        }
    }
}

/// The parts of a `tokenizer.json` that differ from model to model.
struct Form {
    normalizer: Value,
    pre_tokenizer: Value,
    /// What comes before the template.
    post_processor: Option<Value>,
    decoder: Value,
    model: Value,
}

/// Merges in one string each, as byte-level vocabularies always had them.
fn merge_lines(merges: &[(Cow<'_, str>, Cow<'_, str>)]) -> Vec<Value> {
    merges.iter().map(|(left, right)| format!("{left} {right}").into()).collect()
}

/// Merges in two strings each: their tokens may hold spaces.
fn merge_pairs(merges: &[(Cow<'_, str>, Cow<'_, str>)]) -> Vec<Value> {
    merges.iter().map(|(left, right)| json!([left, right])).collect()
}
