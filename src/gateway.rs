//! One shard of the gateway: what it holds, and what shards ask of each other.
//!
//! Requests from clients arrive at the shard whose listener took the connection; `crate::api` sends
//! what belongs to another shard there, as a [`Request`], one message for each owner.

use std::cell::{Cell, OnceCell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use shards::{CallError, ReplyTo, Service, Workers};

use crate::budget::Budget;
use crate::catalog::keeper::{CatalogKeeper, Change, Changed};
use crate::catalog::{Catalog, Topic};
use crate::config::{Config, HostPort};
use crate::fetch_session::{self, Limits, Sessions};
use crate::group::OFFSETS_TOPIC;
use crate::group::coordinator::Coordinator;
use crate::group::messages::{GroupReply, GroupRequest, partition_of};
use crate::metrics::ShardMetrics;
use crate::metrics::survey::{self, SurveyReply};
use crate::partition::messages::{
    Deletion, EpochEnd, EpochQuery, Fetch, FetchId, Fetched, FoundOffset, OffsetQuery,
    PartitionError, Produce, Produced,
};
use crate::partition::owner::Partitions;
use crate::partition::producers::ActiveProducer;
use crate::record::Scratch;
use crate::store::PartitionId;
use crate::wire::Uuid;

pub type Shard = shards::Shard<Gateway>;

/// Threads of one shard that compress batches: two, so that a batch that takes long does not hold up
/// all others.
const RECODE_THREADS: usize = 2;

/// What one shard asks of another.
pub enum Request {
    Produce(Produce),
    /// The same with partitions whose log SeaweedMQ's brokers keep.
    Publish(Produce),
    Fetch(Fetch),
    /// Answered like the fetch would have been; the answer to this itself is [`Reply::Done`].
    FinishFetch(FetchId),
    /// To the shard that keeps a fetch session.
    Session(fetch_session::Call),
    ListOffsets(Vec<OffsetQuery>),
    DeleteRecords(Vec<Deletion>),
    LeaderEpochs(Vec<PartitionId>),
    EpochEnds(Vec<EpochQuery>),
    Sizes(Vec<PartitionId>),
    ActiveProducers(Vec<PartitionId>),
    /// To the coordinator of the group.
    Group(Box<GroupRequest>),
    /// From shard 0: the new snapshot.
    TakeCatalog(Arc<Catalog>),
    /// To shard 0.
    Change(Change),
    /// From the admin thread. It is answered there; nothing else could bring the answer to it.
    Survey(SurveyReply),
}

pub enum Reply {
    Done,
    Produce(Vec<Result<Produced, PartitionError>>),
    Fetch(Vec<Fetched>),
    Session(fetch_session::Outcome),
    Offsets(Vec<Result<FoundOffset, PartitionError>>),
    /// Where logs start.
    LowWatermarks(Vec<Result<i64, PartitionError>>),
    LeaderEpochs(Vec<i32>),
    EpochEnds(Vec<Result<EpochEnd, PartitionError>>),
    Sizes(Vec<u64>),
    ActiveProducers(Vec<Vec<ActiveProducer>>),
    Group(Box<GroupReply>),
    Changed(Changed),
}

/// What all shards know and none changes.
#[derive(Debug)]
pub struct Facts {
    pub config: Config,
    pub cluster_id: String,
    /// What clients are told to connect to: one, or one for each shard, by its index.
    pub brokers: Vec<Broker>,
}

/// A broker as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub address: HostPort,
}

impl Facts {
    /// The one that answers for the cluster. Any would do.
    pub fn controller_id(&self) -> i32 {
        self.config.broker_id
    }

    /// The broker that a shard is to clients.
    fn broker_of(&self, shard: usize) -> i32 {
        let own = self.brokers.get(shard).or(self.brokers.first());
        own.map_or(self.controller_id(), |broker| broker.id)
    }

    pub fn is_broker(&self, id: i32) -> bool {
        self.brokers.iter().any(|broker| broker.id == id)
    }
}

/// One shard of the gateway.
pub struct Gateway {
    shard: Shard,
    facts: Arc<Facts>,
    metrics: Arc<ShardMetrics>,
    catalog: RefCell<Arc<Catalog>>,
    partitions: Rc<Partitions>,
    coordinator: Rc<Coordinator>,
    /// On shard 0.
    keeper: Option<Rc<CatalogKeeper>>,
    producer_ids: RefCell<Range<i64>>,
    next_fetch: Cell<u64>,
    /// For checking batches; borrowed for one step at a time.
    scratch: RefCell<Scratch>,
    request_memory: Memory,
    recode_memory: Memory,
    recoders: OnceCell<Workers>,
    fetch_sessions: RefCell<Sessions>,
}

/// What requests that are not answered yet may take. Small ones have a part of their own, in which
/// nothing is held before a request is complete: they need not wait for clients that are slow to finish
/// large ones, nor for work that takes long.
pub struct Memory {
    pub large: Rc<Budget>,
    pub small: Rc<Budget>,
}

impl Memory {
    fn new(bytes: usize) -> Self {
        Memory {
            large: Budget::new(bytes - Self::small_of(bytes)),
            small: Budget::new(Self::small_of(bytes)),
        }
    }

    /// The part of small requests.
    pub fn small_of(bytes: usize) -> usize {
        bytes / 4
    }
}

impl Service for Gateway {
    type Request = Request;
    type Reply = Reply;

    fn handle(self: &Rc<Self>, request: Request, reply: ReplyTo<Reply>) {
        match request {
            Request::Produce(produce) => self.partitions.produce(produce, reply),
            Request::Publish(produce) => self.partitions.publish(produce, reply),
            Request::Fetch(fetch) => self.partitions.fetch(fetch, reply),
            Request::FinishFetch(id) => {
                self.partitions.finish_fetch(id);
                reply.send(Reply::Done);
            }
            Request::Session(call) => reply.send(Reply::Session(self.session_here(call))),
            Request::ListOffsets(queries) => self.partitions.list_offsets(queries, reply),
            Request::DeleteRecords(asked) => self.partitions.delete_records(asked, reply),
            Request::LeaderEpochs(ids) => {
                reply.send(Reply::LeaderEpochs(self.partitions.leader_epochs(&ids)));
            }
            Request::EpochEnds(queries) => {
                reply.send(Reply::EpochEnds(self.partitions.epoch_ends(&queries)));
            }
            Request::Sizes(ids) => reply.send(Reply::Sizes(self.partitions.sizes(&ids))),
            Request::ActiveProducers(ids) => {
                reply.send(Reply::ActiveProducers(
                    self.partitions.active_producers(&ids),
                ));
            }
            Request::Group(request) => self.coordinator.handle(*request, reply),
            Request::TakeCatalog(catalog) => {
                *self.catalog.borrow_mut() = catalog.clone();
                self.coordinator.take_catalog(catalog.clone());
                let partitions = self.partitions.clone();
                self.shard.spawn(async move {
                    partitions.take_catalog(catalog).await;
                    reply.send(Reply::Done);
                });
            }
            // Only shard 0 is asked; anywhere else the reply is dropped, which is an error to the caller.
            Request::Change(change) => {
                if let Some(keeper) = &self.keeper {
                    keeper.change(change, reply);
                }
            }
            Request::Survey(to) => self.shard.spawn(survey::answer(self.clone(), to)),
        }
    }
}

impl Gateway {
    pub fn new(
        shard: Shard,
        facts: Arc<Facts>,
        metrics: Arc<ShardMetrics>,
        catalog: Arc<Catalog>,
        partitions: Rc<Partitions>,
        coordinator: Rc<Coordinator>,
        keeper: Option<Rc<CatalogKeeper>>,
    ) -> Rc<Self> {
        let config = &facts.config;
        let sessions = Limits::of_shard(
            config.max_incremental_fetch_session_cache_slots,
            shard.index(),
            shard.count(),
        );
        Rc::new(Gateway {
            fetch_sessions: RefCell::new(Sessions::new(sessions)),
            request_memory: Memory::new(config.request_memory),
            recode_memory: Memory::new(config.max_inflated_bytes),
            recoders: OnceCell::new(),
            // Fetch ids are unique in the process: the shard's number is in the upper bits.
            next_fetch: Cell::new((shard.index() as u64) << 48),
            shard,
            facts,
            metrics,
            catalog: RefCell::new(catalog),
            partitions,
            coordinator,
            keeper,
            producer_ids: RefCell::new(0..0),
            scratch: RefCell::default(),
        })
    }

    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    pub fn config(&self) -> &Config {
        &self.facts.config
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The catalog as this shard knows it now.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.borrow().clone()
    }

    pub fn partitions(&self) -> &Rc<Partitions> {
        &self.partitions
    }

    pub fn coordinator(&self) -> &Rc<Coordinator> {
        &self.coordinator
    }

    /// The partition of `__consumer_offsets` that keeps a group; its owner coordinates the group. `None`
    /// while nobody ever asked for a coordinator.
    pub fn group_partition(&self, group: &str) -> Option<PartitionId> {
        let catalog = self.catalog.borrow();
        let topic = catalog.by_name(OFFSETS_TOPIC)?;
        topic.partition(partition_of(group, topic.partitions))
    }

    pub fn scratch(&self) -> &RefCell<Scratch> {
        &self.scratch
    }

    pub fn metrics(&self) -> &ShardMetrics {
        &self.metrics
    }

    pub fn request_memory(&self) -> &Memory {
        &self.request_memory
    }

    /// What batches that are written anew may take, until their requests are answered.
    pub fn recode_memory(&self) -> &Memory {
        &self.recode_memory
    }

    /// Threads that compress what would hold up a shard. Not those of [`shards::Shard::blocking`]:
    /// a batch may take seconds, and reads from the disk are not to wait for it.
    pub fn recoders(&self) -> &Workers {
        self.recoders
            .get_or_init(|| self.shard.workers("recode", RECODE_THREADS))
    }

    /// What answers that their clients have not taken yet may take.
    pub fn answer_memory(&self) -> &Rc<Budget> {
        self.partitions.answer_memory()
    }

    /// Somebody waits for memory that others use.
    pub fn is_short_of_memory(&self) -> bool {
        self.request_memory.large.is_short() || self.answer_memory().is_short()
    }

    /// The shard that owns a partition.
    pub fn owner(&self, id: PartitionId) -> usize {
        Topic::owner(id, self.shard.count())
    }

    /// The broker that leads a partition, as clients are told.
    pub fn leader(&self, id: PartitionId) -> i32 {
        self.facts.broker_of(self.owner(id))
    }

    /// The broker that this shard is, as clients are told.
    pub fn broker_id(&self) -> i32 {
        self.facts.broker_of(self.shard.index())
    }

    pub fn new_fetch_id(&self) -> FetchId {
        self.next_fetch.replace(self.next_fetch.get() + 1)
    }

    /// The fetch sessions that were opened on this shard.
    pub fn fetch_sessions(&self) -> &RefCell<Sessions> {
        &self.fetch_sessions
    }

    fn session_here(&self, call: fetch_session::Call) -> fetch_session::Outcome {
        let catalog = self.catalog();
        let name = |id: &Uuid| catalog.by_id(id).map(|topic| topic.name.clone());
        let mut sessions = self.fetch_sessions.borrow_mut();
        sessions.handle(call, name, Instant::now())
    }

    /// Asks the shard that keeps a fetch session; `None` if it does not answer, or no shard could have it.
    pub async fn session(
        &self,
        id: i32,
        call: fetch_session::Call,
    ) -> Option<fetch_session::Outcome> {
        let home = fetch_session::home(id, self.shard.count())?;
        if home == self.shard.index() {
            return Some(self.session_here(call));
        }
        match self.shard.call(home, Request::Session(call)).await {
            Ok(Reply::Session(outcome)) => Some(outcome),
            _ => None,
        }
    }

    /// Changes the catalog; when this ends, every shard has the new one.
    pub async fn change_catalog(&self, change: Change) -> Result<Changed, CallError> {
        match self.shard.call(0, Request::Change(change)).await? {
            Reply::Changed(changed) => Ok(changed),
            _ => Err(CallError::Dropped),
        }
    }

    /// A producer id that nobody had before. `None` if none could be stored as taken.
    pub async fn new_producer_id(&self) -> Option<i64> {
        loop {
            if let Some(id) = self.producer_ids.borrow_mut().next() {
                return Some(id);
            }
            match self.change_catalog(Change::TakeProducerIds).await {
                // Somebody else may have asked meanwhile; whatever block comes last is used.
                Ok(Changed::ProducerIds(Ok(block))) => self.producer_ids.replace(block),
                _ => return None,
            };
        }
    }
}
