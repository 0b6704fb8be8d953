//! What other threads may touch of a shard: its bell, the tasks they woke, its counters.

use crate::poller::NO_SOURCE;
use crate::stats::Counters;
use crate::task::Header;
use crossbeam_queue::SegQueue;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

/// Wakes a shard from another thread.
///
/// The shard says that it goes to sleep (`asleep`), then looks once more for work; the other side
/// queues its work, then looks whether the shard sleeps. With a full fence between the two steps on
/// both sides, at least one of them sees the other. So a bell that is rung costs a system call only
/// when the shard sleeps, and only for the first of those who ring.
#[derive(Debug)]
pub(crate) struct Bell {
    pub(crate) index: usize,
    /// What the shard waits for; see `poller::Poller`.
    epoll: OwnedFd,
    /// Ends the shard's wait. It is never read: it is watched edge-triggered.
    event: OwnedFd,
    /// Wakes glommio, which reads it.
    alarm: OwnedFd,
    asleep: AtomicBool,
    /// 0, or the shard sleeps in glommio, until this many microseconds after `start` at most.
    parked_until: AtomicU64,
    start: Instant,
    /// Tasks woken by other threads. Bounded by the number of tasks: each is in here once at most.
    woken: SegQueue<Arc<Header>>,
    pub(crate) counters: Counters,
    /// Kernel id of the shard's thread, 0 before it runs.
    pub(crate) thread: AtomicI32,
}

impl Bell {
    pub(crate) fn new(index: usize) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &event, EventData::new_u64(NO_SOURCE), flags)?;
        Ok(Self {
            index,
            epoll,
            event,
            alarm: eventfd(0, EventfdFlags::CLOEXEC)?,
            asleep: AtomicBool::new(false),
            parked_until: AtomicU64::new(0),
            start: Instant::now(),
            woken: SegQueue::new(),
            counters: Counters::default(),
            thread: AtomicI32::new(0),
        })
    }

    /// Readable while events wait for the shard.
    pub(crate) fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    /// A second descriptor of the alarm, for glommio.
    pub(crate) fn alarm(&self) -> io::Result<OwnedFd> {
        self.alarm.try_clone()
    }

    /// Wakes the shard if it sleeps. To be called after the work has been queued.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.knock();
        }
    }

    /// Wakes the shard whatever it seems to do.
    pub(crate) fn knock(&self) {
        write(&self.event);
    }

    /// Wakes glommio's loop, which then runs what is runnable.
    pub(crate) fn sound_alarm(&self) {
        write(&self.alarm);
    }

    /// The shard is about to sleep. It has to look for work after this, and not before.
    pub(crate) fn falls_asleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn is_awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// The shard goes to sleep in glommio.
    pub(crate) fn parks(&self, until: Option<Instant>) {
        let until = until.map_or(u64::MAX, |until| {
            u64::try_from(until.duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
        });
        self.parked_until.store(until.max(1), Ordering::Release);
    }

    pub(crate) fn is_back(&self) {
        self.parked_until.store(0, Ordering::Release);
    }

    /// Whether the shard sleeps in glommio, and until when at most.
    pub(crate) fn parked(&self) -> Parked {
        match self.parked_until.load(Ordering::Acquire) {
            0 => Parked::No,
            u64::MAX => Parked::ForEvents,
            until => Parked::Until(self.start + Duration::from_micros(until)),
        }
    }

    pub(crate) fn push_woken(&self, task: Arc<Header>) {
        self.woken.push(task);
        self.ring();
    }

    pub(crate) fn pop_woken(&self) -> Option<Arc<Header>> {
        self.woken.pop()
    }

    pub(crate) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }
}

/// See [`Bell::parked`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parked {
    No,
    ForEvents,
    Until(Instant),
}

fn write(event: &OwnedFd) {
    // It fails only if the counter is about to overflow: after 2^64 - 1 writes, or if the shard has
    // been woken already.
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}
