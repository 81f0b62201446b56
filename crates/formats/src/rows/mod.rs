//! Files of records, as data sets are published: JSONL, JSON, CSV, Arrow and Parquet, each row as a JSON object.
//!
//! What a file is follows from its name's end, compression with gzip included. Rows know where they stood, so that what is wrong
//! with one can be said.
//!
//! Columns of Arrow and Parquet files that have no form in JSON (dates, decimals, bytes) are left out of the rows, and so are
//! such fields of a structure: only who asks for one misses it.

mod arrow;
mod footer;
mod guard;
mod limit;
mod text;

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use self::limit::Limit;
use crate::{Error, Result};

/// What readers of one kind return: the file's path is put in front of what is wrong.
type Outcome<T> = std::result::Result<T, String>;

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

/// Reads all rows of a file.
///
/// # Errors
/// The file cannot be read, its name's end is none of a known kind, or something in it is not of that kind: the line or
/// the row is named. Two columns have one name, or a column holds a number that JSON has not, as infinity. There are more than 20
/// million rows, or the rows take more than 2 GiB unpacked.
pub fn read(path: &Path, options: &Options) -> Result<Vec<Row>> {
    read_within(path, options, &mut Limit::default())
}

fn read_within(path: &Path, options: &Options, limit: &mut Limit) -> Result<Vec<Row>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let lower = name.to_ascii_lowercase();
    let (kind, packed) = match lower.strip_suffix(".gz") {
        Some(inner) => (inner, true),
        None => (lower.as_str(), false),
    };
    let ending = kind.rsplit_once('.').map_or("", |(_, ending)| ending);
    let bad = |problem: String| Error::Invalid { file: path.display().to_string(), problem };
    let rows = match (ending, packed) {
        ("jsonl" | "ndjson", _) => text::json_lines(&name, &contents(path, packed, limit)?, limit),
        ("json", _) => text::json(&name, &contents(path, packed, limit)?, limit),
        ("csv", _) => text::separated(&name, b',', &contents(path, packed, limit)?, options, limit),
        ("tsv", _) => text::separated(&name, b'\t', &contents(path, packed, limit)?, options, limit),
        ("arrow", false) => arrow::ipc(&name, open(path)?, limit),
        ("parquet", false) => arrow::parquet(&name, open(path)?, limit),
        _ => Err("rows are read from .jsonl, .json, .csv, .tsv (each also .gz), .arrow and .parquet".into()),
    };
    rows.map_err(bad)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(Error::io("open", path))
}

/// A text file's bytes, unpacked.
fn contents(path: &Path, packed: bool, limit: &Limit) -> Result<Vec<u8>> {
    let file = open(path)?;
    let most = limit.text().saturating_add(1);
    let mut bytes = Vec::new();
    let read = if packed {
        flate2::read::MultiGzDecoder::new(file).take(most).read_to_end(&mut bytes)
    } else {
        file.take(most).read_to_end(&mut bytes)
    };
    read.map_err(Error::io("read", path))?;
    if bytes.len() as u64 == most {
        return Err(Error::invalid(&path.display().to_string(), limit.too_much()));
    }
    Ok(bytes)
}

/// Refuses names of columns that are not all different: a row would hold the last of them.
fn distinct(names: impl Iterator<Item = impl AsRef<str>>) -> Outcome<()> {
    let mut seen = HashSet::new();
    for name in names {
        let name = name.as_ref();
        if !seen.insert(name.to_owned()) {
            return Err(format!("the column \"{name}\" is there twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_small_file_that_unpacks_to_much_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |name: &str, text: &str, rows: usize, bytes: u64| {
            let path = folder.path().join(name);
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            packed.write_all(text.as_bytes()).expect("bytes");
            std::fs::write(&path, packed.finish().expect("bytes")).expect("a file");
            let rows = read_within(&path, &Options::default(), &mut Limit::new(rows, bytes));
            rows.map(|rows| rows.len()).map_err(|error| error.to_string())
        };
        let much = 1 << 20;
        let list = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
        for (name, text, fits) in [
            ("a.jsonl.gz", "{}\n".repeat(1000), 1000),
            ("a.json.gz", list(1000), 1000),
            ("a.csv.gz", format!("a\n{}", "1\n".repeat(1000)), 1000),
        ] {
            assert_eq!(read(name, &text, fits, much), Ok(fits), "{name}");
            let error = read(name, &text, fits - 1, much).expect_err(name);
            assert!(error.contains(name) && error.ends_with("more than 999 rows"), "{error}");
        }
        let zeros = vec!["0"; 40_000].join(",");
        let name = "n".repeat(1000);
        for (kind, text) in [
            ("b.jsonl.gz", " ".repeat(much as usize + 1)),
            ("c.jsonl.gz", format!("{{\"a\": [{zeros}]}}")),
            ("c.json.gz", format!("{{\"a\": [{zeros}]}}")),
            ("d.csv.gz", format!("{name}\n{}", "1\n".repeat(2000))),
        ] {
            let error = read(kind, &text, 10_000, much).expect_err(kind);
            assert!(error.contains(kind) && error.ends_with("more than 1 MiB"), "{error}");
            assert!(read(kind, &text, 10_000, 4 * much).is_ok(), "{kind}");
        }
    }
}
