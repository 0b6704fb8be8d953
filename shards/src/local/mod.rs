//! Primitives for tasks of one shard: no atomics, no locks, not `Send`.

mod gate;
mod notify;
mod oneshot;
mod queue;
mod waiters;

pub use gate::{Gate, Pass};
pub use notify::{Latch, Latched, Notified, Notify};
pub use oneshot::{Canceled, Receiver, Sender, oneshot};
pub use queue::{Closed, Queue, TryPushError};

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls once, and counts the wakes that come of it.
    struct Polled {
        wakes: Arc<Wakes>,
        waker: Waker,
    }

    impl Polled {
        fn new() -> Self {
            let wakes = Arc::<Wakes>::default();
            Self {
                waker: wakes.clone().into(),
                wakes,
            }
        }

        fn poll<F: Future>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
            future.poll(&mut Context::from_waker(&self.waker))
        }

        fn wakes(&self) -> usize {
            self.wakes.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn oneshot_brings_its_value_or_the_news_of_its_loss() {
        let polled = Polled::new();
        let (sender, receiver) = oneshot();
        let mut receiver = pin!(receiver);
        assert!(polled.poll(receiver.as_mut()).is_pending());
        assert_eq!(sender.send(1), Ok(()));
        assert_eq!(polled.wakes(), 1);
        assert_eq!(polled.poll(receiver), Poll::Ready(Ok(1)));

        let (sender, receiver) = oneshot::<i32>();
        let mut receiver = pin!(receiver);
        assert!(polled.poll(receiver.as_mut()).is_pending());
        drop(sender);
        assert_eq!(polled.wakes(), 2);
        assert_eq!(polled.poll(receiver), Poll::Ready(Err(Canceled)));

        let (sender, receiver) = oneshot();
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.send(2), Err(2));
    }

    #[test]
    fn notify_ends_the_waits_that_began_before_it() {
        let polled = Polled::new();
        let notify = Notify::new();
        let (mut polled_before, mut made_before) =
            (pin!(notify.notified()), pin!(notify.notified()));
        assert!(polled.poll(polled_before.as_mut()).is_pending());
        // Polled again it still is one waiter.
        assert!(polled.poll(polled_before.as_mut()).is_pending());
        drop(notify.notified());
        notify.notify_waiters();
        let mut made_after = pin!(notify.notified());
        assert_eq!(polled.wakes(), 1);
        assert!(polled.poll(polled_before.as_mut()).is_ready());
        assert!(polled.poll(made_before.as_mut()).is_ready());
        assert!(polled.poll(made_after.as_mut()).is_pending());
    }

    #[test]
    fn a_latch_stays_set() {
        let polled = Polled::new();
        let latch = Latch::new();
        let mut before = pin!(latch.wait());
        assert!(polled.poll(before.as_mut()).is_pending());
        latch.set();
        latch.set();
        assert_eq!(polled.wakes(), 1);
        assert!(latch.is_set());
        assert!(polled.poll(before).is_ready());
        assert!(polled.poll(pin!(latch.wait())).is_ready());
    }

    #[test]
    fn a_queue_keeps_its_order_and_its_bound() {
        let polled = Polled::new();
        let queue = Queue::bounded(2);
        assert!(queue.is_empty());
        let mut pop = Box::pin(queue.pop());
        assert!(polled.poll(pop.as_mut()).is_pending());
        assert_eq!(queue.try_push(1), Ok(()));
        assert_eq!(polled.wakes(), 1);
        // A pop that is dropped takes nothing with it.
        drop(pop);
        assert_eq!(queue.try_push(2), Ok(()));
        assert_eq!(queue.try_push(3), Err(TryPushError::Full(3)));
        let mut push = Box::pin(queue.push(3));
        assert!(polled.poll(push.as_mut()).is_pending());
        assert_eq!(polled.poll(pin!(queue.pop())), Poll::Ready(Some(1)));
        assert_eq!(polled.wakes(), 2);
        assert_eq!(polled.poll(push.as_mut()), Poll::Ready(Ok(())));
        assert_eq!(queue.len(), 2);

        let mut late = Box::pin(queue.push(4));
        assert!(polled.poll(late.as_mut()).is_pending());
        queue.close();
        assert_eq!(polled.poll(late.as_mut()), Poll::Ready(Err(Closed(4))));
        assert_eq!(queue.try_push(5), Err(TryPushError::Closed(5)));
        assert_eq!(queue.try_pop(), Some(2));
        assert_eq!(polled.poll(pin!(queue.pop())), Poll::Ready(Some(3)));
        assert_eq!(polled.poll(pin!(queue.pop())), Poll::Ready(None));
    }

    #[test]
    fn a_gate_closes_when_all_have_left() {
        let polled = Polled::new();
        let gate = Gate::new();
        let (one, other) = (gate.enter().unwrap(), gate.enter().unwrap());
        let closing = gate.clone();
        let mut close = pin!(closing.close());
        assert!(polled.poll(close.as_mut()).is_pending());
        assert!(gate.enter().is_none());
        drop(one);
        assert!(polled.poll(close.as_mut()).is_pending());
        assert_eq!(gate.inside(), 1);
        drop(other);
        assert_eq!(polled.wakes(), 2);
        assert!(polled.poll(close.as_mut()).is_ready());
    }

    #[test]
    fn waiters_that_come_and_go_take_no_room() {
        let polled = Polled::new();
        let notify = Rc::new(Notify::new());
        for _ in 0..1000 {
            let mut some: Vec<_> = (0..3).map(|_| Box::pin(notify.notified())).collect();
            for waiting in &mut some {
                assert!(polled.poll(waiting.as_mut()).is_pending());
            }
        }
        assert!(format!("{notify:?}").len() < 1000, "{notify:?}");
    }
}
