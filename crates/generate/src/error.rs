//! What can go wrong while generating.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The forward pass failed.
    #[error(transparent)]
    Models(#[from] porism_models::Error),
    /// A token could not be turned into text.
    #[error(transparent)]
    Text(#[from] porism_text::Error),
    /// There is nothing to continue.
    #[error("the prompt is empty; give at least one token")]
    EmptyPrompt,
    /// The prompt alone fills the context.
    #[error(
        "the prompt has {tokens} tokens and the context holds {context}, one of them for the answer; shorten it, raise --context or pass --overflow slide"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens that the context holds.
        context: usize,
    },
    /// A grammar that cannot be used.
    #[error("{0}")]
    Grammar(String),
    /// A mask allows no token.
    #[error("the token mask allows no token at all")]
    NothingAllowed,
    /// A logit is not a number: the model or its file is broken.
    #[error("the model gave a logit that is not a number at token {position}; the weights may be damaged")]
    NotANumber {
        /// Tokens in the context.
        position: usize,
    },
}

/// This crate's results.
pub type Result<T> = std::result::Result<T, Error>;
