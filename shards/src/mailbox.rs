//! Where a shard's messages arrive.

use crate::bell::Bell;
use crate::call::{CallError, Caller};
use crossbeam_queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

pub(crate) enum Message<Q, R> {
    Request {
        from: Caller,
        request: Q,
    },
    Reply {
        id: usize,
        result: Result<R, CallError>,
    },
}

/// One bounded queue for a shard, filled by all other shards and by other threads.
///
/// The alternative, glommio's mesh of one channel for each pair of shards, was measured against it in
/// one run (2 CPUs in use by others too, messages there and back per second, this / the mesh): 1 in
/// flight 131,000 / 6,200; 8: 577,000 / 66,000; 64: 3.6 M / 0.48 M; 512: 3.0 M / 1.75 M.
pub(crate) struct Mailbox<Q, R> {
    queue: ArrayQueue<Message<Q, R>>,
    pub(crate) bell: Arc<Bell>,
    /// Shards that found it full and want to be woken when there is room, by index.
    starved: Box<[AtomicBool]>,
    any_starved: AtomicBool,
    /// The shard has ended and takes no more messages.
    closed: AtomicBool,
}

impl<Q, R> Mailbox<Q, R> {
    pub(crate) fn new(capacity: usize, shards: usize, bell: Arc<Bell>) -> Self {
        Self {
            queue: ArrayQueue::new(capacity),
            bell,
            starved: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            any_starved: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// Puts a message in and wakes the shard, or gives the message back if there is no room.
    pub(crate) fn push(&self, message: Message<Q, R>) -> Result<(), Message<Q, R>> {
        self.queue.push(message)?;
        self.bell.ring();
        Ok(())
    }

    /// As `push`, for a shard that is to be rung when there is room again.
    pub(crate) fn push_or_starve(
        &self,
        from: usize,
        message: Message<Q, R>,
    ) -> Result<(), Message<Q, R>> {
        let message = match self.push(message) {
            Ok(()) => return Ok(()),
            Err(message) => message,
        };
        self.starved[from].store(true, Ordering::Relaxed);
        self.any_starved.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // Once more: if it was emptied before the flags were set, nobody would ring.
        self.push(message)
    }

    pub(crate) fn pop(&self) -> Option<Message<Q, R>> {
        self.queue.pop()
    }

    /// After messages were taken: which shards to ring.
    pub(crate) fn take_starved(&self) -> impl Iterator<Item = usize> + '_ {
        fence(Ordering::SeqCst);
        let any = self.any_starved.load(Ordering::Relaxed)
            && self.any_starved.swap(false, Ordering::AcqRel);
        let starved = if any { &self.starved[..] } else { &[] };
        starved
            .iter()
            .enumerate()
            .filter(|(_, starved)| starved.swap(false, Ordering::AcqRel))
            .map(|(index, _)| index)
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}
