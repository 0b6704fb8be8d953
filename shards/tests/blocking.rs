//! Work that blocks.

mod common;

use common::{Watch, options, run_on_first};
use shards::{BlockingError, Options};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

#[test]
fn work_runs_beside_the_shard() {
    let _watch = Watch::start("beside");
    run_on_first(options(), |shard| async move {
        let barrier = Arc::new(Barrier::new(4));
        // Four at a time: each waits for the others.
        let works: Vec<_> = (0..4)
            .map(|n| {
                let barrier = barrier.clone();
                shard.blocking(move || {
                    barrier.wait();
                    n
                })
            })
            .collect();
        for (n, work) in works.into_iter().enumerate() {
            assert_eq!(work.await, Ok(n));
        }
        let slow = shard.blocking(|| std::thread::sleep(Duration::from_millis(50)));
        let start = Instant::now();
        assert_eq!(shard.call(1, 0).await, Ok(0));
        assert!(
            start.elapsed() < Duration::from_millis(50),
            "the shard was blocked"
        );
        assert_eq!(shard.stats().blocking, 1);
        assert_eq!(slow.await, Ok(()));
        assert_eq!(shard.stats().blocking, 0);
    });
}

#[test]
fn work_at_once_runs_on_the_shard_and_may_panic() {
    let _watch = Watch::start("at once");
    run_on_first(options(), |shard| async move {
        let here = std::thread::current().id();
        assert_eq!(shard.at_once(|| std::thread::current().id()), Ok(here));
        let panicked = shard.at_once(|| panic!("on purpose"));
        assert_eq!(
            panicked,
            Err::<(), _>(BlockingError::Panicked("on purpose".into()))
        );
    });
}

#[test]
fn work_starts_in_order() {
    let _watch = Watch::start("start order");
    let options = Options {
        blocking_threads: 1,
        ..options()
    };
    run_on_first(options, |shard| async move {
        let order = Arc::new(Mutex::new(Vec::new()));
        let works: Vec<_> = (0..200)
            .map(|n| {
                let order = order.clone();
                shard.blocking(move || order.lock().unwrap().push(n))
            })
            .collect();
        for work in works {
            work.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..200).collect::<Vec<_>>());
    });
}

#[test]
fn a_serial_worker_does_one_thing_at_a_time_in_order() {
    let _watch = Watch::start("serial worker");
    run_on_first(options(), |shard| async move {
        let worker = shard.serial_worker("commit");
        let (order, inside) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(AtomicUsize::new(0)),
        );
        for n in 0..500 {
            let (order, inside) = (order.clone(), inside.clone());
            // Dropping the result does not take the work back.
            drop(worker.run(move || {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                order.lock().unwrap().push(n);
                inside.fetch_sub(1, Ordering::SeqCst);
            }));
        }
        let name = worker.run(|| std::thread::current().name().map(str::to_owned));
        assert_eq!(name.await, Ok(Some("commit-0".to_owned())));
        assert_eq!(*order.lock().unwrap(), (0..500).collect::<Vec<_>>());
    });
}

#[test]
fn a_panic_is_told_and_its_thread_lives_on() {
    let _watch = Watch::start("blocking panics");
    let options = Options {
        blocking_threads: 1,
        ..options()
    };
    run_on_first(options, |shard| async move {
        let worker = shard.serial_worker("worker");
        for _ in 0..10 {
            let panic = shard.blocking(|| panic!("no {}", 1)).await;
            assert_eq!(
                panic,
                Err::<(), _>(BlockingError::Panicked("no 1".to_owned()))
            );
            let panic = worker.run(|| panic!("no")).await;
            assert_eq!(
                panic,
                Err::<(), _>(BlockingError::Panicked("no".to_owned()))
            );
        }
        assert_eq!(shard.blocking(|| 1).await, Ok(1));
        assert_eq!(worker.run(|| 2).await, Ok(2));
    });
}

#[test]
fn work_that_was_given_is_done_before_the_end() {
    let _watch = Watch::start("work at the end");
    let done = Arc::new(AtomicUsize::new(0));
    let counted = done.clone();
    run_on_first(options(), move |shard| {
        let done = counted.clone();
        async move {
            let worker = shard.serial_worker("worker");
            for _ in 0..50 {
                let (one, other) = (done.clone(), done.clone());
                drop(worker.run(move || one.fetch_add(1, Ordering::SeqCst)));
                drop(shard.blocking(move || other.fetch_add(1, Ordering::SeqCst)));
            }
        }
    });
    assert_eq!(done.load(Ordering::SeqCst), 100);
}
