//! A trained vocabulary as files: `tokenizer.json` alone, or a folder that transformers loads.

use std::io::Write;
use std::path::Path;

use porism_formats::AtomicFile;
use serde_json::Value;

use super::Trained;
use crate::{Error, Result};

impl Trained {
    /// Writes the tokenizer: to a file if the name ends in `.json`, else to a folder of that name, as `tokenizer.json`
    /// and `tokenizer_config.json`. It appears when it is whole.
    ///
    /// # Errors
    /// As for [`Trained::check_target`], or the disk refuses.
    pub fn save(&self, out: &Path) -> Result<()> {
        Trained::check_target(out)?;
        let source = self.source();
        let tokenizer = source.to_tokenizer_json()?;
        if is_file_name(out) {
            return write(out, &tokenizer);
        }
        let io = |source| Error::Io { path: out.to_owned(), source };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".porism-").suffix(".part");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o777));
        }
        let folder = builder.tempdir_in(parent(out)).map_err(io)?;
        write(&folder.path().join("tokenizer.json"), &tokenizer)?;
        write(&folder.path().join("tokenizer_config.json"), &source.to_tokenizer_config())?;
        if out.is_dir() {
            std::fs::remove_dir(out).map_err(io)?;
        }
        std::fs::rename(folder.path(), out).map_err(io)
    }

    /// Whether [`Trained::save`] could write there: worth asking before hours of work.
    ///
    /// # Errors
    /// Something is there already (an empty folder may be, for a folder), or the folder around it is not.
    pub fn check_target(out: &Path) -> Result<()> {
        let problem = |what: &str| Err(Error::Train(format!("{} {what}", out.display())));
        if !parent(out).is_dir() {
            return Err(Error::Train(format!("there is no folder {}: make it first", parent(out).display())));
        }
        let Ok(found) = std::fs::symlink_metadata(out) else { return Ok(()) };
        let empty = || std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
        match (found.is_dir(), is_file_name(out)) {
            (false, _) => problem("exists already and is not replaced: delete it or choose another name"),
            (true, true) => problem("is a folder: choose another name for the file"),
            (true, false) if empty() => Ok(()),
            (true, false) => {
                problem("is a folder with files in it and is not replaced: empty it or choose another name")
            }
        }
    }
}

fn is_file_name(out: &Path) -> bool {
    out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"))
}

fn parent(out: &Path) -> &Path {
    out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write(path: &Path, value: &Value) -> Result<()> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut file = AtomicFile::create(path)?;
    serde_json::to_writer_pretty(&mut file, value).map_err(|e| io(e.into()))?;
    file.write_all(b"\n").map_err(io)?;
    Ok(file.commit()?)
}
