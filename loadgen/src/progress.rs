//! A live line on standard error while a run goes on: what the last second was like. On a terminal it
//! is always the same line; elsewhere there is a new one from time to time.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::run::Run;
use crate::timeline::{Point, SCHEDULE_LAG};

const INTERVAL: Duration = Duration::from_millis(250);
const INTERVAL_OF_A_LOG: Duration = Duration::from_secs(10);
/// A terminal shows the rate of so many intervals: of a second.
const RATE_INTERVALS: usize = 4;
const BAR_WIDTH: u64 = 10;

/// The line; on a terminal it goes when this is dropped.
#[derive(Debug)]
pub struct Progress {
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Shows how far `count` of the run is on its way to `total`.
    pub fn show(
        run: &Arc<Run>,
        what: &'static str,
        total: u64,
        count: fn(&Run) -> &AtomicU64,
    ) -> Self {
        let run = Arc::clone(run);
        let (end, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let terminal = io::stderr().is_terminal();
            let (interval, intervals) = match terminal {
                true => (INTERVAL, RATE_INTERVALS),
                false => (INTERVAL_OF_A_LOG, 1),
            };
            let mut counts = Counts::new(intervals);
            while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let done = count(&run).load(Ordering::Relaxed);
                let rate = counts.rate(done);
                let line = line(what, done, total, rate, &Last::of(&run));
                match terminal {
                    true => write(&format!("\r\x1b[K{line}")),
                    false => write(&format!("{line}\n")),
                }
            }
            if terminal {
                write("\r\x1b[K");
            }
        });
        Self {
            thread: Some((end, thread)),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.thread.take() {
            drop(end);
            let _ = thread.join();
        }
    }
}

fn write(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// How much was done when, at the ends of the last few intervals.
#[derive(Debug)]
struct Counts {
    intervals: usize,
    ends: VecDeque<(Instant, u64)>,
}

impl Counts {
    fn new(intervals: usize) -> Self {
        Self {
            intervals,
            ends: VecDeque::from([(Instant::now(), 0)]),
        }
    }

    /// What was done a second in the last intervals, now that this much is done.
    fn rate(&mut self, done: u64) -> f64 {
        let now = Instant::now();
        let (then, before) = self.ends.front().copied().unwrap_or((now, done));
        if self.ends.len() == self.intervals {
            self.ends.pop_front();
        }
        self.ends.push_back((now, done));
        done.saturating_sub(before) as f64 / (now - then).as_secs_f64().max(0.001)
    }
}

/// What the last second was like.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    /// Of the first thing that is measured and went on.
    measured: Option<Point>,
    lag: Option<Point>,
    /// Since the start.
    errors: u64,
}

impl Last {
    fn of(run: &Run) -> Self {
        let now_ns = run.now_ns();
        let mut last = Self {
            errors: run.errors.load(Ordering::Relaxed),
            ..Self::default()
        };
        for track in run.timeline.tracks() {
            let second = track.last_second(now_ns).filter(|second| second.count > 0);
            match track.of == SCHEDULE_LAG {
                true => last.lag = second,
                false => last.measured = last.measured.or(second),
            }
        }
        last
    }
}

/// Less than 80 characters, for rates that are not astronomic: a longer one would leave its end behind.
fn line(what: &str, done: u64, total: u64, rate: f64, last: &Last) -> String {
    let total = total.max(1);
    let filled = (done.min(total) * BAR_WIDTH / total) as usize;
    let bar = "#".repeat(filled) + &"-".repeat(BAR_WIDTH as usize - filled);
    let percent = done.min(total) * 100 / total;
    let mut line = format!("{what} {percent:3} % [{bar}] {rate:.0}/s");
    let ms = |ns: u64| ns as f64 / 1e6;
    if let Some(times) = last.measured.and_then(|point| point.times) {
        let (p50, p99) = (ms(times.p50_ns), ms(times.p99_ns));
        let _ = write!(line, ", p50 {p50:.2} p99 {p99:.2} ms");
    }
    if let Some(times) = last.lag.and_then(|point| point.times) {
        let _ = write!(line, ", lag {:.2} ms", ms(times.p99_ns));
    }
    match last.errors {
        0 => line,
        1 => line + ", 1 error",
        errors => line + &format!(", {errors} errors"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::PointTimes;

    fn point(ms: u64) -> Option<Point> {
        let ns = ms * 1_000_000;
        Some(Point {
            from_ns: 0,
            to_ns: 1,
            count: 1,
            times: Some(PointTimes {
                p50_ns: ns,
                p99_ns: 10 * ns,
                max_ns: 20 * ns,
            }),
        })
    }

    #[test]
    fn the_line_says_how_far_it_is() {
        let half = line("produce", 50, 100, 50.0, &Last::default());
        assert_eq!(half, "produce  50 % [#####-----] 50/s");
        let over = line("produce", 500, 100, 1.0, &Last::default());
        assert!(over.contains("100 %"), "a warm-up by time has more: {over}");
    }

    #[test]
    fn the_line_says_what_the_last_second_was_like() {
        let last = Last {
            measured: point(400),
            lag: point(200),
            errors: 12,
        };
        let line = line("produce", 1, 9, 999_999.0, &last);
        assert!(line.ends_with("999999/s, p50 400.00 p99 4000.00 ms, lag 2000.00 ms, 12 errors"));
        assert!(line.len() <= 95, "{}", line.len());
    }

    #[test]
    fn a_rate_is_that_of_the_last_intervals() {
        let mut counts = Counts::new(2);
        for done in [0, 1_000_000, 1_000_000, 1_000_000] {
            assert!(counts.rate(done) >= 0.0);
        }
        assert!(
            counts.rate(1_000_000).abs() < 1e-9,
            "what was before is over"
        );
        assert!(counts.rate(2_000_000) > 0.0);
    }

    #[test]
    fn the_last_second_is_that_of_what_went_on() {
        let run = Run::new(1);
        run.timeline.track("idle");
        assert!(Last::of(&run).measured.is_none());
    }
}
