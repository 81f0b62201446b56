//! Tokens to text while they are being generated, without ever showing half a character.
//!
//! A token is a run of bytes and may end inside a character. [`Utf8Stream`] holds such an end back until
//! the rest has come. Bytes that can no longer become a character are shown as U+FFFD, one for each
//! maximal invalid part, so that all the pieces together are `String::from_utf8_lossy` of all bytes.

use crate::{Result, Tokenizer};

/// Collects tokens and gives out whole characters.
///
/// ```
/// # use porism_text::{Tokenizer, TokenType, Utf8Stream, VocabSource};
/// # let tokenizer = Tokenizer::from_source(&VocabSource {
/// #     tokens: vec!["Ã".into(), "©".into()], types: vec![TokenType::Normal; 2], ..Default::default()
/// # })?;
/// let mut stream = Utf8Stream::new();
/// assert_eq!(stream.push(&tokenizer, 0)?, ""); // the byte C3
/// assert_eq!(stream.push(&tokenizer, 1)?, "é"); // the byte A9
/// assert_eq!(stream.finish(), "");
/// # Ok::<(), porism_text::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Utf8Stream {
    /// The beginning of a character: at most 3 bytes between calls.
    held: Vec<u8>,
}

impl Utf8Stream {
    /// An empty stream.
    pub fn new() -> Utf8Stream {
        Utf8Stream::default()
    }

    /// Takes one token and gives the text that is now certain; a control token is spelt out.
    ///
    /// # Errors
    /// The id is outside the vocabulary.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        tokenizer.push_bytes(id, &mut self.held)?;
        Ok(self.take_certain())
    }

    /// Takes bytes and gives the text that is now certain.
    pub fn push_bytes(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        self.take_certain()
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Ends the stream: U+FFFD if a character was left unfinished, else nothing.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }

    fn take_certain(&mut self) -> String {
        let mut text = String::new();
        let mut rest = &self.held[..];
        for chunk in rest.utf8_chunks() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            rest = &rest[chunk.valid().len()..];
            if invalid.is_empty() {
                continue;
            }
            // An invalid part that reaches the end may only be unfinished.
            let unfinished =
                invalid.len() == rest.len() && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if unfinished {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &rest[invalid.len()..];
        }
        let certain = self.held.len() - rest.len();
        self.held.drain(..certain);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_a_character_is_held_back() {
        let mut stream = Utf8Stream::new();
        let face = "😀".as_bytes();
        assert_eq!(stream.push_bytes(b"a"), "a");
        assert_eq!(stream.push_bytes(&face[..1]), "");
        assert_eq!(stream.push_bytes(&face[1..3]), "");
        assert_eq!(stream.held(), 3);
        assert_eq!(stream.push_bytes(&face[3..]), "😀");
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn an_unfinished_end_becomes_one_replacement_character() {
        let mut stream = Utf8Stream::new();
        assert_eq!(stream.push_bytes(b"a\xe4\xbd"), "a");
        assert_eq!(stream.finish(), "\u{fffd}");
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn what_cannot_become_a_character_does_not_hold_up_the_rest() {
        let mut stream = Utf8Stream::new();
        assert_eq!(stream.push_bytes(b"\xff"), "\u{fffd}");
        assert_eq!(stream.push_bytes(b"\xe4"), "");
        assert_eq!(stream.push_bytes(b"b"), "\u{fffd}b");
        assert_eq!(stream.push_bytes(b"\xc3\xc3"), "\u{fffd}");
        assert_eq!(stream.push_bytes(b"\xa9"), "é");
    }

    proptest! {
        #[test]
        fn the_pieces_together_are_the_lossy_text(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), prop::sample::select("aé你😀".as_bytes().to_vec())], 0..40),
            cuts in prop::collection::vec(1usize..4, 1..40),
        ) {
            let mut stream = Utf8Stream::new();
            let mut text = String::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                text.push_str(&stream.push_bytes(now));
                prop_assert!(stream.held() < 4);
                rest = later;
            }
            text.push_str(&stream.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
