//! What can go wrong between a file and a forward pass.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read or written.
    #[error(transparent)]
    Formats(#[from] porism_formats::Error),
    /// The tokenizer or template could not be read.
    #[error(transparent)]
    Text(#[from] porism_text::Error),
    /// The tape failed.
    #[error("the tape executor failed: {0}")]
    Candle(#[from] candle_core::Error),
    /// A step of the tape was given what does not fit.
    #[error("the tape executor failed: {0}")]
    Ops(#[from] porism_ops::Error),
    /// The file holds a model that this build does not know.
    #[error("{file}: unknown architecture \"{name}\"; this build knows: {known}")]
    UnknownArchitecture {
        /// The file.
        file: String,
        /// What it names.
        name: String,
        /// What is known.
        known: String,
    },
    /// A projection could not be encoded as blocks.
    #[error("{site} as {block}: {source}")]
    Quantize {
        /// Where it stands.
        site: crate::site::Site,
        /// The wanted type.
        block: porism_kernels::BlockType,
        /// Why not.
        source: porism_kernels::block::QuantizeError,
    },
    /// A number that describes the model is missing or makes no sense.
    #[error("{file}: {what}")]
    Config {
        /// The file.
        file: String,
        /// What is wrong, with the key.
        what: String,
    },
    /// A model was asked for what its kind cannot do.
    #[error("{file}: a {architecture} model {what}")]
    Purpose {
        /// The file.
        file: String,
        /// The architecture.
        architecture: String,
        /// What it does and does not, with the command that fits.
        what: &'static str,
    },
    /// A tensor that the architecture needs is not in the file.
    #[error("{file}: tensor \"{tensor}\" is missing; the file is incomplete or is not a {architecture} model")]
    MissingTensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The architecture.
        architecture: String,
    },
    /// A tensor has another shape than the model's numbers ask for.
    #[error("{file}: tensor \"{tensor}\" is {found_rows} x {found_cols}, expected {rows} x {cols}")]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Rows found.
        found_rows: usize,
        /// Columns found.
        found_cols: usize,
        /// Rows expected.
        rows: usize,
        /// Columns expected.
        cols: usize,
    },
    /// The batch contradicts itself, the model or the states.
    #[error("the batch cannot be run: {0}")]
    Batch(String),
    /// A token id that the model's table does not have.
    #[error("token id {id} is outside the model's vocabulary of {vocab}")]
    TokenRange {
        /// The id.
        id: u32,
        /// Rows of the embedding table.
        vocab: usize,
    },
    /// A sequence state was used against its rules.
    #[error("the sequence state cannot do this: {0}")]
    State(String),
    /// A delta does not fit its projection.
    #[error("a delta of {site} does not fit: {what}")]
    Delta {
        /// The projection.
        site: String,
        /// What is wrong.
        what: String,
    },
    /// A conversion that the target cannot hold.
    #[error("cannot convert: {0}")]
    Convert(String),
}

/// This crate's results.
pub type Result<T> = std::result::Result<T, Error>;
