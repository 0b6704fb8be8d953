//! The thread-per-core runtime: one thread for each shard, each with its own tasks, sockets and timers;
//! shards share nothing and reach each other by [calls](Shard::call). It knows nothing of Kafka.
//!
//! [`start`] starts the shards; on each, an `init` makes the [`Service`] that answers other shards,
//! binds [listeners](net::Listener), and [spawns](Shard::spawn) tasks. Work that blocks goes to
//! [`Shard::blocking`] or a [`SerialWorker`]: io_uring hands fdatasync and buffered writes of ext4 to
//! kernel threads anyway, and glommio offers neither vectored nor linked ones.
//!
//! # Rules for tasks
//!
//! - Nobody is interrupted. A task that computes takes a [`turn`] at least every 200 us. Operations on
//!   sockets pause by themselves after 32 in a row.
//! - A panic ends its own task, request or blocking work, and is counted and logged.
//! - Wakers may go to any thread: a task may wait for whatever another thread completes.
//! - No `RefCell` borrow is held across an await, or across a call to the own shard.
//!
//! # How a shard runs
//!
//! A shard's thread is an executor of glommio 0.9, as published, which runs one task only: the loop of
//! `root.rs`. It runs all others, in rounds of at most 0.2 ms: messages from its mailbox, then tasks in
//! the order in which they were woken, then a look for events. If there is nothing to do it waits for
//! events, in one epoll instance that holds the sockets and the bell which other threads ring. It never
//! goes back to glommio before the shard ends.
//!
//! ## Why not tasks, sockets and the sleep of glommio
//!
//! First, its hang. glommio's loop parks both when nothing is runnable and when its preemption flag was
//! up before it ran anything. The flag is up when there is a completion in its latency ring. If that
//! completion wakes no task (the preemption timer, or the event fd behind which wakers from other
//! threads queue), the executor sleeps over runnable tasks, possibly for ever.
//!
//! Second, a sleep in io_uring is not safe everywhere. On Linux 6.18 under load, about one test run of
//! ten (`tests/hang.rs`, of that time) ended with a thread asleep in `io_cqring_wait` for ever: the
//! ring's polls had fired, and their completions stood in the thread's queue of work (`task_works=1` in
//! the ring's fdinfo), but the kernel did not wake it to take them, whatever else then happened to the
//! ring. Since shards sleep in epoll there was none.
//!
//! Third, its price. For each sleep and wake glommio's loop makes 8 `io_uring_enter` calls and a
//! `membarrier`, and it arms every readiness anew. CPU time of the server per request of an echo of
//! 1000 bytes, on 2 CPUs in use by other processes too:
//!
//! | load | glommio's sockets | here | a blocking thread each |
//! | --- | --- | --- | --- |
//! | 1 connection, 1000 requests/s | 64-76 us | 18-24 us | 13-19 us |
//! | 1 connection, 5000 requests/s asked | 46-56 us | 16-20 us | 8-13 us |
//! | 1 connection, one after the other | 21-22 us | 11-12 us | 8-9 us |
//! | 16 connections | 12-15 us | 8-9 us | 7-21 us |
//! | 64 connections | 11-16 us | 8-9 us | 5-15 us |
//!
//! A call to an idle shard and back: 52 us with glommio's cross-thread wake, 14 us here; a [`turn`]: 11
//! us and 1 us.
//!
//! ## The watchdog
//!
//! One thread for all shards (`watchdog.rs`) takes a sign of life from every shard once a second
//! ([`Options::on_alive`]), and counts where there was none ([`ShardStats::stalls`]).
//!
//! `cargo run --release -p shards --example measure` prints such figures for a machine.

mod bell;
mod blocking;
mod call;
mod disk;
mod heap;
mod host;
mod limit;
pub mod local;
mod lock;
mod mailbox;
pub mod net;
mod options;
mod poller;
mod root;
mod runtime;
mod shard;
mod signals;
mod stats;
mod task;
mod time;
mod watchdog;

pub use blocking::{BlockingError, SerialWorker, Workers};
pub use call::{Call, CallError, ReplyTo};
pub use disk::write_out;
pub use heap::keep_freed_memory;
pub use host::{Host, PreflightError, preflight};
pub use limit::LogLimit;
pub use lock::lock;
pub use options::{Options, Pin};
pub use runtime::{Observer, Runtime, RuntimeError, ShardError, StartError, start};
pub use shard::{Remote, SendError, Service, Shard};
pub use signals::block_signals;
pub use stats::ShardStats;
pub use task::turn;
pub use time::{Elapsed, Sleep, sleep, sleep_until, timeout, timeout_at};
