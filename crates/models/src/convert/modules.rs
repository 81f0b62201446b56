//! The modules of a sentence-transformers folder (pooling, projections): folders beside the model that `modules.json`
//! names. They are copied as they are, since their weights are few.

use std::path::{Path, PathBuf};

use porism_formats::HfFolder;

use crate::{Error, Result};

/// The folders of modules that a model folder has.
pub(super) fn of(folder: &HfFolder) -> Result<Vec<PathBuf>> {
    let Some(list) = folder.read("modules.json")? else { return Ok(Vec::new()) };
    let problem = |what: String| Error::Convert(format!("{}: modules.json {what}", folder.path().display()));
    let list: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_slice(&list).map_err(|e| problem(format!("is no list of modules: {e}")))?;
    let mut paths = Vec::new();
    for module in list {
        let name = module.get("path").and_then(|v| v.as_str()).unwrap_or_default();
        // The file says what is read: nothing outside of the folder.
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return Err(problem(format!("names the folder \"{}\"", name.escape_debug())));
        }
        let path = folder.path().join(name);
        // A module without numbers (a normalization) may have no folder.
        if !name.is_empty() && path.is_dir() && !paths.contains(&path) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// A folder beside the output that everything is made in; it is deleted when it goes out of scope.
pub(super) struct Staging(PathBuf);

impl Staging {
    /// Makes it.
    pub(super) fn beside(out: &Path) -> Result<Staging> {
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        let path = out.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        std::fs::create_dir(&path).map_err(unwritable(&path))?;
        Ok(Staging(path))
    }

    /// Where the model is to be written.
    pub(super) fn model(&self) -> PathBuf {
        self.0.join("model")
    }

    /// Adds the modules to the finished model and gives it its name.
    pub(super) fn commit(self, modules: &[PathBuf], out: &Path) -> Result<()> {
        let model = self.model();
        for from in modules {
            let to = model.join(from.file_name().unwrap_or_default());
            std::fs::create_dir(&to).map_err(unwritable(&to))?;
            for entry in std::fs::read_dir(from).map_err(unreadable(from))? {
                let entry = entry.map_err(unreadable(from))?;
                if entry.path().is_file() {
                    let copy = to.join(entry.file_name());
                    std::fs::copy(entry.path(), &copy).map_err(unwritable(&copy))?;
                    std::fs::File::open(&copy).and_then(|f| f.sync_all()).map_err(unwritable(&copy))?;
                }
            }
        }
        // Only an empty folder gives way.
        std::fs::rename(&model, out).map_err(unwritable(out))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Nothing can be done about a failure; what remains has a name that says what it is.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn unwritable(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::Convert(format!("{} cannot be written: {e}", path.display()))
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::Convert(format!("{} cannot be read: {e}", path.display()))
}
