//! Rows of text files.

use serde_json::{Map, Value};

use super::limit::Limit;
use super::{Options, Outcome, Row, distinct};

/// What some programs put in front of UTF-8.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Counts the values of JSON before they are read: each but the first follows a comma or begins a list or an object.
fn count(bytes: &[u8], limit: &mut Limit) -> Outcome<()> {
    let (mut count, mut quoted, mut escaped) = (1, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b'[' | b'{' if !quoted => count += 1,
            _ => {}
        }
    }
    limit.values(count, 0)
}

/// An object a line; empty lines are skipped.
pub(super) fn json_lines(name: &str, bytes: &[u8], limit: &mut Limit) -> Outcome<Vec<Row>> {
    let lines = without_mark(bytes).split(|&b| b == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    lines
        .map(|(number, line)| {
            let number = number + 1;
            limit.row()?;
            count(line, limit)?;
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
pub(super) fn json(name: &str, bytes: &[u8], limit: &mut Limit) -> Outcome<Vec<Row>> {
    count(bytes, limit)?;
    match serde_json::from_slice(without_mark(bytes)).map_err(|error| error.to_string())? {
        Value::Array(list) => {
            let rows = list.into_iter().enumerate().map(|(i, value)| {
                let number = i + 1;
                limit.row()?;
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
pub(super) fn separated(
    name: &str,
    delimiter: u8,
    bytes: &[u8],
    options: &Options,
    limit: &mut Limit,
) -> Outcome<Vec<Row>> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(options.header.is_none())
        .flexible(true)
        .from_reader(without_mark(bytes));
    let names: Vec<String> = match &options.header {
        Some(names) => names.clone(),
        None => reader.headers().map_err(|error| error.to_string())?.iter().map(str::to_owned).collect(),
    };
    distinct(names.iter())?;
    let length: usize = names.iter().map(String::len).sum();
    let rows = reader.records().map(|record| {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != names.len() {
            return Err(format!("line {line}: {} values for {} columns", record.len(), names.len()));
        }
        limit.row()?;
        limit.values(names.len(), length.saturating_add(record.as_slice().len()))?;
        let fields = names.iter().zip(&record).map(|(name, value)| (name.clone(), Value::from(value)));
        Ok(Row { at: format!("{name}, line {line}"), value: fields.collect::<Map<String, Value>>() })
    });
    rows.collect()
}
