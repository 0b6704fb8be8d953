//! A limit for what others can make the log say: whoever causes a line could fill the disk with them.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What times are counted from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Lines of one place in the code: so many in each interval. It locks nothing; when many threads log
/// at the same moment, a few lines more may get through.
#[derive(Debug)]
pub struct LogLimit {
    lines: u64,
    interval: Duration,
    /// The number of the interval in which a line was last asked for.
    current: AtomicU64,
    asked: AtomicU64,
    left_out: AtomicU64,
}

impl LogLimit {
    /// `lines` in each `interval`.
    pub const fn new(lines: u64, interval: Duration) -> Self {
        Self {
            lines,
            interval,
            current: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    /// Whether a line may be logged now; then with the number of those that were left out before it.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(EPOCH.elapsed())
    }

    fn admit_at(&self, now: Duration) -> Option<u64> {
        let interval = (now.as_nanos() / self.interval.as_nanos().max(1)) as u64;
        if self.current.swap(interval, Ordering::Relaxed) != interval {
            self.asked.store(0, Ordering::Relaxed);
        }
        if self.asked.fetch_add(1, Ordering::Relaxed) < self.lines {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Logs as `tracing`'s macro of that name does, but from this place no more than 5 times in 10 seconds.
/// The next line that gets through says how many were left out: `log_limited!(warn, %peer, "...")`.
#[macro_export]
macro_rules! log_limited {
    ($level:ident, $($line:tt)+) => {{
        static LIMIT: $crate::LogLimit =
            $crate::LogLimit::new(5, ::std::time::Duration::from_secs(10));
        if let Some(left_out) = LIMIT.admit() {
            let left_out = (left_out > 0).then_some(left_out);
            ::tracing::$level!(left_out, $($line)+);
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted_and_told_by_the_next_line() {
        let limit = LogLimit::new(2, Duration::from_secs(10));
        let admit = |seconds| limit.admit_at(Duration::from_secs(seconds));
        assert_eq!(
            [admit(0), admit(1), admit(2), admit(9)],
            [Some(0), Some(0), None, None]
        );
        assert_eq!([admit(10), admit(11), admit(12)], [Some(2), Some(0), None]);
        assert_eq!(admit(100), Some(1));
    }
}
