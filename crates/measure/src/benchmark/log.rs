//! The log: a line of JSON for each item, written as items are done, so that a run that was cut off can go on.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::{Error, Result};

/// An item and what came of it.
///
/// `choices`, `tokens`, `loglikelihoods` and `greedy` are one entry a choice. A generated answer has no choices and one
/// entry in the others.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct LogRow {
    /// The task, a part of a group by its own name.
    pub task: String,
    /// The item's name within the task.
    pub id: String,
    /// Everything that the model was shown.
    pub prompt: String,
    /// What may follow the prompt, delimiters included.
    pub choices: Vec<String>,
    /// The tokens of the prompt that the model saw.
    pub prompt_tokens: Vec<u32>,
    /// The tokens of each choice, or of the answer.
    pub tokens: Vec<Vec<u32>>,
    /// Their natural log-likelihoods after the prompt.
    pub loglikelihoods: Vec<f64>,
    /// Whether each of their tokens is the likeliest in its place.
    pub greedy: Vec<bool>,
    /// Whether the beginning of the prompt was left out, since it did not fit the context.
    pub truncated: bool,
    /// Why a generated answer ended.
    pub stop_reason: Option<String>,
    /// A generated answer.
    pub response: Option<String>,
    /// The likeliest choice, or what each filter takes out of the answer.
    pub answer: Json,
    /// What is right.
    pub target: Json,
    /// What the item counts for.
    pub metrics: BTreeMap<String, f64>,
    /// A fingerprint of everything that the numbers depend on.
    pub run: String,
}

/// Whether a line without an end could become a row.
fn starts_a_row(line: &[u8]) -> bool {
    let start = b"{\"task\":\"";
    line.iter().zip(start).all(|(a, b)| a == b)
}

/// A log that is being written.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
    done: HashMap<(String, String), LogRow>,
}

impl Log {
    /// Opens a log to go on with, or a new one. What a cut-off run left of a last line is dropped.
    ///
    /// # Errors
    /// It cannot be opened, or a line is no row of a log.
    pub fn open(path: &Path) -> Result<Log> {
        let at = path.display().to_string();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.map_err(Error::io(format!("open the log {at}")))?;
        let (mut done, mut end) = (HashMap::new(), 0);
        let mut lines = BufReader::new(&file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = lines.read_until(b'\n', &mut line).map_err(Error::io(format!("read the log {at}")))?;
            // The start of a row is what a run left that was stopped while it wrote; nothing else is thrown away.
            if read == 0 || (line.last() != Some(&b'\n') && starts_a_row(&line)) {
                break;
            }
            let row: LogRow = serde_json::from_slice(&line).map_err(|error| Error::Log {
                at: format!("{at}, line {number}"),
                what: format!("no row of a benchmark's log ({error}); name another file with --log"),
            })?;
            done.insert((row.task.clone(), row.id.clone()), row);
            end += read as u64;
        }
        file.set_len(end)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(Error::io(format!("write the log {at}")))?;
        Ok(Log { file, path: path.to_owned(), done })
    }

    /// The row of an item that an earlier run left, if it is of the same `run`.
    ///
    /// # Errors
    /// It is of a run with another model, task, data or settings.
    pub(crate) fn row(&self, task: &str, id: &str, run: &str) -> Result<Option<LogRow>> {
        let Some(row) = self.done.get(&(task.to_owned(), id.to_owned())) else { return Ok(None) };
        if row.run == run {
            return Ok(Some(row.clone()));
        }
        Err(Error::Log {
            at: self.path.display().to_string(),
            what: format!(
                "its item {id} of {task} is of a run with another model, task, data or settings; name another file with \
                 --log, or remove this one"
            ),
        })
    }

    /// Adds rows.
    pub(crate) fn write(&mut self, rows: &[LogRow]) -> Result<()> {
        let mut lines = Vec::new();
        for row in rows {
            serde_json::to_writer(&mut lines, row).map_err(|e| Error::Options(e.to_string()))?;
            lines.push(b'\n');
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.flush());
        written.map_err(Error::io(format!("write the log {}", self.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_log_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        for text in ["{\"results\": 1}", "{\"tasks\":[]}", "notes", "{\"a\": 1}\n{\"task\":\""] {
            std::fs::write(&path, text).unwrap();
            let error = Log::open(&path).expect_err("a refusal").to_string();
            assert!(error.contains("results.json, line 1: no row of a benchmark's log"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        // What a run leaves that is stopped in its first line.
        for text in ["", "{", "{\"task\":\"arc", "{\"task\":\"arc_easy\",\"id\":\"1\""] {
            std::fs::write(&path, text).unwrap();
            assert!(Log::open(&path).unwrap().done.is_empty());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        }
    }
}
