//! What can go wrong in an operation.

/// An error of an operation: the inputs do not fit, or candle failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The inputs' shapes or types do not fit together.
    #[error("{op}: {what}")]
    Input {
        /// The operation.
        op: &'static str,
        /// What does not fit, with the numbers.
        what: String,
    },
    /// A row number, token or column is outside what it indexes.
    #[error("{op}: index {index} is outside {what} of {len}; ids must come from this model's own tokenizer")]
    Index {
        /// The operation.
        op: &'static str,
        /// What is indexed.
        what: &'static str,
        /// The index.
        index: usize,
        /// One past the largest index allowed.
        len: usize,
    },
    /// candle's own error.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An [`Error::Input`].
pub(crate) fn input<T>(op: &'static str, what: impl Into<String>) -> Result<T> {
    Err(Error::Input { op, what: what.into() })
}

/// Checks that every index is below `len`.
pub(crate) fn check_indexes(op: &'static str, what: &'static str, indexes: &[u32], len: usize) -> Result<()> {
    match indexes.iter().find(|&&i| i as usize >= len) {
        Some(&index) => Err(Error::Index { op, what, index: index as usize, len }),
        None => Ok(()),
    }
}
