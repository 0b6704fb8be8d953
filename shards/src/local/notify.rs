//! Waiting for something to happen: [`Notify`] for what happens again and again, [`Latch`] for what
//! happens once.

use super::waiters::Waiters;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

#[derive(Debug, Default)]
struct State {
    /// How often it happened.
    epoch: Cell<u64>,
    waiters: RefCell<Waiters>,
}

/// Wakes all tasks that wait at the time.
///
/// [`Notify::notified`] counts from the moment it is called, not from its first poll. So "look at the
/// state, and if it does not suit, wait" loses no notification.
#[derive(Debug, Clone, Default)]
pub struct Notify {
    state: Rc<State>,
}

impl Notify {
    /// A new one, with nobody waiting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends every [`Notify::notified`] made so far.
    pub fn notify_waiters(&self) {
        self.state.epoch.set(self.state.epoch.get().wrapping_add(1));
        self.state.waiters.borrow_mut().wake_all();
    }

    /// Ends at the next [`Notify::notify_waiters`] after this call.
    pub fn notified(&self) -> Notified {
        Notified {
            state: self.state.clone(),
            seen: self.state.epoch.get(),
            key: None,
        }
    }
}

/// See [`Notify::notified`].
#[derive(Debug)]
pub struct Notified {
    state: Rc<State>,
    seen: u64,
    key: Option<usize>,
}

impl Future for Notified {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.state.epoch.get() != this.seen {
            return Poll::Ready(());
        }
        this.state
            .waiters
            .borrow_mut()
            .register(&mut this.key, cx.waker());
        Poll::Pending
    }
}

impl Drop for Notified {
    fn drop(&mut self) {
        self.state.waiters.borrow_mut().remove(&mut self.key);
    }
}

/// Set once, stays set.
#[derive(Debug, Clone, Default)]
pub struct Latch {
    notify: Notify,
}

impl Latch {
    /// A new one, not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets it and wakes all who wait. Setting it again changes nothing.
    pub fn set(&self) {
        if !self.is_set() {
            self.notify.notify_waiters();
        }
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.notify.state.epoch.get() != 0
    }

    /// Ends as soon as it is set.
    pub fn wait(&self) -> Latched {
        Latched(Notified {
            state: self.notify.state.clone(),
            seen: 0,
            key: None,
        })
    }
}

/// See [`Latch::wait`].
#[derive(Debug)]
pub struct Latched(Notified);

impl Future for Latched {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}
