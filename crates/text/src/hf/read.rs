//! A Hugging Face folder's tokenizer, read: `tokenizer.json` (or, where there is none, SentencePiece's own
//! `tokenizer.model`), `tokenizer_config.json`, `generation_config.json`, `config.json` and `chat_template.jinja`.
//!
//! Where the files disagree: a template in `post_processor` decides over `add_bos_token`; the tokens named
//! in `tokenizer_config.json` decide over the ids in `generation_config.json` and those over `config.json`;
//! `chat_template.jinja` decides over `tokenizer_config.json` (as transformers has it).

use std::borrow::Cow;
use std::path::Path;

use serde_json::Value;

use super::json::{AddedToken, Kind};
use super::library::Library;
use super::models;
use super::settings::Settings;
use crate::engine::Habits;
use crate::pre_tokenizer::shorten;
use crate::source::{MAX_TOKENS, Strip, TokenType, VocabModel, VocabSource};
use crate::vocab::Vocab;
use crate::{Error, Result, Tokenizer, conversion};

/// No file of a tokenizer may be larger; the largest in use have about 35 MB.
const MAX_FILE: u64 = 256 << 20;

/// The texts of a Hugging Face folder's files that have to do with its tokenizer.
#[derive(Clone, Debug, Default)]
pub struct HfFiles {
    /// `tokenizer.json`; empty if there is only `tokenizer.model`.
    pub tokenizer: String,
    /// `tokenizer.model`, where there is no `tokenizer.json`.
    pub sentence_piece: Option<Vec<u8>>,
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
    /// There is neither `tokenizer.json` nor `tokenizer.model`, or a file cannot be read, is not UTF-8, or has more than 256 MiB.
    pub fn read(folder: &Path) -> Result<HfFiles> {
        let read = |name: &str| read_text(&folder.join(name));
        let tokenizer = read("tokenizer.json")?;
        let sentence_piece = match &tokenizer {
            Some(_) => None,
            None => read_bytes(&folder.join("tokenizer.model"))?,
        };
        if tokenizer.is_none() && sentence_piece.is_none() {
            let folder = folder.display();
            return Err(Error::Missing(format!("{folder} has no tokenizer.json and no tokenizer.model")));
        }
        Ok(HfFiles {
            tokenizer: tokenizer.unwrap_or_default(),
            sentence_piece,
            tokenizer_config: read("tokenizer_config.json")?,
            generation_config: read("generation_config.json")?,
            config: read("config.json")?,
            chat_template: read("chat_template.jinja")?,
        })
    }
}

fn read_text(path: &Path) -> Result<Option<String>> {
    let Some(bytes) = read_bytes(path)? else { return Ok(None) };
    let invalid = |_| std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8");
    let text = String::from_utf8(bytes).map_err(invalid);
    text.map(Some).map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>> {
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
    std::fs::read(path).map(Some).map_err(io)
}

impl Tokenizer {
    /// The tokenizer of a Hugging Face folder.
    ///
    /// # Errors
    /// A file is missing or does not parse, the tokenizer is of an unknown kind, or its parts contradict each
    /// other.
    pub fn from_hf(folder: &Path) -> Result<Tokenizer> {
        Tokenizer::from_hf_files(&HfFiles::read(folder)?)
    }

    /// The same from texts that have been read.
    ///
    /// # Errors
    /// As for [`Tokenizer::from_hf`].
    pub fn from_hf_files(files: &HfFiles) -> Result<Tokenizer> {
        let Read { source, habits, unknown } = parse(files)?;
        match unknown {
            None => Ok(Tokenizer::from_source(&source)?.with_habits(habits)),
            Some(unknown) => {
                let library = Library::new(&files.tokenizer, source.model == VocabModel::ByteBpe, unknown)?;
                Tokenizer::with_library(&source, library)
            }
        }
    }
}

impl<'a> VocabSource<'a> {
    /// Reads a Hugging Face folder's files, for a writer of another format.
    ///
    /// # Errors
    /// As for [`Tokenizer::from_hf`]; and the pre-tokenizer or normalizer is none that has a name.
    pub fn from_hf_files(files: &'a HfFiles) -> Result<VocabSource<'a>> {
        let Read { mut source, habits, unknown } = parse(files)?;
        if let Some((what, found, supported)) = unknown {
            return Err(Error::Unsupported { what, found, supported });
        }
        if source.model == VocabModel::CharBpe {
            habits.check_convertible(&source)?;
            let vocab = Vocab::new(&source)?;
            conversion::to_scores(&mut source, &vocab)?;
        }
        Ok(source)
    }
}

/// A setting, its value, and what is known.
pub(super) type Unknown = (&'static str, String, String);

/// What the files say.
pub(super) struct Read<'a> {
    pub(super) source: VocabSource<'a>,
    pub(super) habits: Habits,
    /// What our own engines cannot do about it, if anything.
    pub(super) unknown: Option<Unknown>,
}

fn parse(files: &HfFiles) -> Result<Read<'_>> {
    let settings = Settings::parse(files)?;
    if let Some(bytes) = files.sentence_piece.as_deref().filter(|_| files.tokenizer.is_empty()) {
        let source = super::proto::read(bytes, &settings)?;
        return Ok(Read { source, habits: Habits::default(), unknown: None });
    }
    let document = &files.tokenizer;
    let json = |e: serde_json::Error| Error::json("tokenizer.json", &e);
    let model = serde_json::from_str::<Kind>(document).map_err(json)?.model;
    let read = match (model.kind.as_deref(), model.max_input_chars_per_word) {
        (Some("WordPiece"), _) | (None, Some(_)) => {
            models::word_piece(serde_json::from_str(document).map_err(json)?, &settings)?
        }
        (Some("BPE") | None, _) => models::bpe(serde_json::from_str(document).map_err(json)?, &settings)?,
        (Some("Unigram"), _) => models::unigram(serde_json::from_str(document).map_err(json)?, &settings)?,
        (Some(other), _) => {
            return Err(Error::Unsupported {
                what: "tokenizer model",
                found: shorten(other),
                supported: "BPE, Unigram, WordPiece".into(),
            });
        }
    };
    read.source.check()?;
    Ok(read)
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
pub(super) fn fill_tokens<'a>(
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
