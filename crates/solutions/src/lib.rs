//! The book's exercises, run.
//!
//! An [`Exercise`] is a section of the book's solutions: what is asked, in our own words, and code that answers. Its
//! numbers are computed when it is solved, from [`Setting`]s that have the book's values by default; change one and
//! [`compare`](Comparison::of) the two. The tests hold every number that the book prints to the value that is computed
//! here; where the book is wrong, the solution has an [`Erratum`] with the numbers that show it.
//!
//! What is behind the exercises is small and real: gradients come both by hand and from the tape of `porism-ops`.

mod compare;
mod error;
mod exercise;
mod exercises;
pub mod logistic;
pub mod lstm;
pub mod mlp;
mod number;
pub mod policy;
mod random;
pub mod residual;
mod setting;
mod solution;
mod tape;
pub mod vector;
pub mod word2vec;

pub use compare::{Changed, Comparison};
pub use error::{Error, Result};
pub use exercise::{Exercise, all, find};
pub use setting::{Setting, Settings};
pub use solution::{Erratum, Part, Solution, Step, Value};
