//! How a runtime is set up.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// Whether each shard's thread stays on one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pin {
    /// Yes: the shard's CPU is the one at its index in the process's affinity mask.
    On,
    /// No: the kernel moves the threads as it likes.
    Off,
    /// If the process has CPUs to itself, as far as one can see: its affinity mask leaves some of the
    /// host's CPUs out, and there are enough in it for all shards.
    ///
    /// Why: a pinned shard cannot move away from what else runs on its CPU. Measured on 2 CPUs in use
    /// by other processes too, a call to another shard and back takes 14 us (p99 0.04 ms) on threads
    /// that may move, and 41 us (p99 2 to 4 ms) on pinned ones. Whoever leaves the whole host to this
    /// process sets [`Pin::On`].
    #[default]
    Auto,
}

impl Pin {
    /// Whether to pin as many shards, in a process that may use `own` of the host's `online` CPUs.
    pub(crate) fn decide(self, shards: usize, own: usize, online: usize) -> bool {
        match self {
            Pin::On => true,
            Pin::Off => false,
            Pin::Auto => shards <= own && own < online,
        }
    }
}

/// How to set up a runtime.
#[derive(Clone)]
pub struct Options {
    /// Number of shards. `None`: one for each CPU in the process's affinity mask.
    pub shards: Option<NonZeroUsize>,
    /// Whether the shards' threads stay on their CPUs.
    pub pin: Pin,
    /// Begins the names of all threads. The kernel shows 15 bytes of a name: up to 8 here fit well.
    pub name: &'static str,
    /// Messages that a shard's mailbox holds. Its memory is allocated at the start: this times the
    /// size of a request or reply.
    pub mailbox_capacity: usize,
    /// Most threads for blocking work, for each shard. They start when they are needed.
    pub blocking_threads: usize,
    /// How long a graceful stop may take, before [`Runtime::wait`](crate::Runtime::wait) gives up.
    pub stop_timeout: Duration,
    /// Stop on SIGTERM and SIGINT: gracefully on the first signal, at once on the second, then with
    /// exit code 128 + the signal's number. See [`block_signals`](crate::block_signals).
    pub signals: bool,
    /// Called about once a second by the watchdog, as long as all shards make progress. For a
    /// service manager's watchdog.
    pub on_alive: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards: None,
            pin: Pin::Auto,
            name: "shard",
            mailbox_capacity: 4096,
            blocking_threads: 4,
            stop_timeout: Duration::from_secs(30),
            signals: false,
            on_alive: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("shards", &self.shards)
            .field("pin", &self.pin)
            .field("name", &self.name)
            .field("mailbox_capacity", &self.mailbox_capacity)
            .field("blocking_threads", &self.blocking_threads)
            .field("stop_timeout", &self.stop_timeout)
            .field("signals", &self.signals)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Pin;

    #[test]
    fn auto_pins_to_cpus_that_the_process_was_given() {
        assert!(Pin::Auto.decide(4, 4, 8));
        assert!(Pin::Auto.decide(2, 4, 8));
        assert!(!Pin::Auto.decide(8, 8, 8));
        assert!(!Pin::Auto.decide(5, 4, 8));
        assert!(Pin::On.decide(5, 4, 4));
        assert!(!Pin::Off.decide(1, 4, 8));
    }
}
