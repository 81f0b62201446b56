//! Why an exercise is not solved.

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What was wrong; the words say what there is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A section without an exercise.
    #[error("there is no exercise `{section}`; there are {}", known.join(", "))]
    UnknownSection {
        /// What was asked for.
        section: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// A setting that the exercise has not.
    #[error("{section} has no setting `{name}`; it has {}", known.join(", "))]
    UnknownSetting {
        /// The exercise.
        section: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// A text that gives no setting a value.
    #[error("`{text}` sets nothing: write NAME=NUMBER, such as {example}")]
    NotASetting {
        /// The text.
        text: String,
        /// One that would do.
        example: String,
    },
    /// A setting that is given twice.
    #[error("`{name}` is set twice: give it one value")]
    Twice {
        /// The setting.
        name: &'static str,
    },
    /// A value outside of what the exercise has sense with.
    #[error("{name} = {value} is out of range ({what}): it is {range}")]
    Range {
        /// The setting.
        name: &'static str,
        /// The value.
        value: String,
        /// What it means.
        what: &'static str,
        /// Its range, in words.
        range: String,
    },
    /// Values that do not go together.
    #[error("{0}")]
    Together(String),
    /// An operation of the tape.
    #[error(transparent)]
    Ops(#[from] porism_ops::Error),
    /// The tape itself.
    #[error(transparent)]
    Tape(#[from] candle_core::Error),
    /// A plan.
    #[error(transparent)]
    Plan(#[from] porism_plan::Error),
    /// A figure.
    #[error(transparent)]
    Report(#[from] porism_report::Error),
}
