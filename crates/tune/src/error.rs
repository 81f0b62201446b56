//! What can go wrong in a training run.

use std::path::{Path, PathBuf};

/// The crate's error. A message says what was wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model could not be loaded or run.
    #[error(transparent)]
    Models(#[from] porism_models::Error),
    /// A file could not be read or written.
    #[error(transparent)]
    Formats(#[from] porism_formats::Error),
    /// Rows could not be turned into tokens.
    #[error(transparent)]
    Text(#[from] porism_text::Error),
    /// The tape failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: "open", "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// An optimizer's state could not be written, or is of another run or damaged.
    #[error("the optimizer's state: {0}")]
    OptimizerState(String),
    /// Settings that contradict each other or leave nothing to do.
    #[error("{0}")]
    Recipe(String),
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Turns an I/O error into one that says what was tried on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io { action, path: path.to_owned(), source }
    }
}
