//! Waiting for time to pass.

use crate::task::{Tasks, current};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The timers of one shard.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// By deadline, then by the order in which they were made.
    armed: RefCell<BTreeMap<(Instant, u64), Waker>>,
    made: Cell<u64>,
}

impl Timers {
    fn new_id(&self) -> u64 {
        self.made.set(self.made.get() + 1);
        self.made.get()
    }

    /// Wakes those whose time has come.
    pub(crate) fn fire(&self, now: Instant) {
        loop {
            let due = match self.armed.borrow_mut().first_entry() {
                Some(first) if first.key().0 <= now => first.remove(),
                _ => return,
            };
            due.wake();
        }
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.armed
            .borrow()
            .first_key_value()
            .map(|((deadline, _), _)| *deadline)
    }
}

/// See [`sleep`].
#[must_use = "it does nothing until it is awaited"]
pub struct Sleep {
    deadline: Instant,
    armed: Option<(Rc<Tasks>, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.deadline {
            return Poll::Ready(());
        }
        let deadline = self.deadline;
        let (tasks, id) = self.armed.get_or_insert_with(|| {
            let tasks = current();
            let id = tasks.timers.new_id();
            (tasks, id)
        });
        tasks
            .timers
            .armed
            .borrow_mut()
            .insert((deadline, *id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((tasks, id)) = &self.armed {
            let waker = tasks
                .timers
                .armed
                .borrow_mut()
                .remove(&(self.deadline, *id));
            drop(waker);
        }
    }
}

/// Ends after `duration`; later by some 0.06 ms on an idle host.
///
/// # Panics
/// When polled off a shard.
pub fn sleep(duration: Duration) -> Sleep {
    let now = Instant::now();
    // Who sleeps for longer than the clock can say sleeps for some decades.
    sleep_until(
        now.checked_add(duration)
            .unwrap_or(now + Duration::from_secs(1 << 30)),
    )
}

/// Ends at `deadline`, at once if it has passed.
///
/// # Panics
/// As [`sleep`].
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        deadline,
        armed: None,
    }
}

/// The time was up before the future had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time is up")]
pub struct Elapsed;

/// Runs `future` for `duration` at most, then drops it.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    or_elapsed(future, sleep(duration)).await
}

/// Runs `future` until `deadline` at most, then drops it.
pub async fn timeout_at<F: Future>(deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
    or_elapsed(future, sleep_until(deadline)).await
}

async fn or_elapsed<F: Future>(future: F, mut timer: Sleep) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut timer).poll(cx).map(|()| Err(Elapsed))
    })
    .await
}
