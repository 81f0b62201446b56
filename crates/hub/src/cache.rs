//! The cache on disk: where it is, what is in it, and whether that is intact. The layout is
//! described at the top of the crate. Looking never writes, so a read-only cache works.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::catalogue::{self, Entry, File};
use crate::name::HubId;
use crate::record::{Record, recorded};
use crate::{Error, Progress, Result};

/// The branch that hub ids are read at.
pub(crate) const BRANCH: &str = "main";

/// The folder that holds everything fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheDir {
    root: PathBuf,
}

impl CacheDir {
    /// The folder from the values of `PORISM_HOME`, `XDG_CACHE_HOME` and `HOME`: the first itself,
    /// else `porism` in the second, else `.cache/porism` in the third. Empty values count as not
    /// set, and so does a relative `XDG_CACHE_HOME` (XDG Base Directory Specification 0.8).
    pub fn resolve(
        porism_home: Option<OsString>,
        xdg_cache_home: Option<OsString>,
        home: Option<OsString>,
    ) -> Result<Self> {
        let set = |value: Option<OsString>| value.filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = set(porism_home)
            .or_else(|| set(xdg_cache_home).filter(|dir| dir.is_absolute()).map(|dir| dir.join("porism")))
            .or_else(|| set(home).map(|dir| dir.join(".cache").join("porism")))
            .ok_or(Error::NoCacheDir)?;
        Ok(Self { root })
    }

    /// A cache in exactly this folder, which need not exist yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn repository_dir(&self, id: &HubId) -> PathBuf {
        self.root.join("hub").join(format!("{}--{}", id.owner, id.repository)).join(BRANCH)
    }
}

/// A model that is, or will be, in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// The name that the user knows it by.
    pub(crate) name: String,
    /// The folder that the files' paths start from.
    pub(crate) dir: PathBuf,
    /// What a caller loads: a file, or the folder.
    pub(crate) path: PathBuf,
    pub(crate) files: Vec<File>,
}

impl Model {
    pub(crate) fn of_entry(entry: &Entry, cache: &CacheDir) -> Self {
        let dir = cache.root.join("models").join(entry.name);
        let path = match entry.files {
            [only] => dir.join(&*only.path),
            _ => dir.clone(),
        };
        Self { name: entry.name.into(), dir, path, files: entry.files.to_vec() }
    }

    pub(crate) fn of_repository(id: &HubId, dir: PathBuf, files: Vec<File>) -> Self {
        let path = match &files[..] {
            [only] if !id.is_folder_of(&only.path) => dir.join(&*only.path),
            _ => dir.clone(),
        };
        Self { name: id.to_string(), dir, path, files }
    }

    /// The files that are missing or have the wrong size.
    pub(crate) fn missing(&self) -> Result<Vec<&File>> {
        let mut missing = Vec::new();
        for file in &self.files {
            if !present(&self.dir.join(&*file.path), file.bytes)? {
                missing.push(file);
            }
        }
        Ok(missing)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }
}

/// Whether a file of this size is there. A file in a folder's place and missing permissions are
/// errors, not absence: fetching would not help.
pub(crate) fn present(path: &Path, bytes: u64) -> Result<bool> {
    match fs::metadata(path) {
        Ok(meta) => Ok(meta.is_file() && meta.len() == bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("read", path)(e)),
    }
}

/// Whether a `/`-separated path from outside stays inside its folder and clear of our own files:
/// plain components only, none hidden, nothing that another system reads as a drive or separator.
pub(crate) fn is_safe(path: &str) -> bool {
    path.len() <= 1024
        && !path.ends_with(".partial")
        && !path.contains(|c: char| c == '\\' || c == ':' || c.is_control())
        && path.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && part.len() < 240)
}

/// A model that is complete in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// The name that `-m` takes.
    pub name: String,
    /// The file, or the folder.
    pub path: PathBuf,
    /// Size of its files.
    pub bytes: u64,
}

/// The complete models in the cache: the catalogue's first, then the hub's by name. A cache that
/// does not exist yet is empty.
pub fn list(cache: &CacheDir) -> Result<Vec<Installed>> {
    let mut found = Vec::new();
    for entry in catalogue::catalogue() {
        found.push(Model::of_entry(entry, cache));
    }
    let hub = cache.root.join("hub");
    let folders = match fs::read_dir(&hub) {
        Ok(folders) => folders.collect::<io::Result<Vec<_>>>(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    };
    let mut folders = folders.map_err(Error::io("list", &hub))?;
    folders.sort_by_key(|folder| folder.file_name());
    for folder in folders.into_iter().filter(|f| f.path().is_dir()) {
        let name = folder.file_name().to_string_lossy().replacen("--", "/", 1);
        let dir = folder.path().join(BRANCH);
        let record = Record::read(&dir)?;
        for key in record.picks() {
            if let Ok(Some(id)) = HubId::parse(&format!("{name}{key}")) {
                found.extend(record.model(&id, &dir).map(|(_, model)| model));
            }
        }
    }
    let mut installed = Vec::new();
    for model in found {
        if model.missing()?.is_empty() {
            let bytes = model.bytes();
            installed.push(Installed { name: model.name, path: model.path, bytes });
        }
    }
    Ok(installed)
}

/// Reads every file of a cached model and compares its SHA-256 with the catalogue's, or with the
/// one noted when it was fetched. A file that differs is removed, and the error names both sums.
/// `name` is a catalogue name or a hub id. Gives the model's path.
pub fn verify(name: &str, cache: &CacheDir, progress: &mut dyn Progress) -> Result<PathBuf> {
    let model = match catalogue::find(name) {
        Some(entry) => Some(Model::of_entry(entry, cache)),
        None => HubId::parse(name)?.map(|id| recorded(&id, cache)).transpose()?.flatten(),
    };
    let model = model.ok_or_else(|| Error::NotInstalled(name.into()))?;
    if !model.missing()?.is_empty() {
        return Err(Error::NotInstalled(model.name));
    }
    for file in &model.files {
        let path = model.dir.join(&*file.path);
        let found = sha256_of(&path, progress)?;
        if let Some(expected) = file.sha256.as_deref().filter(|&expected| expected != found) {
            fs::remove_file(&path).map_err(Error::io("remove the damaged file", &path))?;
            return Err(Error::Checksum { path, expected: expected.into(), found });
        }
    }
    Ok(model.path)
}

/// The SHA-256 of a file's bytes, in lower-case hexadecimal.
pub(crate) fn sha256_of(path: &Path, progress: &mut dyn Progress) -> Result<String> {
    let mut file = fs::File::open(path).map_err(Error::io("open", path))?;
    let bytes = file.metadata().map_err(Error::io("read", path))?.len();
    progress.start(&format!("verifying {}", path.display()), Some(bytes));
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    let mut done = 0;
    let read = loop {
        match file.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                done += n as u64;
                progress.at(done);
            }
            Err(e) => break Err(e),
        }
    };
    progress.finish();
    read.map_err(Error::io("read", path))?;
    Ok(hex(&hasher.finalize()))
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_found_in_the_documented_order() {
        let at = |p: &str, x: &str, h: &str| {
            let value = |s: &str| (s != "-").then(|| OsString::from(s));
            CacheDir::resolve(value(p), value(x), value(h)).map(|c| c.root)
        };
        assert_eq!(at("/p", "/x", "/h").unwrap(), Path::new("/p"));
        assert_eq!(at("-", "/x", "/h").unwrap(), Path::new("/x/porism"));
        assert_eq!(at("", "", "/h").unwrap(), Path::new("/h/.cache/porism"));
        assert_eq!(at("-", "relative", "/h").unwrap(), Path::new("/h/.cache/porism"));
        assert!(at("-", "-", "-").unwrap_err().to_string().contains("set PORISM_HOME"));
        assert!(at("", "", "").is_err());
    }

    #[test]
    fn names_that_leave_the_folder_are_unsafe() {
        for good in ["model.gguf", "1_Pooling/config.json", "a b/ü.txt"] {
            assert!(is_safe(good), "{good}");
        }
        let long = "x".repeat(300);
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "a/",
            "./a",
            ".porism.json",
            "a/.lock",
            "c:x",
            "a\\b",
            "a\0b",
            "a\nb",
            "x.partial",
            &long,
        ] {
            assert!(!is_safe(bad), "{bad}");
        }
    }
}
