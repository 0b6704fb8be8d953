//! Work that blocks its thread: a pool for each shard, and workers that keep an order.

use crate::bell::Bell;
use crate::lock::lock;
use crate::log_limited;
use crate::task::panic_message;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

/// Why blocking work has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    /// The closure panicked; its thread lives on.
    #[error("blocking work panicked: {0}")]
    Panicked(String),
    /// The shard is ending and takes no more work.
    #[error("the shard is ending")]
    Stopped,
    /// No thread could be started to run it.
    #[error("no thread for blocking work: {0}")]
    NoThread(String),
}

enum State<F, T> {
    Queued(F, Option<Waker>),
    Running(Option<Waker>),
    Done(Result<T, BlockingError>),
    Taken,
}

impl<F, T> State<F, T> {
    fn waiter(&mut self) -> Option<&mut Option<Waker>> {
        match self {
            State::Queued(_, waiter) | State::Running(waiter) => Some(waiter),
            State::Done(_) | State::Taken => None,
        }
    }
}

/// A closure and, later, its result: one allocation for both.
struct Job<F, T> {
    state: Mutex<State<F, T>>,
    bell: Arc<Bell>,
}

/// The thread's view of a job.
trait Run: Send + Sync {
    fn run(&self);
    fn refuse(&self, error: BlockingError);
}

impl<F, T> Job<F, T>
where
    F: FnOnce() -> T,
{
    fn finish(&self, result: Result<T, BlockingError>) {
        let waiter = {
            let mut state = lock(&self.state);
            let waiter = state.waiter().and_then(Option::take);
            *state = State::Done(result);
            waiter
        };
        self.bell.counters.blocking.fetch_sub(1, Ordering::Relaxed);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

impl<F, T> Run for Job<F, T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    fn run(&self) {
        let closure = {
            let mut state = lock(&self.state);
            match std::mem::replace(&mut *state, State::Taken) {
                State::Queued(closure, waiter) => {
                    *state = State::Running(waiter);
                    closure
                }
                other => {
                    *state = other;
                    return;
                }
            }
        };
        self.finish(caught(closure, self.bell.index));
    }

    fn refuse(&self, error: BlockingError) {
        self.finish(Err(error));
    }
}

/// The result of a job, on the shard.
struct Outcome<F, T>(Arc<Job<F, T>>);

impl<F, T> Future for Outcome<F, T> {
    type Output = Result<T, BlockingError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.0.state);
        if let Some(waiter) = state.waiter() {
            match waiter {
                Some(waiter) => waiter.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(result) => Poll::Ready(result),
            _ => Poll::Ready(Err(BlockingError::Stopped)),
        }
    }
}

/// Runs work. A panic in it is logged.
pub(crate) fn caught<T>(closure: impl FnOnce() -> T, shard: usize) -> Result<T, BlockingError> {
    catch_unwind(AssertUnwindSafe(closure)).map_err(|panic| {
        let message = panic_message(&*panic).to_owned();
        log_limited!(
            error,
            shard,
            "blocking work panicked; this is a bug, please report it: {message}"
        );
        BlockingError::Panicked(message)
    })
}

struct Queue {
    jobs: VecDeque<Arc<dyn Run>>,
    idle: usize,
    threads: Vec<JoinHandle<()>>,
    closed: bool,
}

/// Threads that take jobs in the order in which they were queued. They start when they are needed
/// first, and end with the shard.
pub(crate) struct Pool {
    queue: Mutex<Queue>,
    ready: Condvar,
    name: String,
    max_threads: usize,
    bell: Arc<Bell>,
    /// The process's CPUs: the threads do not share the shard's pin.
    cpus: CpuSet,
}

impl Pool {
    pub(crate) fn new(
        name: String,
        max_threads: usize,
        bell: Arc<Bell>,
        cpus: CpuSet,
    ) -> Arc<Self> {
        let queue = Queue {
            jobs: VecDeque::new(),
            idle: 0,
            threads: Vec::new(),
            closed: false,
        };
        let max_threads = max_threads.max(1);
        Arc::new(Self {
            queue: Mutex::new(queue),
            ready: Condvar::new(),
            name,
            max_threads,
            bell,
            cpus,
        })
    }

    pub(crate) fn run<F, T>(
        self: &Arc<Self>,
        closure: F,
    ) -> impl Future<Output = Result<T, BlockingError>> + use<F, T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let state = Mutex::new(State::Queued(closure, None));
        let job = Arc::new(Job {
            state,
            bell: self.bell.clone(),
        });
        self.bell.counters.blocking.fetch_add(1, Ordering::Relaxed);
        self.submit(job.clone());
        Outcome(job)
    }

    fn submit(self: &Arc<Self>, job: Arc<dyn Run>) {
        let mut queue = lock(&self.queue);
        if queue.closed {
            drop(queue);
            return job.refuse(BlockingError::Stopped);
        }
        queue.jobs.push_back(job);
        if queue.jobs.len() > queue.idle && queue.threads.len() < self.max_threads {
            self.add_thread(queue);
        } else {
            drop(queue);
            self.ready.notify_one();
        }
    }

    fn add_thread(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        let pool = self.clone();
        let builder = std::thread::Builder::new().name(self.name.clone());
        match builder.spawn(move || pool.work()) {
            Ok(thread) => queue.threads.push(thread),
            // Those that run already will come to the job.
            Err(error) if !queue.threads.is_empty() => {
                log_limited!(
                    warn,
                    "no further thread for blocking work; raise the limit of threads (TasksMax, ulimit -u): {error}"
                );
            }
            Err(error) => {
                let jobs = std::mem::take(&mut queue.jobs);
                drop(queue);
                for job in jobs {
                    job.refuse(BlockingError::NoThread(error.to_string()));
                }
            }
        }
    }

    fn work(&self) {
        // A pinned shard's thread hands its pin on. If it cannot be undone, the work is slower.
        let _ = sched_setaffinity(None, &self.cpus);
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                job.run();
                drop(job);
                queue = lock(&self.queue);
            } else if queue.closed {
                return;
            } else {
                queue.idle += 1;
                queue = self
                    .ready
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
            }
        }
    }

    /// Takes no more jobs. Those that are queued still run.
    pub(crate) fn close(&self) {
        lock(&self.queue).closed = true;
        self.ready.notify_all();
    }

    /// Waits for the threads, after [`Pool::close`].
    pub(crate) fn join(&self) {
        let threads = std::mem::take(&mut lock(&self.queue).threads);
        for thread in threads {
            // Jobs catch their panics.
            let _ = thread.join();
        }
    }

    /// Closed, and no thread is left.
    pub(crate) fn has_ended(&self) -> bool {
        let queue = lock(&self.queue);
        queue.closed && queue.threads.iter().all(JoinHandle::is_finished)
    }
}

/// Threads that run closures, started in the order in which they were given.
///
/// They end when this is dropped, after what they were given. See [`Shard::workers`].
///
/// [`Shard::workers`]: crate::Shard::workers
pub struct Workers {
    pool: Arc<Pool>,
}

impl Workers {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { pool }
    }

    /// Queues `closure` now. The future tells the result; dropping it does not stop the work.
    pub fn run<F, T>(
        &self,
        closure: F,
    ) -> impl Future<Output = Result<T, BlockingError>> + use<F, T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.pool.run(closure)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.pool.close();
    }
}

/// One thread that runs closures one after the other, in the order in which they were given.
///
/// It ends when it is dropped, after what it was given. See [`Shard::serial_worker`].
///
/// [`Shard::serial_worker`]: crate::Shard::serial_worker
pub struct SerialWorker {
    workers: Workers,
}

impl SerialWorker {
    pub(crate) fn new(workers: Workers) -> Self {
        Self { workers }
    }

    /// Queues `closure` now. The future tells the result; dropping it does not stop the work.
    pub fn run<F, T>(
        &self,
        closure: F,
    ) -> impl Future<Output = Result<T, BlockingError>> + use<F, T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.workers.run(closure)
    }
}
