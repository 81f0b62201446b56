//! Files that appear under their name only when they are complete.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::{Error, Result};

/// A file being written beside its target. [`commit`](AtomicFile::commit) puts it in the target's
/// place; dropping it instead leaves the target as it was and removes what was written.
pub struct AtomicFile {
    out: BufWriter<NamedTempFile>,
    target: PathBuf,
}

impl AtomicFile {
    /// Starts to write beside `target`, whose folder must exist.
    pub fn create(target: &Path) -> Result<AtomicFile> {
        if target.is_dir() {
            return Err(Error::unwritable(&target.display().to_string(), "it is a folder"));
        }
        let temporary =
            temporary().tempfile_in(folder_of(target)).map_err(Error::io("create a file beside", target))?;
        let out = BufWriter::with_capacity(1 << 20, temporary);
        Ok(AtomicFile { out, target: target.to_owned() })
    }

    /// Flushes to the disk and renames to the target.
    pub fn commit(self) -> Result<()> {
        let AtomicFile { out, target } = self;
        let temporary = out.into_inner().map_err(|e| e.into_error()).map_err(Error::io("write", &target))?;
        temporary.as_file().sync_all().map_err(Error::io("write", &target))?;
        temporary.persist(&target).map_err(|e| e.error).map_err(Error::io("replace", &target))?;
        sync_folder(folder_of(&target))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

const PREFIX: &str = ".porism-";
const SUFFIX: &str = ".part";

/// Removes what a process that was killed had begun to write into a folder. Nobody else may be writing there.
///
/// # Errors
/// The folder cannot be read, or something cannot be removed.
pub fn remove_unfinished(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io("read the folder", folder))? {
        let entry = entry.map_err(Error::io("read the folder", folder))?;
        let (name, path) = (entry.file_name(), entry.path());
        if !name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX)) {
            continue;
        }
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// Names a temporary file and gives it the permissions of a file that is created directly (the
/// process's mask still applies) in place of a scratch file's private ones.
fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
}

/// The same for a temporary folder.
pub(crate) fn temporary_folder() -> tempfile::Builder<'static, 'static> {
    let mut builder = temporary();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o777));
    }
    builder
}

/// The folder that holds `path`.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a rename inside `folder` last through a power failure.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("write", folder))
}
