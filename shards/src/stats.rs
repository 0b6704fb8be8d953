//! Counters of a shard.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A counter that one thread writes and others read: no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_sub(n),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    // Written by the shard.
    pub(crate) rounds: Counter,
    pub(crate) busy_ns: Counter,
    pub(crate) long_rounds: Counter,
    pub(crate) polls: Counter,
    pub(crate) tasks: Counter,
    pub(crate) panics: Counter,
    pub(crate) calls: Counter,
    pub(crate) requests: Counter,
    pub(crate) overflowed: Counter,
    // Written by the watchdog.
    pub(crate) stalls: Counter,
    pub(crate) silent: Counter,
    // Written by many.
    pub(crate) blocking: AtomicU64,
    pub(crate) connections: AtomicUsize,
}

/// What a shard has done so far; see [`Runtime::stats`](crate::Runtime::stats).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardStats {
    /// Rounds of the shard's loop.
    pub rounds: u64,
    /// Nanoseconds spent in rounds; the rest of the time the shard waited for events.
    pub busy_ns: u64,
    /// Rounds that took longer than 10 ms: some task holds the shard for too long.
    pub long_rounds: u64,
    /// Task polls.
    pub polls: u64,
    /// Tasks alive now.
    pub tasks: u64,
    /// Tasks and request handlers that panicked.
    pub panics: u64,
    /// Calls made to other shards.
    pub calls: u64,
    /// Requests handled, from other shards and from other threads.
    pub requests: u64,
    /// Messages that found the destination's mailbox full and had to wait here.
    pub overflowed: u64,
    /// Messages in the mailbox now.
    pub mailbox: u64,
    /// Seconds in which the shard made no round though the watchdog rang: a task holds it, or it gets no
    /// CPU.
    pub stalls: u64,
    /// Seconds since when that is so without a break; 0 while the shard makes rounds.
    pub silent: u64,
    /// Blocking work queued or running now.
    pub blocking: u64,
    /// TCP connections now, those included that were handed to the shard and that it has not taken yet.
    pub connections: usize,
}

impl Counters {
    pub(crate) fn snapshot(&self, mailbox: usize) -> ShardStats {
        ShardStats {
            rounds: self.rounds.get(),
            busy_ns: self.busy_ns.get(),
            long_rounds: self.long_rounds.get(),
            polls: self.polls.get(),
            tasks: self.tasks.get(),
            panics: self.panics.get(),
            calls: self.calls.get(),
            requests: self.requests.get(),
            overflowed: self.overflowed.get(),
            mailbox: mailbox as u64,
            stalls: self.stalls.get(),
            silent: self.silent.get(),
            blocking: self.blocking.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
        }
    }
}
