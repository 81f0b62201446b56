//! Mapping a file into memory.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::{Error, Result, Storage};

/// Maps a regular file, read-only. An empty file gives empty storage.
pub(crate) fn map(path: &Path) -> Result<Arc<dyn Storage>> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let metadata = file.metadata().map_err(Error::io("open", path))?;
    if !metadata.is_file() {
        return Err(Error::invalid(&path.display().to_string(), "not a regular file"));
    }
    if metadata.len() == 0 {
        // The system refuses to map nothing.
        return Ok(Arc::new(Vec::new()));
    }
    // SAFETY: the mapping is private and read-only, and lives in the `Mmap` that owns it. Another
    // process could still change or cut the file meanwhile; as for every program that maps its
    // weights this is excluded by contract (documented at `Gguf::open` and `HfFolder::open`), and no
    // unsafe code trusts what is read from a mapping.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("map", path))?;
    Ok(Arc::new(map))
}
