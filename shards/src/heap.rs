//! The C library's heap.

/// A block from this size on is the kernel's again as soon as it is freed.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: libc::c_int = 4 << 20;
/// Free memory at the end of a thread's heap up to which it is kept.
#[cfg(target_env = "gnu")]
const KEPT_BYTES_MAX: libc::c_int = 16 << 20;

/// Makes the heap keep memory that is freed, to be used again: up to 16 MiB for each thread that
/// allocates. As it comes, glibc gives it back above 128 KiB, so that each frame of about that size is
/// paid for with page faults for all of its pages; and what it learns from larger blocks depends on
/// which happens to be freed first.
///
/// To be called before there are other threads. Without glibc it does nothing.
pub fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    for (parameter, bytes) in [
        (libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN),
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES_MAX),
    ] {
        // SAFETY: it has no preconditions while there is one thread; glibc takes its own lock besides.
        let done = unsafe { libc::mallopt(parameter, bytes) };
        debug_assert_eq!(done, 1, "glibc takes a threshold of {bytes} bytes");
    }
}
