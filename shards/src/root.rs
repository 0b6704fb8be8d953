//! The one glommio task of a shard: it runs all the shard's own tasks, and waits for their events.

use crate::bell::Bell;
use crate::runtime::Common;
use crate::shard::{Inner, Mailboxes, Service, Shard};
use crate::task::panic_message;
use futures_io::AsyncRead;
use glommio::io::BufferedFile;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use std::cell::Cell;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A round longer than this is counted: some task does not take its turns.
const LONG_ROUND: Duration = Duration::from_millis(10);
/// Entries of each of the executor's rings. When this many events complete within one look at the
/// rings, glommio writes to its own event fd, which is one of the ways into its hang.
const RING_DEPTH: usize = 128;
/// Memory that the executor registers with its rings: the least it takes. Files are not read with it.
const IO_MEMORY: usize = 64 << 10;

struct Root<S: Service> {
    inner: Rc<Inner<S>>,
    /// Reads the bell's alarm as long as the shard lives.
    alarm: Pin<Box<dyn Future<Output = ()>>>,
    /// While parked: the kernel tells glommio when events wait. See `Root::wait_for_events`.
    events: Option<TcpStream>,
    /// While parked: the next timer.
    timer: Option<Timer>,
}

impl<S: Service> Root<S> {
    /// Runs the shard until `end`, or until it has had nothing to do for a while.
    fn poll(&mut self, cx: &mut Context<'_>, end: impl Fn(&Inner<S>) -> bool) -> Poll<()> {
        let tasks = self.inner.tasks.clone();
        tasks.bell.is_back();
        self.timer = None;
        let linger = self.inner.common.options.linger;
        loop {
            let start = Instant::now();
            tasks.begin_round(start);
            let more = self.inner.round(start);
            if end(&self.inner) {
                return Poll::Ready(());
            }
            let now = Instant::now();
            let long = now.duration_since(start) >= LONG_ROUND;
            tasks.bell.counters.long_rounds.add(u64::from(long));
            if more {
                tasks.poller.wait(Duration::ZERO);
                continue;
            }
            let next_timer = tasks.timers.next();
            let timer = next_timer.map(|timer| timer.saturating_duration_since(now));
            let wait = timer.map_or(linger, |timer| timer.min(linger));
            if tasks.poller.wait(wait) || timer.is_some_and(|timer| timer <= linger) {
                continue;
            }
            match self.park(cx, next_timer) {
                Ok(true) => return Poll::Pending,
                Ok(false) => {}
                Err(error) => tracing::warn!("a shard cannot park, and goes on: {error}"),
            }
        }
    }

    /// Lets glommio wake this task when something happens. `false`: it has happened already.
    fn park(&mut self, cx: &mut Context<'_>, next_timer: Option<Instant>) -> io::Result<bool> {
        self.wait_for_events(cx)?;
        if let Some(next) = next_timer {
            let left = next.saturating_duration_since(Instant::now());
            let timer = self.timer.insert(Timer::new(left));
            if Pin::new(timer).poll(cx).is_ready() {
                return Ok(false);
            }
        }
        if self.alarm.as_mut().poll(cx).is_ready() {
            return Err(io::Error::other("the shard's alarm is gone"));
        }
        self.inner.tasks.bell.parks(next_timer);
        self.inner.common.leash.pull();
        Ok(true)
    }

    /// Lets glommio wake this task when the epoll instance is readable.
    ///
    /// glommio has no public way to wait for a descriptor but its sockets. They ask the kernel whether
    /// the descriptor is readable when they are made, and receive from it only after the answer, which
    /// fails here and so tells that there was one. A socket without an answer is kept: dropping it
    /// would cancel the question, and that wakes this task as well.
    fn wait_for_events(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let unanswered = |events: &mut TcpStream, cx: &mut Context<'_>| {
            Pin::new(events).poll_read(cx, &mut [0]).is_pending()
        };
        if self
            .events
            .as_mut()
            .is_some_and(|events| unanswered(events, cx))
        {
            return Ok(());
        }
        let epoll = self.inner.tasks.bell.epoll().try_clone()?.into_raw_fd();
        // SAFETY: the descriptor is open and owned by nobody else: it was just taken out of its owner.
        let events = self.events.insert(unsafe { TcpStream::from_raw_fd(epoll) });
        if unanswered(events, cx) {
            Ok(())
        } else {
            Err(io::Error::other(
                "a new socket has an answer before its question was sent",
            ))
        }
    }
}

/// Reads the bell's alarm again and again, so that it wakes glommio's loop.
async fn alarm(bell: Arc<Bell>, closing: Rc<Cell<bool>>) {
    let event = match bell.alarm() {
        Ok(event) => event.into_raw_fd(),
        Err(error) => panic!("no descriptor for the shard's alarm: {error}"),
    };
    // SAFETY: the descriptor is open and owned by nobody else: it was just taken out of its owner.
    let event = unsafe { BufferedFile::from_raw_fd(event) };
    while !closing.get() {
        if let Err(error) = event.read_at(0, size_of::<u64>()).await {
            tracing::error!(
                shard = bell.index,
                "reading the shard's alarm failed: {error}"
            );
            glommio::timer::sleep(Duration::from_secs(1)).await;
        }
    }
    // A failure leaks a descriptor of a thread that ends.
    let _ = event.close().await;
}

/// Catches a panic of `future` at each poll.
async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(format!("panicked: {}", panic_message(&*panic)))),
        },
    )
    .await
}

/// Runs a shard on this thread, to its end.
pub(crate) fn run<S, F, Fut, E>(
    index: usize,
    common: Arc<Common>,
    mailboxes: Mailboxes<S>,
    init: Arc<F>,
) -> Result<(), String>
where
    S: Service,
    F: Fn(Shard<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + 'static,
    E: Display,
{
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(IO_MEMORY)
        .ring_depth(RING_DEPTH)
        .preempt_timer(common.options.preempt_timer)
        .make()
        .map_err(|error| format!("the executor did not start: {error}"))?;
    executor.run(async move {
        let shard = Shard::new(index, common.clone(), mailboxes);
        let inner = shard.inner.clone();
        let _entered = inner.tasks.enter();
        inner.tasks.spawn(async move {
            let result = caught(async { init(shard).await.map_err(|error| error.to_string()) });
            common.init_ended(index, result.await.flatten());
        });
        let bell = inner.tasks.bell.clone();
        let closing = Rc::new(Cell::new(false));
        let alarm = Box::pin(alarm(bell.clone(), closing.clone()));
        let mut root = Root {
            inner,
            alarm,
            events: None,
            timer: None,
        };
        poll_fn(|cx| root.poll(cx, |inner| inner.common.may_end())).await;
        root.inner.let_go();
        closing.set(true);
        bell.sound_alarm();
        root.alarm.await;
    });
    Ok(())
}
