//! What can go wrong while measuring.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The forward pass failed.
    #[error(transparent)]
    Models(#[from] porism_models::Error),
    /// The text could not be turned into tokens.
    #[error(transparent)]
    Text(#[from] porism_text::Error),
    /// Texts could not be put through an encoder.
    #[error(transparent)]
    Embedding(#[from] porism_generate::Error),
    /// An interval or a test could not be computed.
    #[error(transparent)]
    Report(#[from] porism_report::Error),
    /// The text is not UTF-8.
    #[error("the text is not UTF-8: byte {offset} does not belong; convert the file to UTF-8")]
    NotUtf8 {
        /// Bytes before the first wrong one.
        offset: usize,
    },
    /// The text has too few tokens for the protocol.
    #[error(
        "the text has {tokens} tokens and the {protocol} protocol needs {needed}; give a longer file or a smaller --context"
    )]
    TooShort {
        /// The protocol.
        protocol: &'static str,
        /// Tokens of the text.
        tokens: usize,
        /// Tokens needed.
        needed: usize,
    },
    /// Numbers that contradict each other or leave nothing to measure.
    #[error("{0}")]
    Options(String),
    /// Hypotheses and references that are not equally many.
    #[error("there are {hypotheses} hypotheses and {references} references in set {set}: each needs one of each")]
    Lengths {
        /// Which set of references, from 1.
        set: usize,
        /// Hypotheses.
        hypotheses: usize,
        /// References of the set.
        references: usize,
    },
    /// A task file that cannot be used.
    #[error("{file}{}: {what}", line.map_or(String::new(), |line| format!(", line {line}")))]
    Task {
        /// The file.
        file: String,
        /// The line, from 1, where there is one.
        line: Option<usize>,
        /// What is wrong.
        what: String,
    },
    /// A row of a task's data that the task cannot read.
    #[error("{at}: {what}")]
    Row {
        /// The file and the place in it.
        at: String,
        /// What is wrong.
        what: String,
    },
    /// A split of a task is not where it was looked for.
    #[error("no data for {task}, split \"{split}\": {what}{get}")]
    NoData {
        /// The task.
        task: String,
        /// The split.
        split: String,
        /// What was looked for.
        what: String,
        /// Where to get it.
        get: String,
    },
    /// A log that cannot be gone on with.
    #[error("{at}: {what}")]
    Log {
        /// The file, and the line where there is one.
        at: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A data file could not be read.
    #[error(transparent)]
    Data(#[from] porism_formats::Error),
    /// A log-probability is not a finite number.
    #[error(
        "chunk {chunk}: the model gives token {token} of the text a log-probability of {value}; the weights may be damaged"
    )]
    NotFinite {
        /// The chunk, counted from 1.
        chunk: usize,
        /// The token's index in the text.
        token: usize,
        /// What came instead.
        value: f32,
    },
    /// Something of the operating system failed.
    #[error("could not {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The measured program failed.
    #[error("the measured program wrote nothing to its output ({status}){}", if said.is_empty() { String::new() } else { format!(": {said}") })]
    Program {
        /// How it ended.
        status: String,
        /// The end of what it wrote on stderr.
        said: String,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}

/// This crate's results.
pub type Result<T> = std::result::Result<T, Error>;
