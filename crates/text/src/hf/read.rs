//! A Hugging Face folder's tokenizer, read: `tokenizer.json`, `tokenizer_config.json`,
//! `generation_config.json`, `config.json` and `chat_template.jinja`.
//!
//! Where the files disagree: a template in `post_processor` decides over `add_bos_token`; the tokens named
//! in `tokenizer_config.json` decide over the ids in `generation_config.json` and those over `config.json`;
//! `chat_template.jinja` decides over `tokenizer_config.json` (as transformers has it).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::library::Library;
use super::pre::{has_byte_level, rule_of};
use crate::pre_tokenizer::{PreTokenizer, shorten};
use crate::source::{MAX_TOKENS, NamedTemplate, Strip, TokenType, VocabSource};
use crate::{Error, Result, Tokenizer};

/// No file of a tokenizer may be larger; the largest in use have about 35 MB.
const MAX_FILE: u64 = 256 << 20;

/// The texts of a Hugging Face folder's files that have to do with its tokenizer.
#[derive(Clone, Debug, Default)]
pub struct HfFiles {
    /// `tokenizer.json`
    pub tokenizer: String,
    /// `tokenizer_config.json`
    pub tokenizer_config: Option<String>,
    /// `generation_config.json`
    pub generation_config: Option<String>,
    /// `config.json`
    pub config: Option<String>,
    /// `chat_template.jinja`
    pub chat_template: Option<String>,
}

impl HfFiles {
    /// Reads them from a folder.
    ///
    /// # Errors
    /// There is no `tokenizer.json`, or a file cannot be read, is not UTF-8, or has more than 256 MiB.
    pub fn read(folder: &Path) -> Result<HfFiles> {
        let read = |name: &str| read_text(&folder.join(name));
        let Some(tokenizer) = read("tokenizer.json")? else {
            return Err(Error::Missing(format!("{} has no tokenizer.json", folder.display())));
        };
        Ok(HfFiles {
            tokenizer,
            tokenizer_config: read("tokenizer_config.json")?,
            generation_config: read("generation_config.json")?,
            config: read("config.json")?,
            chat_template: read("chat_template.jinja")?,
        })
    }
}

fn read_text(path: &Path) -> Result<Option<String>> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
        Ok(data) if data.len() > MAX_FILE => {
            let message = format!("{} bytes are too many, at most {MAX_FILE}", data.len());
            return Err(io(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message)));
        }
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(io)
}

impl Tokenizer {
    /// The tokenizer of a Hugging Face folder.
    ///
    /// # Errors
    /// A file is missing or does not parse, the tokenizer is of another kind than byte-level BPE, or its
    /// parts contradict each other.
    pub fn from_hf(folder: &Path) -> Result<Tokenizer> {
        Tokenizer::from_hf_files(&HfFiles::read(folder)?)
    }

    /// The same from texts that have been read.
    ///
    /// # Errors
    /// As for [`Tokenizer::from_hf`].
    pub fn from_hf_files(files: &HfFiles) -> Result<Tokenizer> {
        let (source, unknown) = parse(files)?;
        match unknown {
            None => Tokenizer::from_source(&source),
            Some(unknown) => Tokenizer::with_library(&source, Library::new(&files.tokenizer, unknown)?),
        }
    }
}

impl<'a> VocabSource<'a> {
    /// Reads a Hugging Face folder's files, for a writer of another format.
    ///
    /// # Errors
    /// As for [`Tokenizer::from_hf`]; and the pre-tokenizer or normalizer is none that has a name.
    pub fn from_hf_files(files: &'a HfFiles) -> Result<VocabSource<'a>> {
        match parse(files)? {
            (source, None) => Ok(source),
            (_, Some((what, found, supported))) => Err(Error::Unsupported { what, found, supported }),
        }
    }
}

/// `tokenizer.json`, as far as it is read here.
#[derive(Deserialize)]
struct TokenizerJson<'a> {
    #[serde(borrow)]
    model: Model<'a>,
    #[serde(borrow, default)]
    added_tokens: Vec<AddedToken<'a>>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow)]
    vocab: Vocab<'a>,
    #[serde(borrow)]
    merges: Vec<Merge<'a>>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    dropout: Option<f32>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

#[derive(Deserialize)]
struct AddedToken<'a> {
    id: u32,
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    special: bool,
}

/// Only the kind of model, since the other kinds have another shape.
#[derive(Deserialize)]
struct Kind {
    model: ModelKind,
}

#[derive(Deserialize)]
struct ModelKind {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// The `vocab` object, in the file's order; a `HashMap` would cost its weight twice and hide duplicates.
struct Vocab<'a>(Vec<(Cow<'a, str>, u32)>);

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
struct Merge<'a>(Cow<'a, str>, Cow<'a, str>);

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

type Unknown = (&'static str, String, String);

/// Reads everything, and says what our own engine cannot do about it, if anything.
fn parse(files: &HfFiles) -> Result<(VocabSource<'_>, Option<Unknown>)> {
    let document = &files.tokenizer;
    let json = |e: serde_json::Error| Error::json("tokenizer.json", &e);
    let kind = serde_json::from_str::<Kind>(document).map_err(json)?.model.kind;
    let unsupported = |what, found: &str, supported: &str| {
        Err(Error::Unsupported { what, found: shorten(found), supported: supported.into() })
    };
    // Files of before 2020 do not name the kind.
    match kind.as_deref() {
        Some("BPE") | None => {}
        Some(other) => return unsupported("tokenizer model", other, "BPE on bytes"),
    }
    let read: TokenizerJson<'_> = serde_json::from_str(document).map_err(json)?;
    if read.model.byte_fallback || !(has_byte_level(&read.decoder) && has_byte_level(&read.pre_tokenizer)) {
        return unsupported("tokenizer model", "BPE on characters", "BPE on bytes");
    }
    if let Some(token) = read.added_tokens.iter().find(|t| t.single_word) {
        return unsupported("added token with single_word", &token.content, "single_word false");
    }
    let pre = rule_of(&read.pre_tokenizer);
    let unknown = unknown(&read, pre.is_some());
    let pre = pre.and_then(|rule| PreTokenizer::with(rule, read.model.ignore_merges));
    let unknown = unknown.or_else(|| {
        pre.is_none().then(|| {
            let found = format!("{} with ignore_merges {}", short(&read.pre_tokenizer), read.model.ignore_merges);
            ("pre_tokenizer", found, known_rules())
        })
    });

    let mut source = VocabSource {
        pre: pre.map_or("", |p| p.name).into(),
        nfc: read.normalizer.get("type").and_then(Value::as_str) == Some("NFC"),
        ..VocabSource::default()
    };
    fill_tokens(&mut source, read.model.vocab.0, &read.added_tokens)?;
    source.merges = read.model.merges.into_iter().map(|Merge(left, right)| (left, right)).collect();
    let settings = Settings::parse(files)?;
    settings.apply(&mut source, &read.post_processor)?;
    source.check()?;
    Ok((source, unknown))
}

/// What in a byte-level BPE our own engine does not do.
fn unknown(read: &TokenizerJson<'_>, pre_known: bool) -> Option<Unknown> {
    let model = &read.model;
    let set = |s: &Option<String>| s.as_ref().is_some_and(|s| !s.is_empty());
    if !pre_known {
        return Some(("pre_tokenizer", short(&read.pre_tokenizer), known_rules()));
    }
    match read.normalizer.get("type").and_then(Value::as_str) {
        None | Some("NFC") => {}
        Some(_) => return Some(("normalizer", short(&read.normalizer), "none, NFC".into())),
    }
    if set(&model.continuing_subword_prefix) || set(&model.end_of_word_suffix) {
        return Some(("BPE option", "continuing_subword_prefix or end_of_word_suffix".into(), "neither".into()));
    }
    if model.dropout.is_some_and(|d| d != 0.0) {
        return Some(("BPE option", "dropout".into(), "no dropout".into()));
    }
    // An unknown token only matters where a byte lacks one.
    let lacks_a_byte = || {
        let tokens: std::collections::HashSet<&str> = model.vocab.0.iter().map(|(t, _)| &**t).collect();
        (0..=255).any(|b| !tokens.contains(&*crate::byte_level::to_char(b).encode_utf8(&mut [0; 4])))
    };
    if set(&model.unk_token) && lacks_a_byte() {
        return Some(("BPE option", "unk_token".into(), "a token for every byte, or no unk_token".into()));
    }
    None
}

fn known_rules() -> String {
    "those of gpt-2, smollm, qwen2, llama-bpe and dbrx".into()
}

/// A JSON value as text that fits a message.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Orders the tokens by id, adds the added ones, and fills gaps.
fn fill_tokens<'a>(
    source: &mut VocabSource<'a>,
    vocab: Vec<(Cow<'a, str>, u32)>,
    added: &[AddedToken<'a>],
) -> Result<()> {
    let ids = vocab.iter().map(|(_, id)| *id).chain(added.iter().map(|t| t.id));
    let size = ids.max().map_or(0, |id| id as usize + 1);
    if size > MAX_TOKENS {
        return Err(Error::Vocabulary(format!(
            "there is a token with id {}; at most {MAX_TOKENS} are supported",
            size - 1
        )));
    }
    let mut tokens: Vec<Option<Cow<'a, str>>> = vec![None; size];
    source.types = vec![TokenType::Normal; size];
    for (token, id) in vocab {
        let slot = &mut tokens[id as usize];
        if let Some(first) = slot {
            let (first, second) = (shorten(first), shorten(&token));
            return Err(Error::Vocabulary(format!("id {id} is both `{first}` and `{second}`")));
        }
        *slot = Some(token);
    }
    for token in added {
        let slot = &mut tokens[token.id as usize];
        match slot {
            Some(first) if *first != token.content => {
                let (first, second, id) = (shorten(first), shorten(&token.content), token.id);
                return Err(Error::Vocabulary(format!("id {id} is `{first}`, but the added token `{second}`")));
            }
            _ => *slot = Some(token.content.clone()),
        }
        source.types[token.id as usize] = if token.special { TokenType::Control } else { TokenType::UserDefined };
        if token.lstrip || token.rstrip {
            source.strips.push(Strip { id: token.id, left: token.lstrip, right: token.rstrip });
        }
    }
    for (id, token) in tokens.into_iter().enumerate() {
        source.tokens.push(token.unwrap_or_else(|| {
            source.types[id] = TokenType::Unused;
            Cow::Owned(format!("[PAD{id}]"))
        }));
    }
    Ok(())
}

/// The files beside `tokenizer.json`.
struct Settings<'a> {
    tokenizer: Value,
    generation: Value,
    config: Value,
    template: Option<&'a str>,
}

impl<'a> Settings<'a> {
    fn parse(files: &'a HfFiles) -> Result<Settings<'a>> {
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

    fn apply(&self, source: &mut VocabSource<'a>, post_processor: &Value) -> Result<()> {
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
            *id = named(key)?;
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
        supported: "none, ByteLevel, and a TemplateProcessing of at most one token before and after".into(),
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
