//! Memory that the clients of one shard may take at a time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use shards::local::{Sender, oneshot};

/// A number of bytes that many share. Who finds none left waits; those who wait are served in order,
/// so that a large need is not kept waiting by small ones for ever.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: Cell<usize>,
    waiting: RefCell<VecDeque<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    held: usize,
    more: usize,
    sender: Sender<Share>,
}

/// Bytes of a [`Budget`], given back when this is dropped.
#[derive(Debug)]
#[must_use = "the bytes are given back when the share is dropped"]
pub struct Share {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Budget {
    /// `limit` in bytes.
    pub fn new(limit: usize) -> Rc<Self> {
        Rc::new(Budget {
            limit,
            used: Cell::new(0),
            waiting: RefCell::default(),
        })
    }

    /// A share of nothing yet.
    pub fn share(self: &Rc<Self>) -> Share {
        self.grant(0)
    }

    /// Waits until there is anything left.
    pub async fn room(self: &Rc<Self>) {
        self.share().grow_to(1).await;
    }

    /// Somebody waits for others to give back.
    pub fn is_short(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Bytes that are held now.
    pub fn used(&self) -> usize {
        self.used.get()
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether one who holds `held` bytes may have `more`: they are there, or nobody else has any.
    fn fits(&self, held: usize, more: usize) -> bool {
        let used = self.used.get();
        used == held || used.saturating_add(more) <= self.limit
    }

    fn grant(self: &Rc<Self>, bytes: usize) -> Share {
        self.used.set(self.used.get() + bytes);
        Share {
            budget: self.clone(),
            bytes,
        }
    }

    fn serve_waiting(self: &Rc<Self>) {
        loop {
            let next = self
                .waiting
                .borrow_mut()
                .pop_front_if(|next| next.sender.is_closed() || self.fits(next.held, next.more));
            let Some(Waiting { more, sender, .. }) = next else {
                return;
            };
            // Who waits no more takes nothing. What it held comes back with its share.
            if !sender.is_closed() {
                let _ = sender.send(self.grant(more));
            }
        }
    }
}

impl Share {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Grows to `bytes`, at once or when others have given back enough. More than the whole budget is
    /// given to one who is alone.
    pub async fn grow_to(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return;
        }
        let budget = &self.budget;
        if !budget.is_short() && budget.fits(self.bytes, more) {
            return self.overdraw_to(bytes);
        }
        let (sender, granted) = oneshot();
        budget.waiting.borrow_mut().push_back(Waiting {
            held: self.bytes,
            more,
            sender,
        });
        // The sender goes with the budget only, which this share keeps alive.
        if let Ok(mut granted) = granted.await {
            self.bytes += std::mem::take(&mut granted.bytes);
        }
    }

    /// Grows to `bytes` even if they are not there: for memory that is in use already.
    pub fn overdraw_to(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.bytes);
        self.budget.used.set(self.budget.used.get() + more);
        self.bytes += more;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.set(self.budget.used.get() - self.bytes);
        self.budget.serve_waiting();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn taken(budget: &Rc<Budget>, bytes: usize) -> Option<Share> {
        let mut share = budget.share();
        poll(pin!(share.grow_to(bytes)))?;
        Some(share)
    }

    #[test]
    fn what_is_given_back_goes_to_who_waits_longest() {
        let budget = Budget::new(10);
        let first = taken(&budget, 8).expect("there is room");
        let (mut large, mut small) = (budget.share(), budget.share());
        {
            let mut grow_large = pin!(large.grow_to(9));
            let mut grow_small = pin!(small.grow_to(1));
            assert!(poll(grow_large.as_mut()).is_none());
            assert!(
                poll(grow_small.as_mut()).is_none(),
                "there is room, but another was first"
            );
            assert!(budget.is_short());
            drop(first);
            assert!(poll(grow_large).is_some() && poll(grow_small).is_some());
        }
        assert_eq!(budget.used(), 10);
        drop((large, small));
        assert_eq!((budget.used(), budget.is_short()), (0, false));
    }

    #[test]
    fn who_asks_for_more_than_there_is_gets_it_when_alone() {
        let budget = Budget::new(10);
        let one = taken(&budget, 1).expect("there is room");
        let mut huge = taken(&budget, 5).expect("there is room");
        {
            let mut grow = pin!(huge.grow_to(100));
            assert!(poll(grow.as_mut()).is_none());
            drop(one);
            assert!(poll(grow).is_some(), "nobody else has any");
        }
        assert_eq!(budget.used(), 100);
        assert!(taken(&budget, 1).is_none());
    }

    #[test]
    fn who_waits_no_more_is_passed_over() {
        let budget = Budget::new(10);
        let all = taken(&budget, 10).expect("there is room");
        let (mut gone, mut next) = (budget.share(), budget.share());
        let mut grow_gone = Box::pin(gone.grow_to(10));
        let mut grow_next = pin!(next.grow_to(10));
        assert!(poll(grow_gone.as_mut()).is_none() && poll(grow_next.as_mut()).is_none());
        drop(grow_gone);
        drop(all);
        assert!(poll(grow_next).is_some());
    }

    #[test]
    fn who_waited_for_more_than_there_is_and_went_blocks_nobody() {
        let budget = Budget::new(10);
        let mut gone = taken(&budget, 4).expect("there is room");
        let other = taken(&budget, 4).expect("there is room");
        let mut grow_gone = Box::pin(gone.grow_to(100));
        assert!(poll(grow_gone.as_mut()).is_none());
        let mut next = budget.share();
        let mut grow_next = pin!(next.grow_to(10));
        assert!(poll(grow_next.as_mut()).is_none());
        drop(grow_gone);
        drop((gone, other));
        assert!(poll(grow_next).is_some());
    }

    #[test]
    fn what_is_in_use_already_counts_against_what_comes() {
        let budget = Budget::new(10);
        let mut over = budget.share();
        over.overdraw_to(25);
        assert!(poll(pin!(budget.room())).is_none());
        drop(over);
        assert_eq!(budget.used(), 0);
        assert!(poll(pin!(budget.room())).is_some());
    }
}
