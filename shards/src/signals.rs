//! SIGTERM and SIGINT end a runtime: gracefully the first time, at once the second time.

use crate::runtime::Common;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// Keeps SIGTERM and SIGINT from this thread and from all that it starts from now on.
///
/// [`start`](crate::start) does so when its options ask for signals. A program that starts threads
/// earlier calls this before: a thread that does not block the signals gets them in the default way,
/// which ends the process.
///
/// # Errors
/// What the kernel says; in practice none.
pub fn block_signals() -> io::Result<()> {
    let set = signal_set();
    // SAFETY: `set` is initialised, and the old set is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn signal_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the set that the others then get; both numbers are valid.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        set.assume_init()
    }
}

fn signal_fd() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised, and -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &signal_set(), libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits for signals until it is dropped.
pub(crate) struct SignalThread {
    end: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl SignalThread {
    pub(crate) fn start(common: Arc<Common>) -> io::Result<Self> {
        block_signals()?;
        let signals = signal_fd()?;
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let ended = end.clone();
        let name = format!("{}-signal", common.options.name);
        let thread = Builder::new().name(name).spawn(move || {
            while let Some(signal) = next_signal(&signals, &ended) {
                if common.is_stopping() {
                    exit_now(signal);
                }
                tracing::info!(
                    signal,
                    "stopping; the same signal again ends the process at once"
                );
                common.stop();
            }
        })?;
        Ok(Self {
            end,
            thread: Some(thread),
        })
    }
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.end, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The number of the next signal, or `None` when `ended` is set.
fn next_signal(signals: &OwnedFd, ended: &OwnedFd) -> Option<i32> {
    loop {
        let mut fds = [
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(ended, PollFlags::IN),
        ];
        if poll(&mut fds, None).is_err() {
            continue;
        }
        if !fds[1].revents().is_empty() {
            return None;
        }
        // `struct signalfd_siginfo` begins with the signal's number.
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        if let Ok(length) = rustix::io::read(signals, &mut info)
            && length == info.len()
            && let Some(number) = info.first_chunk()
        {
            return Some(i32::from_ne_bytes(*number));
        }
    }
}

fn exit_now(signal: i32) -> ! {
    // SAFETY: it does not return, and runs nothing of this process.
    unsafe { libc::_exit(128 + signal) }
}
