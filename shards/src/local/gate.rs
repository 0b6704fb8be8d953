//! Counting what is in flight, so that a graceful stop can wait for it.

use super::notify::Notify;
use std::cell::Cell;
use std::rc::Rc;

#[derive(Debug, Default)]
struct State {
    inside: Cell<usize>,
    closed: Cell<bool>,
    left: Notify,
}

/// Lets work in until it is closed, then waits for the work to end.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    state: Rc<State>,
}

/// Held while the work goes on; see [`Gate::enter`].
#[derive(Debug)]
#[must_use = "the work counts as ended when the pass is dropped"]
pub struct Pass {
    state: Rc<State>,
}

impl Gate {
    /// A new one, open and empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a piece of work. `None`: the gate is closed.
    pub fn enter(&self) -> Option<Pass> {
        if self.state.closed.get() {
            return None;
        }
        self.state.inside.set(self.state.inside.get() + 1);
        Some(Pass {
            state: self.state.clone(),
        })
    }

    /// How many pieces of work are going on.
    pub fn inside(&self) -> usize {
        self.state.inside.get()
    }

    /// Lets no more work in, and ends when what is inside has ended.
    pub async fn close(&self) {
        self.state.closed.set(true);
        loop {
            let left = self.state.left.notified();
            if self.state.inside.get() == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.state.inside.set(self.state.inside.get() - 1);
        self.state.left.notify_waiters();
    }
}
