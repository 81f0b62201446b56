//! Finding a split's rows: in a folder of the person's, in the publishers' layouts and those of the `datasets` library, or on
//! the hub.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use porism_formats::rows::{self, Row};

use super::task::{Data, Task};
use crate::{Error, Result};

/// Fetches a file of a hub's dataset: `(repository, path)` to a local path.
pub type Fetch<'a> = dyn FnMut(&str, &str) -> std::result::Result<PathBuf, String> + 'a;

/// Where rows come from.
pub enum Source<'a> {
    /// A folder, or one file that holds the split that is measured.
    Local(&'a Path),
    /// The hub.
    Hub(&'a mut Fetch<'a>),
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Local(path) => write!(f, "Local({})", path.display()),
            Source::Hub(_) => f.write_str("Hub"),
        }
    }
}

/// Endings of files that hold rows, in the order in which they are looked for.
const ENDINGS: [&str; 12] = [
    "jsonl",
    "json",
    "parquet",
    "arrow",
    "csv",
    "tsv",
    "jsonl.gz",
    "json.gz",
    "csv.gz",
    "tsv.gz",
    "ndjson",
    "ndjson.gz",
];

/// The rows of a split of a part of a task.
///
/// # Errors
/// There is no such file (the message says what was looked for, and where to get it), or it cannot be read.
pub(crate) fn split_rows(source: &mut Source<'_>, task: &Task, config: Option<&str>, split: &str) -> Result<Vec<Row>> {
    let data = &task.data;
    let missing = |what: String| Error::NoData {
        task: task.part_name(config),
        split: split.to_owned(),
        what,
        get: data.get.as_ref().map(|get| format!("; get {get}, and name its folder with --data")).unwrap_or_default(),
    };
    let files = match source {
        Source::Local(path) if path.is_file() => {
            if !data.configs.is_empty() {
                let (file, parts) = (path.display(), data.configs.len());
                return Err(missing(format!("{file} is one file, and the task has {parts} parts; give a folder")));
            }
            if split != data.split {
                return Err(missing(format!("{} is one file; give a folder with both splits", path.display())));
            }
            vec![path.to_path_buf()]
        }
        Source::Local(folder) => {
            let found = find(folder, task, config, split);
            if found.is_empty() {
                let (name, folder) = (config.map_or(String::new(), |c| format!("{c}/")), folder.display());
                return Err(missing(format!(
                    "neither a file of the publisher's layout nor {name}{split}.jsonl or the like is in {folder}"
                )));
            }
            found
        }
        Source::Hub(fetch) => {
            let Some(hub) = &data.hub else {
                return Err(missing("the task file names no dataset of the hub; give the data with --data".into()));
            };
            let path = fill(&data.hub_file, config, split);
            vec![fetch(hub, &path).map_err(missing)?]
        }
    };
    whole(&files).map_err(missing)?;
    let options = rows::Options { header: data.columns.clone() };
    let mut all = Vec::new();
    for file in files {
        all.extend(rows::read(&file, &options)?);
    }
    if all.is_empty() {
        return Err(missing("its file has no rows".into()));
    }
    Ok(all)
}

fn fill(pattern: &str, config: Option<&str>, split: &str) -> String {
    pattern.replace("{config}", config.unwrap_or("default")).replace("{split}", split)
}

/// The files of a split, in the first layout that is there: those of the publisher, then the usual ones.
fn find(folder: &Path, task: &Task, config: Option<&str>, split: &str) -> Vec<PathBuf> {
    let mut folders = vec![folder.join(&task.name)];
    folders.extend(task.data.folders.iter().map(|name| folder.join(name)));
    folders.push(folder.to_path_buf());
    let patterns = patterns(&task.data, &task.name, config, split);
    let layouts = folders.iter().flat_map(|folder| patterns.iter().map(move |pattern| matches(folder, pattern)));
    layouts.into_iter().find(|files| !files.is_empty()).unwrap_or_default()
}

fn patterns(data: &Data, task: &str, config: Option<&str>, split: &str) -> Vec<String> {
    let own = data.files.get(split).into_iter().flatten().map(|pattern| fill(pattern, config, split));
    let mut patterns: Vec<String> = own.collect();
    // A dataset with configurations has a folder for each; `none` is what some tools call the one without a name.
    let mut inner = match config {
        Some(config) => vec![format!("{config}/"), format!("{config}-"), format!("{config}_")],
        None => Vec::new(),
    };
    if data.configs.is_empty() {
        inner.extend(["none/".into(), "default/".into(), String::new()]);
    }
    for before in inner {
        patterns.push(format!("{before}{split}/data-*.arrow"));
        patterns.push(format!("{before}{split}-*.parquet"));
        patterns.push(format!("data/{before}{split}-*.parquet"));
        for ending in ENDINGS {
            patterns.push(format!("{before}{split}.{ending}"));
        }
    }
    // Where there are parts, one file for all of them would be each part's.
    for ending in ENDINGS.iter().filter(|_| data.configs.is_empty()) {
        patterns.push(format!("{task}-{split}*.{ending}"));
        patterns.push(format!("{task}_{split}*.{ending}"));
    }
    patterns
}

/// Checks that files which say that they are one of so many, `test-00000-of-00002.parquet`, are all there.
fn whole(files: &[PathBuf]) -> std::result::Result<(), String> {
    let shard = |path: &PathBuf| -> Option<(String, usize)> {
        let stem = path.file_stem()?.to_str()?;
        let (before, count) = stem.rsplit_once("-of-")?;
        let (name, number) = before.rsplit_once('-')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        (digits(number) && digits(count)).then(|| Some((name.to_owned(), count.parse().ok()?)))?
    };
    let mut found: BTreeMap<(String, usize), usize> = BTreeMap::new();
    for shard in files.iter().filter_map(shard) {
        *found.entry(shard).or_default() += 1;
    }
    match found.into_iter().find(|((_, count), there)| count != there) {
        Some(((name, count), there)) => Err(format!("of the {count} files {name}-*-of-{count:05}.* {there} are there")),
        None => Ok(()),
    }
}

/// The files that a pattern means, with `*` in the last part of its path, in natural order.
fn matches(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = folder.join(pattern);
    let (Some(name), Some(parent)) = (path.file_name().and_then(|n| n.to_str()), path.parent()) else {
        return Vec::new();
    };
    let Some((start, end)) = name.split_once('*') else {
        return Some(path).filter(|path| path.is_file()).into_iter().collect();
    };
    let mut found: Vec<(Vec<Part>, PathBuf)> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let fits = name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end);
            (fits && entry.path().is_file()).then(|| (natural(&name), entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// A part of a name: runs of digits count as numbers.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Text(String),
}

fn natural(name: &str) -> Vec<Part> {
    let runs = name.as_bytes().chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    runs.map(|run| {
        let text = String::from_utf8_lossy(run).into_owned();
        text.parse().map_or(Part::Text(text), Part::Number)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_lacks_none_of_its_files() {
        let files = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(whole(&files(&["d/test-00000-of-00002.parquet", "d/test-00001-of-00002.parquet"])), Ok(()));
        assert_eq!(whole(&files(&["one-of-a-kind.jsonl", "test.jsonl", "0-of-9.json"])), Ok(()));
        let error = whole(&files(&["d/test-00001-of-00003.parquet", "d/test-00000-of-00003.parquet"])).unwrap_err();
        assert_eq!(error, "of the 3 files test-*-of-00003.* 2 are there");
    }

    #[test]
    fn numbered_files_come_in_the_order_of_their_numbers() {
        let mut names = ["10.json", "9.json", "a2-b10", "a2-b9", "a10"].map(|name| (natural(name), name));
        names.sort();
        assert_eq!(names.map(|(_, name)| name), ["9.json", "10.json", "a2-b9", "a2-b10", "a10"]);
    }
}
