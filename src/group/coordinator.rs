//! The coordinator of one shard: brings requests and time to its [`Groups`], appends what they write to
//! the partitions of `__consumer_offsets` that the shard owns, and loads these after a start.
//!
//! Appends of all groups wait together: while some are under way, the next fill up, and each partition
//! gets one batch of them. They end in the order in which they began.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use shards::local::Notify;
use shards::{ReplyTo, turn};

use super::groups::{Groups, Limits, Outcome, Queued};
use super::load::Replay;
use super::messages::{GroupReply, GroupRequest, partition_of};
use super::{AppendError, ConsumerRules, Now, OFFSETS_TOPIC, Rules, Step, Ticket};
use crate::catalog::{Catalog, Topic};
use crate::config::{Config, MigrationPolicy};
use crate::gateway::{Reply, Request, Shard};
use crate::metrics::ShardMetrics;
use crate::partition::messages::{Durability, Fetch, FetchPart, Produce};
use crate::partition::owner::now_ms;
use crate::record::{Batch, Builder};
use crate::store::PartitionId;
use crate::wire::{ErrorCode, Uuid};

mod survey;

/// A batch takes no more records of others when it has that much.
const BATCH_BYTES: usize = 256 << 10;
/// Appends taken at once.
const APPENDS_MAX: usize = 4096;
/// Read at once while loading.
const LOAD_BYTES: usize = 4 << 20;
/// A partition that cannot be read is tried again after this time.
const LOAD_AGAIN: Duration = Duration::from_secs(1);
/// Timers are looked at no later than after this time, so that the clock knows when the shard stood still.
const TICK_MAX: Duration = Duration::from_millis(500);
/// Groups looked at in one turn for offsets that expire.
const GROUPS_PER_TURN: usize = 64;

/// What a coordinator goes by.
#[derive(Debug, Clone)]
pub struct Options {
    pub rules: Rules,
    pub limits: Limits,
    /// Of what is stored at once for a client.
    pub record_bytes_max: usize,
    pub offsets_retention_ms: i64,
    pub offsets_check_interval: Duration,
}

impl From<&Config> for Options {
    fn from(config: &Config) -> Self {
        let migration = config.group_consumer_migration_policy;
        Options {
            rules: Rules {
                initial_rebalance_delay_ms: config.group_initial_rebalance_delay.as_millis() as i64,
                group_max_size: config.group_max_size,
                check_assignments: config.group_cooperative,
                consumer: ConsumerRules {
                    upgrades: matches!(
                        migration,
                        MigrationPolicy::Upgrade | MigrationPolicy::Bidirectional
                    ),
                    downgrades: matches!(
                        migration,
                        MigrationPolicy::Downgrade | MigrationPolicy::Bidirectional
                    ),
                    mixes: migration != MigrationPolicy::Disabled,
                    max_size: config.group_consumer_max_size,
                    regex_refresh_interval_ms: config
                        .group_consumer_regex_refresh_interval
                        .as_millis() as i64,
                    assignors: config.group_consumer_assignors.clone(),
                },
            },
            limits: Limits {
                groups_max: config.max_groups,
                members_max: config.max_group_members,
                metadata_bytes_max: config.message_max_bytes,
            },
            record_bytes_max: config.message_max_bytes,
            offsets_retention_ms: i64::from(config.offsets_retention_minutes) * 60_000,
            offsets_check_interval: config.offsets_retention_check_interval,
        }
    }
}

pub struct Coordinator {
    shard: Shard,
    metrics: Arc<ShardMetrics>,
    options: Options,
    inner: RefCell<Inner>,
    /// Something is due sooner than it was.
    sooner: Notify,
    /// Records wait to be appended.
    work: Notify,
}

struct Inner {
    clock: Clock,
    catalog: Arc<Catalog>,
    /// `__consumer_offsets`, once it is there.
    topic: Option<Arc<Topic>>,
    /// Its partitions that this shard owns and has loaded.
    loaded: FxHashSet<i32>,
    groups: Groups,
    waiting: FxHashMap<Ticket, ReplyTo<Reply>>,
    next_ticket: Ticket,
    queue: VecDeque<Queued>,
    /// What the last survey found.
    times: survey::Times,
    /// No more is taken.
    stopped: bool,
}

/// A clock that stands still while the shard does: time in which nobody could be heard is nobody's
/// silence.
struct Clock {
    read: Instant,
    steady: Duration,
}

impl Clock {
    fn now(&mut self) -> Now {
        let elapsed = self.read.elapsed();
        self.read += elapsed;
        self.steady += elapsed.min(2 * TICK_MAX);
        Now {
            steady_ms: self.steady.as_millis() as i64,
            wall_ms: now_ms(),
        }
    }
}

impl Coordinator {
    pub fn new(
        shard: Shard,
        metrics: Arc<ShardMetrics>,
        options: Options,
        catalog: Arc<Catalog>,
    ) -> Rc<Self> {
        let inner = Inner {
            clock: Clock {
                read: Instant::now(),
                steady: Duration::ZERO,
            },
            topic: catalog.by_name(OFFSETS_TOPIC).cloned(),
            catalog: catalog.clone(),
            loaded: FxHashSet::default(),
            groups: Groups::new(options.rules.clone(), options.limits.clone(), catalog),
            waiting: FxHashMap::default(),
            next_ticket: 0,
            queue: VecDeque::new(),
            times: survey::Times::default(),
            stopped: false,
        };
        Rc::new(Coordinator {
            shard,
            metrics,
            options,
            inner: RefCell::new(inner),
            sooner: Notify::new(),
            work: Notify::new(),
        })
    }

    /// Starts what runs for as long as the shard does.
    pub fn start(self: &Rc<Self>) {
        let this = self.clone();
        self.shard.spawn(async move { this.timer_loop().await });
        let this = self.clone();
        self.shard.spawn(async move { this.append_loop().await });
        let this = self.clone();
        self.shard.spawn(async move { this.retention_loop().await });
        let topic = self.inner.borrow().topic.clone();
        if let Some(topic) = topic {
            let this = self.clone();
            self.shard.spawn(async move { this.load(topic).await });
        }
    }

    /// Answers a request, now or later.
    pub fn handle(&self, request: GroupRequest, reply: ReplyTo<Reply>) {
        let mut inner = self.inner.borrow_mut();
        if let Err(error) = inner.check(&request, &self.shard) {
            return answer(reply, request.refusal(error));
        }
        let Some(unique) = unique_for(&request) else {
            return answer(reply, request.refusal(ErrorCode::UNKNOWN_SERVER_ERROR));
        };
        let ticket = inner.next_ticket;
        inner.next_ticket += 1;
        inner.waiting.insert(ticket, reply);
        self.step(inner, |groups, now, out| {
            groups.handle(request, ticket, unique, now, out);
        });
    }

    /// Lets groups do something, and sees to what comes out.
    fn step(
        &self,
        mut inner: std::cell::RefMut<'_, Inner>,
        event: impl FnOnce(&mut Groups, Now, &mut Vec<Outcome>),
    ) {
        let now = inner.clock.now();
        let wake_ms = inner.groups.wake_ms().unwrap_or(i64::MAX);
        let mut out = Vec::new();
        event(&mut inner.groups, now, &mut out);
        for outcome in out {
            match outcome {
                Outcome::Reply(ticket, reply) => {
                    if let Some(to) = inner.waiting.remove(&ticket) {
                        answer(to, reply);
                    }
                }
                Outcome::Append(queued) => {
                    inner.queue.push_back(queued);
                    self.work.notify_waiters();
                }
                Outcome::Noted(note) => self.metrics.groups.note(note),
            }
        }
        if inner.groups.wake_ms().is_some_and(|next| next < wake_ms) {
            self.sooner.notify_waiters();
        }
    }

    /// Takes a new snapshot of the catalog.
    pub fn take_catalog(self: &Rc<Self>, catalog: Arc<Catalog>) {
        let mut inner = self.inner.borrow_mut();
        let old = std::mem::replace(&mut inner.catalog, catalog.clone());
        inner.groups.take_catalog(catalog.clone());
        let topic = catalog.by_name(OFFSETS_TOPIC).cloned();
        let same = |a: &Arc<Topic>, b: &Arc<Topic>| a.id == b.id && a.partitions == b.partitions;
        let is_same = match (&topic, &inner.topic) {
            (Some(new), Some(old)) => same(new, old),
            (new, old) => new.is_none() && old.is_none(),
        };
        if !is_same {
            self.take_topic(inner, topic);
        } else if catalog.len() < old.len() {
            self.step(inner, |groups, now, out| {
                groups.forget_topics(|name| catalog.by_name(name).is_none(), now, out);
            });
        }
    }

    /// The topic was created or deleted, or has more partitions, by which groups lie in others.
    fn take_topic(
        self: &Rc<Self>,
        mut inner: std::cell::RefMut<'_, Inner>,
        topic: Option<Arc<Topic>>,
    ) {
        let is_new = match (&topic, &inner.topic) {
            (Some(new), Some(old)) => new.id != old.id,
            _ => true,
        };
        inner.topic = topic.clone();
        inner.loaded.clear();
        if let Some(topic) = &topic {
            if is_new {
                // Nothing was ever written to it.
                inner.loaded.extend(owned(topic, &self.shard));
            } else {
                let (this, topic) = (self.clone(), topic.clone());
                self.shard.spawn(async move { this.load(topic).await });
            }
        }
        let queued = std::mem::take(&mut inner.queue);
        self.step(inner, |groups, now, out| {
            groups.unload(now, out);
            for queued in queued {
                groups.appended(queued, Err(AppendError::NotStored), now, out);
            }
        });
    }

    /// Tells all who wait that this coordinator is none any more, as when no more clients are served.
    pub fn stop(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.stopped = true;
        self.step(inner, |groups, now, out| groups.unload(now, out));
    }

    async fn timer_loop(self: &Rc<Self>) {
        loop {
            let sooner = self.sooner.notified();
            match self.wait_for_timer() {
                Some(Duration::ZERO) => {
                    let inner = self.inner.borrow_mut();
                    self.step(inner, |groups, now, out| groups.expire(now, out));
                    turn().await;
                }
                Some(wait) => drop(shards::timeout(wait.min(TICK_MAX), sooner).await),
                None => sooner.await,
            }
        }
    }

    /// Until something is due; `None` if nothing will be.
    fn wait_for_timer(&self) -> Option<Duration> {
        let mut inner = self.inner.borrow_mut();
        let now = inner.clock.now();
        let due = inner.groups.wake_ms()?;
        Some(Duration::from_millis((due - now.steady_ms).max(0) as u64))
    }

    async fn retention_loop(self: &Rc<Self>) {
        loop {
            shards::sleep(self.options.offsets_check_interval).await;
            let ids = self.inner.borrow().groups.ids();
            for some in ids.chunks(GROUPS_PER_TURN) {
                let retention_ms = self.options.offsets_retention_ms;
                self.step(self.inner.borrow_mut(), |groups, now, out| {
                    groups.expire_offsets(some, retention_ms, now, out);
                });
                turn().await;
            }
        }
    }
}

// ---- appending

impl Coordinator {
    async fn append_loop(self: &Rc<Self>) {
        loop {
            let work = self.work.notified();
            let (topic, queued) = self.take_queue();
            if queued.is_empty() {
                work.await;
                continue;
            }
            let results = self.append(topic.as_deref(), &queued).await;
            self.appended(topic.as_deref(), queued, results);
        }
    }

    fn take_queue(&self) -> (Option<Arc<Topic>>, Vec<Queued>) {
        let mut inner = self.inner.borrow_mut();
        let some = inner.queue.len().min(APPENDS_MAX);
        (inner.topic.clone(), inner.queue.drain(..some).collect())
    }

    fn appended(
        &self,
        topic: Option<&Topic>,
        queued: Vec<Queued>,
        mut results: Vec<Result<(), AppendError>>,
    ) {
        let inner = self.inner.borrow_mut();
        if inner.topic.as_ref().map(|t| t.id) != topic.map(|t| t.id) {
            // The groups that wrote them are no more.
            results.fill(Err(AppendError::NotStored));
        }
        self.step(inner, |groups, now, out| {
            for (queued, result) in queued.into_iter().zip(results) {
                groups.appended(queued, result, now, out);
            }
        });
    }

    /// Appends all, and tells what became of each.
    async fn append(
        &self,
        topic: Option<&Topic>,
        queued: &[Queued],
    ) -> Vec<Result<(), AppendError>> {
        let Some(topic) = topic else {
            return vec![Err(AppendError::NotStored); queued.len()];
        };
        let mut batches = Batches::new(topic);
        let place = |queued: &Queued| match queued.is_a_clients()
            && queued.size() > self.options.record_bytes_max
        {
            true => Err(AppendError::TooLarge),
            false => Ok(batches.add(queued)),
        };
        let places: Vec<_> = queued.iter().map(place).collect();
        let stored = self.store(batches.built).await;
        let result = |place: Result<usize, AppendError>| match stored.get(place?) {
            Some(true) => Ok(()),
            _ => Err(AppendError::NotStored),
        };
        places.into_iter().map(result).collect()
    }

    async fn store(&self, built: Vec<(PartitionId, Builder)>) -> Vec<bool> {
        let parse = |(id, builder): (PartitionId, Builder)| {
            Batch::parse(&builder.build()).map(|batch| (id, batch))
        };
        let batches = match built.into_iter().map(parse).collect::<Result<Vec<_>, _>>() {
            Ok(batches) => batches,
            Err(error) => {
                tracing::error!(%error, "records of groups do not make a batch");
                return Vec::new();
            }
        };
        let produce = Produce {
            durability: Durability::Committed,
            batches,
        };
        let own = self.shard.index();
        match self.shard.call(own, Request::Produce(produce)).await {
            Ok(Reply::Produce(stored)) => stored.iter().map(Result::is_ok).collect(),
            _ => Vec::new(),
        }
    }
}

/// Records by partition, in batches that are not too large.
struct Batches<'a> {
    topic: &'a Topic,
    built: Vec<(PartitionId, Builder)>,
    /// The batch that each partition's records go to, and its bytes.
    open: FxHashMap<i32, (usize, usize)>,
    now_ms: i64,
}

impl<'a> Batches<'a> {
    fn new(topic: &'a Topic) -> Self {
        Batches {
            topic,
            built: Vec::new(),
            open: FxHashMap::default(),
            now_ms: now_ms(),
        }
    }

    /// The batch that it goes to. What belongs together stays together.
    fn add(&mut self, queued: &Queued) -> usize {
        let index = queued.partition(self.topic.partitions);
        let place = match self.open.get(&index) {
            Some((place, bytes)) if bytes + queued.size() <= BATCH_BYTES => *place,
            _ => {
                let topic = self.topic.id;
                self.built
                    .push((PartitionId { topic, index }, Builder::new()));
                self.open.insert(index, (self.built.len() - 1, 0));
                self.built.len() - 1
            }
        };
        for record in &queued.append.records {
            let value = record.value.as_deref();
            self.built[place]
                .1
                .append(self.now_ms, Some(&record.key), value, &[]);
        }
        if let Some((_, bytes)) = self.open.get_mut(&index) {
            *bytes += queued.size();
        }
        place
    }
}

// ---- loading

/// How far a partition is read.
struct Loading {
    index: i32,
    offset: i64,
    replay: Replay,
}

impl Coordinator {
    /// Reads all partitions that this shard owns, one after the other. One that cannot be read now keeps no
    /// other from being loaded.
    async fn load(self: Rc<Self>, topic: Arc<Topic>) {
        let began = Instant::now();
        let (mut records, mut groups) = (0, 0);
        let begun = |index| Loading {
            index,
            offset: 0,
            replay: Replay::default(),
        };
        let mut left: VecDeque<_> = owned(&topic, &self.shard).map(begun).collect();
        // Since the last one was read.
        let mut tried = 0;
        while let Some(mut loading) = left.pop_front() {
            if !self.inner.borrow().has(&topic) {
                return;
            }
            if !self.go_on(topic.id, &mut loading).await {
                left.push_back(loading);
                tried += 1;
                if tried >= left.len() {
                    shards::sleep(LOAD_AGAIN).await;
                    tried = 0;
                }
                continue;
            }
            records += loading.replay.records;
            let Some(loaded) = self.install(&topic, loading.index, loading.replay) else {
                return;
            };
            groups += loaded;
            tried = 0;
        }
        tracing::info!(
            shard = self.shard.index(),
            groups,
            records,
            took_ms = began.elapsed().as_millis() as u64,
            "loaded groups"
        );
    }

    /// Takes what a partition says. It is read and replayed off the shard. False if it cannot be read now.
    async fn go_on(&self, topic: Uuid, loading: &mut Loading) -> bool {
        let id = PartitionId {
            topic,
            index: loading.index,
        };
        loop {
            let offset = loading.offset;
            let Some(read) = self.read(id, offset).await else {
                return false;
            };
            let pieces = match read {
                Piece::Of(pieces) => pieces,
                Piece::From(first) => {
                    loading.offset = first;
                    continue;
                }
                Piece::End => return true,
            };
            let mut replay = std::mem::take(&mut loading.replay);
            let run = move || {
                let next = replay.take(pieces, offset);
                (replay, next)
            };
            match self.shard.blocking(run).await {
                Ok((taken, next)) => {
                    loading.replay = taken;
                    if next <= offset {
                        tracing::error!(partition = %id, offset, "__consumer_offsets cannot be read from here on; groups are as they were before");
                        return true;
                    }
                    loading.offset = next;
                }
                Err(error) => {
                    tracing::error!(partition = %id, offset, %error, "loading groups ended in a panic; they are empty");
                    return true;
                }
            }
        }
    }

    /// `None` if it cannot be read now.
    async fn read(&self, id: PartitionId, offset: i64) -> Option<Piece> {
        let fetch = fetch_of(id, offset, LOAD_BYTES);
        let own = self.shard.index();
        let reply = self.shard.call(own, Request::Fetch(fetch)).await;
        let Ok(Reply::Fetch(mut fetched)) = reply else {
            return None;
        };
        let fetched = fetched.pop()?;
        let bounds = fetched.bounds?;
        match fetched.error {
            None if offset >= bounds.high_watermark => Some(Piece::End),
            None if !fetched.batches.is_empty() => Some(Piece::Of(fetched.batches)),
            _ if offset < bounds.log_start_offset => Some(Piece::From(bounds.log_start_offset)),
            _ => None,
        }
    }

    /// Takes over what was loaded, unless the topic is another one by now. Gives the number of groups.
    fn install(&self, topic: &Arc<Topic>, index: i32, replay: Replay) -> Option<usize> {
        let mut inner = self.inner.borrow_mut();
        if !inner.has(topic) {
            return None;
        }
        let catalog = inner.catalog.clone();
        let step = Step {
            now: inner.clock.now(),
            rules: &self.options.rules,
            catalog: &catalog,
            out: &mut Vec::new(),
        };
        let mut loaded = replay.into_groups(&step);
        // Those in other partitions are of a time when the topic had fewer.
        loaded.retain(|group| partition_of(group.id(), topic.partitions) == index);
        let count = loaded.len();
        inner.groups.load(loaded);
        inner.loaded.insert(index);
        self.step(inner, |groups, now, out| {
            // A stop may have come between a topic's deletion and that of its offsets.
            groups.forget_topics(|name| catalog.by_name(name).is_none(), now, out);
        });
        self.sooner.notify_waiters();
        Some(count)
    }
}

/// Reads what there is of one partition, and does not wait for more.
fn fetch_of(id: PartitionId, offset: i64, max_bytes: usize) -> Fetch {
    let part = FetchPart {
        id,
        offset,
        max_bytes,
        leader_epoch: -1,
        last_fetched_epoch: -1,
        from_follower: false,
    };
    Fetch {
        parts: vec![part].into(),
        max_bytes,
        min_bytes: 0,
        wait: None,
    }
}

/// What reading finds.
enum Piece {
    Of(Vec<Bytes>),
    /// The log begins here.
    From(i64),
    End,
}

fn owned(topic: &Topic, shard: &Shard) -> impl Iterator<Item = i32> + use<> {
    let (topic_id, own, count) = (topic.id, shard.index(), shard.count());
    (0..topic.partitions).filter(move |index| {
        let id = PartitionId {
            topic: topic_id,
            index: *index,
        };
        Topic::owner(id, count) == own
    })
}

impl Inner {
    /// Whether the offsets are still in this topic.
    fn has(&self, topic: &Arc<Topic>) -> bool {
        let own = self.topic.as_ref();
        own.is_some_and(|own| Arc::ptr_eq(own, topic))
    }

    /// Checks that this shard has the group, or for a list all groups that it should have.
    fn check(&self, request: &GroupRequest, shard: &Shard) -> Result<(), ErrorCode> {
        if self.stopped {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let is_loaded = match (&self.topic, request.group()) {
            // Nobody ever had a group.
            (None, None) => true,
            (None, Some(_)) => return Err(ErrorCode::NOT_COORDINATOR),
            (Some(topic), None) => owned(topic, shard).all(|index| self.loaded.contains(&index)),
            (Some(topic), Some(group)) => {
                let index = partition_of(group, topic.partitions);
                let id = PartitionId {
                    topic: topic.id,
                    index,
                };
                if Topic::owner(id, shard.count()) != shard.index() {
                    return Err(ErrorCode::NOT_COORDINATOR);
                }
                self.loaded.contains(&index)
            }
        };
        match is_loaded {
            true => Ok(()),
            false => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        }
    }
}

fn answer(to: ReplyTo<Reply>, reply: GroupReply) {
    to.send(Reply::Group(Box::new(reply)));
}

/// What makes a new member's id unique: a random UUID, as Kafka's. Nothing for other requests; `None` if
/// the system has no randomness.
fn unique_for(request: &GroupRequest) -> Option<String> {
    match request {
        GroupRequest::Join { request, .. } if request.member_id.is_empty() => {}
        GroupRequest::ConsumerHeartbeat { request, .. } if request.member_id.is_empty() => {
            return Some(Uuid::random().ok()?.to_string());
        }
        _ => return Some(String::new()),
    }
    let bits = u128::from_be_bytes(Uuid::random().ok()?.0);
    let field = |shift: u32, digits: u32| (bits >> shift) & ((1 << (4 * digits)) - 1);
    Some(format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        field(96, 8),
        field(80, 4),
        field(64, 4),
        field(48, 4),
        field(0, 12)
    ))
}
