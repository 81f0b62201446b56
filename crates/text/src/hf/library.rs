//! The `tokenizers` crate, for what our own engine does not know.
//!
//! It gets texts without literal tokens and gives ids. Its regex engine (fancy-regex) stops silently at
//! its backtracking limit, so a run of some hundred thousand characters of one kind may be cut at another
//! place than in Python; the tokens still spell the text.

use tokenizers::normalizers::NFC;
use tokenizers::{NormalizedString, Normalizer};

use crate::{Error, Result};

/// A tokenizer of the `tokenizers` crate.
pub(crate) struct Library {
    tokenizer: tokenizers::Tokenizer,
    /// What is unknown about it: the setting, its value, and what is known.
    unknown: (&'static str, String, String),
    byte_level: bool,
}

impl Library {
    /// Builds it from `tokenizer.json`; `unknown` says why our own engine cannot.
    pub(crate) fn new(json: &str, byte_level: bool, unknown: (&'static str, String, String)) -> Result<Library> {
        let mut tokenizer: tokenizers::Tokenizer =
            json.parse().map_err(|e: tokenizers::Error| Error::Library(e.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| Error::Library(e.to_string()))?;
        // Literal tokens have been cut out; what still looks like a special one is meant as text.
        tokenizer.set_encode_special_tokens(true);
        Ok(Library { tokenizer, unknown, byte_level })
    }

    /// Appends the tokens of a text without literal tokens.
    pub(crate) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|e| Error::Library(e.to_string()))?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// Whether its tokens are in the byte-level alphabet.
    pub(crate) fn is_byte_level(&self) -> bool {
        self.byte_level
    }

    /// The error for a writer of a format that cannot hold it.
    pub(crate) fn why_unknown(&self) -> Error {
        let (what, found, supported) = self.unknown.clone();
        Error::Unsupported { what, found, supported }
    }
}

/// A text in Unicode's NFC, by the tables that Hugging Face's tokenizers use.
pub(crate) fn nfc(text: &str) -> Result<String> {
    let mut normalized = NormalizedString::from(text);
    NFC.normalize(&mut normalized).map_err(|e| Error::Library(e.to_string()))?;
    Ok(normalized.get().to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn nfc_composes() {
        assert_eq!(super::nfc("e\u{301} a\u{30a}").unwrap(), "é å");
    }
}
