//! The catalog's one writer, on shard 0.
//!
//! Changes are made one after the other: durable first, then sent to all shards, and answered when
//! every shard has the new snapshot.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use shards::local::Notify;
use shards::{ReplyTo, log_limited};

use super::alter::{AlterError, Alteration, Resource};
use super::log::Entry;
use super::{Catalog, CatalogLog, Topic};
use crate::gateway::{Reply, Request, Shard};
use crate::partition::owner::Partitions;
use crate::store::NotOwner;
use crate::wire::Uuid;

/// Producer ids are handed to shards in blocks of this size; Kafka's controller does the same.
const PRODUCER_ID_BLOCK: i64 = 1000;

/// Most [`changes_of`] all topics of a client's request; Kafka's controller has the same limit.
pub const CHANGES_MAX: usize = 10_000;

/// What creating a topic comes to: one for it, its partitions and its configs each.
pub fn changes_of(topic: &Topic) -> usize {
    1 + topic.partitions as usize + topic.configs.len()
}

/// A change asked of shard 0.
#[derive(Debug)]
pub enum Change {
    CreateTopics(Vec<Topic>),
    DeleteTopics(Vec<Uuid>),
    /// Topics, and how many partitions each is to have.
    CreatePartitions(Vec<(Uuid, i32)>),
    AlterConfigs(Vec<(Resource, Alteration)>),
    TakeProducerIds,
    /// Look at what others made in SeaweedMQ, and deleted.
    AdoptOthers,
}

/// What became of it, in the order asked.
#[derive(Debug)]
pub enum Changed {
    Topics(Vec<Result<(), ChangeError>>),
    Configs(Vec<Result<(), AlterError>>),
    ProducerIds(Result<Range<i64>, ChangeError>),
    Others,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("the topic exists")]
    Exists,
    /// Names that differ in `.` and `_` only would share their metrics' names.
    #[error("the topic collides with {0}")]
    Collides(String),
    #[error("the topic does not exist")]
    Unknown,
    #[error("the topic has {0} partitions")]
    NoIncrease(i32),
    #[error("the topic was made by another program of SeaweedMQ: it gets its partitions there")]
    Adopted,
    #[error("there may be no more than {0} partitions in all (max_partitions)")]
    TooManyPartitions(usize),
    #[error(transparent)]
    NotStored(#[from] NotStored),
}

/// Why a change is not in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    #[error("the change could not be stored")]
    Failed,
    #[error("another gateway has taken the store over")]
    NotOwner,
}

pub struct CatalogKeeper {
    shard: Shard,
    /// Of this shard: it removes the files of deleted topics.
    partitions: Rc<Partitions>,
    /// Taken off the shard to be written; one change is under way at a time.
    log: Arc<Mutex<CatalogLog>>,
    catalog: RefCell<Arc<Catalog>>,
    /// Of all topics.
    max_partitions: usize,
    waiting: RefCell<VecDeque<(Change, ReplyTo<Reply>)>>,
    work: Notify,
}

impl CatalogKeeper {
    pub fn new(
        shard: Shard,
        partitions: Rc<Partitions>,
        log: CatalogLog,
        max_partitions: usize,
    ) -> Rc<Self> {
        Rc::new(CatalogKeeper {
            shard,
            max_partitions,
            partitions,
            catalog: RefCell::new(log.catalog().clone()),
            log: Arc::new(Mutex::new(log)),
            waiting: RefCell::default(),
            work: Notify::new(),
        })
    }

    pub fn start(self: &Rc<Self>) {
        let this = self.clone();
        self.shard.spawn(async move {
            loop {
                let next = this.waiting.borrow_mut().pop_front();
                match next {
                    Some((change, reply)) => reply.send(Reply::Changed(this.make(change).await)),
                    None => this.work.notified().await,
                }
            }
        });
    }

    pub fn change(&self, change: Change, reply: ReplyTo<Reply>) {
        self.waiting.borrow_mut().push_back((change, reply));
        self.work.notify_waiters();
    }

    async fn make(self: &Rc<Self>, change: Change) -> Changed {
        match change {
            Change::CreateTopics(topics) => Changed::Topics(self.create(topics).await),
            Change::DeleteTopics(ids) => Changed::Topics(self.delete(ids).await),
            Change::CreatePartitions(topics) => Changed::Topics(self.grow(topics).await),
            Change::AlterConfigs(asked) => Changed::Configs(self.alter(asked).await),
            Change::TakeProducerIds => {
                let taken = self
                    .write(|log| log.take_producer_ids(PRODUCER_ID_BLOCK))
                    .await;
                Changed::ProducerIds(taken.map_err(ChangeError::from))
            }
            Change::AdoptOthers => {
                let max = self.max_partitions;
                // What goes wrong is logged; the next look comes soon.
                if let Ok(Some(catalog)) = self.write(move |log| log.adopt_others(max)).await {
                    self.spread(catalog).await;
                }
                Changed::Others
            }
        }
    }

    async fn create(self: &Rc<Self>, topics: Vec<Topic>) -> Vec<Result<(), ChangeError>> {
        let catalog = self.catalog.borrow().clone();
        let mut names = HashSet::new();
        let mut room = Room::new(self.max_partitions, &catalog);
        let mut check = |topic: &Topic| {
            if !names.insert(topic.name.clone()) {
                return Err(ChangeError::Exists);
            }
            catalog.check_free(&topic.name)?;
            room.take(topic.partitions as usize)
        };
        let mut results: Vec<_> = topics.iter().map(&mut check).collect();
        let good = topics.iter().zip(&results).filter(|(_, r)| r.is_ok());
        let created = good.map(|(topic, _)| Entry::created(topic)).collect();
        if let Err(why) = self.publish(created).await {
            refuse(&mut results, ChangeError::from(why));
        }
        let made = topics.iter().zip(&results).filter(|(_, r)| r.is_ok());
        for (topic, _) in made.filter(|(topic, _)| topic.config.is_brokers()) {
            tracing::warn!(
                topic = %topic.name,
                "a topic with seaweedmq.path=broker was made: SeaweedMQ's brokers keep its log and promise less; \
                 acks=all waits for a broker's flush, acks=1 is lost if broker and gateway end before it, \
                 and what a producer sends again after a restart of the gateway may be there twice unless seaweedmq.producer.ids=true"
            );
        }
        results
    }

    async fn grow(self: &Rc<Self>, topics: Vec<(Uuid, i32)>) -> Vec<Result<(), ChangeError>> {
        let catalog = self.catalog.borrow().clone();
        let mut room = Room::new(self.max_partitions, &catalog);
        let check = |(id, count): &(Uuid, i32)| {
            let more = catalog.check_increase(id, *count)?;
            room.take(more as usize)
        };
        let mut results: Vec<_> = topics.iter().map(check).collect();
        let good = topics.iter().zip(&results).filter(|(_, r)| r.is_ok());
        let grown = good.map(|((id, count), _)| Entry::grown(id, *count));
        if let Err(why) = self.publish(grown.collect()).await {
            refuse(&mut results, ChangeError::from(why));
        }
        results
    }

    /// No resource is named twice.
    async fn alter(
        self: &Rc<Self>,
        asked: Vec<(Resource, Alteration)>,
    ) -> Vec<Result<(), AlterError>> {
        let catalog = self.catalog.borrow().clone();
        let mut changes = Vec::new();
        let alter = |(of, by): &(Resource, Alteration)| {
            changes.extend(catalog.alter(of, by)?);
            Ok(())
        };
        let mut results: Vec<_> = asked.iter().map(alter).collect();
        if let Err(why) = self.publish(changes).await {
            refuse(&mut results, AlterError::from(why));
        }
        results
    }

    async fn delete(self: &Rc<Self>, ids: Vec<Uuid>) -> Vec<Result<(), ChangeError>> {
        let catalog = self.catalog.borrow().clone();
        let known = |id: &Uuid| catalog.by_id(id).map(|_| ()).ok_or(ChangeError::Unknown);
        let mut results: Vec<_> = ids.iter().map(known).collect();
        let gone: Vec<_> = ids
            .into_iter()
            .filter(|id| catalog.by_id(id).is_some())
            .collect();
        let deleted = gone.iter().map(Entry::deleted).collect();
        if let Err(why) = self.publish(deleted).await {
            refuse(&mut results, ChangeError::from(why));
            return results;
        }
        for topic in gone {
            let partitions = self.partitions.clone();
            self.shard
                .spawn(async move { partitions.remove_topic(topic).await });
        }
        results
    }

    /// Makes changes durable, then visible on every shard.
    async fn publish(&self, changes: Vec<Entry>) -> Result<(), NotStored> {
        if changes.is_empty() {
            return Ok(());
        }
        let catalog = self.write(|log| log.commit(changes)).await?;
        self.spread(catalog).await;
        Ok(())
    }

    /// Makes it visible on every shard.
    async fn spread(&self, catalog: Arc<Catalog>) {
        self.catalog.replace(catalog.clone());
        let calls: Vec<_> = (0..self.shard.count())
            .map(|shard| {
                self.shard
                    .call(shard, Request::TakeCatalog(catalog.clone()))
            })
            .collect();
        for call in calls {
            if let Err(error) = call.await {
                log_limited!(error, %error, "a shard did not take the new catalog; restart the process");
            }
        }
    }

    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut CatalogLog) -> io::Result<T> + Send + 'static,
    ) -> Result<T, NotStored> {
        let log = self.log.clone();
        let run = move || change(&mut shards::lock(&log));
        match self.shard.blocking(run).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) if NotOwner::is(&error) => {
                log_limited!(error, %error, "the change is refused; stop this gateway");
                Err(NotStored::NotOwner)
            }
            Ok(Err(error)) => {
                log_limited!(error, %error, "cannot write the catalog; the change is refused: is there room where it is stored?");
                Err(NotStored::Failed)
            }
            Err(error) => {
                log_limited!(error, %error, "a change of the catalog ended in a panic; restart the process");
                Err(NotStored::Failed)
            }
        }
    }
}

/// How many partitions more there may be.
struct Room {
    max: usize,
    left: usize,
}

impl Room {
    fn new(max: usize, catalog: &Catalog) -> Self {
        let left = max.saturating_sub(catalog.partition_count());
        Room { max, left }
    }

    fn take(&mut self, partitions: usize) -> Result<(), ChangeError> {
        let left = self.left.checked_sub(partitions);
        self.left = left.ok_or(ChangeError::TooManyPartitions(self.max))?;
        Ok(())
    }
}

fn refuse<E: Clone>(results: &mut [Result<(), E>], error: E) {
    for result in results.iter_mut().filter(|r| r.is_ok()) {
        *result = Err(error.clone());
    }
}
