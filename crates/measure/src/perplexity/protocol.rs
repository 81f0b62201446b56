//! Which tokens a protocol scores, and with which tokens before them.

use std::ops::Range;

use crate::{Error, Result};

/// How a text is cut and scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// That of llama.cpp's `llama-perplexity`: chunks of `context` tokens that share nothing, of each the
    /// tokens `context / 2 + 1 .. context` (0-based) are scored; what is left over at the end is not. One
    /// newline at the end of the text is dropped.
    LlamaCpp {
        /// Tokens of a chunk.
        context: usize,
    },
    /// Windows of `context` tokens that move by `stride`: each scores the tokens that none before it did,
    /// the first one all of its own but the first. The last may be shorter.
    Sliding {
        /// Tokens of a window.
        context: usize,
        /// Tokens that it moves by.
        stride: usize,
    },
}

/// Tokens of a text, as indexes into all of its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// What the model sees.
    pub tokens: Range<usize>,
    /// What is scored of it, never its first token.
    pub scored: Range<usize>,
}

/// The smallest context: at least two tokens of a chunk are scored, so that there is a standard error.
const LEAST_CONTEXT: usize = 8;

impl Protocol {
    /// llama.cpp's with its usual chunks of 512 tokens.
    pub const LLAMA_CPP: Protocol = Protocol::LlamaCpp { context: 512 };
    /// Windows of 1024 tokens that move by 512.
    pub const SLIDING: Protocol = Protocol::Sliding { context: 1024, stride: 512 };

    /// The name used in flags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::LlamaCpp { .. } => "llama.cpp",
            Protocol::Sliding { .. } => "sliding",
        }
    }

    /// Tokens that the model sees at a time.
    pub const fn context(self) -> usize {
        match self {
            Protocol::LlamaCpp { context } | Protocol::Sliding { context, .. } => context,
        }
    }

    /// Tokens that a window moves by, where windows overlap.
    pub const fn stride(self) -> Option<usize> {
        match self {
            Protocol::LlamaCpp { .. } => None,
            Protocol::Sliding { stride, .. } => Some(stride),
        }
    }

    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// The context is below 8, or the stride is 0 or so large that a window would begin with a token that it has
    /// to score.
    pub fn check(self) -> Result<()> {
        let context = self.context();
        if context < LEAST_CONTEXT {
            return Err(Error::Options(format!("a context of {context} tokens; at least {LEAST_CONTEXT} are needed")));
        }
        match self.stride() {
            Some(stride) if stride == 0 || stride >= context => Err(Error::Options(format!(
                "a stride of {stride} tokens with a context of {context}; expected 1 to {}",
                context - 1
            ))),
            _ => Ok(()),
        }
    }

    /// The first `most` windows of a text, or all.
    ///
    /// # Errors
    /// As [`Protocol::windows`], or `most` is 0.
    pub(crate) fn first_windows(self, tokens: usize, most: Option<usize>) -> Result<Vec<Window>> {
        let mut windows = self.windows(tokens)?;
        match most {
            Some(0) => return Err(Error::Options("0 chunks leave nothing to score; give 1 or more".into())),
            Some(most) => windows.truncate(most),
            None => {}
        }
        Ok(windows)
    }

    /// The windows of a text of `tokens` tokens.
    ///
    /// # Errors
    /// As [`Protocol::check`], or the text is too short: `llama.cpp` needs one whole chunk, `sliding` three tokens.
    pub fn windows(self, tokens: usize) -> Result<Vec<Window>> {
        self.check()?;
        let needed = match self {
            Protocol::LlamaCpp { context } => context,
            Protocol::Sliding { .. } => 3,
        };
        if tokens < needed {
            return Err(Error::TooShort { protocol: self.name(), tokens, needed });
        }
        match self {
            Protocol::LlamaCpp { context } => Ok((0..tokens / context)
                .map(|i| i * context)
                .map(|start| Window {
                    tokens: start..start + context,
                    scored: start + context / 2 + 1..start + context,
                })
                .collect()),
            Protocol::Sliding { context, stride } => {
                let mut windows = vec![Window { tokens: 0..context.min(tokens), scored: 1..context.min(tokens) }];
                let mut done = context.min(tokens);
                while done < tokens {
                    let start = windows.len() * stride;
                    let end = (start + context).min(tokens);
                    windows.push(Window { tokens: start..end, scored: done..end });
                    done = end;
                }
                Ok(windows)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_cpp_scores_the_second_half_of_each_whole_chunk() {
        let windows = Protocol::LLAMA_CPP.windows(1300).unwrap();
        assert_eq!(
            windows,
            [Window { tokens: 0..512, scored: 257..512 }, Window { tokens: 512..1024, scored: 769..1024 }]
        );
        assert!(windows.iter().all(|w| w.scored.len() == 255));
        // 287,644 tokens of a well-known text make 561 chunks.
        assert_eq!(Protocol::LLAMA_CPP.windows(287_644).unwrap().len(), 561);
        assert_eq!(Protocol::LlamaCpp { context: 9 }.windows(9).unwrap()[0].scored, 5..9);
    }

    #[test]
    fn sliding_scores_each_token_but_the_first_once() {
        for (context, stride) in [(1024, 512), (1024, 1), (1024, 1023), (8, 3), (100, 99)] {
            for tokens in [3, 7, 8, 9, 100, 101, 1023, 1024, 1025, 1536, 1537, 5000] {
                let windows = Protocol::Sliding { context, stride }.windows(tokens).unwrap();
                let mut next = 1;
                for (i, w) in windows.iter().enumerate() {
                    assert_eq!(w.tokens.start, i * stride, "windows move by the stride");
                    assert!(w.tokens.len() <= context);
                    assert_eq!(w.scored.start, next, "{context}/{stride}, {tokens} tokens");
                    assert!(w.scored.start > w.tokens.start, "a scored token has one before it");
                    assert_eq!(w.scored.end, w.tokens.end);
                    assert!(!w.scored.is_empty());
                    next = w.scored.end;
                }
                assert_eq!(next, tokens);
            }
        }
    }

    #[test]
    fn a_context_beyond_every_text_is_one_window() {
        let windows = Protocol::Sliding { context: usize::MAX, stride: usize::MAX - 1 }.windows(10).unwrap();
        assert_eq!(windows, [Window { tokens: 0..10, scored: 1..10 }]);
        assert!(Protocol::LlamaCpp { context: usize::MAX }.windows(10).is_err());
    }

    #[test]
    fn what_cannot_be_measured_says_why() {
        let message = |p: Protocol, n| p.windows(n).unwrap_err().to_string();
        assert!(message(Protocol::LLAMA_CPP, 511).contains("511 tokens and the llama.cpp protocol needs 512"));
        assert!(message(Protocol::SLIDING, 2).contains("2 tokens and the sliding protocol needs 3"));
        assert!(message(Protocol::LlamaCpp { context: 7 }, 100).contains("a context of 7 tokens"));
        for stride in [0, 8, 9] {
            let text = message(Protocol::Sliding { context: 8, stride }, 100);
            assert!(text.contains("expected 1 to 7"), "{text}");
        }
    }
}
