//! Asking for weights ahead of their use: a strip's eight rows are read side by side, and no hardware prefetcher follows
//! that.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use super::panel::Format;

/// How far ahead of its use a line is asked for, into the second cache: some hundred nanoseconds of reading at full speed,
/// and not beyond what the cache can hold. The first cache is too small: what is asked for too early is lost again.
pub(super) const AHEAD: usize = 16 << 10;
/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for `bytes` bytes from `at` on; returns where they end.
#[inline(always)]
pub(super) fn ask(at: *const u8, bytes: usize) -> *const u8 {
    let mut line = 0;
    while line < bytes {
        // SAFETY: a prefetch may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(line).cast()) };
        line += LINE;
    }
    at.wrapping_add(bytes)
}

/// Asks for what 8 rows of a block take.
#[inline(always)]
pub(super) fn ask_for<F: Format>(at: *const u8) -> *const u8 {
    ask(at, F::BYTES)
}
