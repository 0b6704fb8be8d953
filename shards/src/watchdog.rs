//! One thread that watches all shards: it wakes one that sleeps over runnable work, and tells whether
//! all are alive.
//!
//! A shard can oversleep only in glommio, where it goes when it has had nothing to do for a while
//! (`root::LINGER`). It says so (`Bell::parks`), with the time of its next timer. The watchdog sleeps
//! too, until something happens to such a shard: an event in its epoll instance, or that time. If
//! [`STALL`] later the shard has not come back, it either waits for a CPU or glommio has parked over a
//! runnable task; the kernel's state of the thread tells which. In the latter case any event gets
//! glommio going again, so the watchdog sounds the shard's alarm.
//!
//! So nothing is looked at while all goes well, an idle shard is not disturbed, and a stall ends after
//! about 2 ms. Once in a [`BEAT`] every shard is woken and has to make a round: the sign of life, and
//! the net below the net.

use crate::bell::{Bell, Parked};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A shard that has not come back for this long, with something to do, oversleeps.
const STALL: Duration = Duration::from_millis(2);
/// Time between two signs of life.
const BEAT: Duration = Duration::from_secs(1);

/// How shards reach the watchdog.
#[derive(Debug)]
pub(crate) struct Leash {
    event: OwnedFd,
    ended: AtomicBool,
}

impl Leash {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            ended: AtomicBool::new(false),
        })
    }

    /// A shard has parked: look after it.
    pub(crate) fn pull(&self) {
        // It fails only if the watchdog has been told often enough.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.pull();
    }
}

struct Watched {
    bell: Arc<Bell>,
    rounds_at_beat: u64,
}

/// A shard that should come back now.
struct Called {
    shard: usize,
    rounds: u64,
}

pub(crate) struct Watchdog {
    leash: Arc<Leash>,
    shards: Vec<Watched>,
    on_alive: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Watchdog {
    pub(crate) fn new(
        leash: Arc<Leash>,
        bells: &[Arc<Bell>],
        on_alive: Option<Arc<dyn Fn() + Send + Sync>>,
    ) -> Self {
        let watch = |bell: &Arc<Bell>| Watched {
            bell: bell.clone(),
            rounds_at_beat: 0,
        };
        Self {
            leash,
            shards: bells.iter().map(watch).collect(),
            on_alive,
        }
    }

    pub(crate) fn run(mut self) {
        let mut next_beat = Instant::now() + BEAT;
        while !self.leash.ended.load(Ordering::SeqCst) {
            let called = self.wait(next_beat);
            if !called.is_empty() {
                std::thread::sleep(STALL);
                for called in called {
                    self.wake_if_asleep(&called);
                }
            }
            if Instant::now() >= next_beat {
                self.beat();
                next_beat = Instant::now() + BEAT;
            }
        }
    }

    /// Sleeps until something happens to a parked shard, another one parks, or `latest`.
    fn wait(&self, latest: Instant) -> Vec<Called> {
        let mut parked = Vec::with_capacity(self.shards.len());
        let mut fds = vec![PollFd::new(&self.leash.event, PollFlags::IN)];
        let mut until = latest;
        for (index, shard) in self.shards.iter().enumerate() {
            // Before the state, so that a shard that comes back after this line is seen to have done so.
            let rounds = shard.bell.counters.rounds.get();
            let state = shard.bell.parked();
            if state == Parked::No {
                continue;
            }
            if let Parked::Until(timer) = state {
                until = until.min(timer);
            }
            parked.push((
                Called {
                    shard: index,
                    rounds,
                },
                state,
            ));
            fds.push(PollFd::new(shard.bell.epoll(), PollFlags::IN));
        }
        let timeout = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        // An error is an interruption: the next look is at once.
        let _ = poll(&mut fds, Some(&timeout));
        if !fds[0].revents().is_empty() {
            let _ = rustix::io::read(&self.leash.event, &mut [0; size_of::<u64>()]);
        }
        let now = Instant::now();
        parked
            .into_iter()
            .zip(&fds[1..])
            .filter(|((_, state), fd)| {
                let overdue = matches!(state, Parked::Until(timer) if *timer <= now);
                overdue || !fd.revents().is_empty()
            })
            .map(|((called, _), _)| called)
            .collect()
    }

    fn wake_if_asleep(&self, called: &Called) {
        let bell = &self.shards[called.shard].bell;
        let unmoved = bell.counters.rounds.get() == called.rounds && bell.parked() != Parked::No;
        if unmoved && is_asleep(bell) {
            bell.counters.stalls.add(1);
            bell.sound_alarm();
        }
    }

    fn beat(&mut self) {
        let mut alive = true;
        for shard in &mut self.shards {
            let rounds = shard.bell.counters.rounds.get();
            alive &= rounds != shard.rounds_at_beat;
            shard.rounds_at_beat = rounds;
            if shard.bell.parked() == Parked::No {
                shard.bell.knock();
            } else {
                shard.bell.sound_alarm();
            }
        }
        if alive && let Some(on_alive) = &self.on_alive {
            on_alive();
        }
    }
}

/// Whether the shard's thread sleeps in the kernel, rather than running or waiting for a CPU.
fn is_asleep(bell: &Bell) -> bool {
    let thread = bell.thread.load(Ordering::Relaxed);
    let Ok(stat) = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")) else {
        // Without /proc: an alarm for nothing does less harm than none.
        return true;
    };
    // The name in parentheses may hold anything, so look behind its end.
    stat.rsplit_once(')')
        .is_none_or(|(_, rest)| rest.trim_start().starts_with('S'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::gettid;
    use std::sync::mpsc;
    use std::thread;

    /// A thread that sleeps in the kernel until the bell's alarm sounds, as glommio does.
    fn sleep_as_a_shard(bell: &Arc<Bell>) -> thread::JoinHandle<Instant> {
        let (ready, is_ready) = mpsc::channel();
        let bell = bell.clone();
        let thread = thread::spawn(move || {
            bell.thread.store(gettid().as_raw_pid(), Ordering::Relaxed);
            let alarm = bell.alarm().unwrap();
            ready.send(()).unwrap();
            rustix::io::read(alarm, &mut [0; size_of::<u64>()]).unwrap();
            Instant::now()
        });
        is_ready.recv().unwrap();
        thread
    }

    fn watch(bells: &[Arc<Bell>]) -> (Arc<Leash>, thread::JoinHandle<()>) {
        let leash = Arc::new(Leash::new().unwrap());
        let watchdog = Watchdog::new(leash.clone(), bells, None);
        (leash, thread::spawn(|| watchdog.run()))
    }

    #[test]
    fn a_shard_that_sleeps_over_an_event_or_a_timer_is_woken_before_the_next_beat() {
        for timer in [None, Some(Duration::from_millis(20))] {
            let bell = Arc::new(Bell::new(0).unwrap());
            let (leash, watchdog) = watch(std::slice::from_ref(&bell));
            let shard = sleep_as_a_shard(&bell);
            bell.parks(timer.map(|timer| Instant::now() + timer));
            leash.pull();
            let start = Instant::now();
            if timer.is_none() {
                bell.knock();
            }
            let woken = shard.join().unwrap().duration_since(start);
            assert!(woken < BEAT / 2, "{woken:?}");
            assert!(bell.counters.stalls.get() > 0);
            leash.end();
            watchdog.join().unwrap();
        }
    }

    #[test]
    fn a_shard_that_has_nothing_to_do_is_left_alone_until_the_beat() {
        let bell = Arc::new(Bell::new(0).unwrap());
        let (leash, watchdog) = watch(std::slice::from_ref(&bell));
        let shard = sleep_as_a_shard(&bell);
        let start = Instant::now();
        bell.parks(Some(start + Duration::from_secs(60)));
        leash.pull();
        let woken = shard.join().unwrap().duration_since(start);
        assert!(woken > BEAT / 2, "{woken:?}");
        assert_eq!(bell.counters.stalls.get(), 0);
        leash.end();
        watchdog.join().unwrap();
    }
}
