//! A shard: its service, its calls, and the loop that runs it.

use crate::blocking::{BlockingError, Pool, SerialWorker, Workers, caught};
use crate::call::{Call, CallError, Caller, Calls, ReplyTo, Route};
use crate::local::{Latch, Latched, Notify};
use crate::mailbox::{Mailbox, Message};
use crate::runtime::Common;
use crate::stats::ShardStats;
use crate::task::Tasks;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a shard does for other shards. One for each shard; it lives and dies on its shard.
pub trait Service: 'static {
    /// What others ask. It crosses threads by value, through a queue: keep it small.
    type Request: Send + 'static;
    /// What they are answered.
    type Reply: Send + 'static;

    /// Handles one request. Requests of one sender come in the order in which it sent them.
    ///
    /// It must not block. It answers at once, or keeps `reply` and answers later. A panic in it is
    /// caught, counted and logged, and the caller sees [`CallError::Dropped`].
    ///
    /// A shard's call to itself gets here from within [`Shard::call`]: do not call with a borrow held
    /// that this needs.
    fn handle(self: &Rc<Self>, request: Self::Request, reply: ReplyTo<Self::Reply>);
}

/// Longest time that a round takes before the shard looks for events.
const ROUND: Duration = Duration::from_micros(200);
/// Most messages that are taken from the mailbox before tasks run again.
const MESSAGES_AT_ONCE: usize = 256;

pub(crate) type Mailboxes<S> = Arc<[Mailbox<<S as Service>::Request, <S as Service>::Reply>]>;

/// Messages that found a mailbox full.
struct Overflow<S: Service> {
    messages: RefCell<VecDeque<Message<S::Request, S::Reply>>>,
    emptied: Notify,
}

pub(crate) struct Inner<S: Service> {
    pub(crate) index: usize,
    pub(crate) common: Arc<Common>,
    pub(crate) tasks: Rc<Tasks>,
    mailboxes: Mailboxes<S>,
    overflow: Box<[Overflow<S>]>,
    /// Messages in all of `overflow`.
    overflowed: Cell<usize>,
    calls: Rc<RefCell<Calls<S::Reply>>>,
    service: RefCell<Option<Rc<S>>>,
    /// Requests that came before the service was there.
    early: RefCell<VecDeque<(Caller, S::Request)>>,
    pub(crate) stopping: Latch,
    /// How many shards were known to be gone when calls were last failed for it.
    gone_seen: Cell<usize>,
    pool: OnceCell<Arc<Pool>>,
    workers: RefCell<Vec<Arc<Pool>>>,
    /// The addresses of `net::Listener::bind` so far.
    pub(crate) listening: RefCell<Vec<SocketAddr>>,
}

/// A handle to the shard that this thread is. It is not `Send`; clones are the same shard.
pub struct Shard<S: Service> {
    pub(crate) inner: Rc<Inner<S>>,
}

impl<S: Service> Clone for Shard<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<S: Service> Shard<S> {
    pub(crate) fn new(index: usize, common: Arc<Common>, mailboxes: Mailboxes<S>) -> Self {
        let tasks = Tasks::new(common.bells[index].clone());
        let overflow = || Overflow {
            messages: RefCell::default(),
            emptied: Notify::new(),
        };
        let inner = Rc::new(Inner {
            index,
            tasks,
            overflow: (0..mailboxes.len()).map(|_| overflow()).collect(),
            overflowed: Cell::new(0),
            common,
            mailboxes,
            calls: Rc::new(RefCell::new(Calls::new())),
            service: RefCell::new(None),
            early: RefCell::default(),
            stopping: Latch::new(),
            gone_seen: Cell::new(0),
            pool: OnceCell::new(),
            workers: RefCell::default(),
            listening: RefCell::default(),
        });
        Self { inner }
    }

    /// This shard's index: 0 to [`Shard::count`] - 1.
    pub fn index(&self) -> usize {
        self.inner.index
    }

    /// Number of shards.
    pub fn count(&self) -> usize {
        self.inner.mailboxes.len()
    }

    /// Installs the service. Requests that came before are handled now, in their order.
    ///
    /// # Panics
    /// If there is one already.
    pub fn serve(&self, service: Rc<S>) {
        let before = self.inner.service.replace(Some(service));
        assert!(before.is_none(), "a shard has one service");
        loop {
            let early = self.inner.early.borrow_mut().pop_front();
            let Some((from, request)) = early else { break };
            self.inner.handle(from, request);
        }
    }

    /// The service, once it is installed.
    pub fn service(&self) -> Option<Rc<S>> {
        self.inner.service.borrow().clone()
    }

    /// Tells [`start`](crate::start) that this shard is ready.
    pub fn ready(&self) {
        self.inner.common.shard_ready(self.inner.index);
    }

    /// Sends `request` to shard `to`, now: the order of calls is the order of requests. The future
    /// tells the reply; dropping it does not take the request back. The own shard's service is called
    /// directly.
    ///
    /// Requests that the destination has not taken yet are bounded: its mailbox holds
    /// [`Options::mailbox_capacity`](crate::Options::mailbox_capacity) messages from all senders. When
    /// it is full, up to as many more wait here, for each destination. When these are full too,
    /// nothing is sent and the call ends with [`CallError::Overloaded`]. Whoever cares waits for
    /// [`Shard::room`] before calling. Requests that the destination has taken, and not yet answered,
    /// are for the service to bound.
    ///
    /// # Panics
    /// If there is no shard `to`.
    pub fn call(&self, to: usize, request: S::Request) -> Call<S::Reply> {
        let inner = &self.inner;
        assert!(to < inner.mailboxes.len(), "no shard {to}");
        if inner.mailboxes[to].is_closed() {
            return Call::failed(CallError::Stopped);
        }
        if inner.overflow[to].messages.borrow().len() >= inner.common.options.mailbox_capacity {
            return Call::failed(CallError::Overloaded);
        }
        let id = inner.calls.borrow_mut().begin(to);
        let from = Caller::Shard {
            index: inner.index,
            id,
        };
        if to == inner.index {
            inner.take_request(from, request);
        } else {
            inner.tasks.bell.counters.calls.add(1);
            inner.send(to, Message::Request { from, request });
        }
        Call::begun(inner.calls.clone(), id)
    }

    /// Whether a call to `to` goes to its mailbox or is the first to wait: nothing waits here for it.
    pub fn has_room(&self, to: usize) -> bool {
        self.inner.overflow[to].messages.borrow().is_empty()
    }

    /// Ends when [`Shard::has_room`].
    pub async fn room(&self, to: usize) {
        loop {
            let emptied = self.inner.overflow[to].emptied.notified();
            if self.has_room(to) {
                return;
            }
            emptied.await;
        }
    }

    /// A handle with which any thread can send requests.
    pub fn remote(&self) -> Remote<S> {
        Remote {
            mailboxes: self.inner.mailboxes.clone(),
        }
    }

    /// Runs `future` as a task of this shard, from the next pass on. It ends by itself, or with the
    /// shard. A panic in it is caught, counted and logged, and ends this task only.
    ///
    /// Its waker may go to other threads: it may wait for anything that other threads complete.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.inner.tasks.spawn(future);
    }

    /// Runs `closure`, which may block, on one of the shard's own threads. Closures start in the order
    /// of these calls. The future tells the result; dropping it does not stop the work.
    pub fn blocking<F, T>(
        &self,
        closure: F,
    ) -> impl Future<Output = Result<T, BlockingError>> + use<S, F, T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let inner = &self.inner;
        let pool = inner.pool.get_or_init(|| {
            let options = &inner.common.options;
            inner.new_pool("block", options.blocking_threads)
        });
        pool.run(closure)
    }

    /// Runs `closure` here and now, and treats a panic as that of [`Shard::blocking`]. For work that
    /// might block, but is known to take less time than handing it to another thread.
    pub fn at_once<T>(&self, closure: impl FnOnce() -> T) -> Result<T, BlockingError> {
        caught(closure, self.index())
    }

    /// A thread of its own for work that has to keep an order. `what` begins the thread's name.
    pub fn serial_worker(&self, what: &str) -> SerialWorker {
        SerialWorker::new(self.workers(what, 1))
    }

    /// Threads of their own, at most so many, for work that others are not to wait for. `what` begins
    /// the threads' names.
    pub fn workers(&self, what: &str, threads: usize) -> Workers {
        let pool = self.inner.new_pool(what, threads);
        let mut workers = self.inner.workers.borrow_mut();
        workers.retain(|worker| !worker.has_ended());
        workers.push(pool.clone());
        Workers::new(pool)
    }

    /// Ends when a graceful stop begins.
    pub fn stopping(&self) -> Latched {
        self.inner.stopping.wait()
    }

    /// Whether a graceful stop has begun.
    pub fn is_stopping(&self) -> bool {
        self.inner.stopping.is_set()
    }

    /// Begins a graceful stop of the whole runtime.
    pub fn stop(&self) {
        self.inner.common.stop();
    }

    /// What this shard has done so far.
    pub fn stats(&self) -> ShardStats {
        let inner = &self.inner;
        inner
            .tasks
            .bell
            .counters
            .snapshot(inner.mailboxes[inner.index].len())
    }
}

/// Sends requests from threads that are no shards. See [`Shard::remote`].
pub struct Remote<S: Service> {
    mailboxes: Mailboxes<S>,
}

impl<S: Service> Clone for Remote<S> {
    fn clone(&self) -> Self {
        Self {
            mailboxes: self.mailboxes.clone(),
        }
    }
}

/// The request was not sent, and comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError<Q> {
    /// The shard's mailbox is full: try later.
    #[error("the shard's mailbox is full")]
    Full(Q),
    /// The shard has ended.
    #[error("the shard has ended")]
    Stopped(Q),
}

impl<S: Service> Remote<S> {
    /// Sends `request` to shard `to`, without waiting. A reply, if any, has to come another way: the
    /// service's [`ReplyTo`] leads nowhere.
    pub fn send(&self, to: usize, request: S::Request) -> Result<(), SendError<S::Request>> {
        let mailbox = &self.mailboxes[to];
        if mailbox.is_closed() {
            return Err(SendError::Stopped(request));
        }
        match mailbox.push(Message::Request {
            from: Caller::Nobody,
            request,
        }) {
            Err(Message::Request { request, .. }) => Err(SendError::Full(request)),
            _ => Ok(()),
        }
    }
}

impl<S: Service> Route<S::Reply> for Inner<S> {
    fn reply(&self, to: Caller, result: Result<S::Reply, CallError>) {
        match to {
            Caller::Shard { index, id } if index == self.index => self.complete(id, result),
            Caller::Shard { index, id } => self.send(index, Message::Reply { id, result }),
            Caller::Nobody => {}
        }
    }
}

impl<S: Service> Inner<S> {
    fn new_pool(&self, what: &str, threads: usize) -> Arc<Pool> {
        let name = format!("{what}-{}", self.index);
        Pool::new(name, threads, self.tasks.bell.clone(), self.common.cpus)
    }

    /// Puts a message into a mailbox, or behind those that wait for it.
    fn send(&self, to: usize, message: Message<S::Request, S::Reply>) {
        let mut waiting = self.overflow[to].messages.borrow_mut();
        let message = if waiting.is_empty() {
            match self.mailboxes[to].push_or_starve(self.index, message) {
                Ok(()) => return,
                Err(message) => message,
            }
        } else {
            message
        };
        waiting.push_back(message);
        self.overflowed.set(self.overflowed.get() + 1);
        self.tasks.bell.counters.overflowed.add(1);
    }

    fn flush_overflow(&self) {
        if self.overflowed.get() == 0 {
            return;
        }
        for (to, overflow) in self.overflow.iter().enumerate() {
            let mut waiting = overflow.messages.borrow_mut();
            if waiting.is_empty() {
                continue;
            }
            while let Some(message) = waiting.pop_front() {
                if let Err(message) = self.mailboxes[to].push_or_starve(self.index, message) {
                    waiting.push_front(message);
                    break;
                }
                self.overflowed.set(self.overflowed.get() - 1);
            }
            if waiting.is_empty() {
                overflow.emptied.notify_waiters();
            }
        }
    }

    fn complete(&self, id: usize, result: Result<S::Reply, CallError>) {
        let unwanted = self.calls.borrow_mut().complete(id, result);
        drop(unwanted);
    }

    fn take_request(self: &Rc<Self>, from: Caller, request: S::Request) {
        let mut early = self.early.borrow_mut();
        if self.service.borrow().is_some() && early.is_empty() {
            drop(early);
            self.handle(from, request);
        } else if early.len() < self.common.options.mailbox_capacity {
            early.push_back((from, request));
        } else {
            drop(early);
            self.reply(from, Err(CallError::Overloaded));
        }
    }

    fn handle(self: &Rc<Self>, from: Caller, request: S::Request) {
        let Some(service) = self.service.borrow().clone() else {
            return;
        };
        let reply = ReplyTo::new(self.clone(), from);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| service.handle(request, reply))) {
            self.tasks.report_panic("request handler", &*panic);
        }
    }

    /// Handles messages until none is left, or `enough` says so.
    fn take_messages(self: &Rc<Self>, mut enough: impl FnMut() -> bool) {
        let mailbox = &self.mailboxes[self.index];
        let mut requests = 0;
        let mut taken = 0;
        while taken < MESSAGES_AT_ONCE {
            match mailbox.pop() {
                Some(Message::Request { from, request }) => {
                    requests += 1;
                    self.take_request(from, request);
                }
                Some(Message::Reply { id, result }) => self.complete(id, result),
                None => break,
            }
            taken += 1;
            if taken % 16 == 0 && enough() {
                break;
            }
        }
        if taken > 0 {
            self.tasks.bell.counters.requests.add(requests);
            for starved in mailbox.take_starved() {
                self.common.bells[starved].ring();
            }
        }
    }

    /// Calls to shards that ended before their time will never be answered.
    fn fail_calls_to_gone(&self) {
        let gone = self.common.gone();
        if gone == self.gone_seen.replace(gone) {
            return;
        }
        for (index, mailbox) in self.mailboxes.iter().enumerate() {
            if mailbox.is_closed() {
                self.calls.borrow_mut().fail_all(index);
            }
        }
    }

    /// Runs messages, then tasks, until nothing is left or the time is up. Tells whether to go on after
    /// a look for events.
    pub(crate) fn round(self: &Rc<Self>, start: Instant) -> bool {
        let enough = || start.elapsed() >= ROUND;
        if self.common.is_stopping() {
            self.stopping.set();
        }
        self.fail_calls_to_gone();
        loop {
            self.tasks.take_woken();
            self.take_messages(enough);
            self.tasks.run(enough);
            self.flush_overflow();
            if self.tasks.is_runnable() || self.has_arrivals() {
                if enough() {
                    return true;
                }
                continue;
            }
            if self.tasks.wants_turn() {
                return true;
            }
            self.tasks.bell.falls_asleep();
            if !self.has_arrivals() {
                return false;
            }
            self.tasks.bell.is_awake();
        }
    }

    /// Whether other threads have left something here.
    fn has_arrivals(&self) -> bool {
        !self.mailboxes[self.index].is_empty() || self.tasks.bell.has_woken()
    }

    /// Ends tasks and service, which hold handles to this shard, and the threads for blocking work.
    pub(crate) fn let_go(&self) {
        self.mailboxes[self.index].close();
        drop(self.service.take());
        self.tasks.drop_all();
        drop(self.early.take());
        for overflow in &self.overflow {
            drop(overflow.messages.take());
        }
        self.overflowed.set(0);
        let workers = self.workers.take();
        for pool in workers.iter().chain(self.pool.get()) {
            pool.close();
        }
        for pool in workers.iter().chain(self.pool.get()) {
            pool.join();
        }
    }
}
