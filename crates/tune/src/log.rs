//! The log of a run: a line of JSON for each update, and its picture.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What there is to say of an update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The update, from 1.
    pub step: u64,
    /// The mean negative log-likelihood of the batch's tokens before it, in nats.
    pub loss: f64,
    /// The same of the examples held out, after it, where it was measured.
    pub val_loss: Option<f64>,
    /// The learning rate.
    pub learning_rate: f64,
    /// The length of the gradient before it was clipped.
    pub grad_norm: f64,
    /// Tokens through the model, in a second.
    pub tokens_per_second: f64,
    /// The most physical memory so far.
    pub peak_rss_bytes: u64,
}

/// A log that is being written.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// Opens a log to go on behind an update; what was said of later ones is dropped, and so is a line without an end.
    ///
    /// # Errors
    /// It cannot be read or written, or a line is no record.
    pub fn open(path: &Path, step: u64) -> Result<Log> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::io("read the log", path)(error)),
        };
        let mut keep = 0;
        for (number, line) in (1..).zip(text.split_inclusive('\n')).filter(|(_, line)| line.ends_with('\n')) {
            let record: Record = serde_json::from_str(line).map_err(|e| {
                Error::Recipe(format!("{}, line {number}: no record of a training run: {e}", path.display()))
            })?;
            if record.step > step {
                break;
            }
            keep += line.len();
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("open the log", path))?;
        file.set_len(keep as u64).map_err(Error::io("write the log", path))?;
        Ok(Log { file, path: path.to_owned() })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(|e| Error::Recipe(format!("the log: {e}")))?;
        line.push(b'\n');
        self.file.write_all(&line).and_then(|()| self.file.flush()).map_err(Error::io("write the log", &self.path))
    }
}

/// All records of a log.
///
/// # Errors
/// It cannot be read, or a line is no record.
pub fn read_log(path: &Path) -> Result<Vec<Record>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read the log", path))?;
    let lines = (1..).zip(text.lines());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line).map_err(|e| {
                Error::Recipe(format!("{}, line {number}: no record of a training run: {e}", path.display()))
            })
        })
        .collect()
}
