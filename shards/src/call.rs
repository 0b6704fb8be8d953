//! Calls between shards: what the caller keeps, and what the other side answers with.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Why a call has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The service dropped its [`ReplyTo`] unanswered, or panicked.
    #[error("the service did not answer the call")]
    Dropped,
    /// The destination's mailbox and this shard's overflow for it are full; nothing was sent. See
    /// [`Shard::call`](crate::Shard::call).
    #[error("the destination shard is overloaded")]
    Overloaded,
    /// The destination shard has ended.
    #[error("the destination shard has ended")]
    Stopped,
}

enum Entry<R> {
    Free { next: usize },
    Waiting { to: usize, waiter: Option<Waker> },
    Done(Result<R, CallError>),
    Abandoned,
}

const NONE: usize = usize::MAX;

/// The calls of one shard that have no reply yet. An entry's index is the call's id; it is used again
/// only after the reply has come, so a reply finds its own call or none.
pub(crate) struct Calls<R> {
    entries: Vec<Entry<R>>,
    free: usize,
}

impl<R> Calls<R> {
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
        }
    }

    pub(crate) fn begin(&mut self, to: usize) -> usize {
        let entry = Entry::Waiting { to, waiter: None };
        let id = self.free;
        if id == NONE {
            self.entries.push(entry);
            return self.entries.len() - 1;
        }
        if let Entry::Free { next } = std::mem::replace(&mut self.entries[id], entry) {
            self.free = next;
        }
        id
    }

    /// What comes back is to be dropped outside of any borrow.
    #[must_use]
    pub(crate) fn complete(
        &mut self,
        id: usize,
        result: Result<R, CallError>,
    ) -> Option<Result<R, CallError>> {
        let Some(entry) = self.entries.get_mut(id) else {
            return Some(result);
        };
        match entry {
            Entry::Waiting { waiter, .. } => {
                let waiter = waiter.take();
                *entry = Entry::Done(result);
                if let Some(waiter) = waiter {
                    waiter.wake();
                }
                None
            }
            Entry::Abandoned => {
                self.release(id);
                Some(result)
            }
            Entry::Done(_) | Entry::Free { .. } => Some(result),
        }
    }

    /// Ends all calls to a shard that will not answer.
    pub(crate) fn fail_all(&mut self, gone: usize) {
        for entry in &mut self.entries {
            if let Entry::Waiting { to, waiter } = entry
                && *to == gone
            {
                let waiter = waiter.take();
                *entry = Entry::Done(Err(CallError::Stopped));
                if let Some(waiter) = waiter {
                    waiter.wake();
                }
            }
        }
    }

    fn release(&mut self, id: usize) -> Entry<R> {
        let entry = std::mem::replace(&mut self.entries[id], Entry::Free { next: self.free });
        self.free = id;
        entry
    }
}

/// The reply of another shard, some time later. Dropping it does not take the request back.
#[must_use = "the request is on its way, but the reply is known only to who waits for it"]
pub struct Call<R> {
    state: CallState<R>,
}

enum CallState<R> {
    Begun {
        calls: Rc<RefCell<Calls<R>>>,
        id: usize,
    },
    Failed(CallError),
    Ended,
}

impl<R> Call<R> {
    pub(crate) fn begun(calls: Rc<RefCell<Calls<R>>>, id: usize) -> Self {
        Self {
            state: CallState::Begun { calls, id },
        }
    }

    pub(crate) fn failed(error: CallError) -> Self {
        Self {
            state: CallState::Failed(error),
        }
    }
}

// Nothing in it is pinned.
impl<R> Unpin for Call<R> {}

impl<R> Future for Call<R> {
    type Output = Result<R, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &self.state {
            CallState::Begun { calls, id } => {
                let mut calls = calls.borrow_mut();
                if let Entry::Waiting { waiter, .. } = &mut calls.entries[*id] {
                    match waiter {
                        Some(waiter) => waiter.clone_from(cx.waker()),
                        none => *none = Some(cx.waker().clone()),
                    }
                    return Poll::Pending;
                }
                match calls.release(*id) {
                    Entry::Done(result) => result,
                    _ => Err(CallError::Dropped),
                }
            }
            CallState::Failed(error) => Err(*error),
            CallState::Ended => panic!("a call was polled after its end"),
        };
        self.state = CallState::Ended;
        Poll::Ready(result)
    }
}

impl<R> Drop for Call<R> {
    fn drop(&mut self) {
        if let CallState::Begun { calls, id } = &self.state {
            let dropped = {
                let mut calls = calls.borrow_mut();
                match &mut calls.entries[*id] {
                    Entry::Waiting { .. } => {
                        calls.entries[*id] = Entry::Abandoned;
                        None
                    }
                    _ => Some(calls.release(*id)),
                }
            };
            drop(dropped);
        }
    }
}

/// Brings a reply to the shard that called.
pub(crate) trait Route<R> {
    fn reply(&self, to: Caller, result: Result<R, CallError>);
}

/// Who waits for a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Shard {
        index: usize,
        id: usize,
    },
    /// A thread that is no shard: it cannot get a reply this way.
    Nobody,
}

/// Answers one request, now or later, on the shard that got it.
#[must_use = "dropping it tells the caller that there is no answer"]
pub struct ReplyTo<R> {
    route: Rc<dyn Route<R>>,
    caller: Option<Caller>,
}

impl<R> ReplyTo<R> {
    pub(crate) fn new(route: Rc<dyn Route<R>>, caller: Caller) -> Self {
        Self {
            route,
            caller: Some(caller),
        }
    }

    /// Sends the reply. If the caller waits no more, it is dropped there.
    pub fn send(mut self, reply: R) {
        if let Some(caller) = self.caller.take() {
            self.route.reply(caller, Ok(reply));
        }
    }

    /// Whether anyone can get a reply: not so for requests from a [`Remote`](crate::Remote).
    pub fn is_wanted(&self) -> bool {
        self.caller != Some(Caller::Nobody)
    }
}

impl<R> Drop for ReplyTo<R> {
    fn drop(&mut self) {
        if let Some(caller) = self.caller.take() {
            self.route.reply(caller, Err(CallError::Dropped));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll::{Pending, Ready};

    fn poll(call: &mut Call<u8>) -> Poll<Result<u8, CallError>> {
        Pin::new(call).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn begin(calls: &Rc<RefCell<Calls<u8>>>, to: usize) -> (usize, Call<u8>) {
        let id = calls.borrow_mut().begin(to);
        (id, Call::begun(calls.clone(), id))
    }

    #[test]
    fn an_id_is_used_again_only_after_its_reply() {
        let calls = Rc::new(RefCell::new(Calls::new()));
        let (one, mut waiting) = begin(&calls, 1);
        let (other, dropped) = begin(&calls, 1);
        drop(dropped);
        let (third, _kept) = begin(&calls, 1);
        assert!(one != other && other != third && one != third);
        // The reply to the call that was dropped finds nobody, and frees the id.
        assert_eq!(calls.borrow_mut().complete(other, Ok(2)), Some(Ok(2)));
        assert_eq!(begin(&calls, 1).0, other);
        assert_eq!(poll(&mut waiting), Pending);
        assert_eq!(calls.borrow_mut().complete(one, Ok(1)), None);
        assert_eq!(poll(&mut waiting), Ready(Ok(1)));
        assert_eq!(calls.borrow_mut().complete(99, Ok(1)), Some(Ok(1)));
    }

    #[test]
    fn calls_to_a_shard_that_has_ended_fail_and_others_do_not() {
        let calls = Rc::new(RefCell::new(Calls::new()));
        let ((_, mut gone), (_, mut alive)) = (begin(&calls, 1), begin(&calls, 2));
        let (answered, mut done) = begin(&calls, 1);
        assert_eq!(calls.borrow_mut().complete(answered, Ok(3)), None);
        calls.borrow_mut().fail_all(1);
        assert_eq!(poll(&mut gone), Ready(Err(CallError::Stopped)));
        assert_eq!(poll(&mut alive), Pending);
        assert_eq!(poll(&mut done), Ready(Ok(3)));
    }
}
