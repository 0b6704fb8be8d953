//! Logs are compacted, one at a time, on a thread of its own that gives way to all others: see
//! [`crate::store::compact`]. What a run made becomes part of the log between two commits.
//!
//! A log that cannot be compacted, as it is damaged or the disk is full, is left alone for a while; it
//! does not keep others waiting.

use std::fmt::Display;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use shards::{SerialWorker, log_limited, turn};

use super::trim::DelayedRemoval;
use super::{Inner, Partitions, now_ms};
use crate::partition::read::WHAT_TO_DO;
use crate::store::compact::{CompactionError, Report, Rules, Step};
use crate::store::{Compaction, PartitionId, Swap};

/// Partitions looked at without giving the core back.
const AT_ONCE: usize = 500;
/// The next try after a failure that may pass, as a full disk.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// The next try after damage was found.
const DAMAGED_AGAIN_AFTER: Duration = Duration::from_secs(900);
/// How much less the thread is to run than others when they want the CPU, too: about a tenth.
const NICE: i32 = 10;

/// What compaction may use on one shard.
#[derive(Debug, Clone, Copy)]
pub struct CleanerLimits {
    /// Between two looks for logs to be compacted.
    pub backoff: Duration,
    /// For the offsets of keys.
    pub memory_bytes: usize,
    /// Read and written.
    pub bytes_per_second: Option<u64>,
}

#[derive(Default)]
pub(super) struct CleanerState {
    running: Option<PartitionId>,
    /// To be taken over before the next commit.
    swap: Option<(PartitionId, Swap)>,
    /// Until when logs are left alone that could not be compacted.
    failed: FxHashMap<PartitionId, Instant>,
}

/// How a run ended.
enum Outcome {
    Done(Report),
    /// There was nothing to be done, or the topic is not to be compacted any more.
    Nothing,
    Failed(String, Duration),
}

impl Outcome {
    fn of(error: CompactionError) -> Self {
        let again = match error {
            CompactionError::Damaged(_) => DAMAGED_AGAIN_AFTER,
            CompactionError::Io(_) => TRY_AGAIN_AFTER,
        };
        Outcome::Failed(error.to_string(), again)
    }
}

impl Partitions {
    /// Looks for logs that are worth it, from time to time; those go first of which most is new.
    pub(super) async fn compaction_loop(self: &Rc<Self>, limits: CleanerLimits) {
        let worker = self.shard.serial_worker("compact");
        drop(worker.run(give_way));
        loop {
            shards::sleep(limits.backoff).await;
            for id in self.dirtiest().await {
                self.compact(id, &worker, &limits).await;
            }
        }
    }

    async fn dirtiest(&self) -> Vec<PartitionId> {
        let ids: Vec<_> = self.inner.borrow_mut().compacted_partitions();
        let (mut dirty, mut max_ratio) = (Vec::new(), 0.0_f64);
        for ids in ids.chunks(AT_ONCE) {
            let found: Vec<_> = {
                let inner = self.inner.borrow();
                ids.iter().filter_map(|id| inner.dirtiness(*id)).collect()
            };
            for (ratio, due, id) in found {
                max_ratio = max_ratio.max(ratio);
                if due {
                    dirty.push((ratio, id));
                }
            }
            turn().await;
        }
        self.metrics
            .max_dirty_percent
            .set((max_ratio * 100.0) as u64);
        dirty.sort_by(|a, b| b.0.total_cmp(&a.0));
        dirty.into_iter().map(|(_, id)| id).collect()
    }

    async fn compact(
        self: &Rc<Self>,
        id: PartitionId,
        worker: &SerialWorker,
        limits: &CleanerLimits,
    ) {
        let begun = self.inner.borrow_mut().begin_compaction(id, limits);
        // It may need a checkpoint first.
        self.work.notify_waiters();
        let Some(run) = begun else {
            return;
        };
        let began = Instant::now();
        let outcome = self.run_compaction(run, worker, limits).await;
        self.inner
            .borrow_mut()
            .end_compaction(id, outcome, began.elapsed());
        // A topic's deletion may wait for it, and segments that were to go.
        self.settled.notify_waiters();
        self.work.notify_waiters();
    }

    async fn run_compaction(
        self: &Rc<Self>,
        mut run: Compaction,
        worker: &SerialWorker,
        limits: &CleanerLimits,
    ) -> Outcome {
        let id = run.id();
        loop {
            let (began, before) = (Instant::now(), run.bytes_moved());
            let step = move || (run.step(), run);
            let step = match worker.run(step).await {
                Ok((step, back)) => {
                    run = back;
                    step
                }
                Err(error) => return Outcome::Failed(error.to_string(), DAMAGED_AGAIN_AFTER),
            };
            match step {
                Ok(Step::More) => {}
                Ok(Step::Swap(swap)) => self.swap(id, swap).await,
                Ok(Step::Done(report)) => return Outcome::Done(report),
                Ok(Step::NotDue) => return Outcome::Nothing,
                Err(error) => return Outcome::of(error),
            }
            if self.shard.is_stopping() || !self.inner.borrow().may_be_compacted(id) {
                let _ = worker.run(move || run.discard()).await;
                return Outcome::Nothing;
            }
            let bytes = run.bytes_moved() - before;
            if let Some(rate) = limits.bytes_per_second {
                let due = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
                shards::sleep(due.saturating_sub(began.elapsed())).await;
            }
        }
    }

    /// Ends when the log has taken the new segment over.
    async fn swap(&self, id: PartitionId, swap: Swap) {
        self.inner.borrow_mut().cleaner.swap = Some((id, swap));
        self.work.notify_waiters();
        while self.inner.borrow().cleaner.swap.is_some() {
            self.settled.notified().await;
        }
    }

    /// Takes over what was compacted. No commit may be under way.
    pub(super) fn take_compacted(&self) {
        let mut inner = self.inner.borrow_mut();
        let Some((id, swap)) = inner.cleaner.swap.take() else {
            return;
        };
        let removal = inner.take_compacted(id, &swap);
        drop(inner);
        self.settled.notify_waiters();
        self.remove(removal.into_iter().collect());
    }

    /// Waits until nothing is written any more for a log whose topic is gone.
    pub(super) async fn end_compaction_of_deleted(&self) {
        let under_way = |inner: &Inner| {
            let running = inner.cleaner.running;
            running.is_some_and(|id| !inner.catalog.contains(id))
        };
        while under_way(&self.inner.borrow()) {
            self.settled.notified().await;
        }
    }
}

impl Inner {
    /// Those whose topics say so, but for those that could not be compacted lately.
    fn compacted_partitions(&mut self) -> Vec<PartitionId> {
        let now = Instant::now();
        let slots = &self.slots;
        self.cleaner.failed.retain(|id, _| slots.contains_key(id));
        let may = |id: &PartitionId| {
            let again = self.cleaner.failed.get(id);
            again.is_none_or(|again| *again <= now) && self.may_be_compacted(*id)
        };
        let ids = self.slots.keys().copied().filter(may).collect();
        self.note_uncleanable();
        ids
    }

    fn may_be_compacted(&self, id: PartitionId) -> bool {
        let topic = self.catalog.by_id(&id.topic);
        let compacts = topic.is_some_and(|topic| topic.config.cleanup_policy.compacts());
        compacts && !self.broken && self.slots.contains_key(&id)
    }

    /// How much of a log is new, and whether that may be enough.
    fn dirtiness(&self, id: PartitionId) -> Option<(f64, bool, PartitionId)> {
        let config = &self.catalog.by_id(&id.topic)?.config;
        let ratio = self.slots.get(&id)?.partition.dirty_ratio()?;
        let due = ratio > config.min_cleanable_dirty_ratio.get()
            || config.max_compaction_lag_ms < i64::MAX;
        Some((ratio, due, id))
    }

    fn begin_compaction(&mut self, id: PartitionId, limits: &CleanerLimits) -> Option<Compaction> {
        if !self.may_be_compacted(id) {
            return None;
        }
        let config = self.catalog.by_id(&id.topic)?.config;
        let rules = Rules {
            now_ms: now_ms(),
            min_dirty_ratio: config.min_cleanable_dirty_ratio.get(),
            min_lag_ms: config.min_compaction_lag_ms,
            max_lag_ms: config.max_compaction_lag_ms,
            delete_retention_ms: config.delete_retention_ms,
            segment_bytes: config.segment_bytes,
            memory_bytes: limits.memory_bytes,
        };
        let partition = &mut self.slots.get_mut(&id)?.partition;
        let run = partition.begin_compaction(&self.store, rules);
        self.checkpoint.due |= partition.log().awaits_checkpoint();
        self.cleaner.running = Some(run.as_ref()?.id());
        run
    }

    fn take_compacted(&mut self, id: PartitionId, swap: &Swap) -> Option<DelayedRemoval> {
        assert!(!self.committing, "a commit under way counts segments");
        let slot = self.slots.get_mut(&id)?;
        let (removal, (batches, bytes)) = slot.partition.take_compacted(swap);
        self.tail.forget(id, batches, bytes);
        let delay = super::removal_delay(&self.catalog, id);
        removal.map(|removal| DelayedRemoval { id, removal, delay })
    }

    fn end_compaction(&mut self, id: PartitionId, outcome: Outcome, took: Duration) {
        self.cleaner.running = None;
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.partition.log_mut().end_compaction();
            self.trims.push(id);
        }
        match outcome {
            Outcome::Nothing => {}
            Outcome::Done(report) => {
                self.cleaner.failed.remove(&id);
                self.note_compaction(id, &report, took);
            }
            Outcome::Failed(error, again) => {
                self.metrics.compaction_failures.add(1);
                let known = self.cleaner.failed.insert(id, Instant::now() + again);
                if known.is_none() {
                    let again_s = again.as_secs();
                    log_limited!(error, partition = %id, %error, again_s, "cannot compact a log, it stays as it is and is tried again later; if it is damaged: {WHAT_TO_DO}");
                }
            }
        }
        self.note_uncleanable();
    }

    fn note_compaction(&self, id: PartitionId, report: &Report, took: Duration) {
        let metrics = &self.metrics;
        metrics.compactions.add(1);
        metrics.compaction_read_bytes.add(report.bytes_read);
        metrics.compaction_written_bytes.add(report.bytes_written);
        tracing::info!(
            partition = %id,
            segments = %Change(report.segments_before, report.segments_after),
            bytes = %Change(report.bytes_before, report.bytes_after),
            keys = report.keys,
            took_ms = took.as_millis() as u64,
            "compacted a log"
        );
    }

    fn note_uncleanable(&self) {
        let failed = self.cleaner.failed.len() as u64;
        self.metrics.uncleanable_partitions.set(failed);
    }
}

/// Before and after.
struct Change<T>(T, T);

impl<T: Display> Display for Change<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}", self.0, self.1)
    }
}

/// The thread that calls this gives way to others.
fn give_way() {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "compaction runs like everything else");
    }
}
