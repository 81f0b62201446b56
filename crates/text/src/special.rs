//! Finding the literal tokens, such as `<|im_end|>`, in a text before anything else is done to it.
//!
//! The text is read once from the left; of the tokens that begin at a place the longest is taken, as
//! Hugging Face's `tokenizers` does. (llama.cpp looks for the longest token in the whole text first.
//! The two differ only where one token's end is another's beginning.) User-defined tokens are always
//! found; control and unknown ones only where the caller trusts the text.

use aho_corasick::{AhoCorasick, MatchKind};

use crate::source::{Strip, TokenType};
use crate::vocab::Vocab;
use crate::{Error, Result};

/// A part of a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Piece<'t> {
    /// Still to be tokenized; never empty.
    Text(&'t str),
    /// A literal token.
    Token(u32),
}

/// The literal tokens of a vocabulary.
pub(crate) struct Literals {
    /// All of them.
    all: Matcher,
    /// Those that are found in any text.
    user_defined: Matcher,
}

struct Matcher {
    /// None if there is nothing to find.
    automaton: Option<AhoCorasick>,
    /// Token of each of the automaton's patterns, and whether it strips left and right.
    tokens: Vec<(u32, bool, bool)>,
}

impl Literals {
    /// Collects them from the vocabulary.
    pub(crate) fn new(vocab: &Vocab, strips: &[Strip]) -> Result<Literals> {
        let user_defined = |role| role == TokenType::UserDefined;
        Ok(Literals {
            all: Matcher::new(vocab, strips, |_| true)?,
            user_defined: Matcher::new(vocab, strips, user_defined)?,
        })
    }

    /// Calls `piece` with the parts of `text` in order.
    pub(crate) fn split<'t>(&self, text: &'t str, parse_special: bool, piece: impl FnMut(Piece<'t>)) {
        let matcher = if parse_special { &self.all } else { &self.user_defined };
        matcher.split(text, piece);
    }
}

impl Matcher {
    fn new(vocab: &Vocab, strips: &[Strip], wanted: impl Fn(TokenType) -> bool) -> Result<Matcher> {
        let ids: Vec<u32> = vocab.literals().filter(|&(_, role)| wanted(role)).map(|(id, _)| id).collect();
        let automaton = match ids.len() {
            0 => None,
            _ => Some(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .build(ids.iter().filter_map(|&id| vocab.text(id)))
                    .map_err(|e| Error::Vocabulary(format!("its special tokens: {e}")))?,
            ),
        };
        let tokens = ids
            .into_iter()
            .map(|id| match strips.iter().find(|s| s.id == id) {
                Some(strip) => (id, strip.left, strip.right),
                None => (id, false, false),
            })
            .collect();
        Ok(Matcher { automaton, tokens })
    }

    fn split<'t>(&self, text: &'t str, mut piece: impl FnMut(Piece<'t>)) {
        let mut done = 0;
        let matches = self.automaton.iter().flat_map(|a| a.find_iter(text));
        for found in matches {
            let (id, left, right) = self.tokens[found.pattern().as_usize()];
            // A stripping token before this one may have taken the white space up to it.
            let between = &text[done.min(found.start())..found.start()];
            let between = if left { between.trim_end() } else { between };
            if !between.is_empty() {
                piece(Piece::Text(between));
            }
            piece(Piece::Token(id));
            let rest = &text[found.end()..];
            done = if right { text.len() - rest.trim_start().len() } else { found.end() };
        }
        if done < text.len() {
            piece(Piece::Text(&text[done..]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::TokenType::*;
    use crate::source::VocabSource;

    fn pieces(text: &str, parse_special: bool, strips: &[Strip]) -> String {
        let tokens = [("a", Normal), ("<s>", Control), ("<s>x", Control), ("  ", UserDefined), ("   ", UserDefined)];
        let source = VocabSource {
            tokens: tokens.iter().map(|&(t, _)| t.into()).collect(),
            types: tokens.iter().map(|&(_, t)| t).collect(),
            ..VocabSource::default()
        };
        let vocab = Vocab::new(&source).unwrap();
        let mut shown = Vec::new();
        Literals::new(&vocab, strips).unwrap().split(text, parse_special, |p| match p {
            Piece::Text(t) => shown.push(format!("{t:?}")),
            Piece::Token(id) => shown.push(id.to_string()),
        });
        shown.join(" ")
    }

    #[test]
    fn control_tokens_are_found_only_in_trusted_text() {
        assert_eq!(pieces("a<s>b<s>xc", true, &[]), r#""a" 1 "b" 2 "c""#);
        assert_eq!(pieces("a<s>b<s>xc", false, &[]), r#""a<s>b<s>xc""#);
        assert_eq!(pieces("", true, &[]), "");
        assert_eq!(pieces("<s><s>", true, &[]), "1 1");
    }

    #[test]
    fn user_defined_tokens_are_always_found_and_the_longest_first() {
        assert_eq!(pieces("a        b", false, &[]), r#""a" 4 4 3 "b""#);
    }

    #[test]
    fn white_space_is_swallowed_where_asked() {
        let strips = [Strip { id: 1, left: true, right: true }];
        assert_eq!(pieces("a <s>\n b", true, &strips), r#""a" 1 "b""#);
        // Not the white space that belongs to a token of its own on the left; what follows is read on.
        assert_eq!(pieces("<s> \t<s> ", true, &strips), "1 1");
        // A token inside the swallowed space still counts, as it was found.
        assert_eq!(pieces("<s>  b", true, &strips), r#"1 3 "b""#);
    }
}
