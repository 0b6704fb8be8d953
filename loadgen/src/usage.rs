//! The CPU time of this process and its threads: was it the client that was the limit?

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::machine::{Activity, Watch};

/// A measurement that goes on.
#[derive(Debug)]
pub struct Meter {
    clock: ClockId,
    began: Instant,
    cpu: Duration,
    queued: Option<Duration>,
}

/// A measurement of the process that goes on.
#[derive(Debug)]
pub struct ProcessMeter {
    meter: Meter,
    watch: Watch,
}

/// What the process had, and what the machine did meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct ProcessUsage {
    pub usage: Usage,
    pub machine: Activity,
}

impl ProcessMeter {
    /// The usage since the start.
    pub fn stop(&self) -> ProcessUsage {
        ProcessUsage {
            usage: self.meter.stop(),
            machine: self.watch.stop(),
        }
    }
}

/// Shares of the time between start and stop: 1 is a whole core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Running.
    pub cpu: f64,
    /// Able to run, and waiting for a core; of a thread only, and if the kernel says it.
    pub queued: Option<f64>,
}

impl Meter {
    /// Measures the calling thread.
    pub fn of_thread() -> Self {
        Self::start(ClockId::ThreadCPUTime, queued())
    }

    /// Measures the process, and watches the machine.
    pub fn of_process() -> ProcessMeter {
        ProcessMeter {
            meter: Self::start(ClockId::ProcessCPUTime, None),
            watch: Watch::start(),
        }
    }

    fn start(clock: ClockId, queued: Option<Duration>) -> Self {
        Self {
            clock,
            began: Instant::now(),
            cpu: cpu(clock),
            queued,
        }
    }

    /// The usage since the start. For a thread, on that thread.
    pub fn stop(&self) -> Usage {
        let wall = self.began.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        let share = |used: Duration| used.as_secs_f64() / wall;
        let queued = self.queued.and_then(|before| {
            let now = queued()?;
            Some(share(now.saturating_sub(before)))
        });
        Usage {
            cpu: share(cpu(self.clock).saturating_sub(self.cpu)),
            queued,
        }
    }
}

impl Usage {
    /// The larger share of each.
    pub fn most(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.max(other.cpu),
            queued: match (self.queued, other.queued) {
                (Some(one), Some(other)) => Some(one.max(other)),
                (one, other) => one.or(other),
            },
        }
    }
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        time.tv_sec.try_into().unwrap_or(0),
        time.tv_nsec.try_into().unwrap_or(0),
    )
}

/// Time that this thread has waited for a core. proc(5): the second field, in nanoseconds.
fn queued() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let ns = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(ns))
}
