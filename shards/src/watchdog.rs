//! One thread that looks after all shards: it tells whether they are alive.
//!
//! Once in a [`BEAT`] it rings every shard, and has every shard make a round until the next one. A shard
//! that does not is held by one of its tasks, or gets no CPU.

use crate::bell::Bell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Time between two signs of life.
const BEAT: Duration = Duration::from_secs(1);

/// The thread, until this is dropped.
pub(crate) struct Watchdog {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Watched {
    bell: Arc<Bell>,
    rounds: u64,
}

impl Watchdog {
    /// `on_alive` is called after each beat in which all shards were alive.
    pub(crate) fn start(
        name: String,
        bells: &[Arc<Bell>],
        on_alive: Option<Arc<dyn Fn() + Send + Sync>>,
    ) -> io::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let watch = |bell: &Arc<Bell>| Watched {
            bell: bell.clone(),
            rounds: 0,
        };
        let mut shards: Vec<_> = bells.iter().map(watch).collect();
        let is_ended = ended.clone();
        let thread = Builder::new().name(name).spawn(move || {
            let mut next = Instant::now() + BEAT;
            while !is_ended.load(Ordering::Acquire) {
                let left = next.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    std::thread::park_timeout(left);
                    continue;
                }
                next = Instant::now() + BEAT;
                let mut all_alive = true;
                for shard in &mut shards {
                    all_alive &= shard.beat();
                }
                if let (true, Some(on_alive)) = (all_alive, &on_alive) {
                    on_alive();
                }
            }
        })?;
        Ok(Self {
            ended,
            thread: Some(thread),
        })
    }
}

impl Watched {
    /// Rings the shard. Tells whether it has made a round since the last time.
    fn beat(&mut self) -> bool {
        let rounds = self.bell.counters.rounds.get();
        let alive = rounds != self.rounds;
        let counters = &self.bell.counters;
        counters.stalls.add(u64::from(!alive));
        let silent = if alive { 0 } else { counters.silent.get() + 1 };
        counters.silent.set(silent);
        self.rounds = rounds;
        self.bell.knock();
        alive
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
