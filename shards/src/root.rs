//! The loop of a shard: it runs all the shard's tasks, and waits for their events.

use crate::runtime::Common;
use crate::shard::{Inner, Mailboxes, Service, Shard};
use crate::task::panic_message;
use glommio::{LocalExecutorBuilder, Placement};
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// A round longer than this is counted: some task does not take its turns.
const LONG_ROUND: Duration = Duration::from_millis(10);
/// The longest wait for events. The watchdog rings more often.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Entries of each of the executor's rings: they stay empty.
const RING_DEPTH: usize = 8;
/// Memory that the executor registers with its rings: the least it takes.
const IO_MEMORY: usize = 64 << 10;

impl<S: Service> Inner<S> {
    /// Runs the shard until nobody needs it any more.
    fn run(self: &Rc<Self>) {
        let tasks = &self.tasks;
        loop {
            let start = Instant::now();
            tasks.begin_round(start);
            let more = self.round(start);
            if self.common.may_end() {
                return;
            }
            let now = Instant::now();
            let took = now.duration_since(start);
            tasks.bell.counters.busy_ns.add(took.as_nanos() as u64);
            let long = took >= LONG_ROUND;
            tasks.bell.counters.long_rounds.add(u64::from(long));
            let wait = match more {
                true => Duration::ZERO,
                false => tasks.timers.next().map_or(WAIT_MAX, |timer| {
                    timer.saturating_duration_since(now).min(WAIT_MAX)
                }),
            };
            tasks.poller.wait(wait);
        }
    }
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
        inner.run();
        inner.let_go();
    });
    Ok(())
}
