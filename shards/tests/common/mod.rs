//! What the tests share.

#![allow(dead_code, unreachable_pub)]

use shards::{Options, Pin, ReplyTo, Runtime, Service, Shard};
use std::cell::Cell;
use std::future::Future;
use std::io::Write;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Ends the test process if nothing was reported for [`Watch::LIMIT`]: a hang is silent otherwise.
pub struct Watch {
    progress: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Watch {
    const LOOK: Duration = Duration::from_millis(50);
    /// Looks, not time: a machine that was halted for a while has not hung.
    const LIMIT: u32 = 400;

    pub fn start(what: &'static str) -> Self {
        let watch = Self {
            progress: Arc::default(),
            ended: Arc::default(),
        };
        let (progress, ended) = (watch.progress.clone(), watch.ended.clone());
        std::thread::spawn(move || {
            let (mut seen, mut unmoved) = (progress.load(Ordering::Relaxed), 0);
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(Self::LOOK);
                let now = progress.load(Ordering::Relaxed);
                unmoved = if now == seen { unmoved + 1 } else { 0 };
                seen = now;
                if unmoved == Self::LIMIT {
                    // Past the test harness, which keeps back what is printed until the test ends.
                    let line = format!(
                        "HANG: {what}: nothing for {:?}, after {now} steps\n",
                        Self::LOOK * Self::LIMIT
                    );
                    let _ = std::io::stderr().write_all(line.as_bytes());
                    std::process::abort();
                }
            }
        });
        watch
    }

    /// To be called at each step.
    pub fn counter(&self) -> Arc<AtomicU64> {
        self.progress.clone()
    }

    pub fn step(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Keeps as many CPUs busy, in bursts, until it is dropped.
pub struct Load {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start(threads: usize) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let burn = |ended: Arc<AtomicBool>| {
            move || {
                while !ended.load(Ordering::Relaxed) {
                    let burst = Instant::now();
                    while burst.elapsed() < Duration::from_millis(3) {
                        std::hint::spin_loop();
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        };
        let threads = (0..threads)
            .map(|_| std::thread::spawn(burn(ended.clone())))
            .collect();
        Self { ended, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// Two shards, not pinned.
pub fn options() -> Options {
    with_shards(2)
}

pub fn with_shards(shards: usize) -> Options {
    Options {
        shards: NonZeroUsize::new(shards),
        pin: Pin::Off,
        name: "test",
        stop_timeout: Duration::from_secs(10),
        ..Options::default()
    }
}

/// Answers each number with the number of requests before it.
#[derive(Default)]
pub struct Counting {
    pub seen: Cell<u64>,
}

impl Service for Counting {
    type Request = u64;
    type Reply = u64;

    fn handle(self: &Rc<Self>, _request: u64, reply: ReplyTo<u64>) {
        reply.send(self.seen.replace(self.seen.get() + 1));
    }
}

/// A runtime of as many shards, with [`Counting`] as its service; `body` runs on the first one, and its
/// end stops the runtime.
pub fn run_on_first<F, Fut>(options: Options, body: F)
where
    F: Fn(Shard<Counting>) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let runtime = start_on_first(options, body);
    runtime.wait().expect("the runtime ends well");
}

pub fn start_on_first<F, Fut>(options: Options, body: F) -> Runtime
where
    F: Fn(Shard<Counting>) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    shards::start(options, move |shard: Shard<Counting>| {
        let body = body.clone();
        async move {
            shard.serve(Rc::new(Counting::default()));
            shard.ready();
            if shard.index() == 0 {
                body(shard.clone()).await;
                shard.stop();
            }
            shard.stopping().await;
            Ok::<(), String>(())
        }
    })
    .expect("the runtime starts")
}
