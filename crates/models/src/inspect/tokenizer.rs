//! What a file says about its tokenizer, also where this build cannot use it.

use porism_formats::gguf::Value as GgufValue;
use porism_formats::{Gguf, HfFolder};
use porism_text::{SpecialIds, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::Result;

/// A tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenizerFacts {
    /// `byte-level BPE`, `SentencePiece`, ...; the file's own word for kinds without a common name.
    pub kind: String,
    /// The pre-tokenizer, by its name in GGUF files.
    pub pre: Option<String>,
    /// Tokens.
    pub size: Option<u64>,
    /// Tokens with a part to play.
    pub special: Vec<SpecialToken>,
    /// Tokens that end an answer; empty if the tokenizer cannot be used.
    pub ends: Vec<u32>,
    /// Whether a BOS starts a text.
    pub adds_bos: Option<bool>,
    /// Whether an EOS ends a text.
    pub adds_eos: Option<bool>,
    /// Whether there is a chat template.
    pub chat_template: bool,
    /// Whether this build can use it.
    pub runs: bool,
    /// Why not.
    pub problem: Option<String>,
}

/// A token with a part to play.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpecialToken {
    /// Its part: `bos`, `eos`, `unknown`, ...
    pub role: String,
    /// Its id.
    pub id: u32,
    /// Its text; none if the id is outside the vocabulary.
    pub text: Option<String>,
}

pub(super) fn of_gguf(gguf: &Gguf) -> Option<TokenizerFacts> {
    let text = |key: &str| gguf.find_str(key).ok().flatten();
    let model = text("tokenizer.ggml.model")?;
    let flag = |key: &str| gguf.find_bool(key).ok().flatten();
    let mut facts = TokenizerFacts {
        kind: kind(model).to_string(),
        pre: text("tokenizer.ggml.pre").map(str::to_string),
        size: gguf.find_array("tokenizer.ggml.tokens").ok().flatten().map(|a| a.len() as u64),
        special: Vec::new(),
        ends: Vec::new(),
        adds_bos: flag("tokenizer.ggml.add_bos_token"),
        adds_eos: flag("tokenizer.ggml.add_eos_token"),
        chat_template: matches!(gguf.get("tokenizer.chat_template"), Some(GgufValue::String(_))),
        runs: false,
        problem: None,
    };
    for (role, _) in SpecialIds::default().named_mut() {
        let Some(id) = gguf.find_u32(&format!("tokenizer.ggml.{role}_token_id")).ok().flatten() else { continue };
        let bytes = gguf.byte_strings("tokenizer.ggml.tokens").ok().and_then(|mut t| t.nth(id as usize));
        let text = bytes.map(|b| String::from_utf8_lossy(b).into_owned());
        facts.special.push(SpecialToken { role: role_of(role), id, text });
    }
    facts.complete(Tokenizer::from_gguf(gguf));
    Some(facts)
}

pub(super) fn of_folder(folder: &HfFolder) -> Result<Option<TokenizerFacts>> {
    let is_there = |name: &str| folder.path().join(name).is_file();
    if !is_there("tokenizer.json") && !is_there("tokenizer.model") {
        return Ok(None);
    }
    let config = folder.tokenizer_config()?;
    let template = config.is_some_and(|c| c.get("chat_template").is_some()) || is_there("chat_template.jinja");
    let mut facts = TokenizerFacts {
        kind: folder_kind(folder),
        pre: None,
        size: None,
        special: Vec::new(),
        ends: Vec::new(),
        adds_bos: None,
        adds_eos: None,
        chat_template: template,
        runs: false,
        problem: None,
    };
    let tokenizer = Tokenizer::from_hf(folder.path());
    if let Ok(tokenizer) = &tokenizer {
        facts.pre = tokenizer.pre_tokenizer().map(str::to_string);
        facts.size = Some(tokenizer.vocab_size() as u64);
        for (role, id) in tokenizer.special_ids().named() {
            let text = tokenizer.token_text(id).map(str::to_string);
            facts.special.push(SpecialToken { role: role_of(role), id, text });
        }
    }
    facts.complete(tokenizer);
    Ok(Some(facts))
}

impl TokenizerFacts {
    fn complete(&mut self, tokenizer: porism_text::Result<Tokenizer>) {
        match tokenizer {
            Ok(tokenizer) => {
                self.runs = true;
                self.adds_bos = Some(tokenizer.adds_bos());
                self.adds_eos = Some(tokenizer.adds_eos());
                self.ends = tokenizer.end_of_generation_ids().to_vec();
            }
            Err(error) => self.problem = Some(error.to_string()),
        }
    }
}

/// The word for a key of the format.
fn role_of(key: &str) -> String {
    match key {
        "seperator" => "separator", // spelt so in the format
        other => other,
    }
    .to_string()
}

/// The common name of `tokenizer.ggml.model`.
fn kind(model: &str) -> &str {
    match model {
        "gpt2" => "byte-level BPE",
        "llama" => "SentencePiece",
        "bert" => "WordPiece",
        "t5" => "Unigram",
        other => other,
    }
}

/// The kind that `tokenizer.json` names, in the words for GGUF files where there are such.
fn folder_kind(folder: &HfFolder) -> String {
    #[derive(Deserialize)]
    struct File {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        /// Old files leave it out where it is BPE.
        #[serde(rename = "type")]
        kind: Option<String>,
        byte_fallback: Option<bool>,
    }
    let bytes = folder.tokenizer_json().ok().flatten();
    let file = bytes.and_then(|bytes| serde_json::from_slice::<File>(&bytes).ok());
    let Some(File { model }) = file else { return "SentencePiece".into() };
    match (model.kind.as_deref(), model.byte_fallback) {
        (Some("BPE") | None, Some(true)) => "BPE with byte fallback".into(),
        (Some("BPE") | None, _) => "byte-level BPE".into(),
        (Some(other), _) => other.into(),
    }
}
