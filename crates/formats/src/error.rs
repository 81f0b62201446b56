//! What can go wrong with a model file.

use std::ops::Range;
use std::path::{Path, PathBuf};

use porism_kernels::BlockType;

/// A failure to read or write a model file. The message names the file and what was wrong in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    /// The file is of another kind, damaged, or asks for something that is not supported.
    #[error("{file}: {problem}")]
    Invalid {
        /// The file.
        file: String,
        /// What is wrong and where.
        problem: String,
    },
    /// A metadata key that is needed is not there.
    #[error("{file}: the key `{key}` is missing")]
    MissingKey {
        /// The file.
        file: String,
        /// The key.
        key: String,
    },
    /// A metadata value is of a type or size that cannot be used.
    #[error("{file}: the key `{key}` should hold {expected}, but holds {found}")]
    KeyType {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// What was asked for.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A tensor that is needed is not there.
    #[error("{file}: the tensor `{name}` is missing")]
    MissingTensor {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
    },
    /// A weight's bytes do not fit its type and shape.
    #[error("bytes {range:?} are no {rows}x{cols} weight of type {block}")]
    WeightRange {
        /// The block type.
        block: BlockType,
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
        /// The bytes.
        range: Range<usize>,
    },
    /// Rows were asked for that the weight does not have.
    #[error("rows {range:?} of a weight of {rows} rows")]
    RowRange {
        /// Rows of the weight.
        rows: usize,
        /// The rows asked for.
        range: Range<usize>,
    },
    /// The writer was asked for something that the format cannot hold.
    #[error("cannot write {file}: {problem}")]
    Unwritable {
        /// The file.
        file: String,
        /// Why.
        problem: String,
    },
}

/// The result of reading or writing a model file.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Turns an I/O error into one that says what was tried on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io { action, path: path.to_owned(), source }
    }

    /// A damaged or unsupported file.
    pub(crate) fn invalid(file: &str, problem: impl Into<String>) -> Error {
        Error::Invalid { file: file.to_owned(), problem: problem.into() }
    }

    /// Something that cannot be written.
    pub(crate) fn unwritable(file: &str, problem: impl Into<String>) -> Error {
        Error::Unwritable { file: file.to_owned(), problem: problem.into() }
    }
}
