//! A file on its way into the cache: written beside its target, hashed as it grows, and renamed
//! only when its size and SHA-256 are right. Also the lock that lets one process at a time do so.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::cache::hex;
use crate::catalogue::File;
use crate::{Error, Progress, Result};

pub(crate) struct Partial {
    target: PathBuf,
    path: PathBuf,
    file: fs::File,
    hasher: Sha256,
    len: u64,
}

impl Partial {
    /// Opens the `.partial` file of `target`; with `resume` it keeps what an earlier try left.
    pub(crate) fn open(target: PathBuf, resume: bool) -> Result<Self> {
        let mut path = target.clone().into_os_string();
        path.push(".partial");
        let path = PathBuf::from(path);
        if let Some(dir) = target.parent() {
            fs::create_dir_all(dir).map_err(Error::io("create the folder", dir))?;
        }
        let open = || {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(!resume);
            let mut file = options.open(&path)?;
            let mut hasher = Sha256::new();
            let mut len = 0;
            let mut buffer = vec![0; 1 << 17];
            loop {
                // Ends at the end of the file, which is where writing goes on.
                match file.read(&mut buffer)? {
                    0 => break,
                    n => {
                        hasher.update(&buffer[..n]);
                        len += n as u64;
                    }
                }
            }
            Ok((file, hasher, len))
        };
        let (file, hasher, len) = open().map_err(Error::io("open", &path))?;
        Ok(Self { target, path, file, hasher, len })
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Throws away what is there.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(Error::io("empty", &self.path))?;
        self.file.rewind().map_err(Error::io("rewind", &self.path))?;
        self.hasher = Sha256::new();
        self.len = 0;
        Ok(())
    }

    /// Gives up for now: what is there stays for the next try, if there is anything.
    pub(crate) fn leave(self) -> Result<()> {
        if self.len == 0 {
            fs::remove_file(&self.path).map_err(Error::io("remove", &self.path))?;
        }
        Ok(())
    }

    /// Checks, syncs and renames; gives the SHA-256. A wrong file is removed.
    pub(crate) fn commit(self, expected: &File) -> Result<String> {
        let found = hex(&self.hasher.finalize());
        let wrong = if self.len != expected.bytes {
            let (expected, found) = (expected.bytes, self.len);
            Some(Error::Size { path: self.target.clone(), expected, found })
        } else {
            expected.sha256.as_deref().filter(|&sum| sum != found).map(|sum| Error::Checksum {
                path: self.target.clone(),
                expected: sum.into(),
                found: found.clone(),
            })
        };
        if let Some(wrong) = wrong {
            fs::remove_file(&self.path).map_err(Error::io("remove", &self.path))?;
            return Err(wrong);
        }
        self.file.sync_all().map_err(Error::io("write", &self.path))?;
        fs::rename(&self.path, &self.target).map_err(Error::io("rename into", &self.target))?;
        // The rename itself lasts once the folder is synced; not every system can do that.
        if let Some(dir) = self.target.parent().and_then(|dir| fs::File::open(dir).ok()) {
            let _ = dir.sync_all();
        }
        Ok(found)
    }
}

/// Holds a folder's `.lock` until dropped, against other processes and other threads.
pub(crate) struct Lock {
    _file: fs::File,
}

impl Lock {
    /// Creates the folder where needed, and waits for whoever has the lock.
    pub(crate) fn take(dir: &Path, progress: &mut dyn Progress) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io("create the folder", dir))?;
        let path = dir.join(".lock");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.message("waiting for another process that is fetching this model");
                file.lock().map_err(Error::io("lock", &path))?;
            }
            // Some network file systems have no locks; fetching alone is still right there.
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {
                progress.message("this file system has no locks: fetch one model at a time");
            }
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e)),
        }
        Ok(Self { _file: file })
    }
}
