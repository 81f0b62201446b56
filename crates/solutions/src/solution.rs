//! A solved exercise: parts with steps, what the book has wrong, a figure.

use porism_report::plot::Plot;
use serde::{Serialize, Serializer};

use crate::number::{list, show};

/// What a step comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// Several, such as a vector.
    Numbers(Vec<f64>),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Number(x) => serializer.serialize_f64(*x),
            Value::Numbers(xs) => xs.serialize(serializer),
        }
    }
}

/// A number and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// A name for programs, unique in the solution.
    pub key: String,
    /// What it is.
    pub what: String,
    /// The formula with the numbers put in; empty where there is none.
    pub work: String,
    /// What it comes to.
    pub value: Value,
    /// The same for people.
    pub shown: String,
}

impl Step {
    /// A number.
    pub(crate) fn number(key: &str, what: impl Into<String>, work: impl Into<String>, value: f64) -> Step {
        let shown = show(value);
        Step { key: key.into(), what: what.into(), work: work.into(), value: Value::Number(value), shown }
    }

    /// Several numbers.
    pub(crate) fn numbers(key: &str, what: impl Into<String>, work: impl Into<String>, values: &[f64]) -> Step {
        let (value, shown) = (Value::Numbers(values.to_vec()), list(values));
        Step { key: key.into(), what: what.into(), work: work.into(), value, shown }
    }

    /// The same, shown in other words.
    pub(crate) fn shown(self, shown: impl Into<String>) -> Step {
        Step { shown: shown.into(), ..self }
    }
}

/// A part of an exercise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// Its letter.
    pub label: char,
    /// What is asked.
    pub question: String,
    /// The numbers.
    pub steps: Vec<Step>,
    /// What they mean.
    pub remarks: Vec<String>,
}

impl Part {
    pub(crate) fn add(&mut self, step: Step) -> &mut Part {
        self.steps.push(step);
        self
    }

    /// Adds a number.
    pub(crate) fn number(
        &mut self,
        key: &str,
        what: impl Into<String>,
        work: impl Into<String>,
        value: f64,
    ) -> &mut Part {
        self.add(Step::number(key, what, work, value))
    }

    /// Adds several numbers.
    pub(crate) fn numbers(
        &mut self,
        key: &str,
        what: impl Into<String>,
        work: impl Into<String>,
        values: &[f64],
    ) -> &mut Part {
        self.add(Step::numbers(key, what, work, values))
    }

    /// Adds a sentence.
    pub(crate) fn remark(&mut self, text: impl Into<String>) -> &mut Part {
        self.remarks.push(text.into());
        self
    }
}

/// Where the book is wrong or says too much.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Erratum {
    /// What the book says.
    pub book: String,
    /// What is right, and why.
    pub right: String,
    /// The numbers that show it.
    pub steps: Vec<Step>,
}

/// A solved exercise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Solution {
    /// The parts.
    pub parts: Vec<Part>,
    /// What the book has wrong.
    pub errata: Vec<Erratum>,
    /// The figure.
    pub figure: Plot,
}

impl Solution {
    /// A solution without parts.
    pub(crate) fn new(figure: Plot) -> Solution {
        Solution { parts: Vec::new(), errata: Vec::new(), figure }
    }

    /// Begins the next part.
    pub(crate) fn part(&mut self, question: impl Into<String>) -> &mut Part {
        let label = char::from(b'a' + self.parts.len() as u8);
        self.parts.push(Part { label, question: question.into(), steps: Vec::new(), remarks: Vec::new() });
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }

    /// Adds an erratum.
    pub(crate) fn erratum(&mut self, book: impl Into<String>, right: impl Into<String>, steps: Vec<Step>) {
        self.errata.push(Erratum { book: book.into(), right: right.into(), steps });
    }

    /// All steps, those of errata last.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.parts.iter().flat_map(|p| &p.steps).chain(self.errata.iter().flat_map(|e| &e.steps))
    }

    /// The step with this key.
    pub fn find(&self, key: &str) -> Option<&Step> {
        self.steps().find(|s| s.key == key)
    }
}
