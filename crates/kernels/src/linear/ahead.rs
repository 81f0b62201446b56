//! Asking for weights ahead of their use: a strip's eight rows are read side by side, and no hardware prefetcher follows
//! that.

#[cfg(target_arch = "x86_64")]
use super::panel::Format;

/// How far ahead of its use a line is asked for, into the second cache: some hundred nanoseconds of reading at full speed,
/// and not beyond what the cache can hold. The first cache is too small: what is asked for too early is lost again.
#[cfg(target_arch = "x86_64")]
pub(super) const AHEAD: usize = 16 << 10;
/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Asks for `bytes` bytes from `at` on; returns where they end.
#[inline(always)]
pub(super) fn ask(at: *const u8, bytes: usize) -> *const u8 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let mut line = 0;
        while line < bytes {
            // SAFETY: a prefetch may name any address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(line).cast()) };
            line += LINE;
        }
    }
    at.wrapping_add(bytes)
}

/// Asks for what 8 rows of a block take.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn ask_for<F: Format>(at: *const u8) -> *const u8 {
    ask(at, F::BYTES)
}
