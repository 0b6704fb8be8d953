//! Starting and stopping all shards of a runtime.

use crate::bell::Bell;
use crate::host::{self, PreflightError};
use crate::lock::lock;
use crate::mailbox::Mailbox;
use crate::net::Group;
use crate::options::Options;
use crate::root;
use crate::shard::{Mailboxes, Service, Shard};
use crate::signals::SignalThread;
use crate::stats::ShardStats;
use crate::task::panic_message;
use crate::watchdog::Watchdog;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

/// Why a runtime did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host does not offer what it takes.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The kernel refused a thread or a descriptor.
    #[error("cannot start the shards: {0}")]
    Io(#[from] io::Error),
    /// A shard's executor or its init failed.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

/// A shard failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("shard {shard}: {message}")]
pub struct ShardError {
    /// Its index.
    pub shard: usize,
    /// What it says, or its panic.
    pub message: String,
}

/// How a runtime ended, if not well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// A shard's init returned an error or panicked, after it was ready.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// Shards did not end within the time that the options give. Their threads still run: the process
    /// should end now, with an error.
    #[error("shards {0:?} did not stop in time")]
    StopTimeout(Vec<usize>),
}

#[derive(Debug, Default)]
struct Progress {
    ready: Vec<bool>,
    init_ended: Vec<bool>,
    ended: Vec<bool>,
    failure: Option<ShardError>,
    stop_since: Option<Instant>,
}

/// A listening address that a shard asked for first, and the port that it got.
pub(crate) struct Listening {
    pub(crate) asked: SocketAddr,
    /// How many listeners a shard has made for it before this one.
    pub(crate) nth: usize,
    pub(crate) bound: SocketAddr,
    pub(crate) group: Arc<Group>,
}

/// What all shards of a runtime share.
pub(crate) struct Common {
    pub(crate) options: Options,
    pub(crate) bells: Vec<Arc<Bell>>,
    /// The process's CPUs.
    pub(crate) cpus: CpuSet,
    pub(crate) listening: Mutex<Vec<Listening>>,
    stopping: AtomicBool,
    /// End without waiting for the shards' init.
    aborted: AtomicBool,
    inits_left: AtomicUsize,
    gone: AtomicUsize,
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Common {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Whether a shard may leave its loop: nobody needs its answers any more.
    pub(crate) fn may_end(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
            || self.is_stopping() && self.inits_left.load(Ordering::Acquire) == 0
    }

    /// How many shards ended before the others.
    pub(crate) fn gone(&self) -> usize {
        self.gone.load(Ordering::Acquire)
    }

    /// Makes every shard look at the state. A shard that is about to sleep does not look again at it,
    /// so this is not `ring`.
    fn knock_all(&self) {
        for bell in &self.bells {
            bell.knock();
        }
    }

    pub(crate) fn stop(&self) {
        let mut progress = self.progress();
        progress.stop_since.get_or_insert_with(Instant::now);
        drop(progress);
        self.stopping.store(true, Ordering::Release);
        self.changed.notify_all();
        self.knock_all();
    }

    pub(crate) fn shard_ready(&self, index: usize) {
        self.progress().ready[index] = true;
        self.changed.notify_all();
    }

    /// The shard's init ended. Only an end without error leaves the runtime running.
    pub(crate) fn init_ended(&self, index: usize, result: Result<(), String>) {
        let mut progress = self.progress();
        let first = !std::mem::replace(&mut progress.init_ended[index], true);
        match result {
            Ok(()) => progress.ready[index] = true,
            Err(message) => {
                let failure = ShardError {
                    shard: index,
                    message,
                };
                progress.failure.get_or_insert(failure);
            }
        }
        let failed = progress.failure.is_some();
        drop(progress);
        if first && self.inits_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.knock_all();
        }
        self.changed.notify_all();
        if failed {
            self.stop();
        }
    }

    fn shard_ended(&self, index: usize, result: Result<(), String>) {
        if !self.may_end() {
            self.gone.fetch_add(1, Ordering::AcqRel);
            self.knock_all();
        }
        self.init_ended(index, result);
        self.progress().ended[index] = true;
        self.changed.notify_all();
    }
}

/// All shards, running. Dropping it stops them and waits for their end.
pub struct Runtime {
    common: Arc<Common>,
    threads: Vec<JoinHandle<()>>,
    watchdog: Option<Watchdog>,
    signals: Option<SignalThread>,
    observer: Observer,
}

/// Looks at a runtime from any thread, also after its end.
#[derive(Clone)]
pub struct Observer {
    common: Arc<Common>,
    mailbox_len: Arc<dyn Fn(usize) -> usize + Send + Sync>,
}

impl Observer {
    /// What each shard has done so far.
    pub fn stats(&self) -> Vec<ShardStats> {
        let snapshot = |bell: &Arc<Bell>| bell.counters.snapshot((self.mailbox_len)(bell.index));
        self.common.bells.iter().map(snapshot).collect()
    }

    /// Whether a stop has begun.
    pub fn is_stopping(&self) -> bool {
        self.common.is_stopping()
    }
}

/// Starts the shards and returns when all are ready.
///
/// On each shard `init` runs once, as its first task. It makes the [`Service`] and installs it
/// ([`Shard::serve`]), binds listeners, spawns what it needs, calls [`Shard::ready`], and may go on
/// until [`Shard::stopping`], to end in order what it began. Returning without error counts as ready.
///
/// The shards end when a stop was asked for and `init` has returned on all of them: until then they
/// answer each other. Tasks that still live then are dropped.
///
/// # Errors
/// What the host lacks ([`preflight`](crate::preflight) runs first), what the kernel refused, or the
/// first error or panic of an executor or an `init`. All shards have ended then.
pub fn start<S, F, Fut, E>(mut options: Options, init: F) -> Result<Runtime, StartError>
where
    S: Service,
    F: Fn(Shard<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + 'static,
    E: Display,
{
    host::preflight()?;
    options.mailbox_capacity = options.mailbox_capacity.max(1);
    let cpus = sched_getaffinity(None).map_err(io::Error::from)?;
    let cpu_list: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| cpus.is_set(*cpu))
        .collect();
    let count = options
        .shards
        .map_or(cpu_list.len(), |count| count.get())
        .max(1);
    let pin = options
        .pin
        .decide(count, cpu_list.len(), host::online_cpus());
    let bells = (0..count)
        .map(|index| Bell::new(index).map(Arc::new))
        .collect::<io::Result<Vec<_>>>()?;
    let mailbox = |bell: &Arc<Bell>| Mailbox::new(options.mailbox_capacity, count, bell.clone());
    let mailboxes: Mailboxes<S> = bells.iter().map(mailbox).collect();
    let progress = Progress {
        ready: vec![false; count],
        init_ended: vec![false; count],
        ended: vec![false; count],
        ..Progress::default()
    };
    let common = Arc::new(Common {
        bells,
        cpus,
        listening: Mutex::default(),
        stopping: AtomicBool::new(false),
        aborted: AtomicBool::new(false),
        inits_left: AtomicUsize::new(count),
        gone: AtomicUsize::new(0),
        progress: Mutex::new(progress),
        changed: Condvar::new(),
        options,
    });

    let depths = mailboxes.clone();
    let mut runtime = Runtime {
        common: common.clone(),
        threads: Vec::with_capacity(count),
        watchdog: None,
        signals: None,
        observer: Observer {
            common: common.clone(),
            mailbox_len: Arc::new(move |index| depths[index].len()),
        },
    };
    if common.options.signals {
        runtime.signals = Some(SignalThread::start(common.clone())?);
    }
    runtime.watchdog = Some(Watchdog::start(
        thread_name(&common, "dog"),
        &common.bells,
        common.options.on_alive.clone(),
    )?);
    let init = Arc::new(init);
    for index in 0..count {
        let (common, mailboxes, init) = (common.clone(), mailboxes.clone(), init.clone());
        let cpu = pin.then(|| cpu_list[index % cpu_list.len()]);
        let builder = Builder::new().name(thread_name(&common, &index.to_string()));
        let spawned = builder.spawn(move || {
            let result = cpu.map_or(Ok(()), pin_to).and_then(|()| {
                let run = || root::run(index, common.clone(), mailboxes.clone(), init);
                catch_unwind(AssertUnwindSafe(run))
                    .unwrap_or_else(|panic| Err(format!("panicked: {}", panic_message(&*panic))))
            });
            mailboxes[index].close();
            common.shard_ended(index, result);
        });
        match spawned {
            Ok(thread) => runtime.threads.push(thread),
            Err(error) => {
                runtime.abort();
                return Err(error.into());
            }
        }
    }
    runtime.wait_ready()?;
    Ok(runtime)
}

fn thread_name(common: &Common, what: &str) -> String {
    format!("{}-{what}", common.options.name)
}

fn pin_to(cpu: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|error| format!("cannot pin to CPU {cpu}: {error}"))
}

impl Runtime {
    fn wait_ready(&mut self) -> Result<(), ShardError> {
        let mut progress = self.common.progress();
        loop {
            if let Some(failure) = progress.failure.clone() {
                drop(progress);
                self.abort();
                return Err(failure);
            }
            if progress.ready.iter().all(|ready| *ready) {
                return Ok(());
            }
            progress = self
                .common
                .changed
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends all shards without waiting for their init.
    fn abort(&mut self) {
        self.common.aborted.store(true, Ordering::Release);
        self.common.stop();
        // A shard that hangs in its init cannot be waited for longer than that.
        let _ = self.finish();
    }

    /// Begins a graceful stop, as the first signal does. [`Runtime::wait`] tells its end.
    pub fn stop(&self) {
        self.common.stop();
    }

    /// Waits until all shards have ended. That takes a stop: from [`Runtime::stop`], [`Shard::stop`],
    /// a signal, or the failure of a shard.
    pub fn wait(mut self) -> Result<(), RuntimeError> {
        self.finish()
    }

    /// [`Runtime::stop`] and [`Runtime::wait`].
    pub fn stop_and_wait(self) -> Result<(), RuntimeError> {
        self.stop();
        self.wait()
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.common.bells.len()
    }

    /// What each shard has done so far.
    pub fn stats(&self) -> Vec<ShardStats> {
        self.observer.stats()
    }

    /// For a thread that looks at the shards while others wait for their end.
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    fn finish(&mut self) -> Result<(), RuntimeError> {
        self.wait_ended()?;
        for thread in self.threads.drain(..) {
            // Its panics are caught.
            let _ = thread.join();
        }
        self.end_side_threads();
        match self.common.progress().failure.clone() {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    fn wait_ended(&self) -> Result<(), RuntimeError> {
        let started = self.threads.len();
        let mut progress = self.common.progress();
        loop {
            let running: Vec<usize> = (0..started)
                .filter(|index| !progress.ended[*index])
                .collect();
            if running.is_empty() {
                return Ok(());
            }
            let Some(since) = progress.stop_since else {
                progress = self
                    .common
                    .changed
                    .wait(progress)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = self
                .common
                .options
                .stop_timeout
                .saturating_sub(since.elapsed());
            if left.is_zero() {
                return Err(RuntimeError::StopTimeout(running));
            }
            progress = self
                .common
                .changed
                .wait_timeout(progress, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn end_side_threads(&mut self) {
        self.watchdog = None;
        self.signals = None;
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.common.stop();
        if !self.threads.is_empty()
            && let Err(error) = self.finish()
        {
            tracing::error!("the runtime did not end well: {error}");
        }
        self.end_side_threads();
    }
}
