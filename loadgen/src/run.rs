//! What the threads of a run share: its clock, how far it is, and whether it has failed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::timeline::Timeline;

/// Threads are started before the clock is: no message is late because of that.
const HEAD_START: Duration = Duration::from_millis(20);

/// A run. All times are in nanoseconds from its start.
#[derive(Debug)]
pub struct Run {
    pub id: u64,
    start: OnceLock<Start>,
    stopped: AtomicBool,
    /// Messages that brokers have acknowledged, or with acks=0 that were sent.
    pub acked: AtomicU64,
    /// Messages that were read.
    pub received: AtomicU64,
    /// Connections that came, in scenarios that are about these.
    pub connects: AtomicU64,
    /// Errors that passed, and connections that failed.
    pub errors: AtomicU64,
    /// What was measured when.
    pub timeline: Timeline,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    instant: Instant,
    wall_ms: i64,
}

impl Run {
    /// A run that has not started.
    pub fn new(id: u64) -> Self {
        Self {
            id,
            start: OnceLock::new(),
            stopped: AtomicBool::new(false),
            acked: AtomicU64::new(0),
            received: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            timeline: Timeline::default(),
        }
    }

    /// Starts the clock, in a moment.
    pub fn start(&self) {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.start.get_or_init(|| Start {
            instant: Instant::now() + HEAD_START,
            wall_ms: (wall + HEAD_START).as_millis() as i64,
        });
    }

    /// Sleeps until the clock starts.
    pub fn wait_for_start(&self) {
        if let Some(start) = self.start.get() {
            std::thread::sleep(start.instant.saturating_duration_since(Instant::now()));
        }
    }

    /// The time; 0 before the start.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.start.get().map_or(0, |start| {
            let since = Instant::now().saturating_duration_since(start.instant);
            since.as_nanos() as u64
        })
    }

    /// A time as milliseconds since the epoch.
    pub fn wall_ms(&self, ns: u64) -> i64 {
        let start_ms = self.start.get().map_or(0, |start| start.wall_ms);
        start_ms + (ns / 1_000_000) as i64
    }

    /// Something failed: all threads have to end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether something failed.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
