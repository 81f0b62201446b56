//! What the machine can do: the numbers that measured speeds are held against.
//!
//! Each is the best of several runs, since everything else that runs on the machine only takes away.

use std::path::Path;
use std::time::{Duration, Instant};

use porism_kernels::{Isa, Pool, peak};
use serde::{Deserialize, Serialize};

/// The machine's limits with the threads of a pool and the instructions of an [`Isa`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Reading memory far beyond the caches, in 10^9 bytes a second.
    pub read_gb_per_second: f64,
    /// f32 multiply-adds in registers, in 10^9 operations a second; a multiply-add is two.
    pub f32_gflops: f64,
    /// int8 multiply-adds into 32 bits in registers, in 10^9 operations a second; a multiply-add is two.
    pub int8_gops: f64,
}

/// Runs of which the best counts.
const RUNS: usize = 5;
/// The shortest run that is worth timing.
const RUN: Duration = Duration::from_millis(40);
/// The last-level cache where the system does not tell.
const ASSUMED_CACHE: usize = 32 << 20;
/// Sizes of the buffer that is read.
const BUFFER: std::ops::RangeInclusive<usize> = (128 << 20)..=(1 << 30);

/// Measures the limits; takes one or two seconds and, for that time, a buffer of eight times the
/// last-level cache (128 MiB to 1 GiB, and at most a quarter of the memory that is available).
pub fn measure(pool: &Pool, isa: Isa) -> Limits {
    Limits {
        read_gb_per_second: read_bandwidth(pool, isa) / 1e9,
        f32_gflops: rate(|rounds| peak::f32_multiply_add(pool, isa, rounds)) / 1e9,
        int8_gops: rate(|rounds| peak::int8_multiply_add(pool, isa, rounds)) / 1e9,
    }
}

/// Bytes a second.
fn read_bandwidth(pool: &Pool, isa: Isa) -> f64 {
    let words = vec![0x0101_0101_0101_0101u64; buffer_bytes(last_level_cache(), available_memory()) / 8];
    let mut best = f64::INFINITY;
    for _ in 0..RUNS + 1 {
        let started = Instant::now();
        std::hint::black_box(peak::read(pool, isa, &words));
        best = best.min(started.elapsed().as_secs_f64());
    }
    (words.len() * 8) as f64 / best
}

/// Operations a second of `work`, which does a number of rounds and returns its operations.
fn rate(work: impl Fn(usize) -> u64) -> f64 {
    let mut rounds = 1 << 12;
    loop {
        let started = Instant::now();
        work(rounds);
        if started.elapsed() >= RUN {
            break;
        }
        rounds *= 2;
    }
    let timed = (0..RUNS).map(|_| {
        let started = Instant::now();
        let operations = work(rounds);
        operations as f64 / started.elapsed().as_secs_f64()
    });
    timed.fold(0.0, f64::max)
}

/// Eight caches, within [`BUFFER`], and no more than a quarter of what is available.
fn buffer_bytes(cache: usize, available: Option<usize>) -> usize {
    let wanted = cache.saturating_mul(8).clamp(*BUFFER.start(), *BUFFER.end());
    available.map_or(wanted, |bytes| wanted.min(bytes / 4).max(1 << 20))
}

/// Bytes of the largest cache of the first processor.
fn last_level_cache() -> usize {
    let indexes = Path::new("/sys/devices/system/cpu/cpu0/cache");
    let sizes = (0..8).filter_map(|i| {
        let size = std::fs::read_to_string(indexes.join(format!("index{i}/size"))).ok()?;
        parse_cache_size(&size)
    });
    sizes.max().unwrap_or(ASSUMED_CACHE)
}

/// A size as the kernel writes it: `32768K`.
fn parse_cache_size(text: &str) -> Option<usize> {
    let text = text.trim();
    let (number, unit) = match text.strip_suffix('K') {
        Some(number) => (number, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |number| (number, 1 << 20)),
    };
    number.parse::<usize>().ok()?.checked_mul(unit)
}

/// Bytes that can be allocated without swapping, if the system tells.
fn available_memory() -> Option<usize> {
    crate::bench::memory::status_kib(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_sizes_are_read_with_their_unit() {
        assert_eq!(parse_cache_size("32768K\n"), Some(32 << 20));
        assert_eq!(parse_cache_size("2M"), Some(2 << 20));
        assert_eq!(parse_cache_size("512"), Some(512));
        assert_eq!(parse_cache_size(""), None);
        assert_eq!(parse_cache_size("18446744073709551615K"), None);
    }

    #[test]
    fn the_buffer_is_several_caches_and_fits() {
        assert_eq!(buffer_bytes(32 << 20, None), 256 << 20);
        assert_eq!(buffer_bytes(1 << 20, None), 128 << 20);
        assert_eq!(buffer_bytes(1 << 30, None), 1 << 30);
        assert_eq!(buffer_bytes(32 << 20, Some(400 << 20)), 100 << 20);
    }

    #[test]
    fn every_limit_is_a_positive_number() {
        let limits = measure(&Pool::new(1), Isa::detect());
        assert!(limits.read_gb_per_second > 0.0 && limits.f32_gflops > 0.0 && limits.int8_gops > 0.0);
    }
}
