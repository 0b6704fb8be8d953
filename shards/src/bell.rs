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
use std::sync::atomic::{AtomicBool, Ordering, fence};

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
    asleep: AtomicBool,
    /// Tasks woken by other threads. Bounded by the number of tasks: each is in here once at most.
    woken: SegQueue<Arc<Header>>,
    pub(crate) counters: Counters,
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
            asleep: AtomicBool::new(false),
            woken: SegQueue::new(),
            counters: Counters::default(),
        })
    }

    pub(crate) fn epoll(&self) -> &OwnedFd {
        &self.epoll
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

    /// The shard is about to sleep. It has to look for work after this, and not before.
    pub(crate) fn falls_asleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn is_awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
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

fn write(event: &OwnedFd) {
    // It fails only if the counter is about to overflow: after 2^64 - 1 writes, or if the shard has
    // been woken already.
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}
