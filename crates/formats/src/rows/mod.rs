//! Files of records, as data sets are published: JSONL, JSON, CSV, Arrow and Parquet, each row as a JSON object.
//!
//! What a file is follows from its name's end, compression with gzip included. Rows know where they stood, so that what is wrong
//! with one can be said.

mod arrow;
mod text;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// A record and where it stood.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The file's name and the line or the row, both from 1: `test.jsonl, line 3`, `test.parquet, row 3`.
    pub at: String,
    /// Its fields, in the file's order.
    pub value: Map<String, Value>,
}

/// What a file does not say of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Names of the columns of a CSV file whose first line is a row. Without, the first line holds the names.
    pub header: Option<Vec<String>>,
}

/// The most bytes that a text file may have, or unpack to.
const MOST: u64 = 4 << 30;

/// Reads all rows of a file.
///
/// # Errors
/// The file cannot be read, its name's end is none of a known kind, or something in it is not of that kind: the line or
/// the row is named.
pub fn read(path: &Path, options: &Options) -> Result<Vec<Row>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let lower = name.to_ascii_lowercase();
    let (kind, packed) = match lower.strip_suffix(".gz") {
        Some(inner) => (inner, true),
        None => (lower.as_str(), false),
    };
    let ending = kind.rsplit_once('.').map_or("", |(_, ending)| ending);
    let bad = |problem: String| Error::Invalid { file: path.display().to_string(), problem };
    match (ending, packed) {
        ("jsonl" | "ndjson", _) => text::json_lines(&name, &contents(path, packed)?).map_err(bad),
        ("json", _) => text::json(&name, &contents(path, packed)?).map_err(bad),
        ("csv", _) => text::separated(&name, b',', &contents(path, packed)?, options).map_err(bad),
        ("tsv", _) => text::separated(&name, b'\t', &contents(path, packed)?, options).map_err(bad),
        ("arrow", false) => arrow::ipc(&name, open(path)?).map_err(bad),
        ("parquet", false) => arrow::parquet(&name, open(path)?).map_err(bad),
        _ => Err(bad("rows are read from .jsonl, .json, .csv, .tsv (each also .gz), .arrow and .parquet".into())),
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(Error::io("open", path))
}

/// A text file's bytes, unpacked.
fn contents(path: &Path, packed: bool) -> Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    let read = if packed {
        flate2::read::MultiGzDecoder::new(file).take(MOST + 1).read_to_end(&mut bytes)
    } else {
        file.take(MOST + 1).read_to_end(&mut bytes)
    };
    read.map_err(Error::io("read", path))?;
    if bytes.len() as u64 > MOST {
        return Err(Error::Invalid { file: path.display().to_string(), problem: "more than 4 GiB of text".into() });
    }
    Ok(bytes)
}
