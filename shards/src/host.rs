//! What the host has to offer before glommio is touched: where it lacks something, glommio 0.9 panics
//! or hides the error.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Host {
    /// The kernel's release, as `uname -r` says it.
    pub kernel: String,
    /// Soft limit of locked memory in bytes; `None`: unlimited.
    pub memlock: Option<u64>,
    /// Soft limit of open descriptors, after it was raised to the hard limit; `None`: unlimited.
    pub nofile: Option<u64>,
}

/// What the host lacks, in one line that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreflightError {
    /// The kernel has no io_uring.
    #[error(
        "this kernel ({kernel}) has no io_uring: run Linux 5.8 or newer, built with CONFIG_IO_URING"
    )]
    Missing {
        /// Its release.
        kernel: String,
    },
    /// It has one that lacks an operation.
    #[error("io_uring of this kernel ({kernel}) lacks {operation}: run Linux 5.8 or newer")]
    TooOld {
        /// Its release.
        kernel: String,
        /// The first operation that is missing.
        operation: &'static str,
    },
    /// The administrator switched it off.
    #[error(
        "io_uring is disabled by sysctl (kernel.io_uring_disabled = {value}): set it to 0 with `sysctl -w \
         kernel.io_uring_disabled=0`{group}"
    )]
    Disabled {
        /// The setting: 1 for unprivileged users, 2 for all.
        value: u32,
        /// A second way out, if there is one.
        group: &'static str,
    },
    /// A filter forbids it.
    #[error(
        "io_uring is forbidden (EPERM) though sysctl allows it: a seccomp filter blocks it, as \
         container runtimes do by default; allow io_uring_setup, io_uring_enter and io_uring_register"
    )]
    Blocked,
    /// Any other refusal.
    #[error(
        "io_uring_setup failed: {error}; raise the memory limit of the service or the container"
    )]
    Refused {
        /// What the kernel says.
        error: String,
    },
    /// Too little memory may be locked.
    #[error(
        "RLIMIT_MEMLOCK is {limit} bytes, and {needed} are needed: set LimitMEMLOCK=8M in the systemd \
         unit, or run `ulimit -l 8192` as root before the start"
    )]
    Memlock {
        /// The hard limit.
        limit: u64,
        /// The least that works.
        needed: u64,
    },
}

/// glommio refuses to start below this, whoever asks.
const MEMLOCK_FLOOR: u64 = 512 << 10;

/// The operations that glommio 0.9 asserts, with their numbers in `linux/io_uring.h`.
const OPERATIONS: [(&str, usize); 23] = [
    ("NOP", 0),
    ("READV", 1),
    ("WRITEV", 2),
    ("FSYNC", 3),
    ("READ_FIXED", 4),
    ("WRITE_FIXED", 5),
    ("POLL_ADD", 6),
    ("POLL_REMOVE", 7),
    ("SENDMSG", 9),
    ("RECVMSG", 10),
    ("TIMEOUT", 11),
    ("TIMEOUT_REMOVE", 12),
    ("ACCEPT", 13),
    ("LINK_TIMEOUT", 15),
    ("CONNECT", 16),
    ("FALLOCATE", 17),
    ("OPENAT", 18),
    ("CLOSE", 19),
    ("STATX", 21),
    ("READ", 22),
    ("WRITE", 23),
    ("SEND", 26),
    ("RECV", 27),
];

/// Checks io_uring with its own system calls, and the limits; raises the soft limits of descriptors and
/// of locked memory to the hard ones. It takes some 0.1 ms and starts nothing.
///
/// # Errors
/// What is missing, with what to do about it.
pub fn preflight() -> Result<Host, PreflightError> {
    let kernel = kernel_release();
    let ring = match io_uring_setup() {
        Ok(ring) => ring,
        Err(error) => return Err(explain_setup(&error, &kernel, io_uring_disabled())),
    };
    let supported = supported_operations(&ring).unwrap_or_default();
    if let Some(operation) = first_missing(&supported) {
        return Err(PreflightError::TooOld { kernel, operation });
    }
    let memlock = raise_to_hard(Resource::Memlock);
    check_memlock(memlock)?;
    let nofile = raise_to_hard(Resource::Nofile);
    tracing::debug!(kernel, ?memlock, ?nofile, "the host has what it takes");
    Ok(Host {
        kernel,
        memlock,
        nofile,
    })
}

fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(
        |_| "unknown release".to_owned(),
        |release| release.trim().to_owned(),
    )
}

/// Number of the host's CPUs that are switched on.
pub(crate) fn online_cpus() -> usize {
    // SAFETY: it has no preconditions.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(online).unwrap_or(1)
}

/// The sysctl exists from Linux 6.6 on.
fn io_uring_disabled() -> Option<u32> {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn explain_setup(error: &io::Error, kernel: &str, disabled: Option<u32>) -> PreflightError {
    match (error.raw_os_error(), disabled) {
        (Some(libc::ENOSYS), _) => PreflightError::Missing {
            kernel: kernel.to_owned(),
        },
        (Some(libc::EPERM), Some(value @ 1..)) => PreflightError::Disabled {
            value,
            group: if value == 1 {
                ", or add the user to the group in kernel.io_uring_group"
            } else {
                ""
            },
        },
        (Some(libc::EPERM | libc::EACCES), _) => PreflightError::Blocked,
        _ => PreflightError::Refused {
            error: error.to_string(),
        },
    }
}

/// `struct io_uring_params` is 120 bytes; zeros ask for the defaults.
const PARAMS_LEN: usize = 120;

fn io_uring_setup() -> io::Result<OwnedFd> {
    let mut params = [0u64; PARAMS_LEN / size_of::<u64>()];
    // SAFETY: the kernel reads and writes `io_uring_params` within `params`, which is as large and
    // suitably aligned.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, params.as_mut_ptr()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, so nobody else owns it. It fits an int, as all do.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// `struct io_uring_probe`: 16 bytes, then 8 for each operation.
const PROBE_HEADER: usize = 16;
const PROBE_ENTRY: usize = 8;
const PROBE_ENTRIES: usize = 256;
const IORING_REGISTER_PROBE: libc::c_uint = 8;
const IO_URING_OP_SUPPORTED: u8 = 1;

/// Whether each operation is supported, by number.
fn supported_operations(ring: &OwnedFd) -> io::Result<Vec<bool>> {
    let mut probe = MaybeUninit::<[u8; PROBE_HEADER + PROBE_ENTRIES * PROBE_ENTRY]>::zeroed();
    // SAFETY: the kernel writes the header and at most the given number of entries, which fit. The
    // structure's fields are at most 4 bytes wide and the kernel copies bytes: no alignment is needed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            IORING_REGISTER_PROBE,
            probe.as_mut_ptr(),
            PROBE_ENTRIES as libc::c_uint,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was zeroed, and any bytes are valid.
    let probe = unsafe { probe.assume_init() };
    let entries = probe[PROBE_HEADER..].chunks_exact(PROBE_ENTRY);
    // An entry: operation u8, reserved u8, flags u16, reserved u32.
    Ok(entries
        .map(|entry| entry[2] & IO_URING_OP_SUPPORTED != 0)
        .collect())
}

fn first_missing(supported: &[bool]) -> Option<&'static str> {
    OPERATIONS
        .iter()
        .find(|(_, number)| !supported.get(*number).copied().unwrap_or(false))
        .map(|(name, _)| *name)
}

fn check_memlock(limit: Option<u64>) -> Result<(), PreflightError> {
    match limit {
        Some(limit) if limit < MEMLOCK_FLOOR => Err(PreflightError::Memlock {
            limit,
            needed: MEMLOCK_FLOOR,
        }),
        _ => Ok(()),
    }
}

/// Raises the soft limit as far as it goes without privilege. Returns what it is then.
fn raise_to_hard(resource: Resource) -> Option<u64> {
    let limit = getrlimit(resource);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current == limit.maximum || setrlimit(resource, raised).is_err() {
        return limit.current;
    }
    limit.maximum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_one_line_that_says_what_to_do() {
        let explain = |errno, disabled| {
            explain_setup(&io::Error::from_raw_os_error(errno), "5.4.0", disabled).to_string()
        };
        let texts = [
            (explain(libc::ENOSYS, None), "run Linux 5.8"),
            (
                explain(libc::EPERM, Some(1)),
                "sysctl -w kernel.io_uring_disabled=0",
            ),
            (explain(libc::EPERM, Some(1)), "kernel.io_uring_group"),
            (
                explain(libc::EPERM, Some(2)),
                "sysctl -w kernel.io_uring_disabled=0",
            ),
            (explain(libc::EPERM, Some(0)), "seccomp"),
            (explain(libc::EACCES, None), "seccomp"),
            (explain(libc::ENOMEM, Some(0)), "raise the memory limit"),
            (
                check_memlock(Some(65536)).unwrap_err().to_string(),
                "LimitMEMLOCK=8M",
            ),
        ];
        for (text, advice) in texts {
            assert!(text.contains(advice) && !text.contains('\n'), "{text}");
        }
        assert_eq!(check_memlock(Some(MEMLOCK_FLOOR)), Ok(()));
        assert_eq!(check_memlock(None), Ok(()));
    }

    #[test]
    fn an_operation_that_is_missing_is_named() {
        assert_eq!(first_missing(&[true; 64]), None);
        assert_eq!(first_missing(&[true; 20]), Some("STATX"));
        let mut supported = [true; 64];
        supported[6] = false;
        assert_eq!(first_missing(&supported), Some("POLL_ADD"));
        assert_eq!(first_missing(&[]), Some("NOP"));
    }
}
