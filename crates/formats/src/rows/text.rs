//! Rows of text files.

use serde_json::{Map, Value};

use super::{Options, Row};

type Outcome<T> = Result<T, String>;

/// What some programs put in front of UTF-8.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// An object a line; empty lines are skipped.
pub(super) fn json_lines(name: &str, bytes: &[u8]) -> Outcome<Vec<Row>> {
    let lines = without_mark(bytes).split(|&b| b == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    lines
        .map(|(number, line)| {
            let number = number + 1;
            let value = serde_json::from_slice(line).map_err(|error| format!("line {number}: {}", explain(&error)))?;
            object(value, format!("{name}, line {number}")).ok_or_else(|| format!("line {number}: no JSON object"))
        })
        .collect()
}

/// The reason without serde's own line number, which counts within the line.
fn explain(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let end = words.rfind(" at line ").unwrap_or(words.len());
    format!("{} at column {}", &words[..end], error.column())
}

/// A list of objects, or one object.
pub(super) fn json(name: &str, bytes: &[u8]) -> Outcome<Vec<Row>> {
    match serde_json::from_slice(without_mark(bytes)).map_err(|error| error.to_string())? {
        Value::Array(list) => {
            let rows = list.into_iter().enumerate().map(|(i, value)| {
                let number = i + 1;
                object(value, format!("{name}, row {number}")).ok_or_else(|| format!("row {number}: no JSON object"))
            });
            rows.collect()
        }
        value => {
            let row = object(value, name.to_owned());
            row.map(|row| vec![row]).ok_or_else(|| "neither a list of JSON objects nor one".into())
        }
    }
}

fn object(value: Value, at: String) -> Option<Row> {
    match value {
        Value::Object(value) => Some(Row { at, value }),
        _ => None,
    }
}

/// CSV (RFC 4180) or TSV; every value is a string.
pub(super) fn separated(name: &str, delimiter: u8, bytes: &[u8], options: &Options) -> Outcome<Vec<Row>> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(options.header.is_none())
        .flexible(true)
        .from_reader(without_mark(bytes));
    let names: Vec<String> = match &options.header {
        Some(names) => names.clone(),
        None => reader.headers().map_err(|error| error.to_string())?.iter().map(str::to_owned).collect(),
    };
    let rows = reader.records().map(|record| {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != names.len() {
            return Err(format!("line {line}: {} values for {} columns", record.len(), names.len()));
        }
        let fields = names.iter().zip(&record).map(|(name, value)| (name.clone(), Value::from(value)));
        Ok(Row { at: format!("{name}, line {line}"), value: fields.collect::<Map<String, Value>>() })
    });
    rows.collect()
}
