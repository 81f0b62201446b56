//! State in a mapped file. Its pages are the file's, not the process's own: the system writes them out when it likes,
//! and takes them away when memory is short. Between two steps of a tensor nothing of its region is mapped.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use memmap2::{Advice, MmapMut, UncheckedAdvice};

use crate::{Error, Result};

/// Where regions begin: a multiple of a page, so that no two share one. On systems with larger pages neighbours do.
const ALIGN: usize = 4096;

/// A mapped file without a name.
#[derive(Debug)]
pub(super) struct Paged {
    map: MmapMut,
    regions: Vec<Range<usize>>,
}

impl Paged {
    /// Regions of these sizes, in a file in the folder.
    pub(super) fn new(sizes: &[usize], folder: &Path) -> Result<Paged> {
        let mut end = 0usize;
        let mut regions = Vec::with_capacity(sizes.len());
        for &size in sizes {
            regions.push(end..end + size);
            end = (end + size).next_multiple_of(ALIGN);
        }
        let file =
            tempfile::tempfile_in(folder).map_err(Error::io("create a file for the optimizer's state in", folder))?;
        reserve(file.try_clone().map_err(Error::io("open the optimizer's state in", folder))?, end.max(ALIGN) as u64)
            .map_err(Error::io("reserve room for the optimizer's state in", folder))?;
        // SAFETY: the file has no name, so that no other program changes or cuts it.
        let map = unsafe { MmapMut::map_mut(&file) }.map_err(Error::io("map the optimizer's state in", folder))?;
        Ok(Paged { map, regions })
    }

    pub(super) fn bytes(&self, index: usize) -> &[u8] {
        &self.map[self.regions[index].clone()]
    }

    pub(super) fn bytes_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.map[self.regions[index].clone()]
    }

    /// Has the system read what it has evicted of the region, in long pieces.
    pub(super) fn will_need(&self, index: usize) {
        let region = &self.regions[index];
        // Without it the pages come one by one.
        let _ = self.map.advise_range(Advice::WillNeed, region.start, region.len());
    }

    /// Takes the region's pages out of the process. They stay in the system's cache of files while there is room.
    pub(super) fn may_go(&self, index: usize) {
        let region = &self.regions[index];
        // SAFETY: the map is shared with its file, which keeps what was written: nothing is lost. The system may refuse,
        // and then the pages stay mapped.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, region.start, region.len()) };
    }
}

/// Makes the file so long, of zeros that have their place on the disk: a full one would otherwise end the process at
/// some later write to the map.
fn reserve(mut file: File, bytes: u64) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    if let Ok(length) = libc::off_t::try_from(bytes) {
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is the file's, which is open during the call.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
            0 => return Ok(()),
            // The file system cannot.
            libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS => {}
            error => return Err(std::io::Error::from_raw_os_error(error)),
        }
    }
    file.seek(SeekFrom::Start(0))?;
    let zeros = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(zeros.len() as u64);
        file.write_all(&zeros[..piece as usize])?;
        left -= piece;
    }
    file.flush()
}
