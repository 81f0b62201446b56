//! The list of exercises.

use crate::exercises::{
    attention_cost, backpropagation, embeddings, experts_and_policy, linear_algebra, logistic_regression, lstm_gates,
    optimization, pipeline, transformer,
};
use crate::{Error, Result, Setting, Settings, Solution};

/// A section of the book's solutions.
pub struct Exercise {
    /// The part and section: `I.3.3`.
    pub section: &'static str,
    /// The part's and chapter's names in the book.
    pub chapter: &'static str,
    /// The section's name.
    pub title: &'static str,
    /// What can be changed.
    pub settings: &'static [Setting],
    /// The code.
    pub(crate) solve: fn(&Settings) -> Result<Solution>,
}

impl Exercise {
    /// The settings, all as in the book.
    pub fn defaults(&self) -> Settings {
        Settings::new(self.section, self.settings)
    }

    /// Solves it.
    ///
    /// # Errors
    /// The settings do not go together, or an operation failed.
    pub fn solve(&self, settings: &Settings) -> Result<Solution> {
        (self.solve)(settings)
    }
}

static EXERCISES: [&Exercise; 10] = [
    &linear_algebra::EXERCISE,
    &optimization::EXERCISE,
    &logistic_regression::EXERCISE,
    &backpropagation::EXERCISE,
    &lstm_gates::EXERCISE,
    &embeddings::EXERCISE,
    &transformer::EXERCISE,
    &experts_and_policy::EXERCISE,
    &attention_cost::EXERCISE,
    &pipeline::EXERCISE,
];

/// All exercises, in the book's order.
pub fn all() -> impl Iterator<Item = &'static Exercise> {
    EXERCISES.into_iter()
}

/// The exercise of a section; upper and lower case are alike, and a section sign may stand before.
///
/// # Errors
/// There is none; the error lists what there is.
pub fn find(section: &str) -> Result<&'static Exercise> {
    let wanted = section.trim().trim_start_matches('\u{a7}').trim();
    all()
        .find(|e| e.section.eq_ignore_ascii_case(wanted))
        .ok_or_else(|| Error::UnknownSection { section: section.into(), known: all().map(|e| e.section).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_however_they_are_written() {
        for text in ["I.3.3", "i.3.3", "\u{a7}I.3.3", " \u{a7} I.3.3 "] {
            assert_eq!(find(text).expect("an exercise").section, "I.3.3");
        }
        let error = find("I.9").err().expect("refused").to_string();
        assert!(error.contains("no exercise `I.9`; there are I.1.1, I.1.3, "), "{error}");
    }
}
