//! Text that comes from a file or from standard input.

use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::context::usage;

/// The name of a file for messages; `-` is standard input.
pub(crate) fn name_of(file: &Path) -> String {
    if file == Path::new("-") { "standard input".into() } else { file.display().to_string() }
}

/// The text of a file; `-` is standard input.
pub(crate) fn text_of(file: &Path) -> Result<String> {
    if file == Path::new("-") {
        return text_of_stdin("standard input is a terminal: pipe text into it");
    }
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    utf8(bytes, &name_of(file))
}

/// The text on standard input; `otherwise` says what to do where nobody would send any.
pub(crate) fn text_of_stdin(otherwise: &str) -> Result<String> {
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        return usage(otherwise);
    }
    let mut bytes = Vec::new();
    stdin.read_to_end(&mut bytes).context("cannot read standard input")?;
    utf8(bytes, "standard input")
}

fn utf8(bytes: Vec<u8>, name: &str) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let byte = e.as_bytes().get(at).copied().unwrap_or_default();
        anyhow::anyhow!("{name} is not UTF-8: byte {byte:#04x} at offset {at}; convert the text to UTF-8 first")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_text_are_named() {
        assert_eq!(utf8("äb".into(), "f").unwrap(), "äb");
        let message = utf8(b"ab\xff".to_vec(), "notes.txt").unwrap_err().to_string();
        assert_eq!(message, "notes.txt is not UTF-8: byte 0xff at offset 2; convert the text to UTF-8 first");
    }

    #[test]
    fn a_missing_file_is_named() {
        let message = format!("{:#}", text_of(Path::new("no/such/file")).unwrap_err());
        assert!(message.starts_with("cannot read no/such/file: "), "{message}");
    }
}
