//! Readiness of a shard's sockets, by one epoll instance.
//!
//! glommio's own sockets arm each wait anew, and each time glommio's loop sleeps and wakes it makes 8
//! `io_uring_enter` calls and a `membarrier`; see the crate's documentation for what that costs.

use crate::bell::Bell;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Events taken in one system call.
const EVENTS: usize = 128;
/// Operations on sockets that a task may do without a pause. Else one whose peer never stops would
/// never stop either. An operation takes about 5 us, and 0.1 ms at most.
const BUDGET: u32 = 32;
/// The key of a descriptor that only ends the wait.
pub(crate) const NO_SOURCE: u64 = u64::MAX;

/// What may be waited for. A descriptor can wait for both at a time, once each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

/// One direction of a descriptor.
#[derive(Debug, Default)]
struct Readiness {
    ready: bool,
    waiter: Option<Waker>,
}

#[derive(Debug, Default)]
struct Source {
    /// Tells a descriptor from an earlier one with the same index.
    generation: u32,
    sides: [Readiness; 2],
    /// The peer has closed its side, or the connection has failed. Nothing more will be reported, so
    /// readiness is not given up any more.
    ended: bool,
}

/// The descriptors of one shard.
#[derive(Debug)]
pub(crate) struct Poller {
    /// Holds the epoll instance: the watchdog looks at it too.
    bell: Arc<Bell>,
    sources: RefCell<Vec<Source>>,
    free: RefCell<Vec<usize>>,
    /// Operations that the running task may still do before it has to let others run.
    budget: Cell<u32>,
    /// Kept for its allocation.
    woken: RefCell<Vec<Waker>>,
    /// The kernel lacks `epoll_pwait2`: timeouts are in milliseconds.
    coarse: Cell<bool>,
}

impl Poller {
    pub(crate) fn new(bell: Arc<Bell>) -> Self {
        Self {
            bell,
            sources: RefCell::default(),
            free: RefCell::default(),
            budget: Cell::new(BUDGET),
            woken: RefCell::default(),
            coarse: Cell::new(false),
        }
    }

    /// Another task runs.
    pub(crate) fn renew_budget(&self) {
        self.budget.set(BUDGET);
    }

    /// One more operation of the running task. One that has done many waits for its next turn.
    pub(crate) fn poll_budget(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.budget.get() == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.budget.set(self.budget.get() - 1);
        Poll::Ready(())
    }

    /// Takes a non-blocking socket under its watch.
    pub(crate) fn register(self: &Rc<Self>, socket: OwnedFd) -> io::Result<Registered> {
        let mut sources = self.sources.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            sources.push(Source::default());
            sources.len() - 1
        });
        let source = &mut sources[index];
        // Whether it is ready is found out by trying.
        source.sides = [true, true].map(|ready| Readiness {
            ready,
            waiter: None,
        });
        source.ended = false;
        let key = u64::from(source.generation) << 32 | index as u64;
        let registered = Registered {
            socket,
            index,
            poller: self.clone(),
        };
        drop(sources);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(
            self.bell.epoll(),
            &registered.socket,
            EventData::new_u64(key),
            flags,
        )?;
        Ok(registered)
    }

    /// Waits for events, and wakes who waits for them. Tells whether there were any.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let mut events = [const { MaybeUninit::<Event>::uninit() }; EVENTS];
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(if self.coarse.get() {
                timeout
                    .subsec_nanos()
                    .next_multiple_of(1_000_000)
                    .min(999_000_000)
            } else {
                timeout.subsec_nanos()
            }),
        };
        let events = match epoll::wait(self.bell.epoll(), &mut events, Some(&timeout)) {
            Ok((events, _)) => events,
            Err(Errno::NOSYS) => {
                self.coarse.set(true);
                return false;
            }
            // EINTR. Nothing else can come of these arguments.
            Err(_) => return false,
        };
        let mut woken = self.woken.take();
        let mut sources = self.sources.borrow_mut();
        for event in &*events {
            let key = event.data.u64();
            let index = (key & u64::from(u32::MAX)) as usize;
            if let Some(source) = sources.get_mut(index)
                && key >> 32 == u64::from(source.generation)
            {
                source.note(event.flags, &mut woken);
            }
        }
        drop(sources);
        woken.drain(..).for_each(Waker::wake);
        self.woken.replace(woken);
        !events.is_empty()
    }
}

impl Source {
    fn note(&mut self, flags: EventFlags, woken: &mut Vec<Waker>) {
        let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        self.ended |= ended;
        for (side, flag) in [(Side::Read, EventFlags::IN), (Side::Write, EventFlags::OUT)] {
            if ended || flags.contains(flag) {
                let side = &mut self.sides[side as usize];
                side.ready = true;
                woken.extend(side.waiter.take());
            }
        }
    }
}

/// A socket under the poller's watch, until it is dropped, which closes it.
#[derive(Debug)]
pub(crate) struct Registered {
    socket: OwnedFd,
    index: usize,
    poller: Rc<Poller>,
}

impl Registered {
    /// Tries `operation` if the socket may be ready, and waits if it would block. A task that has done
    /// many operations waits for its next turn as well.
    pub(crate) fn poll_io<T>(
        &self,
        side: Side,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        std::task::ready!(self.poller.poll_budget(cx));
        loop {
            if !self.with(side, |readiness, _| readiness.ready) {
                self.with(side, |readiness, _| match &mut readiness.waiter {
                    Some(waiter) => waiter.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                });
                return Poll::Pending;
            }
            match operation(self.socket.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.with(side, |readiness, _| readiness.ready = false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// The last operation took all there was: the next one waits for an event, without trying first.
    pub(crate) fn exhausted(&self, side: Side) {
        self.with(side, |readiness, ended| readiness.ready = ended);
    }

    fn with<T>(&self, side: Side, f: impl FnOnce(&mut Readiness, bool) -> T) -> T {
        let source = &mut self.poller.sources.borrow_mut()[self.index];
        f(&mut source.sides[side as usize], source.ended)
    }
}

impl AsFd for Registered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut sources = self.poller.sources.borrow_mut();
        let source = &mut sources[self.index];
        source.generation = source.generation.wrapping_add(1);
        source.sides = Default::default();
        self.poller.free.borrow_mut().push(self.index);
        // Closing the socket ends the kernel's watch.
    }
}
