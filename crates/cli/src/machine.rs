//! The machine's limits as `porism bench` measured them, kept in the cache folder for `porism plan`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use porism_formats::AtomicFile;
use porism_hub::CacheDir;
use porism_measure::limits::Limits;
use serde::{Deserialize, Serialize};

/// Limits, and what they were measured with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    #[serde(flatten)]
    pub(crate) limits: Limits,
    /// The vector instructions.
    pub(crate) isa: String,
    /// Threads.
    pub(crate) threads: usize,
}

fn file(cache: &CacheDir) -> PathBuf {
    cache.root().join("machine.json")
}

/// Keeps the limits for later.
pub(crate) fn remember(cache: &CacheDir, measured: &Remembered) -> Result<()> {
    let to = file(cache);
    let write = || -> Result<()> {
        std::fs::create_dir_all(cache.root())?;
        let mut out = AtomicFile::create(&to)?;
        out.write_all(&serde_json::to_vec_pretty(measured)?)?;
        Ok(out.commit()?)
    };
    write().with_context(|| format!("cannot remember the machine's limits in {}", to.display()))
}

/// The limits, if they were measured and can be read.
pub(crate) fn recall(cache: &CacheDir) -> Option<Remembered> {
    let kept: Remembered = serde_json::from_slice(&std::fs::read(file(cache)).ok()?).ok()?;
    let Limits { read_gb_per_second, f32_gflops, int8_gops } = kept.limits;
    let sound = [read_gb_per_second, f32_gflops, int8_gops].iter().all(|v| v.is_finite() && *v > 0.0 && *v < 1e9);
    sound.then_some(kept)
}

/// The machine's memory in bytes, where the system tells.
pub(crate) fn total_memory() -> Option<u64> {
    memory("MemTotal:")
}

/// What of it is to be had without anything being thrown out that is in use.
pub(crate) fn available_memory() -> Option<u64> {
    memory("MemAvailable:")
}

fn memory(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_remembered() {
        let home = tempfile::tempdir().expect("a folder");
        let cache = CacheDir::at(home.path().join("new"));
        assert_eq!(recall(&cache), None);
        let limits = Limits { read_gb_per_second: 31.5, f32_gflops: 150.0, int8_gops: 600.0 };
        let measured = Remembered { limits, isa: "avx2".into(), threads: 2 };
        remember(&cache, &measured).expect("a file");
        assert_eq!(recall(&cache), Some(measured));
        // What is no such file counts as none.
        std::fs::write(file(&cache), b"{\"read_gb_per_second\": -1}").expect("a file");
        assert_eq!(recall(&cache), None);
    }
}
