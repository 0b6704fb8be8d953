//! All partitions that one shard owns: requests come in by message, commits go out to the store.
//!
//! Appends of all partitions wait together and are committed together (group commit): while one commit
//! is under way the next one fills, and for a moment after it if that pays off ([`super::gather`]). A
//! producer's answer waits for the commit that covers it; a consumer's answer waits for a high watermark
//! to move. Neither costs a task.

mod adopted;
mod compact;
mod publish;
mod resume;
mod returning;
mod trim;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use shards::local::Notify;
use shards::{BlockingError, ReplyTo, log_limited, turn};

pub use self::compact::CleanerLimits;
use self::compact::CleanerState;
use self::publish::{FLUSHED_WITHIN, Publishing, Unpublished};
use self::trim::{DelayedRemoval, PendingDeletion};
use super::gather::{Gathering, Wait};
use super::messages::{
    Durability, EpochEnd, EpochQuery, Fetch, FetchId, FetchPart, Fetched, FoundOffset, OffsetQuery,
    OffsetSpec, PartitionError, Produce, Produced,
};
use super::producers::ActiveProducer;
use super::read::{Cold, ColdRead, Lookup, Part, check_epoch, check_fetch};
use super::{Appended, Partition, Read, State};
use crate::budget::Budget;
use crate::catalog::Catalog;
use crate::gateway::{Reply, Shard};
use crate::metrics::ShardMetrics;
use crate::metrics::survey::TopicSums;
use crate::record::batch::Batch;
use crate::store::{
    Checkpoint, CheckpointError, Commit, NotOwner, PartitionId, Recovered, Rewound, SeekGoal,
    Store, StoredBatch,
};

mod survey;

/// Longer than any process runs, and short enough to be counted with.
const REMOVAL_DELAY_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Between two looks whether another gateway has taken the store over.
const OWNERSHIP_INTERVAL: Duration = Duration::from_secs(1);
/// Segment files kept open by one shard.
pub const OPEN_FILES_MAX: usize = 1000;

/// Limits of one shard.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of batches kept in memory for those who read at the end.
    pub tail_bytes: usize,
    /// Bytes appended and not yet committed; more than that waits.
    pub uncommitted_bytes: usize,
    pub producer_id_expiration_ms: i64,
    /// A checkpoint is made after this time when anything was written.
    pub checkpoint_interval: Duration,
    /// Time between two looks at what need not be kept.
    pub retention_check_interval: Duration,
    /// See [`Partitions::answer_memory`].
    pub answer_bytes: usize,
    /// Of compaction; `None`: nothing is compacted.
    pub cleaner: Option<CleanerLimits>,
}

/// What a start found of a shard's partitions.
#[derive(Default)]
pub struct Found {
    pub partitions: Vec<Recovered<State>>,
    /// Those of which a part is damaged.
    pub unreadable: Vec<PartitionId>,
    /// Those of which a part cannot be reached now.
    pub away: Vec<PartitionId>,
}

/// The partitions of one shard.
pub struct Partitions {
    shard: Shard,
    limits: Limits,
    metrics: Arc<ShardMetrics>,
    inner: RefCell<Inner>,
    answer_memory: Rc<Budget>,
    /// Something waits for a commit.
    work: Notify,
    disk: Disk,
    started: Instant,
    /// A commit ended, or a log took over what was compacted.
    settled: Notify,
    /// A look at the files of a partition that brokers write has ended.
    looked: Notify,
    catalog_taken: Notify,
    /// Logs let go of segments.
    let_go: Notify,
}

struct Inner {
    metrics: Arc<ShardMetrics>,
    store: Store,
    slots: FxHashMap<PartitionId, Slot>,
    catalog: Arc<Catalog>,
    /// Partitions with batches that wait for a commit.
    dirty: Vec<PartitionId>,
    /// Answers that wait for the commit of all that was appended before them.
    pending: Vec<PendingProduce>,
    /// Requests held back until there is room again.
    held_back: VecDeque<(Produce, ReplyTo<Reply>)>,
    uncommitted_bytes: usize,
    /// Of batches on their way through brokers, and requests that wait for room for theirs.
    published_bytes: usize,
    unpublished: Unpublished,
    committing: bool,
    commit_began: Instant,
    gathering: Gathering,
    commits_ended: u64,
    fetches: FxHashMap<FetchId, WaitingFetch>,
    /// Deletions that wait for the next checkpoint.
    deletions: Vec<PendingDeletion>,
    /// Partitions that may have segments before the start of their logs.
    trims: Vec<PartitionId>,
    /// What is to be removed.
    removals: Vec<DelayedRemoval>,
    /// Partitions whose retention is to be looked at.
    aging: Vec<PartitionId>,
    cleaner: CleanerState,
    tail: TailBudget,
    checkpoint: CheckpointClock,
    open_files: usize,
    /// What is stored of them is damaged: they are not served.
    unreadable: FxHashSet<PartitionId>,
    /// A part of what is stored of them cannot be reached: they are not served before it can.
    away: FxHashSet<PartitionId>,
    /// Nothing can be stored any more.
    broken: bool,
    /// Because somebody else owns the partitions now.
    disowned: bool,
}

struct Slot {
    partition: Partition,
    /// Fetches to look at when the high watermark moves.
    watchers: Vec<FetchId>,
    /// Since the start; its size is the log's to tell.
    traffic: TopicSums,
    /// If something was produced to it, and brokers write the log.
    publishing: Option<Box<Publishing>>,
    /// Its files are looked at.
    is_looked_at: bool,
}

struct PendingProduce {
    durability: Durability,
    parts: Vec<(PartitionId, Result<Appended, PartitionError>)>,
    reply: ReplyTo<Reply>,
}

struct WaitingFetch {
    fetch: Fetch,
    reply: ReplyTo<Reply>,
}

/// Of the tails of partitions that are read: whose batch came first. The oldest batch of the shard goes
/// first when memory is short.
#[derive(Default)]
struct TailBudget {
    order: VecDeque<PartitionId>,
    bytes: usize,
}

/// Whether the kernel takes small writes without making the writer wait, as it does when much of the
/// memory holds what is not on the disk yet: for up to 0.2 s at a time.
#[derive(Default)]
struct Disk {
    waited_until: Cell<Option<Instant>>,
}

impl Disk {
    /// A write that takes so long had to wait.
    const WAITED: Duration = Duration::from_millis(20);
    /// For so long after it, others do the writing: the shard waits 4 % of the time at most.
    const REST: Duration = Duration::from_secs(5);

    fn takes_at_once(&self) -> bool {
        let waited = self.waited_until.get();
        waited.is_none_or(|waited| waited.elapsed() > Self::REST)
    }

    fn took(&self, time: Duration) {
        if time > Self::WAITED {
            self.waited_until.set(Some(Instant::now()));
        }
    }
}

#[derive(Default)]
struct CheckpointClock {
    /// Committed since the last one began.
    bytes: u64,
    due: bool,
    running: bool,
    /// The last one could not be saved: the next waits for its time.
    failed: bool,
    /// Answered when the one that runs ends.
    deletions: Vec<PendingDeletion>,
}

impl Partitions {
    pub fn new(
        shard: Shard,
        limits: Limits,
        metrics: Arc<ShardMetrics>,
        store: Store,
        catalog: Arc<Catalog>,
        found: Found,
        clean: bool,
    ) -> Rc<Self> {
        let now = now_ms();
        let slot = |r: Recovered<State>| (r.id, Slot::new(Partition::recovered(r, clean, now)));
        let mut inner = Inner {
            metrics: metrics.clone(),
            store,
            slots: found.partitions.into_iter().map(slot).collect(),
            catalog,
            dirty: Vec::new(),
            pending: Vec::new(),
            held_back: VecDeque::new(),
            uncommitted_bytes: 0,
            published_bytes: 0,
            unpublished: Unpublished::new(),
            committing: false,
            commit_began: Instant::now(),
            gathering: Gathering::default(),
            commits_ended: 0,
            fetches: FxHashMap::default(),
            deletions: Vec::new(),
            trims: Vec::new(),
            removals: Vec::new(),
            aging: Vec::new(),
            cleaner: CleanerState::default(),
            tail: TailBudget::default(),
            checkpoint: CheckpointClock::default(),
            open_files: 0,
            unreadable: found.unreadable.into_iter().collect(),
            away: found.away.into_iter().collect(),
            broken: false,
            disowned: false,
        };
        inner.take_configs(&inner.all());
        inner.count_unserved();
        Rc::new(Partitions {
            shard,
            limits,
            metrics,
            inner: RefCell::new(inner),
            answer_memory: Budget::new(limits.answer_bytes),
            work: Notify::new(),
            disk: Disk::default(),
            started: Instant::now(),
            settled: Notify::new(),
            looked: Notify::new(),
            catalog_taken: Notify::new(),
            let_go: Notify::new(),
        })
    }

    /// Starts what runs for as long as the shard does.
    pub fn start(self: &Rc<Self>) {
        let this = self.clone();
        self.shard.spawn(async move { this.commit_loop().await });
        let this = self.clone();
        self.shard
            .spawn(async move { this.housekeeping_loop().await });
        let this = self.clone();
        self.shard.spawn(async move { this.retention_loop().await });
        let this = self.clone();
        self.shard.spawn(async move { this.removal_loop().await });
        let this = self.clone();
        self.shard.spawn(async move { this.ownership_loop().await });
        if matches!(self.inner.borrow().store, Store::SeaweedMq(_)) {
            let this = self.clone();
            self.shard.spawn(async move { this.adopted_loop().await });
            let this = self.clone();
            self.shard.spawn(async move { this.returning_loop().await });
        }
        if let Some(limits) = self.limits.cleaner {
            let this = self.clone();
            self.shard
                .spawn(async move { this.compaction_loop(limits).await });
        }
    }

    /// What answers that their clients have not taken yet may take, and what is being read from the disk
    /// for others. Fetches wait for room in it.
    pub fn answer_memory(&self) -> &Rc<Budget> {
        &self.answer_memory
    }

    /// Appends batches; answers when the durability asked for is reached.
    pub fn produce(&self, request: Produce, reply: ReplyTo<Reply>) {
        let mut inner = self.inner.borrow_mut();
        if inner.uncommitted_bytes > self.limits.uncommitted_bytes || !inner.held_back.is_empty() {
            inner.held_back.push_back((request, reply));
            return;
        }
        inner.append(request, reply);
        self.work.notify_waiters();
    }

    /// Answers with what there is, or waits for more if it is less than asked for.
    pub fn fetch(self: &Rc<Self>, fetch: Fetch, reply: ReplyTo<Reply>) {
        let mut inner = self.inner.borrow_mut();
        match fetch.wait {
            Some(id) if !inner.is_satisfied(&fetch) => {
                inner.watch(id, WaitingFetch { fetch, reply })
            }
            _ => {
                let answer = inner.read(&fetch);
                drop(inner);
                self.answer_fetch(answer, reply);
            }
        }
    }

    /// Ends a fetch that waits: it is answered with what there is.
    pub fn finish_fetch(self: &Rc<Self>, id: FetchId) {
        let waiting = self.inner.borrow_mut().unwatch(id);
        self.answer_fetches(waiting);
    }

    /// Ends all fetches that wait, as when no more clients are served.
    pub fn finish_fetches(self: &Rc<Self>) {
        let waiting: Vec<_> = self.inner.borrow().fetches.keys().copied().collect();
        for id in waiting {
            self.finish_fetch(id);
        }
    }

    /// Answers fetches that wait no more with what there is.
    fn answer_fetches(self: &Rc<Self>, waiting: impl IntoIterator<Item = WaitingFetch>) {
        for WaitingFetch { fetch, reply } in waiting {
            let answer = self.inner.borrow_mut().read(&fetch);
            self.answer_fetch(answer, reply);
        }
    }

    fn answer_fetch(self: &Rc<Self>, answer: Vec<Part>, reply: ReplyTo<Reply>) {
        if answer.iter().all(|p| p.cold.is_none()) {
            reply.send(Reply::Fetch(
                answer.into_iter().map(|p| p.fetched).collect(),
            ));
            return;
        }
        let cold = answer.iter().filter_map(|part| part.cold.as_ref());
        let bytes = cold.map(|cold| cold.max_bytes).sum();
        let mut share = self.answer_memory.share();
        let (this, shard) = (self.clone(), self.shard.clone());
        self.shard.spawn(async move {
            share.grow_to(bytes).await;
            // A read that panicked leaves the caller without an answer, which is an error to it.
            let run = move || answer.into_iter().map(Part::run).collect::<Vec<_>>();
            if let Ok(answer) = shard.blocking(run).await {
                let mut inner = this.inner.borrow_mut();
                let answer = answer
                    .into_iter()
                    .map(|part| inner.conclude(part))
                    .collect();
                drop(inner);
                reply.send(Reply::Fetch(answer));
            }
        });
    }

    /// Finds offsets by what is said of them.
    pub fn list_offsets(self: &Rc<Self>, queries: Vec<OffsetQuery>, reply: ReplyTo<Reply>) {
        let mut answers: Vec<_> = {
            let mut inner = self.inner.borrow_mut();
            queries
                .iter()
                .map(|query| inner.find_offset(query))
                .collect()
        };
        if answers.iter().all(|a| !matches!(a, Ok(Lookup::Seek(_)))) {
            reply.send(Reply::Offsets(
                answers
                    .into_iter()
                    .map(|a| a.and_then(Lookup::run))
                    .collect(),
            ));
            return;
        }
        let shard = self.shard.clone();
        self.shard.spawn(async move {
            let run = move || answers.drain(..).map(|a| a.and_then(Lookup::run)).collect();
            if let Ok(found) = shard.blocking(run).await {
                reply.send(Reply::Offsets(found));
            }
        });
    }

    /// The leader epochs of partitions, in their order.
    pub fn leader_epochs(&self, ids: &[PartitionId]) -> Vec<i32> {
        let inner = self.inner.borrow();
        // A partition that nothing was written to yet begins with epoch 0.
        ids.iter()
            .map(|id| {
                inner
                    .slots
                    .get(id)
                    .map_or(0, |slot| slot.partition.leader_epoch())
            })
            .collect()
    }

    /// Bytes of partitions on the disk, in their order.
    pub fn sizes(&self, ids: &[PartitionId]) -> Vec<u64> {
        let inner = self.inner.borrow();
        let size = |id| {
            inner
                .slots
                .get(id)
                .map_or(0, |slot| slot.partition.size_bytes())
        };
        ids.iter().map(size).collect()
    }

    /// The producers that partitions remember, in their order.
    pub fn active_producers(&self, ids: &[PartitionId]) -> Vec<Vec<ActiveProducer>> {
        let inner = self.inner.borrow();
        let active = |id| {
            let slot = inner.slots.get(id);
            slot.map_or_else(Vec::new, |slot| slot.partition.active_producers())
        };
        ids.iter().map(active).collect()
    }

    /// Where leader epochs end, in the order of the queries.
    pub fn epoch_ends(&self, queries: &[EpochQuery]) -> Vec<Result<EpochEnd, PartitionError>> {
        let mut inner = self.inner.borrow_mut();
        let mut end = |query: &EpochQuery| {
            let partition = &inner.slot(query.id)?.partition;
            check_epoch(partition, query.current_leader_epoch)?;
            Ok(partition.epoch_end(query.leader_epoch))
        };
        queries.iter().map(&mut end).collect()
    }

    /// Takes a new snapshot of the catalog. When this ends, nothing is written any more for partitions
    /// that it does not have.
    pub async fn take_catalog(self: &Rc<Self>, catalog: Arc<Catalog>) {
        let ended = {
            let mut inner = self.inner.borrow_mut();
            let old = std::mem::replace(&mut inner.catalog, catalog);
            let changed = inner.changed_since(&old);
            inner.take_configs(&changed);
            inner.drop_deleted(&changed)
        };
        self.catalog_taken.notify_waiters();
        self.answer_fetches(ended);
        // Only the commit that was under way may have known them; under load the next begins at once.
        let ended = self.inner.borrow().commits_ended;
        let under_way = |inner: &Inner| inner.committing && inner.commits_ended == ended;
        while under_way(&self.inner.borrow()) {
            self.settled.notified().await;
        }
        self.end_compaction_of_deleted().await;
    }

    /// Removes what a deleted topic has on the disk.
    pub async fn remove_topic(&self, topic: crate::wire::Uuid) {
        if self.inner.borrow().is_brokers(topic) {
            // What a broker has in memory would bring the folder back.
            shards::sleep(FLUSHED_WITHIN).await;
        }
        let remove = self.inner.borrow().store.remove_topic(topic);
        match self.shard.blocking(remove).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                log_limited!(warn, %topic, %error, "cannot remove a deleted topic's files; the next start will try again");
            }
            Err(error) => {
                log_limited!(error, %topic, %error, "removing a deleted topic's files failed; the next start will try again");
            }
        }
    }

    /// Commits all that waits and makes a last checkpoint. True if nothing is left to repair.
    pub async fn stop(self: &Rc<Self>) -> bool {
        self.end_publishing().await;
        while self.inner.borrow().is_busy() {
            self.settled.notified().await;
        }
        let plan = self.inner.borrow_mut().begin_checkpoint();
        match plan {
            Some(plan) => self.run_checkpoint(plan).await,
            None => false,
        }
    }

    async fn commit_loop(self: &Rc<Self>) {
        let worker = self.shard.serial_worker("log");
        loop {
            self.take_compacted();
            self.trim();
            self.checkpoint_if_due();
            match self.begin_commit() {
                Some((commit, pending)) => {
                    self.run_commit(&worker, commit, pending).await;
                    self.settled.notify_waiters();
                    self.gather().await;
                }
                None => self.work.notified().await,
            }
        }
    }

    /// Between two commits, so that what the checkpoint says is what the segments hold.
    fn checkpoint_if_due(self: &Rc<Self>) {
        if let Some(plan) = self.inner.borrow_mut().begin_checkpoint_if_due() {
            let this = self.clone();
            self.shard.spawn(async move {
                this.run_checkpoint(plan).await;
                this.settled.notify_waiters();
                this.work.notify_waiters();
            });
        }
    }

    /// Waits for those whom the last commit has answered to send again, as long as that pays off.
    async fn gather(&self) {
        let Some(mut wait) = self.inner.borrow_mut().begin_gathering() else {
            if self.inner.borrow().has_work() {
                // A commit need not have waited for anything.
                turn().await;
            }
            return;
        };
        loop {
            let waiting = self.inner.borrow().pending.len();
            let Some(patience) = wait.patience(waiting, Instant::now()) else {
                break;
            };
            let more = shards::timeout(patience, self.work.notified()).await;
            if more.is_err() || !self.inner.borrow().held_back.is_empty() {
                break;
            }
        }
        let mut inner = self.inner.borrow_mut();
        let waiting = inner.pending.len();
        inner.gathering.end(&wait, waiting, Instant::now());
    }

    fn begin_commit(&self) -> Option<(Commit, Vec<PendingProduce>)> {
        let mut inner = self.inner.borrow_mut();
        inner.has_work().then(|| inner.begin_commit())
    }

    async fn run_commit(
        self: &Rc<Self>,
        worker: &shards::SerialWorker,
        mut commit: Commit,
        mut pending: Vec<PendingProduce>,
    ) {
        let written = if commit.is_quick() && self.disk.takes_at_once() {
            let began = Instant::now();
            let written = self.shard.at_once(move || {
                commit.write();
                commit
            });
            self.disk.took(began.elapsed());
            written
        } else {
            self.write_and_sync(worker, commit, &mut pending).await
        };
        let woken = match written {
            Ok(commit) => {
                let mut inner = self.inner.borrow_mut();
                let (woken, lost) = inner.end_commit(commit, pending, &self.limits);
                drop(inner);
                if lost {
                    self.disown();
                }
                woken
            }
            Err(error) => {
                tracing::error!(%error, "a commit ended in a panic; this shard stores nothing any more, restart the process");
                self.inner.borrow_mut().break_down(pending);
                Vec::new()
            }
        };
        self.answer_fetches(woken);
    }

    /// Has `worker` do it.
    async fn write_and_sync(
        &self,
        worker: &shards::SerialWorker,
        mut commit: Commit,
        pending: &mut Vec<PendingProduce>,
    ) -> Result<Commit, BlockingError> {
        let early = pending.iter().any(|p| p.durability == Durability::Written);
        let write = worker.run(move || {
            commit.write();
            if !early {
                commit.sync();
            }
            commit
        });
        let mut commit = write.await?;
        if !early {
            return Ok(commit);
        }
        self.inner.borrow_mut().answer_written(&commit, pending);
        let sync = worker.run(move || {
            commit.sync();
            commit
        });
        sync.await
    }

    /// True if the checkpoint is on the disk.
    async fn run_checkpoint(self: &Rc<Self>, plan: Checkpoint) -> bool {
        let run = move || (plan.run(), plan);
        let done = self.shard.blocking(run).await;
        self.inner.borrow_mut().checkpoint.running = false;
        let durable = matches!(done, Ok((Ok(()), _)));
        self.end_deletions(durable);
        if !durable {
            self.metrics.checkpoint_failures.add(1);
        }
        match done {
            Ok((Ok(()), plan)) => {
                self.metrics.checkpoints.add(1);
                self.remove_unneeded();
                let tidy = self.inner.borrow_mut().store.checkpointed(&plan);
                let _ = self.shard.blocking(tidy).await;
                true
            }
            Ok((Err(CheckpointError::Failed(error)), _)) if NotOwner::is(&error) => {
                self.disown();
                false
            }
            Ok((Err(CheckpointError::Failed(error)), plan)) => {
                tracing::error!(%error, "cannot make a checkpoint; trying again later, meanwhile the journal grows: is the disk full?");
                let mut inner = self.inner.borrow_mut();
                inner.checkpoint.failed = true;
                inner.store.checkpoint_failed(plan);
                false
            }
            Ok((Err(error), _)) => {
                tracing::error!(%error, "the disk failed to keep written data; this shard stores nothing any more. \
                    What was acknowledged is in the journal: check the disk, then restart the process");
                self.inner.borrow_mut().stop_storing();
                false
            }
            Err(error) => {
                tracing::error!(%error, "a checkpoint ended in a panic; this shard stores nothing any more, restart the process");
                self.inner.borrow_mut().stop_storing();
                false
            }
        }
    }

    /// Looks whether the store still is this gateway's: one that nobody writes to would not notice.
    async fn ownership_loop(self: &Rc<Self>) {
        while !self.is_disowned() {
            shards::sleep(OWNERSHIP_INTERVAL).await;
            let Some(check) = self.inner.borrow().store.check_ownership() else {
                return;
            };
            // What else may be wrong is found by who needs the store.
            if let Ok(Err(error)) = self.shard.blocking(check).await
                && NotOwner::is(&error)
            {
                self.disown();
            }
        }
    }

    /// Whether another gateway has taken the store over.
    pub fn is_disowned(&self) -> bool {
        self.inner.borrow().disowned
    }

    /// Serves nothing any more, as another gateway has taken the store over. Whoever waits is told so.
    /// It is not taken back: two gateways would take it from each other for ever.
    fn disown(self: &Rc<Self>) {
        if self.metrics.fenced.get() != 0 {
            return;
        }
        tracing::error!(
            shard = self.shard.index(),
            "another gateway has taken the store over; this one serves nothing any more and does not take it back: stop it"
        );
        let waiting = self.inner.borrow_mut().disown();
        self.answer_fetches(waiting);
        // Not there yet while the shard starts; then it has no groups either.
        if let Some(gateway) = self.shard.service() {
            gateway.coordinator().stop();
        }
        self.work.notify_waiters();
    }

    async fn housekeeping_loop(self: &Rc<Self>) {
        loop {
            shards::sleep(self.limits.checkpoint_interval).await;
            let mut inner = self.inner.borrow_mut();
            let now = now_ms();
            for slot in inner.slots.values_mut() {
                slot.partition
                    .expire_producers(now, self.limits.producer_id_expiration_ms);
            }
            inner.let_tails_rest();
            inner.checkpoint.due |= inner.checkpoint.bytes > 0 || inner.checkpoint.failed;
            drop(inner);
            self.work.notify_waiters();
        }
    }
}

impl TailBudget {
    /// Batches of a partition, its oldest, are not in memory any more.
    fn forget(&mut self, id: PartitionId, batches: usize, bytes: usize) {
        self.bytes -= bytes;
        let mut left = batches;
        if left > 0 {
            self.order.retain(|of| {
                let goes = left > 0 && *of == id;
                left -= usize::from(goes);
                !goes
            });
        }
    }
}

impl Slot {
    fn new(partition: Partition) -> Self {
        Slot {
            partition,
            watchers: Vec::new(),
            traffic: TopicSums::default(),
            publishing: None,
            is_looked_at: false,
        }
    }
}

impl Inner {
    /// The partition, made if the catalog has it and nothing was ever written to it.
    fn slot(&mut self, id: PartitionId) -> Result<&mut Slot, PartitionError> {
        let slot = self.slot_as_it_is(id)?;
        match slot.partition.log().adopted() {
            Some(log) if !log.is_known() => Err(PartitionError::NotKnown),
            _ => Ok(slot),
        }
    }

    /// The same, though it may not be known yet what brokers have written to it.
    fn slot_as_it_is(&mut self, id: PartitionId) -> Result<&mut Slot, PartitionError> {
        if self.disowned {
            return Err(PartitionError::NotOwner);
        }
        if self.unreadable.contains(&id) || self.away.contains(&id) {
            return Err(PartitionError::Storage);
        }
        let slot = match self.slots.entry(id) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(vacant) => {
                let topic = self
                    .catalog
                    .by_id(&id.topic)
                    .filter(|t| t.partition(id.index).is_some());
                let mut log = self.store.new_log(id);
                log.set_rolling(topic.ok_or(PartitionError::Unknown)?.config.rolling());
                vacant.insert(Slot::new(Partition::new(log)))
            }
        };
        Ok(slot)
    }

    fn append(&mut self, request: Produce, reply: ReplyTo<Reply>) {
        let now = now_ms();
        let append = |(id, batch): (PartitionId, Batch)| (id, self.append_one(id, &batch, now));
        let parts: Vec<_> = request.batches.into_iter().map(append).collect();
        let pending = PendingProduce {
            durability: request.durability,
            parts,
            reply,
        };
        let waits =
            pending.durability != Durability::None && pending.parts.iter().any(|(_, p)| p.is_ok());
        if waits {
            self.pending.push(pending);
        } else {
            self.answer_produce(pending, |_| true);
        }
    }

    fn append_one(
        &mut self,
        id: PartitionId,
        batch: &Batch,
        now: i64,
    ) -> Result<Appended, PartitionError> {
        if self.broken {
            return Err(self.not_stored());
        }
        let partition = &mut self.slot(id)?.partition;
        if partition.log().adopted().is_some() {
            return Err(PartitionError::ReadOnly);
        }
        let (waited, before) = (partition.has_waiting(), partition.uncommitted_bytes());
        let appended = partition.append(batch, now)?;
        let grown = partition.uncommitted_bytes() - before;
        if grown > 0 {
            self.uncommitted_bytes += grown;
            if !waited {
                self.dirty.push(id);
            }
        }
        Ok(appended)
    }

    fn is_busy(&self) -> bool {
        self.committing || self.has_work() || self.checkpoint.running
    }

    fn begin_gathering(&mut self) -> Option<Wait> {
        // What is held back does not come before the next commit has ended.
        if !self.store.gathers() || !self.held_back.is_empty() {
            return None;
        }
        self.gathering.begin(self.pending.len(), Instant::now())
    }

    fn has_work(&self) -> bool {
        !self.dirty.is_empty() || !self.pending.is_empty()
    }

    fn begin_commit(&mut self) -> (Commit, Vec<PendingProduce>) {
        self.committing = true;
        self.commit_began = Instant::now();
        let now = now_ms();
        let mut plans = Vec::with_capacity(self.dirty.len());
        for id in self.dirty.drain(..) {
            if let Some(slot) = self.slots.get_mut(&id)
                && slot.partition.has_waiting()
            {
                plans.push(slot.partition.plan_append(now));
            }
        }
        (
            self.store.plan_commit(plans),
            std::mem::take(&mut self.pending),
        )
    }

    /// Answers acks=1: the kernel has the batches.
    fn answer_written(&mut self, commit: &Commit, pending: &mut Vec<PendingProduce>) {
        let failed: FxHashSet<PartitionId> = commit.failed_writes().collect();
        for request in pending
            .extract_if(.., |p| p.durability == Durability::Written)
            .collect::<Vec<_>>()
        {
            self.answer_produce(request, |id| !failed.contains(&id));
        }
    }

    /// Moves high watermarks, or takes back what was not stored; answers who waited.
    /// Gives the fetches that have enough now, and whether another gateway was found to own the store.
    fn end_commit(
        &mut self,
        commit: Commit,
        pending: Vec<PendingProduce>,
        limits: &Limits,
    ) -> (Vec<WaitingFetch>, bool) {
        self.committing = false;
        self.commits_ended += 1;
        self.note_sync(&commit);
        let mut woken = Vec::new();
        let (mut batches_stored, mut bytes_stored) = (0, 0);
        let (mut lost, mut rewound) = (false, false);
        let mut failed = FxHashSet::default();
        let mut partitions = 0;
        for (plan, outcome) in self.store.committed(commit) {
            let Some(slot) = self.slots.get_mut(&plan.id()) else {
                continue;
            };
            match outcome {
                Ok(stored) => {
                    self.open_files += usize::from(!slot.partition.log_mut().has_open_file());
                    let bytes: usize = plan.batches().iter().map(StoredBatch::size).sum();
                    let records = plan.batches().iter().map(StoredBatch::records).sum();
                    partitions += 1;
                    batches_stored += plan.batches().len() as u64;
                    bytes_stored += bytes as u64;
                    self.metrics.produced.records.add(records);
                    slot.traffic.produced_records += records;
                    slot.traffic.produced_bytes += bytes as u64;
                    self.checkpoint.bytes += bytes as u64;
                    self.uncommitted_bytes -= bytes;
                    let kept = slot.partition.committed(&plan, stored);
                    if kept > 0 {
                        let batches = std::iter::repeat_n(plan.id(), plan.batches().len());
                        self.tail.order.extend(batches);
                        self.tail.bytes += kept;
                    }
                    woken.extend_from_slice(&slot.watchers);
                }
                Err(error) => {
                    lost |= NotOwner::is(&error);
                    rewound |= Rewound::is(&error);
                    log_limited!(error, partition = %plan.id(), %error, "cannot store records; producers are told to try again: make room where they are stored, or check it");
                    self.metrics.store_failures.add(1);
                    self.uncommitted_bytes -= slot.partition.uncommitted_bytes();
                    slot.partition.roll_back(&plan);
                    failed.insert(plan.id());
                }
            }
        }
        self.note_commit(batches_stored, bytes_stored, partitions);
        // Who is told that it failed does not come back at once.
        let answered = if failed.is_empty() { pending.len() } else { 0 };
        self.gathering
            .commit_ended(self.commit_began.elapsed(), answered);
        // Before anybody is answered.
        self.disowned |= lost;
        if rewound {
            self.stop_storing();
        }
        for request in pending {
            self.answer_produce(request, |id| !failed.contains(&id));
        }
        self.evict(limits.tail_bytes);
        self.close_surplus_files();
        while self.uncommitted_bytes <= limits.uncommitted_bytes
            && let Some((request, reply)) = self.held_back.pop_front()
        {
            self.append(request, reply);
        }
        (self.take_satisfied(woken), lost)
    }

    /// Takes out those of the fetches that need not wait any more.
    fn take_satisfied(&mut self, mut woken: Vec<FetchId>) -> Vec<WaitingFetch> {
        woken.sort_unstable();
        woken.dedup();
        let satisfied = |id: &FetchId| {
            self.fetches
                .get(id)
                .is_some_and(|w| self.is_satisfied_by_slots(&w.fetch))
        };
        let ready: Vec<_> = woken.into_iter().filter(satisfied).collect();
        ready
            .into_iter()
            .filter_map(|id| self.unwatch(id))
            .collect()
    }

    fn note_sync(&self, commit: &Commit) {
        if let Some(took) = commit.sync_took() {
            self.metrics.sync.note_time(took);
        }
        self.metrics.journal_bytes.add(commit.journaled_bytes());
    }

    fn note_commit(&self, batches: u64, bytes: u64, partitions: u64) {
        // One of retries alone stores nothing.
        if batches > 0 {
            self.metrics.commit.note_time(self.commit_began.elapsed());
            self.metrics.commit_batches.note(batches);
            self.metrics.commit_bytes.note(bytes);
            self.metrics.commit_partitions.note(partitions);
            self.metrics.last_commit_ms.set(now_ms().unsigned_abs());
            self.metrics.produced.batches.add(batches);
            self.metrics.produced.bytes.add(bytes);
        }
    }

    /// Answers a produce request; `written` says whether a part that is not committed may count all the same.
    fn answer_produce(&self, pending: PendingProduce, written: impl Fn(PartitionId) -> bool) {
        let PendingProduce {
            durability,
            parts,
            reply,
        } = pending;
        let outcome = |(id, part): (PartitionId, Result<Appended, PartitionError>)| {
            let appended = part?;
            let slot = self.slots.get(&id).ok_or(PartitionError::Unknown)?;
            let settled = match durability {
                Durability::Committed => slot.partition.is_committed(&appended),
                Durability::None | Durability::Written => written(id),
            };
            if !settled {
                return Err(self.not_stored());
            }
            let log_start_offset = slot.partition.bounds().log_start_offset;
            let Appended {
                base_offset,
                first_appended_ms,
                ..
            } = appended;
            Ok(Produced {
                base_offset,
                log_start_offset,
                first_appended_ms,
            })
        };
        reply.send(Reply::Produce(parts.into_iter().map(outcome).collect()));
    }

    /// Why something was not stored.
    fn not_stored(&self) -> PartitionError {
        match self.disowned {
            true => PartitionError::NotOwner,
            false => PartitionError::Storage,
        }
    }

    /// Another gateway has taken over: clients are sent to look for it. Gives the fetches that waited.
    fn disown(&mut self) -> Vec<WaitingFetch> {
        self.disowned = true;
        self.metrics.fenced.set(1);
        self.stop_storing();
        for (request, reply) in std::mem::take(&mut self.held_back) {
            self.append(request, reply);
        }
        for publishing in self
            .slots
            .values_mut()
            .filter_map(|s| s.publishing.as_mut())
        {
            self.published_bytes -= publishing.give_up(PartitionError::NotOwner);
        }
        let waiting: Vec<_> = self.fetches.keys().copied().collect();
        waiting
            .into_iter()
            .filter_map(|id| self.unwatch(id))
            .collect()
    }

    fn stop_storing(&mut self) {
        self.broken = true;
        self.metrics.broken.set(1);
    }

    fn break_down(&mut self, pending: Vec<PendingProduce>) {
        self.committing = false;
        self.commits_ended += 1;
        self.stop_storing();
        self.dirty.clear();
        let waiting = std::mem::take(&mut self.pending);
        for request in pending.into_iter().chain(waiting) {
            self.answer_produce(request, |_| false);
        }
        for (request, reply) in std::mem::take(&mut self.held_back) {
            self.append(request, reply);
        }
    }

    fn evict(&mut self, budget: usize) {
        while self.tail.bytes > budget
            && let Some(id) = self.tail.order.pop_front()
        {
            let Some(slot) = self.slots.get_mut(&id) else {
                continue;
            };
            self.tail.bytes -= slot.partition.evict_oldest().unwrap_or(0);
        }
    }

    /// Gives back what partitions keep in memory that nobody has read for a while.
    fn let_tails_rest(&mut self) {
        for slot in self.slots.values_mut() {
            let before = slot.partition.tail_bytes();
            if !slot.watchers.is_empty() {
                slot.partition.note_reader();
            }
            slot.partition.rest();
            self.tail.bytes -= before - slot.partition.tail_bytes();
        }
        let slots = &self.slots;
        let has_tail =
            |id: &PartitionId| slots.get(id).is_some_and(|s| s.partition.tail_bytes() > 0);
        self.tail.order.retain(has_tail);
    }

    fn close_surplus_files(&mut self) {
        if self.open_files > OPEN_FILES_MAX {
            for slot in self.slots.values_mut() {
                slot.partition.log_mut().close_file();
            }
            self.open_files = 0;
        }
    }

    fn begin_checkpoint_if_due(&mut self) -> Option<Checkpoint> {
        if self.broken {
            self.refuse_deletions();
        }
        let clock = &self.checkpoint;
        let grown = self.store.wants_checkpoint(clock.bytes);
        let due = clock.due || (grown && !clock.failed) || !self.deletions.is_empty();
        due.then(|| self.begin_checkpoint()).flatten()
    }

    /// `None` while one is under way, and when there is nothing to be relied on.
    fn begin_checkpoint(&mut self) -> Option<Checkpoint> {
        assert!(
            !self.committing,
            "a commit under way would be in the checkpoint by half"
        );
        if self.checkpoint.running || self.broken {
            return None;
        }
        self.checkpoint = CheckpointClock {
            running: true,
            deletions: std::mem::take(&mut self.deletions),
            ..CheckpointClock::default()
        };
        let parts = self
            .slots
            .values_mut()
            .map(|slot| slot.partition.checkpoint_parts());
        Some(self.store.plan_checkpoint(parts))
    }

    /// Takes over what the catalog says of topics' configs.
    fn take_configs(&mut self, of: &[PartitionId]) {
        for id in of {
            if let Some(topic) = self.catalog.by_id(&id.topic)
                && let Some(slot) = self.slots.get_mut(id)
            {
                slot.partition.log_mut().set_rolling(topic.config.rolling());
            }
        }
    }

    fn all(&self) -> Vec<PartitionId> {
        self.slots.keys().copied().collect()
    }

    /// Those whose topics came, changed or went since an earlier catalog.
    fn changed_since(&self, old: &Catalog) -> Vec<PartitionId> {
        let Some(topics) = self.catalog.changed_since(old) else {
            return self.all();
        };
        let count = |catalog: &Catalog, topic| catalog.by_id(topic).map_or(0, |t| t.partitions);
        let of_topic = |topic| {
            let partitions = count(old, topic).max(count(&self.catalog, topic));
            let topic = *topic;
            (0..partitions).map(move |index| PartitionId { topic, index })
        };
        let changed = topics.iter().flat_map(of_topic);
        changed.filter(|id| self.slots.contains_key(id)).collect()
    }

    /// Drops those of `some` whose topic is gone; gives the fetches that waited for them.
    fn drop_deleted(&mut self, some: &[PartitionId]) -> Vec<WaitingFetch> {
        let mut watchers = Vec::new();
        for id in some.iter().filter(|id| !self.catalog.contains(**id)) {
            if let Some(mut slot) = self.slots.remove(id) {
                if let Some(publishing) = &mut slot.publishing {
                    self.published_bytes -= publishing.give_up(PartitionError::Unknown);
                }
                self.tail.bytes -= slot.partition.tail_bytes();
                self.uncommitted_bytes -= slot.partition.uncommitted_bytes();
                watchers.extend(slot.watchers);
            }
        }
        watchers
            .into_iter()
            .filter_map(|id| self.unwatch(id))
            .collect()
    }

    fn watch(&mut self, id: FetchId, waiting: WaitingFetch) {
        self.metrics.fetch_waits.add(1);
        for part in waiting.fetch.parts.iter() {
            if let Ok(slot) = self.slot(part.id) {
                slot.partition.note_reader();
                slot.watchers.push(id);
            }
        }
        self.fetches.insert(id, waiting);
    }

    fn unwatch(&mut self, id: FetchId) -> Option<WaitingFetch> {
        let waiting = self.fetches.remove(&id)?;
        for part in waiting.fetch.parts.iter() {
            if let Some(slot) = self.slots.get_mut(&part.id) {
                slot.watchers.retain(|w| *w != id);
            }
        }
        Some(waiting)
    }

    /// True if the fetch has an error to tell or enough bytes to give.
    fn is_satisfied(&mut self, fetch: &Fetch) -> bool {
        fetch.parts.iter().any(|part| self.slot(part.id).is_err())
            || self.is_satisfied_by_slots(fetch)
    }

    fn is_satisfied_by_slots(&self, fetch: &Fetch) -> bool {
        let mut bytes = 0;
        for part in fetch.parts.iter() {
            let Some(slot) = self.slots.get(&part.id) else {
                return true;
            };
            if !matches!(check_fetch(&slot.partition, part), Ok(None)) {
                return true;
            }
            if !slot.partition.may_begin_at(part.offset) {
                return true;
            }
            bytes += slot
                .partition
                .available(part.offset, part.max_bytes.min(fetch.min_bytes));
        }
        bytes >= fetch.min_bytes
    }

    fn read(&mut self, fetch: &Fetch) -> Vec<Part> {
        let mut left = fetch.max_bytes;
        let mut first = true;
        let mut read = |part: &FetchPart| {
            let answer = self.read_one(part, left, first);
            let bytes = answer.bytes_expected();
            left = left.saturating_sub(bytes);
            first &= bytes == 0;
            answer
        };
        fetch.parts.iter().map(&mut read).collect()
    }

    /// `first`: nothing is in the answer yet, so a batch may be larger than what is left.
    fn read_one(&mut self, part: &FetchPart, left: usize, first: bool) -> Part {
        let slot = match self.slot(part.id) {
            Ok(slot) => slot,
            Err(error) => return Part::failed(error, -1),
        };
        slot.partition.note_reader();
        let partition = &slot.partition;
        let failed = |error| Part::failed(error, partition.leader_epoch());
        let mut answer = Part::of(partition, Vec::new());
        match check_fetch(partition, part) {
            Ok(None) => {}
            Ok(diverging) => {
                answer.fetched.diverging = diverging;
                return answer;
            }
            Err(error) => return failed(error),
        }
        let max_bytes = part.max_bytes.min(left);
        if max_bytes == 0 && !first && partition.may_begin_at(part.offset) {
            return answer;
        }
        match partition.read(part.offset, max_bytes) {
            Read::OutOfRange => return failed(PartitionError::OutOfRange),
            Read::AtEnd => {}
            Read::Batches(batches) => {
                let bytes = batches.iter().map(Bytes::len).sum::<usize>();
                if first || bytes <= max_bytes {
                    answer.fetched.batches = batches;
                    slot.traffic.fetched_bytes += bytes as u64;
                    self.metrics.fetched_bytes.add(bytes as u64);
                    self.metrics.fetch_tail.add(1);
                }
            }
            Read::Cold(plan) => {
                self.metrics.fetch_cold.add(1);
                answer.cold = Some(Cold {
                    plan,
                    id: part.id,
                    offset: part.offset,
                    max_bytes,
                    oversize: first,
                });
            }
        }
        answer
    }

    /// Counts what was read from the disk. Says why a file was not there: its records may have been
    /// deleted on the way.
    fn conclude(&mut self, part: Part) -> Fetched {
        let mut fetched = part.fetched;
        let Some(ColdRead {
            id,
            offset,
            missing,
            swaps,
        }) = part.read
        else {
            return fetched;
        };
        let slot = self.slots.get_mut(&id);
        if !missing {
            let bytes = fetched.bytes() as u64;
            self.metrics.fetched_bytes.add(bytes);
            if let Some(slot) = slot {
                slot.traffic.fetched_bytes += bytes;
            }
            return fetched;
        }
        let error = match slot {
            None => PartitionError::Unknown,
            Some(slot) if offset < slot.partition.bounds().log_start_offset => {
                PartitionError::OutOfRange
            }
            // Compacted on the way: whoever reads finds it at the next try.
            Some(slot) if slot.partition.log().is_outdated(swaps) => return fetched,
            Some(_) => {
                log_limited!(error, partition = %id, offset, "the segment to be read is missing: was it removed by hand?");
                PartitionError::Storage
            }
        };
        fetched.error = Some(error);
        fetched
    }

    fn find_offset(&mut self, query: &OffsetQuery) -> Result<Lookup, PartitionError> {
        let partition = &self.slot(query.id)?.partition;
        check_epoch(partition, query.leader_epoch)?;
        let bounds = partition.bounds();
        let at = |offset| {
            Lookup::Found(FoundOffset {
                offset,
                timestamp: -1,
                leader_epoch: partition.epoch_at(offset),
            })
        };
        Ok(match query.spec {
            OffsetSpec::Earliest => at(bounds.log_start_offset),
            OffsetSpec::Latest => at(bounds.high_watermark),
            OffsetSpec::Tiered => Lookup::Found(FoundOffset::NONE),
            OffsetSpec::MaxTimestamp => Lookup::seek(partition, SeekGoal::Largest),
            OffsetSpec::AtOrAfter(timestamp) => {
                Lookup::seek(partition, SeekGoal::AtOrAfter(timestamp))
            }
        })
    }
}

/// For how long the files of segments stay that are no part of their log any more.
fn removal_delay(catalog: &Catalog, id: PartitionId) -> Duration {
    let topic = catalog.by_id(&id.topic);
    let delay = topic.map_or(0, |topic| topic.config.file_delete_delay_ms);
    Duration::from_millis(delay.unsigned_abs()).min(REMOVAL_DELAY_MAX)
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
}
