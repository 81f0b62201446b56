//! The note in a hub repository's folder, `.porism.json`, of what each pick came to. It makes a
//! cached pick usable without asking the hub again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cache::{CacheDir, Model, is_safe};
use crate::catalogue::File;
use crate::name::HubId;
use crate::{Error, Result};

const RECORD: &str = ".porism.json";

/// For each pick of the repository, the files it came to.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Record {
    picks: BTreeMap<String, Picked>,
}

#[derive(Serialize, Deserialize)]
struct Picked {
    commit: String,
    files: Vec<PickedFile>,
}

#[derive(Serialize, Deserialize)]
struct PickedFile {
    path: String,
    bytes: u64,
    sha256: String,
}

impl Record {
    /// The record of a repository's folder. One that cannot be parsed counts as empty: the worst
    /// that follows is that the hub is asked again.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(RECORD);
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Error::io("read", &path)(e)),
        }
    }

    /// The picks, as written after `owner/repo`.
    pub(crate) fn picks(&self) -> impl Iterator<Item = &str> {
        self.picks.keys().map(String::as_str)
    }

    /// What this pick came to, and from which commit. Files may be missing.
    pub(crate) fn model(&self, id: &HubId, dir: &Path) -> Option<(String, Model)> {
        let picked = self.picks.get(&id.pick.key())?;
        let files = picked.files.iter().map(|f| File {
            path: f.path.clone().into(),
            bytes: f.bytes,
            sha256: Some(f.sha256.clone().into()),
        });
        let files: Vec<File> = files.collect();
        if files.is_empty() || !files.iter().all(|f| is_safe(&f.path)) {
            return None;
        }
        Some((picked.commit.clone(), Model::of_repository(id, dir.to_path_buf(), files)))
    }
}

/// What an earlier pull of this hub id brought, and from which commit. Files may be missing.
pub(crate) fn recorded_in(dir: &Path, id: &HubId) -> Result<Option<(String, Model)>> {
    Ok(Record::read(dir)?.model(id, dir))
}

/// [`recorded_in`] the id's own folder, without the commit.
pub(crate) fn recorded(id: &HubId, cache: &CacheDir) -> Result<Option<Model>> {
    Ok(recorded_in(&cache.repository_dir(id), id)?.map(|(_, model)| model))
}

/// Notes what a pick came to. `sums` are the SHA-256 of the model's files, in their order. The
/// caller holds the folder's lock.
pub(crate) fn record(model: &Model, id: &HubId, commit: &str, sums: Vec<String>) -> Result<()> {
    let mut record = Record::read(&model.dir)?;
    let files = model.files.iter().zip(sums);
    let files = files.map(|(f, sha256)| PickedFile { path: f.path.to_string(), bytes: f.bytes, sha256 });
    let files: Vec<PickedFile> = files.collect();
    // A pick of an earlier commit whose file has just been replaced is no longer whole.
    let replaced = |old: &PickedFile| files.iter().any(|new| new.path == old.path && new.sha256 != old.sha256);
    record.picks.retain(|_, picked| !picked.files.iter().any(replaced));
    record.picks.insert(id.pick.key(), Picked { commit: commit.into(), files });
    let path = model.dir.join(RECORD);
    let new = model.dir.join(".porism.json.new");
    let write = || {
        let mut file = fs::File::create(&new)?;
        serde_json::to_writer_pretty(&mut file, &record)?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    write().map_err(Error::io("write", &path))
}
