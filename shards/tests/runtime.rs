//! Start, stop, failure.

mod common;

use common::{Counting, Watch, options, run_on_first, start_on_first, with_shards};
use rustix::process::{Resource, Rlimit, getpid, getrlimit, setrlimit};
use shards::{Options, Pin, RuntimeError, Shard, StartError};
use std::future::pending;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn start_waits_until_all_shards_are_ready() {
    let _watch = Watch::start("ready");
    let ready = Arc::new(AtomicUsize::new(0));
    let counted = ready.clone();
    let options = Options {
        stop_timeout: Duration::from_millis(50),
        ..with_shards(3)
    };
    let runtime = shards::start(options, move |shard: Shard<Counting>| {
        let ready = counted.clone();
        async move {
            shards::sleep(Duration::from_millis(10 * shard.index() as u64)).await;
            ready.fetch_add(1, Ordering::SeqCst);
            shard.ready();
            pending::<Result<(), String>>().await
        }
    });
    let runtime = runtime.unwrap();
    assert_eq!(ready.load(Ordering::SeqCst), 3);
    assert_eq!(runtime.shards(), 3);
    // Its init would not end, so the stop times out at last.
    drop(runtime);
}

#[test]
fn the_first_error_of_an_init_is_told_and_all_shards_end() {
    let _watch = Watch::start("init error");
    let failed = shards::start(with_shards(3), |shard: Shard<Counting>| async move {
        if shard.index() == 1 {
            return Err("no room at the inn");
        }
        // Those that wait for something else are not waited for.
        pending().await
    });
    let error = failed.err().unwrap();
    assert!(matches!(&error, StartError::Shard(error) if error.shard == 1));
    assert_eq!(error.to_string(), "shard 1: no room at the inn");
}

#[test]
fn a_panic_of_an_init_is_an_error() {
    let _watch = Watch::start("init panic");
    let failed = shards::start(options(), |shard: Shard<Counting>| {
        assert_ne!(shard.index(), 0, "not here");
        async move {
            shards::turn().await;
            pending::<Result<(), String>>().await
        }
    });
    let error = failed.err().unwrap().to_string();
    assert!(
        error.starts_with("shard 0: panicked:") && error.contains("not here"),
        "{error}"
    );
}

#[test]
fn a_failure_after_the_start_stops_the_others_and_is_told() {
    let _watch = Watch::start("late failure");
    let started = Arc::new(AtomicBool::new(false));
    let seen = started.clone();
    let runtime = shards::start(options(), move |shard: Shard<Counting>| {
        let started = seen.clone();
        async move {
            shard.ready();
            if shard.index() == 1 {
                while !started.load(Ordering::Acquire) {
                    shards::sleep(Duration::from_millis(1)).await;
                }
                return Err("the disk is gone");
            }
            shard.stopping().await;
            assert!(shard.is_stopping());
            Ok(())
        }
    });
    let runtime = runtime.unwrap();
    started.store(true, Ordering::Release);
    match runtime.wait() {
        Err(RuntimeError::Shard(error)) => assert_eq!(error.message, "the disk is gone"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn shards_answer_until_all_have_ended_their_work() {
    let _watch = Watch::start("calls while stopping");
    let runtime = shards::start(options(), |shard: Shard<Counting>| async move {
        shard.serve(Rc::new(Counting::default()));
        shard.ready();
        shard.stopping().await;
        if shard.index() == 0 {
            // The other shard's init has ended long before.
            for n in 0..20 {
                shards::sleep(Duration::from_millis(1)).await;
                assert_eq!(shard.call(1, 0).await, Ok(n));
            }
        }
        Ok::<(), String>(())
    });
    runtime.unwrap().stop_and_wait().unwrap();
}

#[test]
fn a_stop_that_takes_too_long_is_told() {
    let _watch = Watch::start("stop timeout");
    let options = Options {
        stop_timeout: Duration::from_millis(100),
        ..options()
    };
    let runtime = start_on_first(options, |_| async { pending().await });
    let start = Instant::now();
    assert_eq!(
        runtime.stop_and_wait(),
        Err(RuntimeError::StopTimeout(vec![0, 1]))
    );
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn tasks_are_dropped_on_their_shard_at_the_end() {
    let _watch = Watch::start("drop at the end");
    struct CallsWhenDropped(Shard<Counting>, Arc<AtomicUsize>);
    impl Drop for CallsWhenDropped {
        fn drop(&mut self) {
            let (shard, dropped) = (self.0.clone(), self.1.clone());
            dropped.fetch_add(1, Ordering::SeqCst);
            // Neither of these is of use now, and neither does harm.
            drop(self.0.call(0, 0));
            self.0.spawn(async move {
                let _guard = (shard, dropped.fetch_add(1, Ordering::SeqCst));
                pending().await
            });
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let counted = dropped.clone();
    run_on_first(options(), move |shard| {
        let dropped = counted.clone();
        async move {
            for _ in 0..10 {
                let guard = CallsWhenDropped(shard.clone(), dropped.clone());
                shard.spawn(async move {
                    let _guard = guard;
                    pending().await
                });
            }
            shards::turn().await;
        }
    });
    assert_eq!(dropped.load(Ordering::SeqCst), 10);
}

#[test]
fn many_runtimes_one_after_the_other_leave_nothing_behind() {
    in_a_child("many_runtimes");
}

#[test]
#[ignore = "needs a process of its own; the test above runs it"]
fn many_runtimes() {
    let watch = Watch::start("many runtimes");
    let count = |what| std::fs::read_dir(what).unwrap().count();
    let mut before = None;
    for round in 0..30 {
        run_on_first(options(), |shard| async move {
            let listener = shards::net::Listener::bind(&shard, ([127, 0, 0, 1], 0).into()).unwrap();
            let accept = shards::timeout(Duration::from_millis(1), listener.accept());
            assert!(accept.await.is_err());
            shard.call(1, 0).await.unwrap();
            shard.blocking(|| ()).await.unwrap();
            // Long enough to park.
            shards::sleep(Duration::from_millis(25)).await;
        });
        watch.step();
        if round == 2 {
            before = Some((count("/proc/self/fd"), count("/proc/self/task")));
        }
    }
    let after = (count("/proc/self/fd"), count("/proc/self/task"));
    let before = before.unwrap();
    // glommio 0.9 itself loses one descriptor for each executor.
    assert!(
        after.0 <= before.0 + 2 * 27 + 2,
        "{before:?}, then {after:?}"
    );
    assert!(after.1 <= before.1 + 1, "{before:?}, then {after:?}");
}

#[test]
fn runtimes_run_side_by_side() {
    let _watch = Watch::start("side by side");
    let runtimes: Vec<_> = (0..4)
        .map(|_| {
            start_on_first(options(), |shard| async move {
                for n in 0..200 {
                    assert_eq!(shard.call(1, 0).await, Ok(n));
                }
            })
        })
        .collect();
    for runtime in runtimes {
        runtime.wait().unwrap();
    }
}

#[test]
fn pinned_shards_work_too() {
    let _watch = Watch::start("pinned");
    // More shards than CPUs share them.
    let options = Options {
        pin: Pin::On,
        ..with_shards(4)
    };
    run_on_first(options, |shard| async move {
        for to in 1..4 {
            assert_eq!(shard.call(to, 0).await, Ok(0));
        }
        // Blocking work is not pinned with its shard.
        let cpus = shard.blocking(|| rustix::thread::sched_getaffinity(None).unwrap().count());
        assert_eq!(
            cpus.await,
            Ok(rustix::thread::sched_getaffinity(Some(getpid()))
                .unwrap()
                .count())
        );
    });
}

#[test]
fn idle_shards_hardly_use_the_cpu_and_are_said_to_be_alive() {
    in_a_child("idle_shards");
}

#[test]
#[ignore = "needs a process of its own; the test above runs it"]
fn idle_shards() {
    let alive = Arc::new(AtomicUsize::new(0));
    let counted = alive.clone();
    let options = Options {
        on_alive: Some(Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        })),
        ..options()
    };
    let runtime = start_on_first(options, |_| async { pending().await });
    std::thread::sleep(Duration::from_millis(200));
    let rounds = || {
        runtime
            .stats()
            .iter()
            .map(|shard| shard.rounds)
            .max()
            .unwrap()
    };
    let before = (cpu_time(), rounds());
    std::thread::sleep(Duration::from_secs(3));
    let used = cpu_time() - before.0;
    assert!(used < Duration::from_millis(30), "{used:?} of 3 s");
    assert!(
        rounds() - before.1 <= 12,
        "{} rounds in 3 s",
        rounds() - before.1
    );
    assert!((2..=4).contains(&alive.load(Ordering::SeqCst)));
    std::process::exit(0);
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn too_little_locked_memory_is_told_before_anything_starts() {
    in_a_child("little_memlock");
}

#[test]
#[ignore = "needs a process of its own; the test above runs it"]
fn little_memlock() {
    let little = Rlimit {
        current: Some(65536),
        maximum: Some(65536),
    };
    setrlimit(Resource::Memlock, little).unwrap();
    let failed = shards::start(options(), |_: Shard<Counting>| async {
        Ok::<(), String>(())
    });
    let error = failed.err().unwrap();
    assert!(matches!(error, StartError::Preflight(_)));
    let text = error.to_string();
    assert!(
        !text.contains('\n') && text.contains("LimitMEMLOCK") && text.contains("65536"),
        "{text}"
    );
}

#[test]
fn soft_limits_are_raised() {
    in_a_child("soft_limits");
}

#[test]
#[ignore = "needs a process of its own; the test above runs it"]
fn soft_limits() {
    for resource in [Resource::Memlock, Resource::Nofile] {
        let limit = getrlimit(resource);
        let low = Rlimit {
            current: Some(1024),
            maximum: limit.maximum,
        };
        setrlimit(resource, low).unwrap();
    }
    let host = shards::preflight().unwrap();
    assert_eq!(host.nofile, getrlimit(Resource::Nofile).maximum);
    assert_eq!(host.memlock, getrlimit(Resource::Memlock).maximum);
    assert!(!host.kernel.is_empty());
}

fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--ignored", "--nocapture", test]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Runs a test of this file that is ignored in a process of its own.
fn in_a_child(test: &str) {
    let output = child(test).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{printed}", output.status);
}
