//! Calls between shards.

mod common;

use common::{Counting, Watch, options, run_on_first, with_shards};
use shards::{CallError, Options, ReplyTo, SendError, Service, Shard};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

#[test]
fn requests_arrive_in_the_order_of_the_calls() {
    let _watch = Watch::start("call order");
    let small = Options {
        mailbox_capacity: 8,
        ..options()
    };
    for options in [options(), small] {
        run_on_first(options, |shard| async move {
            // Answered once the other shard has its service: what comes before is kept up to the capacity.
            assert_eq!(shard.call(1, 0).await, Ok(0));
            let mut calls = Vec::new();
            for n in 1..5000 {
                shard.room(1).await;
                calls.push((n, shard.call(1, n)));
            }
            // Awaited backwards: the order is that of the calls all the same.
            for (n, call) in calls.into_iter().rev() {
                assert_eq!(call.await, Ok(n));
            }
        });
    }
}

#[test]
fn a_call_to_the_own_shard_is_handled_at_once() {
    let _watch = Watch::start("own shard");
    run_on_first(options(), |shard| async move {
        let call = shard.call(0, 0);
        assert_eq!(shard.service().unwrap().seen.get(), 1);
        assert_eq!(call.await, Ok(0));
    });
}

#[test]
fn all_shards_call_all() {
    let watch = Watch::start("all call all");
    let counter = watch.counter();
    let runtime = shards::start(with_shards(4), move |shard: Shard<Counting>| {
        let counter = counter.clone();
        async move {
            shard.serve(Rc::new(Counting::default()));
            shard.ready();
            for n in 0..500 {
                for to in 0..shard.count() {
                    shard.call(to, n).await.map_err(|error| error.to_string())?;
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
            shard.stop();
            Ok::<(), String>(())
        }
    })
    .unwrap();
    runtime.wait().unwrap();
}

/// Does what the request says.
#[derive(Default)]
struct Moody {
    kept: RefCell<Vec<ReplyTo<u64>>>,
    handled: Cell<u64>,
}

enum Mood {
    Answer,
    Drop,
    Panic,
    Keep,
    AnswerKept,
    /// Blocks the shard, which nobody is to do, until the flag is set.
    Block(Arc<AtomicBool>),
}

impl Service for Moody {
    type Request = Mood;
    type Reply = u64;

    fn handle(self: &Rc<Self>, mood: Mood, reply: ReplyTo<u64>) {
        let n = self.handled.replace(self.handled.get() + 1);
        match mood {
            Mood::Answer => reply.send(n),
            Mood::Drop => drop(reply),
            Mood::Panic => panic!("a handler's panic"),
            Mood::Keep => self.kept.borrow_mut().push(reply),
            Mood::AnswerKept => {
                for kept in self.kept.take() {
                    kept.send(n);
                }
                reply.send(n);
            }
            Mood::Block(flag) => {
                reply.send(n);
                while !flag.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }
}

fn moody<F, Fut>(options: Options, body: F)
where
    F: Fn(Shard<Moody>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let runtime = shards::start(options, move |shard: Shard<Moody>| {
        let body = body.clone();
        async move {
            shard.serve(Rc::new(Moody::default()));
            shard.ready();
            if shard.index() == 0 {
                body(shard.clone()).await;
                shard.stop();
            }
            Ok::<(), String>(())
        }
    })
    .unwrap();
    runtime.wait().unwrap();
}

#[test]
fn a_request_that_is_not_answered_fails_its_call_only() {
    let _watch = Watch::start("unanswered");
    moody(options(), |shard| async move {
        for to in [0, 1] {
            assert_eq!(shard.call(to, Mood::Drop).await, Err(CallError::Dropped));
            assert_eq!(shard.call(to, Mood::Panic).await, Err(CallError::Dropped));
            assert!(shard.call(to, Mood::Answer).await.is_ok());
        }
        assert_eq!(shard.stats().panics, 1);
    });
}

#[test]
fn a_reply_may_come_later_and_in_any_order() {
    let _watch = Watch::start("late replies");
    moody(options(), |shard| async move {
        for to in [0, 1] {
            let kept: Vec<_> = (0..10).map(|_| shard.call(to, Mood::Keep)).collect();
            // Nobody waits for this one any more when its reply comes.
            drop(shard.call(to, Mood::Keep));
            let last = shard.call(to, Mood::AnswerKept).await;
            for call in kept {
                assert_eq!(call.await, last);
            }
        }
    });
}

#[test]
fn a_full_mailbox_holds_callers_back_and_loses_nothing() {
    let _watch = Watch::start("full mailbox");
    const CAPACITY: usize = 16;
    let options = Options {
        mailbox_capacity: CAPACITY,
        ..options()
    };
    moody(options, |shard| async move {
        let go_on = Arc::new(AtomicBool::new(false));
        assert_eq!(shard.call(1, Mood::Block(go_on.clone())).await, Ok(0));
        // The other shard blocks now, so nothing leaves its mailbox.
        let taken: Vec<_> = (0..2 * CAPACITY)
            .map(|n| {
                assert_eq!(shard.has_room(1), n <= CAPACITY, "{n}");
                shard.call(1, Mood::Answer)
            })
            .collect();
        let refused = shard.call(1, Mood::Answer);
        assert_eq!(refused.await, Err(CallError::Overloaded));
        assert_eq!(shard.stats().overflowed, CAPACITY as u64);
        go_on.store(true, Ordering::Release);
        shard.room(1).await;
        for (n, call) in taken.into_iter().enumerate() {
            assert_eq!(call.await, Ok(n as u64 + 1));
        }
    });
}

#[test]
fn both_mailboxes_full_is_no_deadlock() {
    let watch = Watch::start("two full mailboxes");
    let options = Options {
        mailbox_capacity: 4,
        ..options()
    };
    let counter = watch.counter();
    let runtime = shards::start(options, move |shard: Shard<Counting>| {
        let counter = counter.clone();
        async move {
            shard.serve(Rc::new(Counting::default()));
            shard.ready();
            let to = 1 - shard.index();
            let running = Rc::new(Cell::new(64));
            for _ in 0..64 {
                let (shard, running, counter) = (shard.clone(), running.clone(), counter.clone());
                shard.clone().spawn(async move {
                    let mut done = 0;
                    while done < 100 {
                        shard.room(to).await;
                        match shard.call(to, 0).await {
                            Ok(_) => done += 1,
                            Err(error) => assert_eq!(error, CallError::Overloaded),
                        }
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                    running.set(running.get() - 1);
                });
            }
            while running.get() > 0 {
                shards::sleep(Duration::from_millis(1)).await;
            }
            shard.stop();
            Ok::<(), String>(())
        }
    })
    .unwrap();
    runtime.wait().unwrap();
}

#[test]
fn requests_wait_for_the_service() {
    let _watch = Watch::start("early requests");
    let runtime = shards::start(options(), |shard: Shard<Counting>| async move {
        if shard.index() == 0 {
            shard.serve(Rc::new(Counting::default()));
            for n in 0..3 {
                assert_eq!(shard.call(1, 0).await, Ok(n));
            }
            shard.stop();
        } else {
            shards::sleep(Duration::from_millis(30)).await;
            shard.serve(Rc::new(Counting::default()));
        }
        Ok::<(), String>(())
    })
    .unwrap();
    runtime.wait().unwrap();
}

#[test]
fn other_threads_send_until_the_mailbox_is_full_or_the_shard_ends() {
    let _watch = Watch::start("remote");
    let (remote, remotes) = mpsc::channel();
    let options = Options {
        mailbox_capacity: 4,
        ..options()
    };
    let runtime = shards::start(options, move |shard: Shard<Moody>| {
        let remote = remote.clone();
        async move {
            shard.serve(Rc::new(Moody::default()));
            remote
                .send(shard.remote())
                .map_err(|error| error.to_string())
        }
    })
    .unwrap();
    let remote = remotes.recv().unwrap();
    let go_on = Arc::new(AtomicBool::new(false));
    assert!(remote.send(1, Mood::Block(go_on.clone())).is_ok());
    let mut sent = 0;
    let full = loop {
        match remote.send(1, Mood::Answer) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, SendError::Full(Mood::Answer)));
    go_on.store(true, Ordering::Release);
    // The first request may still have been in the mailbox.
    assert!((3..=4).contains(&sent), "{sent}");
    runtime.stop_and_wait().unwrap();
    assert!(matches!(
        remote.send(1, Mood::Answer),
        Err(SendError::Stopped(_))
    ));
}
