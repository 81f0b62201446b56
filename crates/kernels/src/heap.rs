//! The C library's heap.

/// Keeps freed memory with the process, where it can be had again: a training step frees and asks for the same gigabytes over and
/// over, and each new page costs a fault and its zeros. Measured on updates of LoRA: 4 % faster, the peak 3 % higher.
///
/// Where the C library is not glibc, nothing happens.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // No allocation is a mapping of its own, and the heap's end stays where it is. (A threshold for mappings would not do: glibc
        // takes none above 32 MB, and a table's gradient is larger.)
        // SAFETY: mallopt sets two numbers of the allocator, under its own lock; what it does not take it leaves.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        }
    }
}
