//! A bounded FIFO between tasks.

use super::waiters::Waiters;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    capacity: usize,
    closed: bool,
    poppers: Waiters,
    pushers: Waiters,
}

/// A FIFO that many tasks of the shard may fill and empty. Share it in an `Rc`.
#[derive(Debug)]
pub struct Queue<T> {
    state: RefCell<State<T>>,
}

/// The queue is closed; the item comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue is closed")]
pub struct Closed<T>(pub T);

/// Why [`Queue::try_push`] gave the item back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TryPushError<T> {
    /// No room now.
    #[error("the queue is full")]
    Full(T),
    /// No room ever again.
    #[error("the queue is closed")]
    Closed(T),
}

/// Gives a waiter's slot back when its future ends or is dropped.
struct Waiting<'a, T> {
    queue: &'a Queue<T>,
    side: fn(&mut State<T>) -> &mut Waiters,
    key: Option<usize>,
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        (self.side)(&mut self.queue.state.borrow_mut()).remove(&mut self.key);
    }
}

impl<T> Queue<T> {
    /// A queue that holds at most `capacity` items.
    ///
    /// # Panics
    /// If `capacity` is 0: nothing could ever pass.
    pub fn bounded(capacity: usize) -> Self {
        assert!(capacity > 0, "a queue without room");
        Self {
            state: RefCell::new(State {
                items: VecDeque::new(),
                capacity,
                closed: false,
                poppers: Waiters::new(),
                pushers: Waiters::new(),
            }),
        }
    }

    /// A queue without a bound: whoever fills it has to have one.
    pub fn unbounded() -> Self {
        Self::bounded(usize::MAX)
    }

    /// Puts an item in if there is room.
    pub fn try_push(&self, item: T) -> Result<(), TryPushError<T>> {
        let mut state = self.state.borrow_mut();
        if state.closed {
            return Err(TryPushError::Closed(item));
        }
        if state.items.len() >= state.capacity {
            return Err(TryPushError::Full(item));
        }
        state.items.push_back(item);
        state.poppers.wake_all();
        Ok(())
    }

    /// Puts an item in, once there is room. Dropping the future before it ends drops the item.
    pub async fn push(&self, item: T) -> Result<(), Closed<T>> {
        let mut item = Some(item);
        let mut waiting = Waiting {
            queue: self,
            side: |state| &mut state.pushers,
            key: None,
        };
        poll_fn(|cx| {
            let Some(taken) = item.take() else {
                return Poll::Ready(Ok(()));
            };
            match self.try_push(taken) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(TryPushError::Closed(back)) => Poll::Ready(Err(Closed(back))),
                Err(TryPushError::Full(back)) => {
                    item = Some(back);
                    self.state
                        .borrow_mut()
                        .pushers
                        .register(&mut waiting.key, cx.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Takes the oldest item, if there is one.
    pub fn try_pop(&self) -> Option<T> {
        let mut state = self.state.borrow_mut();
        let item = state.items.pop_front()?;
        state.pushers.wake_all();
        Some(item)
    }

    /// Takes the oldest item, once there is one. `None`: closed and empty. Dropping the future loses
    /// nothing.
    pub async fn pop(&self) -> Option<T> {
        let mut waiting = Waiting {
            queue: self,
            side: |state| &mut state.poppers,
            key: None,
        };
        poll_fn(|cx| {
            if let Some(item) = self.try_pop() {
                return Poll::Ready(Some(item));
            }
            let mut state = self.state.borrow_mut();
            if state.closed {
                return Poll::Ready(None);
            }
            state.poppers.register(&mut waiting.key, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// No more items go in; those that are in can still be taken.
    pub fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.closed = true;
        state.poppers.wake_all();
        state.pushers.wake_all();
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.state.borrow().items.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
