//! An item of a benchmark: what the model is shown, what it may answer, what is right.

use minijinja::Value;
use porism_text::{ChatTemplate, Message};
use serde_json::Value as Json;

use super::document::Document;
use super::mersenne::Random;
use super::task::{Output, Rule, Task};
use super::template::{Engine, kind, value};
use crate::{Error, Result};

/// The seed of lm-evaluation-harness's worked examples.
const SEED: u32 = 1234;

/// A question as the model gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its name within the task.
    pub id: String,
    /// Everything before the answer.
    pub prompt: String,
    /// What follows the prompt if a choice is taken, its delimiter included; empty for generated answers.
    pub choices: Vec<String>,
    /// Leading bytes of each choice that are the delimiter, and no part of its length.
    pub delimiter: usize,
    /// What is right.
    pub target: Target,
}

/// What is right.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// One choice, and where several are true, which.
    Choice {
        /// Its index.
        index: usize,
        /// For each choice whether it is true.
        labels: Option<Vec<bool>>,
    },
    /// A text.
    Text(String),
}

impl Item {
    /// What is right, as the log has it: the number of a choice, or a text.
    pub(crate) fn right(&self) -> Json {
        match &self.target {
            Target::Choice { index, .. } => Json::from(*index),
            Target::Text(text) => Json::from(text.as_str()),
        }
    }
}

/// How items are made.
#[derive(Debug)]
pub struct Wording<'a> {
    /// Worked examples.
    pub fewshot: usize,
    /// The first so many items; all without.
    pub limit: Option<usize>,
    /// The model's template, if questions are put as a chat.
    pub chat: Option<&'a ChatTemplate>,
}

/// A turn of a prompt: whose it is, its text, and what stands behind it where there is no chat.
struct Turn {
    role: &'static str,
    text: String,
    behind: String,
}

/// Makes the items of a part of a task. `pool` are the documents that worked examples are drawn from; `same` says that
/// it is the split that is measured, so that a question's own answer has to be kept out.
///
/// # Errors
/// A template fails, a target is no choice, or there are fewer worked examples than wanted: the row is named.
pub(crate) fn items(
    engine: &Engine,
    task: &Task,
    documents: &[Document],
    pool: &[Document],
    same: bool,
    wording: &Wording<'_>,
) -> Result<Vec<Item>> {
    let mut random = Random::new(SEED);
    let limit = wording.limit.unwrap_or(documents.len());
    documents
        .iter()
        .take(limit)
        .map(|document| {
            let examples = examples(engine, task, document, pool, same, wording.fewshot, &mut random);
            examples
                .and_then(|turns| item(engine, task, document, turns, wording))
                .map_err(|what| Error::Row { at: document.at.clone(), what })
        })
        .collect()
}

type Outcome<T> = std::result::Result<T, String>;

fn item(
    engine: &Engine,
    task: &Task,
    document: &Document,
    mut turns: Vec<Turn>,
    wording: &Wording<'_>,
) -> Outcome<Item> {
    let prompt = &task.prompt;
    let value = &document.value;
    let description = engine.render(&prompt.description, value).map_err(|e| format!("prompt.description: {e}"))?;
    if !description.is_empty() {
        turns.insert(0, Turn { role: "system", text: description, behind: String::new() });
    }
    turns.push(Turn { role: "user", text: question(engine, task, document)?, behind: String::new() });
    let delimiter = if wording.chat.is_some() { "" } else { prompt.delimiter.as_str() };
    let choices: Vec<String> =
        choices(engine, task, value)?.iter().map(|choice| format!("{delimiter}{choice}")).collect();
    let target = match task.output {
        Output::GenerateUntil => Target::Text(text_target(engine, task, value)?),
        Output::MultipleChoice => {
            let index = index(engine, task, value, choices.len())?;
            Target::Choice { index, labels: labels(engine, task, value, choices.len())? }
        }
    };
    let prompt = match wording.chat {
        None => turns.iter().map(|turn| format!("{}{}", turn.text, turn.behind)).collect(),
        Some(template) => chat(template, &turns)?,
    };
    Ok(Item { id: document.id.clone(), prompt, choices, delimiter: delimiter.len(), target })
}

fn chat(template: &ChatTemplate, turns: &[Turn]) -> Outcome<String> {
    let messages: Vec<Message> = turns.iter().map(|turn| Message::new(turn.role, turn.text.clone())).collect();
    let rendered = template.render(&messages, true, None).or_else(|error| {
        // Some templates refuse a system message; the harness leaves it out then.
        let rest: Vec<Message> = messages.into_iter().filter(|m| m.role != "system").collect();
        if rest.len() == turns.len() { Err(error) } else { template.render(&rest, true, None) }
    });
    rendered.map_err(|e| format!("the chat template: {e}"))
}

fn question(engine: &Engine, task: &Task, document: &Document) -> Outcome<String> {
    engine.render(&task.prompt.text, &document.value).map_err(|e| format!("prompt.text: {e}"))
}

/// The choices without their delimiter.
fn choices(engine: &Engine, task: &Task, document: &Value) -> Outcome<Vec<String>> {
    let Some(source) = &task.prompt.choices else { return Ok(Vec::new()) };
    let list = engine.list(source, document).map_err(|e| format!("prompt.choices: {e}"))?;
    if list.is_empty() {
        return Err("prompt.choices: there are none".into());
    }
    let texts = list.iter().map(|choice| {
        let Some(text) = choice.as_str() else {
            return Err(format!("prompt.choices: a choice is {}, and a string is needed", kind(choice)));
        };
        match &task.prompt.choice {
            None => Ok(text.to_owned()),
            Some(template) => {
                let seen = minijinja::context! { choice => text };
                engine.render(template, &seen).map_err(|e| format!("prompt.choice: {e}"))
            }
        }
    });
    texts.collect()
}

fn index(engine: &Engine, task: &Task, document: &Value, choices: usize) -> Outcome<usize> {
    let source = &task.prompt.target;
    let value = engine.value(source, document).map_err(|e| format!("prompt.target: {e}"))?;
    match value.as_usize() {
        Some(index) if index < choices => Ok(index),
        Some(index) => Err(format!("prompt.target: {index} is the number of no choice, there are {choices} from 0 on")),
        None => Err(format!("prompt.target: `{source}` is {}, and the number of a choice is needed", kind(&value))),
    }
}

fn labels(engine: &Engine, task: &Task, document: &Value, choices: usize) -> Outcome<Option<Vec<bool>>> {
    let Some(source) = &task.prompt.labels else { return Ok(None) };
    let list = engine.list(source, document).map_err(|e| format!("prompt.labels: {e}"))?;
    if list.len() != choices {
        return Err(format!("prompt.labels: {} labels for {choices} choices", list.len()));
    }
    Ok(Some(list.iter().map(Value::is_true).collect()))
}

fn text_target(engine: &Engine, task: &Task, document: &Value) -> Outcome<String> {
    engine.text(&task.prompt.target, document).map_err(|e| format!("prompt.target: {e}"))
}

/// The turns of the worked examples before a question.
fn examples(
    engine: &Engine,
    task: &Task,
    document: &Document,
    pool: &[Document],
    same: bool,
    fewshot: usize,
    random: &mut Random,
) -> Outcome<Vec<Turn>> {
    if fewshot == 0 {
        return Ok(Vec::new());
    }
    let separator = &task.examples.separator;
    let pair = |question: String, answer: String| {
        let question = Turn { role: "user", text: question, behind: task.prompt.delimiter.clone() };
        [question, Turn { role: "assistant", text: answer, behind: separator.clone() }]
    };
    let few = |there: usize| Err(format!("{fewshot} worked examples are wanted and there are {there}"));
    if task.examples.rule == Rule::Fixed {
        let fixed = &task.examples.fixed;
        if fixed.len() < fewshot {
            return few(fixed.len());
        }
        let turns = fixed[..fewshot].iter().map(|example| {
            let text = engine.render(&task.prompt.text, &value(example));
            Ok(pair(text.map_err(|e| format!("prompt.text of a fixed example: {e}"))?, example["target"].clone()))
        });
        return turns.collect::<Outcome<Vec<_>>>().map(|turns| turns.into_iter().flatten().collect());
    }
    let spare = same || task.examples.spare;
    let others = || pool.iter().filter(|other| !spare || other.row != document.row);
    let chosen: Vec<&Document> = match task.examples.rule {
        Rule::First => others().take(fewshot).collect(),
        _ => {
            let wanted = fewshot + usize::from(spare);
            if pool.len() < wanted {
                return few(pool.len().saturating_sub(usize::from(spare)));
            }
            let drawn = random.sample(pool.len() as u32, wanted as u32).into_iter().map(|i| &pool[i]);
            let mut chosen: Vec<&Document> = drawn.filter(|other| !spare || other.row != document.row).collect();
            if chosen.len() < fewshot {
                // The question stands in the pool more than once: drawn again without it.
                let rest: Vec<&Document> = others().collect();
                if rest.len() < fewshot {
                    return few(rest.len());
                }
                chosen = random.sample(rest.len() as u32, fewshot as u32).into_iter().map(|i| rest[i]).collect();
            }
            chosen.truncate(fewshot);
            chosen
        }
    };
    if chosen.len() < fewshot {
        return few(chosen.len());
    }
    let mut turns = Vec::with_capacity(2 * fewshot);
    for example in chosen {
        let answered = || {
            let answer = match task.output {
                Output::GenerateUntil => text_target(engine, task, &example.value)?,
                Output::MultipleChoice => {
                    let mut choices = choices(engine, task, &example.value)?;
                    choices.swap_remove(index(engine, task, &example.value, choices.len())?)
                }
            };
            Ok(pair(question(engine, task, example)?, answer))
        };
        turns.extend(answered().map_err(|e: String| format!("the worked example {}: {e}", example.at))?);
    }
    Ok(turns)
}
