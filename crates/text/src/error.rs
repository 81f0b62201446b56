//! What can go wrong between text and tokens, in words that say where and what to do.

use std::path::PathBuf;

/// The crate's error. Every message names the offending thing and, where there is one, its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A kind of tokenizer, pre-tokenizer or option that this program does not know.
    #[error("{what} \"{found}\" is not supported; supported: {supported}")]
    Unsupported {
        /// The setting, for example `pre-tokenizer`.
        what: &'static str,
        /// Its value in the file.
        found: String,
        /// What could stand there instead.
        supported: String,
    },
    /// A key or file that a tokenizer cannot be built without.
    #[error("no tokenizer: {0}")]
    Missing(String),
    /// The vocabulary contradicts itself.
    #[error("damaged vocabulary: {0}")]
    Vocabulary(String),
    /// A JSON document that does not parse or has the wrong shape.
    #[error("{name}:{line}:{column}: {message}")]
    Json {
        /// The document's name, for example `tokenizer.json`.
        name: String,
        /// Counts from 1.
        line: usize,
        /// Counts from 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// A file that could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A chat template that does not compile or fails while it runs.
    #[error("chat template{}: {message}", line.map(|l| format!(", line {l}")).unwrap_or_default())]
    Template {
        /// Line of the template, from 1, where the engine knows it.
        line: Option<usize>,
        /// For `raise_exception` the template's own words.
        message: String,
    },
    /// A chat file whose messages are not messages.
    #[error("chat: {0}")]
    Chat(String),
    /// A row of a data file that is no example to learn from.
    #[error("{at}: {what}")]
    Row {
        /// The file and the line.
        at: String,
        /// What is wrong.
        what: String,
    },
    /// A text to learn from that is not UTF-8.
    #[error("{name}: byte {byte:#04x} at offset {offset} is not UTF-8; convert the text to UTF-8 first")]
    NotText {
        /// The file.
        name: String,
        /// Place of the byte in the file, from 0.
        offset: u64,
        /// What stands there.
        byte: u8,
    },
    /// A tokenizer that cannot be trained as asked.
    #[error("training a tokenizer: {0}")]
    Train(String),
    /// A token id beyond the vocabulary.
    #[error("token id {id} is outside the vocabulary of {size} tokens")]
    TokenId {
        /// The id.
        id: u32,
        /// Number of tokens; valid ids are below it.
        size: usize,
    },
    /// Bytes that were asked for as text and are not UTF-8.
    #[error("the tokens' bytes are not UTF-8 from byte {valid_up_to} on")]
    NotUtf8 {
        /// Length of the valid prefix in bytes.
        valid_up_to: usize,
    },
    /// A text whose positions do not fit 32 bits.
    #[error("a text of {0} bytes is too long to tokenize in one call; cut it below 4 GiB")]
    TooLong(usize),
    /// The file could not be understood by the tokenizer library.
    #[error("tokenizer.json: {0}")]
    Library(String),
    /// The container file could not be read.
    #[error(transparent)]
    Formats(#[from] porism_formats::Error),
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A JSON error with its place in the document `name`.
    pub(crate) fn json(name: &str, error: &serde_json::Error) -> Error {
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        Error::Json {
            name: name.to_owned(),
            line: error.line(),
            column: error.column(),
            message: text.strip_suffix(place.as_str()).unwrap_or(&text).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_error_says_where_and_what_once() {
        let error = serde_json::from_str::<serde_json::Value>("{\n  \"a\": ,\n}").unwrap_err();
        assert_eq!(Error::json("chat.json", &error).to_string(), "chat.json:2:8: expected value");
    }

    #[test]
    fn a_template_error_without_a_line_has_no_gap() {
        let error = Error::Template { line: None, message: "no".into() };
        assert_eq!(error.to_string(), "chat template: no");
        let error = Error::Template { line: Some(3), message: "no".into() };
        assert_eq!(error.to_string(), "chat template, line 3: no");
    }
}
