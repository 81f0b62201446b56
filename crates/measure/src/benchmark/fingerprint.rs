//! Telling one model's files from another's without reading all of them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Bytes at each end of a file that are looked at.
const END: u64 = 1 << 20;

/// A hash of a model: of a file, or of the files of a folder, each by its size, its first megabyte and its last.
///
/// # Errors
/// Something cannot be read.
pub fn fingerprint(path: &Path) -> Result<String> {
    let mut files = vec![path.to_path_buf()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(Error::io(format!("read the folder {}", path.display())))?;
        files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        files.sort();
    }
    let mut hash = Sha256::new();
    for file in &files {
        ends(file, &mut hash).map_err(Error::io(format!("read {}", file.display())))?;
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn ends(path: &PathBuf, hash: &mut Sha256) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    hash.update(len.to_le_bytes());
    let mut part = Vec::new();
    (&file).take(END).read_to_end(&mut part)?;
    file.seek(SeekFrom::Start(len.saturating_sub(END)))?;
    (&file).take(END).read_to_end(&mut part)?;
    hash.update(&part);
    Ok(())
}
