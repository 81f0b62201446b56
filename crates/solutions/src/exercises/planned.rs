//! Steps that the plan's arithmetic answers.

use porism_plan::Answer;

use crate::Result;
use crate::solution::{Part, Step};

impl Part {
    /// The lines of an answer with these keys, under names of our own where one is given.
    pub(super) fn plan(&mut self, answer: &Answer, lines: &[(&str, &str)]) -> Result<&mut Part> {
        for (key, what) in lines {
            self.steps.push(planned(answer, key, what)?);
        }
        Ok(self)
    }
}

/// A line of an answer as a step.
pub(super) fn planned(answer: &Answer, key: &str, what: &str) -> Result<Step> {
    let line = answer
        .find(key)
        .ok_or_else(|| porism_plan::Error::Range(format!("the plan of {} has no line {key}", answer.title)))?;
    let what = if what.is_empty() { line.what.as_str() } else { what };
    let work = match line.formula.is_empty() || line.formula == line.numbers {
        true => line.formula.clone(),
        false => format!("{} = {}", line.formula, line.numbers),
    };
    Ok(Step::number(key, what, work, line.value.real()).shown(line.unit.show(line.value)))
}
