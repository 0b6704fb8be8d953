//! Which shard gets a connection.
//!
//! The kernel spreads connections over the listeners of an address by a hash: two of them are on one
//! shard half of the time, and the other shards idle. So a shard that accepts one while it has more
//! than another hands it on. Nothing has been read from it, so nothing else has to move.

use crate::bell::Bell;
use crate::lock::lock;
use crate::poller::Poller;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// A shard keeps what it accepts while it has at most this part more than the one with the fewest: with
/// many connections the kernel's hash is even enough.
const SLACK_DIVISOR: usize = 16;
/// Connections that wait for a shard to take them, at the most; then others keep theirs.
const HANDED_MAX: usize = 1024;

/// One of the connections of a shard, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<Bell>);

impl Counted {
    pub(super) fn on(bell: &Arc<Bell>) -> Self {
        bell.counters.connections.fetch_add(1, Ordering::Relaxed);
        Self(bell.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that no shard watches yet.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: OwnedFd,
    pub(super) peer: SocketAddr,
    pub(super) counted: Counted,
}

/// The listeners of all shards on one address.
#[derive(Debug)]
pub(crate) struct Group {
    /// By shard.
    inboxes: Box<[Inbox]>,
}

/// What other shards hand to a listener.
#[derive(Debug, Default)]
struct Inbox {
    /// The shard listens.
    open: AtomicBool,
    handed: Mutex<Handed>,
}

#[derive(Debug, Default)]
struct Handed {
    connections: VecDeque<Accepted>,
    waiter: Option<Waker>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Handed> {
        lock(&self.handed)
    }
}

impl Group {
    pub(super) fn new(shards: usize) -> Arc<Self> {
        let inboxes = (0..shards).map(|_| Inbox::default()).collect();
        Arc::new(Self { inboxes })
    }

    /// The place of a shard that listens from now on.
    pub(super) fn enter(self: Arc<Self>, shard: usize) -> Member {
        self.inboxes[shard].open.store(true, Ordering::Release);
        Member { group: self, shard }
    }
}

/// One listener's place in its group, until it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    group: Arc<Group>,
    shard: usize,
}

impl Member {
    /// Gives a connection to another shard if that is worth it; else it comes back, for this one.
    pub(super) fn hand_on(
        &self,
        bells: &[Arc<Bell>],
        socket: OwnedFd,
        peer: SocketAddr,
    ) -> Option<Accepted> {
        let to = self.choose(bells);
        let accepted = |shard: usize, socket| Accepted {
            socket,
            peer,
            counted: Counted::on(&bells[shard]),
        };
        if to == self.shard {
            return Some(accepted(to, socket));
        }
        let inbox = &self.group.inboxes[to];
        let mut handed = inbox.lock();
        // It may have closed since, for good: what is put into it then is never taken.
        if !inbox.open.load(Ordering::Acquire) || handed.connections.len() >= HANDED_MAX {
            drop(handed);
            return Some(accepted(self.shard, socket));
        }
        handed.connections.push_back(accepted(to, socket));
        let waiter = handed.waiter.take();
        drop(handed);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
        None
    }

    /// The shard with the fewest connections, or this one if the difference is small.
    fn choose(&self, bells: &[Arc<Bell>]) -> usize {
        let count = |shard: &usize| bells[*shard].counters.connections.load(Ordering::Relaxed);
        let is_open = |shard: &usize| self.group.inboxes[*shard].open.load(Ordering::Relaxed);
        let others = (0..bells.len()).filter(is_open);
        let Some((fewest, shard)) = others.map(|shard| (count(&shard), shard)).min() else {
            return self.shard;
        };
        if count(&self.shard) > fewest + fewest / SLACK_DIVISOR {
            shard
        } else {
            self.shard
        }
    }

    /// What another shard handed to this one. If there is nothing, `cx` is woken when there is. Pending:
    /// the task has done enough for now.
    pub(super) fn poll_handed(
        &self,
        poller: &Poller,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Accepted>> {
        let mut handed = self.group.inboxes[self.shard].lock();
        if handed.connections.is_empty() {
            match &mut handed.waiter {
                Some(waiter) => waiter.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Ready(None);
        }
        std::task::ready!(poller.poll_budget(cx));
        Poll::Ready(handed.connections.pop_front())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let inbox = &self.group.inboxes[self.shard];
        let mut handed = inbox.lock();
        inbox.open.store(false, Ordering::Release);
        let left = std::mem::take(&mut *handed);
        drop(handed);
        // Outside of the lock: these close sockets.
        drop(left);
    }
}
