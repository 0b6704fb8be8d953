//! Tasks, turns and time.

mod common;

use common::{Load, Watch, options, run_on_first, with_shards};
use shards::local::{Notify, Queue, oneshot};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

#[test]
fn a_panic_ends_its_own_task_only() {
    let _watch = Watch::start("panics");
    run_on_first(options(), |shard| async move {
        struct PanicsOnDrop;
        impl Drop for PanicsOnDrop {
            fn drop(&mut self) {
                panic!("a destructor's panic");
            }
        }
        let alive = Rc::new(Cell::new(0));
        for n in 0..30 {
            let alive = alive.clone();
            shard.spawn(async move {
                alive.set(alive.get() + 1);
                shards::turn().await;
                match n % 3 {
                    0 => panic!("a task's panic"),
                    1 => drop(PanicsOnDrop),
                    _ => pending().await,
                }
            });
        }
        while shard.stats().panics < 20 {
            shards::turn().await;
        }
        assert_eq!(alive.get(), 30);
        // This one, and those that wait.
        assert_eq!(shard.stats().tasks, 11);
        assert_eq!(shard.call(1, 0).await, Ok(0));
    });
}

#[test]
fn tasks_run_in_the_order_in_which_they_were_woken() {
    let _watch = Watch::start("task order");
    run_on_first(options(), |shard| async move {
        let (order, go) = (Rc::new(RefCell::new(Vec::new())), Notify::new());
        for n in 0..100 {
            let (order, go) = (order.clone(), go.notified());
            shard.spawn(async move {
                go.await;
                order.borrow_mut().push(n);
            });
        }
        shards::turn().await;
        go.notify_waiters();
        shards::turn().await;
        assert_eq!(*order.borrow(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn tasks_that_take_turns_do_not_starve_others() {
    let watch = Watch::start("turns");
    let counter = watch.counter();
    run_on_first(with_shards(1), move |shard| {
        let counter = counter.clone();
        async move {
            for _ in 0..4 {
                shard.spawn(async {
                    loop {
                        let start = Instant::now();
                        while start.elapsed() < Duration::from_micros(100) {
                            std::hint::spin_loop();
                        }
                        shards::turn().await;
                    }
                });
            }
            let start = Instant::now();
            for _ in 0..100 {
                shards::sleep(Duration::from_millis(1)).await;
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            // 100 times 1 ms, and 4 times 0.1 ms each time; the rest is for a busy host.
            assert!(
                start.elapsed() < Duration::from_secs(3),
                "{:?}",
                start.elapsed()
            );
        }
    });
}

#[test]
fn two_tasks_that_wake_each_other_do_not_starve_timers() {
    let _watch = Watch::start("ping-pong of tasks");
    run_on_first(with_shards(1), |shard| async move {
        let (there, back) = (Rc::new(Queue::bounded(1)), Rc::new(Queue::bounded(1)));
        for (from, to) in [(there.clone(), back.clone()), (back, there.clone())] {
            shard.spawn(async move {
                while let Some(ball) = from.pop().await {
                    let _ = to.push(ball).await;
                }
            });
        }
        there.push(()).await.unwrap();
        shards::sleep(Duration::from_millis(20)).await;
    });
}

#[test]
fn time_passes() {
    let _watch = Watch::start("time");
    let _load = Load::start(1);
    run_on_first(options(), |_| async move {
        for millis in [0, 1, 5, 25, 60] {
            let duration = Duration::from_millis(millis);
            let start = Instant::now();
            shards::sleep(duration).await;
            assert!(start.elapsed() >= duration);
            let start = Instant::now();
            let elapsed = shards::timeout(duration, pending::<()>()).await;
            assert_eq!(elapsed, Err(shards::Elapsed));
            assert!(start.elapsed() >= duration);
        }
        let soon = shards::timeout_at(Instant::now() + Duration::from_secs(60), async { 7 });
        assert_eq!(soon.await, Ok(7));
        let never = shards::timeout(Duration::MAX, shards::sleep(Duration::from_millis(1)));
        assert_eq!(never.await, Ok(()));
    });
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines() {
    let _watch = Watch::start("timer order");
    run_on_first(options(), |shard| async move {
        let fired = Rc::new(RefCell::new(Vec::new()));
        let start = Instant::now() + Duration::from_millis(5);
        for n in (0..50).rev() {
            let fired = fired.clone();
            shard.spawn(async move {
                shards::sleep_until(start + Duration::from_micros(100 * n)).await;
                fired.borrow_mut().push(n);
            });
        }
        shards::sleep_until(start + Duration::from_millis(20)).await;
        assert_eq!(*fired.borrow(), (0..50).collect::<Vec<_>>());
    });
}

#[test]
fn another_thread_may_wake_a_task() {
    let watch = Watch::start("foreign wakers");
    let counter = watch.counter();
    run_on_first(options(), move |shard| {
        let counter = counter.clone();
        async move {
            let (done, all) = (Rc::new(Cell::new(0)), Notify::new());
            for _ in 0..50 {
                let (done, all, counter) = (done.clone(), all.clone(), counter.clone());
                shard.spawn(async move {
                    for _ in 0..20 {
                        woken_by_a_thread().await;
                        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    done.set(done.get() + 1);
                    all.notify_waiters();
                });
            }
            while done.get() < 50 {
                all.notified().await;
            }
        }
    });
}

async fn woken_by_a_thread() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let flag = Arc::new(AtomicBool::new(false));
    let mut thread = None;
    poll_fn(|cx| {
        if flag.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        thread.get_or_insert_with(|| {
            let (flag, waker) = (flag.clone(), cx.waker().clone());
            std::thread::spawn(move || {
                flag.store(true, Ordering::Release);
                waker.wake_by_ref();
                // The task may be gone when it is woken again, and when the waker is dropped.
                std::thread::sleep(Duration::from_micros(200));
                waker.wake();
            })
        });
        Poll::Pending
    })
    .await;
}

#[test]
fn a_value_comes_from_a_spawned_task() {
    let _watch = Watch::start("oneshot");
    run_on_first(options(), |shard| async move {
        let (sender, receiver) = oneshot();
        shard.spawn(async move {
            shards::turn().await;
            let _ = sender.send(5);
        });
        assert_eq!(receiver.await, Ok(5));
    });
}
