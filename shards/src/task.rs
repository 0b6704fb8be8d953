//! The tasks of a shard, run by its one glommio task (`root::Root`).

use crate::bell::Bell;
use crate::log_limited;
use crate::poller::Poller;
use crate::time::Timers;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

thread_local! {
    /// The shard that runs on this thread.
    static CURRENT: RefCell<Option<Rc<Tasks>>> = const { RefCell::new(None) };
}

/// What a waker points to. It may outlive the task and wander to any thread.
#[derive(Debug)]
pub(crate) struct Header {
    bell: Arc<Bell>,
    slot: usize,
    /// In the run queue, or among those that other threads woke.
    queued: AtomicBool,
}

impl Wake for Header {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            dispatch(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            dispatch(self.clone());
        }
    }
}

/// Queues a task on its shard, from whatever thread this is.
fn dispatch(task: Arc<Header>) {
    let mut task = Some(task);
    // Fails while the thread's locals are torn down: then it is no shard any more.
    let _ = CURRENT.try_with(|current| {
        if let Some(tasks) = current.borrow().as_ref()
            && let Some(own) = task.take_if(|task| Arc::ptr_eq(&tasks.bell, &task.bell))
        {
            tasks.enqueue(own);
        }
    });
    if let Some(foreign) = task {
        let bell = foreign.bell.clone();
        bell.push_woken(foreign);
    }
}

type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

enum Slot {
    Free {
        next: usize,
    },
    Taken {
        header: Arc<Header>,
        future: Option<LocalFuture>,
    },
}

/// End of the list of free slots.
const NONE: usize = usize::MAX;

struct Slots {
    slots: Vec<Slot>,
    free: usize,
    len: usize,
}

/// All tasks of one shard, and what they wait for.
pub(crate) struct Tasks {
    pub(crate) bell: Arc<Bell>,
    pub(crate) poller: Rc<Poller>,
    pub(crate) timers: Timers,
    slots: RefCell<Slots>,
    run: RefCell<VecDeque<Arc<Header>>>,
    /// Tasks that asked for the next round.
    turns: RefCell<Vec<Waker>>,
    /// Counts the rounds; between two of them the shard looks for events.
    rounds: Cell<u64>,
}

/// Polls between two looks at the clock.
const POLLS_PER_CLOCK: u32 = 4;

impl Tasks {
    pub(crate) fn new(bell: Arc<Bell>) -> Rc<Self> {
        Rc::new(Self {
            poller: Rc::new(Poller::new(bell.clone())),
            bell,
            timers: Timers::default(),
            slots: RefCell::new(Slots {
                slots: Vec::new(),
                free: NONE,
                len: 0,
            }),
            run: RefCell::default(),
            turns: RefCell::default(),
            rounds: Cell::new(0),
        })
    }

    /// Makes these the tasks of this thread, until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        CURRENT.set(Some(self.clone()));
        Entered
    }

    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let header = {
            let mut slots = self.slots.borrow_mut();
            let index = slots.free;
            let index = if index == NONE {
                slots.slots.len()
            } else {
                index
            };
            let header = Arc::new(Header {
                bell: self.bell.clone(),
                slot: index,
                queued: AtomicBool::new(true),
            });
            let taken = Slot::Taken {
                header: header.clone(),
                future: Some(Box::pin(future)),
            };
            if index == slots.slots.len() {
                slots.slots.push(taken);
            } else if let Slot::Free { next } = std::mem::replace(&mut slots.slots[index], taken) {
                slots.free = next;
            }
            slots.len += 1;
            header
        };
        self.bell.counters.tasks.add(1);
        self.enqueue(header);
    }

    fn enqueue(&self, task: Arc<Header>) {
        self.run.borrow_mut().push_back(task);
    }

    /// A new round begins: the shard has looked for events since the last one.
    pub(crate) fn begin_round(&self, now: Instant) {
        self.bell.is_awake();
        self.bell.counters.rounds.add(1);
        self.rounds.set(self.rounds.get() + 1);
        self.timers.fire(now);
        let mut turns = self.turns.take();
        turns.drain(..).for_each(Waker::wake);
        // Kept for its allocation.
        self.turns.replace(turns);
    }

    /// Moves tasks that other threads woke to the run queue.
    pub(crate) fn take_woken(&self) {
        let mut run = self.run.borrow_mut();
        while let Some(task) = self.bell.pop_woken() {
            run.push_back(task);
        }
    }

    /// Whether a task wants to run now.
    pub(crate) fn is_runnable(&self) -> bool {
        !self.run.borrow().is_empty()
    }

    /// Whether a task waits for the next round.
    pub(crate) fn wants_turn(&self) -> bool {
        !self.turns.borrow().is_empty()
    }

    /// Runs tasks until none wants to, or `enough` says so.
    pub(crate) fn run(&self, mut enough: impl FnMut() -> bool) {
        let mut polls = 0;
        loop {
            let Some(task) = self.run.borrow_mut().pop_front() else {
                break;
            };
            self.poll(task);
            polls += 1;
            if polls % POLLS_PER_CLOCK == 0 && enough() {
                break;
            }
        }
        self.bell.counters.polls.add(u64::from(polls));
    }

    fn poll(&self, task: Arc<Header>) {
        let index = task.slot;
        let Some(mut future) = self.take_future(&task) else {
            return;
        };
        // From here on a wake queues the task again. Acquire: what happened before the wake that led
        // here is seen by the poll.
        task.queued.swap(false, Ordering::AcqRel);
        self.poller.renew_budget();
        let waker = Waker::from(task);
        let poll = catch_unwind(AssertUnwindSafe(|| {
            let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
            match poll {
                Poll::Pending => Some(future),
                // Dropped here, so that a panic in a destructor is caught as well.
                Poll::Ready(()) => None,
            }
        }));
        match poll {
            Ok(Some(future)) => self.put_back(index, future),
            Ok(None) => self.free(index),
            Err(panic) => {
                self.free(index);
                self.report_panic("task", &*panic);
            }
        }
    }

    /// `None`: the task has ended, or its slot belongs to another one by now.
    fn take_future(&self, task: &Arc<Header>) -> Option<LocalFuture> {
        match self.slots.borrow_mut().slots.get_mut(task.slot) {
            Some(Slot::Taken { header, future }) if Arc::ptr_eq(header, task) => future.take(),
            _ => None,
        }
    }

    fn put_back(&self, index: usize, polled: LocalFuture) {
        if let Some(Slot::Taken { future, .. }) = self.slots.borrow_mut().slots.get_mut(index) {
            *future = Some(polled);
        }
    }

    fn free(&self, index: usize) {
        let mut slots = self.slots.borrow_mut();
        slots.slots[index] = Slot::Free { next: slots.free };
        slots.free = index;
        slots.len -= 1;
        self.bell.counters.tasks.sub(1);
    }

    /// Drops all tasks, and those that their destructors spawn.
    pub(crate) fn drop_all(&self) {
        let mut index = 0;
        loop {
            let future = match self.slots.borrow_mut().slots.get_mut(index) {
                Some(Slot::Taken { future, .. }) => future.take(),
                Some(Slot::Free { .. }) => {
                    index += 1;
                    continue;
                }
                None => return,
            };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
                self.report_panic("task's destructor", &*panic);
            }
            self.free(index);
            // A slot that is free is used first, so one of those before may be taken again.
            index = 0;
        }
    }

    pub(crate) fn report_panic(&self, what: &str, panic: &(dyn Any + Send)) {
        self.bell.counters.panics.add(1);
        log_limited!(
            error,
            shard = self.bell.index,
            "a {what} panicked, and only it was ended; this is a bug, please report it: {}",
            panic_message(panic)
        );
    }
}

/// The text of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "no message"
    }
}

/// See [`Tasks::enter`].
pub(crate) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// The tasks of this thread.
///
/// # Panics
/// Off a shard.
pub(crate) fn current() -> Rc<Tasks> {
    CURRENT.with_borrow(|current| {
        let tasks = current.as_ref();
        tasks.expect("this works on a shard only").clone()
    })
}

/// Lets the shard's sockets, timers and messages be served before the task goes on, as well as all
/// tasks that can run.
///
/// A task that computes for long takes a turn at least every 200 us: on a shard nobody is interrupted.
///
/// # Panics
/// Off a shard.
pub async fn turn() {
    let tasks = current();
    let start = tasks.rounds.get();
    poll_fn(|cx| {
        if tasks.rounds.get() != start {
            return Poll::Ready(());
        }
        tasks.turns.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    })
    .await;
}
