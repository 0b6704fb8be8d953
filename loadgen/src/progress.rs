//! A live line on standard error while a run goes on. Only on a terminal: a log has no use for it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::run::Run;

const INTERVAL: Duration = Duration::from_millis(250);
const BAR_WIDTH: u64 = 30;

/// The line; it goes when this is dropped.
#[derive(Debug)]
pub struct Progress {
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Shows how far `count` of the run is on its way to `total`; nothing, if nobody looks.
    pub fn show(
        run: &Arc<Run>,
        what: &'static str,
        total: u64,
        count: fn(&Run) -> &AtomicU64,
    ) -> Self {
        if !io::stderr().is_terminal() {
            return Self { thread: None };
        }
        let run = Arc::clone(run);
        let (end, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let done = count(&run).load(Ordering::Relaxed);
                write(&line(what, done, total, began.elapsed()));
            }
            write("\r\x1b[K");
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

fn line(what: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let total = total.max(1);
    let filled = (done.min(total) * BAR_WIDTH / total) as usize;
    let bar = "#".repeat(filled) + &"-".repeat(BAR_WIDTH as usize - filled);
    let percent = done.min(total) * 100 / total;
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    format!("\r\x1b[K{what} [{bar}] {percent:3} %  {done} messages  {rate:.0}/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is() {
        let half = line("produce", 50, 100, Duration::from_secs(1));
        assert!(half.contains(" 50 %") && half.contains("50/s"), "{half}");
        assert!(half.contains(&("#".repeat(15) + &"-".repeat(15))));
        let over = line("produce", 500, 100, Duration::from_secs(1));
        assert!(over.contains("100 %"), "a warm-up by time has more: {over}");
    }
}
