//! The thread-per-core runtime: one [glommio] executor per core, calls between them by message.

mod bell;
mod blocking;
mod call;
mod host;
pub mod local;
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

pub use blocking::{BlockingError, SerialWorker};
pub use call::{Call, CallError, ReplyTo};
pub use host::{Host, PreflightError, preflight};
pub use options::{Options, Pin};
pub use runtime::{Runtime, RuntimeError, ShardError, StartError, start};
pub use shard::{Remote, SendError, Service, Shard};
pub use signals::block_signals;
pub use stats::ShardStats;
pub use task::turn;
pub use time::{Elapsed, sleep, sleep_until, timeout, timeout_at};
