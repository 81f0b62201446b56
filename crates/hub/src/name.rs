//! What a model's name means: an existing path, a name of the catalogue, or a hub id.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::cache::{CacheDir, Model, is_safe};
use crate::catalogue;
use crate::pull::{Plan, plan_entry, plan_repository};
use crate::record::recorded;
use crate::{Error, Network, Result};

/// What a name came to.
#[derive(Debug)]
pub enum Resolved {
    /// It is on this machine: the file or folder to load.
    Present(PathBuf),
    /// It has to be fetched first.
    Fetch(Plan),
}

/// Finds out what `name` means. An existing path wins, then a name of the catalogue, then a hub
/// id. For something that is on this machine the network is not used; for a hub id that is not
/// cached, the hub is asked for the repository's files.
pub fn resolve(name: &str, cache: &CacheDir, network: &Network) -> Result<Resolved> {
    let path = Path::new(name);
    match path.try_exists() {
        Ok(true) => return Ok(Resolved::Present(path.to_path_buf())),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Error::io("read", path)(e));
        }
        // A hub id may begin with the name of a file that is here, or be too long for a path.
        Ok(false) | Err(_) => {}
    }
    if let Some(entry) = catalogue::find(name) {
        let model = Model::of_entry(entry, cache);
        if model.missing()?.is_empty() {
            return Ok(Resolved::Present(model.path));
        }
        if network.offline {
            return Err(Error::Offline(model.name));
        }
        return Ok(Resolved::Fetch(plan_entry(entry, model)?));
    }
    if path.is_absolute() || name.starts_with(['.', '~']) {
        return Err(Error::NoSuchPath(name.into()));
    }
    let id = HubId::parse(name)?.ok_or_else(|| unknown(name))?;
    // `models/x.gguf` has a hub id's form; a mistyped path should not be answered by the hub.
    let weights = name.ends_with(".gguf") || name.ends_with(".safetensors");
    if weights && (id.pick == Pick::Whole || path.parent().is_some_and(Path::is_dir)) {
        return Err(Error::NoSuchPath(name.into()));
    }
    if let Some(model) = recorded(&id, cache)?
        && model.missing()?.is_empty()
    {
        return Ok(Resolved::Present(model.path));
    }
    if network.offline {
        return Err(Error::Offline(name.into()));
    }
    Ok(Resolved::Fetch(plan_repository(&id, cache, network)?))
}

/// A repository of the hub and what of it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HubId {
    pub(crate) owner: String,
    pub(crate) repository: String,
    pub(crate) pick: Pick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// The folder of safetensors, or the only GGUF file.
    Whole,
    /// The GGUF file with this quantization in its name; upper case.
    Quant(String),
    /// This file.
    File(String),
}

impl Pick {
    /// How the pick is written after `owner/repo`.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Whole => String::new(),
            Self::Quant(label) => format!(":{label}"),
            Self::File(path) => format!("/{path}"),
        }
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.owner, self.repository, self.pick.key())
    }
}

impl HubId {
    /// `None` where the name has not the form of a hub id at all.
    pub(crate) fn parse(name: &str) -> Result<Option<Self>> {
        let Some((owner, rest)) = name.split_once('/') else {
            return Ok(None);
        };
        let wrong = |why: &str| Error::HubId { name: name.into(), why: why.into() };
        let end = rest.find([':', '/']).unwrap_or(rest.len());
        let (repository, pick) = rest.split_at(end);
        for part in [owner, repository] {
            // The hub's own rule for names (96 characters, no "--" and ".."), which also keeps
            // `owner--repo` a safe folder name that can be taken apart again.
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if part.is_empty() || part.len() > 96 || !part.chars().all(plain) {
                return Err(wrong("owner and repository are letters, digits, '-', '_' and '.'"));
            }
            if part.starts_with(['.', '-']) || part.contains("--") || part.contains("..") {
                return Err(wrong("owner and repository start plainly and have no '--' or '..'"));
            }
        }
        let pick = match pick.split_at_checked(1) {
            None => Pick::Whole,
            Some((":", label)) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                if label.is_empty() || !label.chars().all(plain) {
                    return Err(wrong("after ':' comes a quantization, such as Q4_K_M"));
                }
                Pick::Quant(label.to_ascii_uppercase())
            }
            Some((_, path)) if is_safe(path) => Pick::File(path.into()),
            Some(_) => {
                return Err(wrong("after the repository's '/' comes a file's path inside it"));
            }
        };
        Ok(Some(Self { owner: owner.into(), repository: repository.into(), pick }))
    }

    /// Whether a pick that came to this one file is used by its folder: true of a safetensors
    /// folder, which is more than a lone GGUF file or a file asked for by name.
    pub(crate) fn is_folder_of(&self, path: &str) -> bool {
        self.pick == Pick::Whole && !path.ends_with(".gguf")
    }
}

fn unknown(name: &str) -> Error {
    let known: Vec<_> = catalogue::catalogue().iter().map(|entry| entry.name).collect();
    let hint = match closest(name) {
        Some(close) => format!("; did you mean {close}?"),
        None => String::new(),
    };
    Error::UnknownModel { name: name.into(), known: known.join(", "), hint }
}

/// The catalogue name or alias within a third of its letters of `name`.
fn closest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let entries = catalogue::catalogue().iter();
    let names = entries.flat_map(|e| std::iter::once(e.name).chain(e.aliases.iter().copied()));
    let near = names.map(|known| (distance(&name, known), known));
    near.filter(|(edits, known)| *edits <= known.len() / 3).min().map(|(_, known)| known)
}

/// Levenshtein's edit distance, row by row.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_are_taken_apart_and_put_together() {
        let id = |name| HubId::parse(name).unwrap().unwrap();
        assert_eq!(id("a/b").pick, Pick::Whole);
        assert_eq!(id("a/b-1.5:q4_k_m").pick, Pick::Quant("Q4_K_M".into()));
        assert_eq!(id("a/b/sub/x.gguf").pick, Pick::File("sub/x.gguf".into()));
        assert_eq!(id("a/b/sub/x.gguf").to_string(), "a/b/sub/x.gguf");
        assert_eq!(id("a/b:q8_0").to_string(), "a/b:Q8_0");
        assert_eq!(HubId::parse("smollm2").unwrap(), None);
        for bad in [
            "/b",
            "a/",
            "../b",
            "a/..",
            "a/b/../c",
            "a/b//etc/passwd",
            "a/b/",
            "a/b:",
            "a--b/c",
            "a b/c",
            "a/b:x/y",
            "a/b/.lock",
            "a/b/c:d",
        ] {
            assert!(HubId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn near_misses_are_suggested_and_far_ones_are_not() {
        assert_eq!(closest("smolm2"), Some("smollm2"));
        assert_eq!(closest("SmolLM2-135M-instuct"), Some("smollm2-135m-instruct"));
        assert_eq!(closest("all-minilm-l6-v3"), Some("all-minilm-l6-v2"));
        assert_eq!(closest("gpt-oss-20b"), None);
        // Wagner and Fischer's textbook pair.
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
