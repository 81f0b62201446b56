//! What can be wrong with a question.

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why there is no answer; the words say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text that should be a quantity.
    #[error("`{text}` is no {what}: write {accepted}")]
    Quantity {
        /// The text.
        text: String,
        /// What it should have been.
        what: &'static str,
        /// Examples of what is read.
        accepted: &'static str,
    },
    /// Dimensions that make no model.
    #[error("{0}")]
    Dimensions(String),
    /// A preset that is not there.
    #[error("there is no preset `{name}`; the nearest are {}", near.join(", "))]
    UnknownPreset {
        /// The name.
        name: String,
        /// The names that resemble it most.
        near: Vec<&'static str>,
    },
    /// A number that the question has no sense with.
    #[error("{0}")]
    Range(String),
    /// A formula that cannot be computed: a mistake of this crate, or numbers beyond all bounds.
    #[error("the formula {formula} cannot be computed: {problem}")]
    Formula {
        /// The formula.
        formula: String,
        /// Why not.
        problem: String,
    },
}
