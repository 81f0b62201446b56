//! Data of a run: files of examples as tokens, and which of them are held out.

use std::path::{Path, PathBuf};

use porism_formats::rows::{self, Row};
use porism_text::examples::{Composer, Example};

use crate::{Error, Result};

/// What became of the rows of a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows read.
    pub rows: usize,
    /// Rows that are no examples, left out because that was asked for.
    pub bad: usize,
    /// Examples that lost their end, since they are longer than a row.
    pub cut: usize,
    /// Examples of which nothing counts, or nothing that is left: not used.
    pub empty: usize,
}

/// Examples of a split.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Split {
    /// The examples, in the file's order.
    pub examples: Vec<Example>,
    /// What became of the rows.
    pub counts: Counts,
}

/// All splits of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Data {
    /// What is learned.
    pub train: Split,
    /// What is watched meanwhile.
    pub valid: Option<Split>,
    /// What the result is measured on, once.
    pub test: Option<Split>,
}

/// How rows become examples.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Tokenizer and template.
    pub composer: Composer<'a>,
    /// Tokens of an example at most.
    pub length: usize,
    /// Whether broken lines are counted and left out.
    pub skip_bad: bool,
    /// Share of a single file that is held out for validation: its last rows.
    pub validation: f64,
}

/// A single file with fewer examples gives none away for validation.
const FEWEST: usize = 20;

impl Data {
    /// Reads a file, or a folder with `train` and perhaps `valid` and `test`, in any kind of file that rows are read from or as
    /// plain text (`.txt`).
    ///
    /// # Errors
    /// There is no such file, a line is broken (it is named), or nothing is left to learn.
    pub fn read(path: &Path, reading: &Reading<'_>) -> Result<Data> {
        let mut data = if path.is_dir() {
            let train = find(path, &["train"])?.ok_or_else(|| {
                Error::Recipe(format!("{} has no train.jsonl (or .json, .csv, .parquet, .arrow)", path.display()))
            })?;
            let other = |names: &[&str]| find(path, names)?.map(|path| reading.split(&path)).transpose();
            let (valid, test) = (other(&["valid", "validation", "dev"])?, other(&["test"])?);
            Data { train: reading.split(&train)?, valid, test }
        } else {
            let mut train = reading.split(path)?;
            let held = (train.examples.len() as f64 * reading.validation) as usize;
            let valid = (held > 0 && train.examples.len() >= FEWEST).then(|| {
                let examples = train.examples.split_off(train.examples.len() - held);
                Split { counts: Counts { rows: examples.len(), ..Counts::default() }, examples }
            });
            Data { train, valid, test: None }
        };
        if data.train.examples.is_empty() {
            let Counts { rows, bad, empty, .. } = data.train.counts;
            return Err(Error::Recipe(format!(
                "{}: nothing is left to learn: of {rows} rows {bad} are broken, and in {empty} nothing counts within {} tokens; \
                 see --dry-run",
                path.display(),
                reading.length
            )));
        }
        for split in [&mut data.valid, &mut data.test] {
            *split = split.take().filter(|split| !split.examples.is_empty());
        }
        Ok(data)
    }
}

impl Reading<'_> {
    fn split(&self, path: &Path) -> Result<Split> {
        if path.extension().is_some_and(|ending| ending == "txt") {
            return self.plain(path);
        }
        let (rows, broken) = self.rows(path)?;
        let mut split = Split {
            counts: Counts { rows: rows.len() + broken, bad: broken, ..Counts::default() },
            ..Split::default()
        };
        for row in &rows {
            let examples = match self.composer.compose_all(row) {
                Ok(examples) => examples,
                Err(_) if self.skip_bad => {
                    split.counts.bad += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for mut example in examples {
                split.counts.cut += usize::from(example.truncate(self.length));
                if example.targets() == 0 {
                    split.counts.empty += 1;
                } else {
                    split.examples.push(example);
                }
            }
        }
        Ok(split)
    }

    /// A plain text: pieces of as many tokens as a row has, of which all but the first count.
    fn plain(&self, path: &Path) -> Result<Split> {
        let text = std::fs::read(path).map_err(Error::io("read", path))?;
        let text = String::from_utf8(text).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::Recipe(format!("{}: byte {at} is not UTF-8; convert the file first", path.display()))
        })?;
        let ids = self.composer.tokenizer().encode(&text, false, false)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let piece = |(number, ids): (usize, &[u32])| {
            let mut scored = vec![true; ids.len()];
            scored[0] = false;
            Example { at: format!("{name}, piece {}", number + 1), ids: ids.to_vec(), scored }
        };
        let examples: Vec<Example> =
            ids.chunks(self.length).filter(|ids| ids.len() > 1).enumerate().map(piece).collect();
        Ok(Split { counts: Counts { rows: examples.len(), ..Counts::default() }, examples })
    }

    /// The rows of a file, and how many lines are none.
    fn rows(&self, path: &Path) -> Result<(Vec<Row>, usize)> {
        let lines = path.extension().is_some_and(|ending| ending == "jsonl");
        if !self.skip_bad || !lines {
            return Ok((rows::read(path, &rows::Options::default())?, 0));
        }
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (mut rows, mut broken) = (Vec::new(), 0);
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            match serde_json::from_str(line) {
                Ok(value) => rows.push(Row { at: format!("{name}, line {number}"), value }),
                Err(_) => broken += 1,
            }
        }
        Ok((rows, broken))
    }
}

/// The file of a folder that has one of the names.
fn find(folder: &Path, names: &[&str]) -> Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read the folder", folder))?;
    let fits = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        path.is_file() && name.split_once('.').is_some_and(|(stem, _)| names.contains(&stem))
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(fits).collect();
    found.sort();
    if found.len() > 1 {
        return Err(Error::Recipe(format!("{}: {} files are {}; leave one", folder.display(), found.len(), names[0])));
    }
    Ok(found.pop())
}
