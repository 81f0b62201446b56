//! Memory of a process, as Linux tells it.

use serde::{Deserialize, Serialize};

/// Memory of a process; zeros where the system does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The most physical memory that the process ever had, mapped files included (VmHWM).
    pub peak_rss_bytes: u64,
    /// That without the mapped files that it has now (RssFile): what is left is the cache, activations and whatever
    /// else was allocated. Exact if the peak came when the files had been touched, as weights are by the first pass.
    pub peak_anonymous_bytes: u64,
}

impl Memory {
    /// Of a process: its number, or `self`.
    pub(crate) fn of(process: &str) -> Memory {
        Memory::parse(&std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default())
    }

    /// The larger of each.
    pub(crate) fn max(self, other: Memory) -> Memory {
        Memory {
            peak_rss_bytes: self.peak_rss_bytes.max(other.peak_rss_bytes),
            peak_anonymous_bytes: self.peak_anonymous_bytes.max(other.peak_anonymous_bytes),
        }
    }

    fn parse(status: &str) -> Memory {
        let bytes = |key| status_kib(status, key).map(|kib| kib as u64 * 1024);
        let peak = bytes("VmHWM:").unwrap_or(0);
        Memory { peak_rss_bytes: peak, peak_anonymous_bytes: bytes("RssFile:").map_or(0, |f| peak.saturating_sub(f)) }
    }
}

/// A number of kibibytes from a file such as `/proc/self/status`: `VmHWM:    1234 kB`.
pub(crate) fn status_kib(status: &str, key: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_files_are_read() {
        let status = "Name:\tx\nVmPeak:\t  99 kB\nVmHWM:\t    1234 kB\nRssFile:\t  1000 kB\n";
        assert_eq!(status_kib(status, "VmHWM:"), Some(1234));
        assert_eq!(status_kib(status, "VmSwap:"), None);
        assert_eq!(status_kib("VmHWM: x kB", "VmHWM:"), None);
        assert_eq!(Memory::parse(status), Memory { peak_rss_bytes: 1234 << 10, peak_anonymous_bytes: 234 << 10 });
        assert_eq!(Memory::parse("VmHWM: 7 kB"), Memory { peak_rss_bytes: 7 << 10, peak_anonymous_bytes: 0 });
        assert_eq!(Memory::parse(""), Memory::default());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_allocated_and_touched_is_anonymous() {
        let before = Memory::of("self");
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = Memory::of("self");
        assert!(after.peak_rss_bytes > block.len() as u64, "{after:?}");
        assert!(after.peak_anonymous_bytes >= before.peak_anonymous_bytes.max(block.len() as u64), "{after:?}");
    }
}
