//! From a file's row to what the prompt's templates see.

use minijinja::Value;
use porism_formats::rows::Row;
use serde_json::Value as Json;

use super::task::{Kind, Shape, Task};
use super::template::{Engine, value};
use crate::{Error, Result};

/// A row with the names that its task gives its parts.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// Its file and place there.
    pub(crate) at: String,
    /// Its name in logs.
    pub(crate) id: String,
    /// What templates see.
    pub(crate) value: Value,
    /// The row itself: worked examples must not hold the question.
    pub(crate) row: Json,
}

/// Makes documents of a split's rows.
///
/// # Errors
/// A row has none of the task's shapes: the row and the field are named.
pub(crate) fn documents(engine: &Engine, task: &Task, config: Option<&str>, rows: Vec<Row>) -> Result<Vec<Document>> {
    rows.into_iter().enumerate().map(|(number, row)| document(engine, task, config, number, row)).collect()
}

fn document(engine: &Engine, task: &Task, config: Option<&str>, number: usize, row: Row) -> Result<Document> {
    let Row { at, value: fields } = row;
    let row = Json::Object(fields);
    // Of shapes that do not fit, the one that lacks least says what is wrong.
    let mut nearest: Option<Vec<String>> = None;
    for shape in &task.rows {
        let wrong: Vec<String> = shape.fields.iter().filter_map(|(path, kind)| misfit(&row, path, *kind)).collect();
        if wrong.is_empty() {
            let named = named(engine, shape, config, number, &row);
            return named
                .map(|(id, value)| Document { at: at.clone(), id, value, row: row.clone() })
                .map_err(|what| Error::Row { at: at.clone(), what });
        }
        if nearest.as_ref().is_none_or(|n| wrong.len() < n.len()) {
            nearest = Some(wrong);
        }
    }
    Err(Error::Row { at, what: nearest.unwrap_or_default().join("; ") })
}

/// A row's id, and its fields with the names that its shape adds.
fn named(
    engine: &Engine,
    shape: &Shape,
    config: Option<&str>,
    number: usize,
    row: &Json,
) -> std::result::Result<(String, Value), String> {
    let raw = value(row);
    let mut names: Vec<(String, Value)> = Vec::new();
    names.extend(config.map(|config| ("config".to_owned(), Value::from(config))));
    if let Json::Object(fields) = row {
        names.extend(fields.iter().map(|(name, field)| (name.clone(), value(field))));
    }
    for (name, source) in &shape.set {
        names.push((name.clone(), engine.value(source, &raw).map_err(|e| format!("{name}: {e}"))?));
    }
    let id = match &shape.id {
        Some(source) => engine.value(source, &raw).map_err(|e| format!("id: {e}"))?.to_string(),
        None => number.to_string(),
    };
    // Later names take the place of earlier ones.
    Ok((id, Value::from_pairs(names)))
}

/// What is wrong with a field, if anything.
fn misfit(row: &Json, path: &str, kind: Kind) -> Option<String> {
    let mut at = row;
    for part in path.split('.') {
        match at.get(part) {
            Some(inner) => at = inner,
            None => return Some(format!("the field \"{path}\" is missing")),
        }
    }
    let all = |fits: fn(&Json) -> bool| at.as_array().is_some_and(|list| list.iter().all(fits));
    let fits = match kind {
        Kind::String => at.is_string(),
        Kind::Integer => at.is_i64() || at.is_u64(),
        Kind::Number => at.is_number(),
        Kind::Boolean => at.is_boolean(),
        Kind::List => at.is_array(),
        Kind::Strings => all(Json::is_string),
        Kind::Integers => all(|v| v.is_i64() || v.is_u64()),
        Kind::Object => at.is_object(),
    };
    (!fits).then(|| format!("the field \"{path}\" is {}, and {} is needed", found(at), kind.name()))
}

fn found(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(list) if list.iter().all(Json::is_string) => "a list of strings",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}
