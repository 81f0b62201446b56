//! A Hugging Face folder's tokenizer, read: `tokenizer.json`, `tokenizer_config.json`,
//! `generation_config.json`, `config.json` and `chat_template.jinja`.
//!
//! Where the files disagree: a template in `post_processor` decides over `add_bos_token`; the tokens named
//! in `tokenizer_config.json` decide over the ids in `generation_config.json` and those over `config.json`;
//! `chat_template.jinja` decides over `tokenizer_config.json` (as transformers has it).

use std::borrow::Cow;
use std::path::Path;

use serde_json::Value;

use super::json::{AddedToken, Kind, Merge, TokenizerJson};
use super::library::Library;
use super::pre::{has_byte_level, rule_of};
use super::settings::Settings;
use crate::pre_tokenizer::{PreTokenizer, shorten};
use crate::source::{MAX_TOKENS, Strip, TokenType, VocabSource};
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
            Some(unknown) => Tokenizer::with_library(&source, Library::new(&files.tokenizer, true, unknown)?),
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
        Some("Sequence") if read.normalizer["normalizers"].as_array().is_some_and(Vec::is_empty) => {}
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
pub(super) fn short(value: &Value) -> String {
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
