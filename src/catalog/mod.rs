//! The catalog: topics, configs and what else must be durable before it is visible.
//!
//! [`Catalog`] is an immutable snapshot that every shard holds. [`CatalogLog`] keeps it on the disk;
//! its one writer is [`keeper::CatalogKeeper`], on shard 0. Snapshots share what is the same in both, so
//! that a change costs by what it changes and not by how many topics there are.

use std::collections::BTreeMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use rpds::HashTrieMapSync;
use rustc_hash::{FxBuildHasher, FxHasher};

use crate::store::PartitionId;
use crate::wire::{StrBytes, Uuid};
use broker_config::BrokerConfigs;
use group_config::GroupConfigs;
use keeper::ChangeError;
use log::Entry;
use topic_config::TopicConfig;

pub mod alter;
pub mod broker_config;
pub mod group_config;
pub mod keeper;
mod log;
pub mod name;
pub mod topic_config;

pub use log::CatalogLog;

/// Configs by name, as they were given.
pub type Values = BTreeMap<String, String>;

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub name: StrBytes,
    pub id: Uuid,
    pub partitions: i32,
    /// Configs that were set for this topic, by Kafka's names.
    pub configs: Values,
    /// What they and the broker's defaults come to.
    pub config: TopicConfig,
    /// Others made it in SeaweedMQ.
    pub adopted: bool,
}

impl Topic {
    /// A topic that sets no configs, with a new id. Fails if the system has no randomness.
    pub fn new(
        name: &StrBytes,
        partitions: i32,
        defaults: TopicConfig,
    ) -> Result<Self, getrandom::Error> {
        Ok(Topic {
            // The catalog outlives the request's frame that the name is a slice of.
            name: name.detached(),
            id: Uuid::random()?,
            partitions,
            configs: Values::new(),
            config: defaults,
            adopted: false,
        })
    }

    /// Whether SeaweedMQ's brokers keep the logs of its partitions, and others may write them too.
    pub fn is_brokers(&self) -> bool {
        self.adopted || self.config.is_brokers()
    }

    /// The shard that owns a partition. Neighbours go to different shards, so that few partitions
    /// still spread evenly.
    pub fn owner(id: PartitionId, shards: usize) -> usize {
        use std::hash::BuildHasher;
        let first = FxBuildHasher.hash_one(id.topic.0) >> 32;
        ((first + id.index as u64) % shards as u64) as usize
    }

    pub fn partition(&self, index: i32) -> Option<PartitionId> {
        (0..self.partitions)
            .contains(&index)
            .then_some(PartitionId {
                topic: self.id,
                index,
            })
    }
}

type Map<K, V> = HashTrieMapSync<K, V, BuildHasherDefault<FxHasher>>;

/// All topics at one moment. A clone shares them.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    by_name: Map<StrBytes, Arc<Topic>>,
    by_id: Map<Uuid, Arc<Topic>>,
    /// By name with `.` read as `_`, as metrics' names do. Topics created together may share one.
    by_metric_name: Map<String, Vec<Arc<Topic>>>,
    broker: BrokerConfigs,
    groups: GroupConfigs,
    changes: i64,
    news: News,
    partition_count: usize,
}

/// What a catalog has that the one before it had not.
#[derive(Debug, Clone, Default)]
struct News {
    /// How many changes led to the one before.
    since: i64,
    /// Topics that came, changed or went.
    topics: Vec<Uuid>,
}

fn metric_name(name: &str) -> String {
    name.replace('.', "_")
}

impl Catalog {
    /// On a broker with these configs.
    pub fn new(broker: BrokerConfigs, topics: impl IntoIterator<Item = Topic>) -> Self {
        let mut catalog = Catalog {
            broker,
            ..Catalog::default()
        };
        topics.into_iter().for_each(|topic| catalog.insert(topic));
        catalog
    }

    /// The same with these configs of groups.
    pub fn with_groups(self, groups: GroupConfigs) -> Self {
        Catalog { groups, ..self }
    }

    /// The next one, so far the same. All that is done to it is news.
    fn next(&self) -> Self {
        Catalog {
            news: News {
                since: self.changes,
                topics: Vec::new(),
            },
            ..self.clone()
        }
    }

    /// The next one, which has this topic, in place of the one of its id if there is one.
    pub fn with_topic(&self, topic: Topic) -> Self {
        let mut next = self.next();
        next.changes += 1;
        next.remove(&topic.id);
        next.insert(topic);
        next
    }

    /// The topics that came, changed or went since `old`; some may be named twice. `None`: this is not
    /// the next one to it, so all may have.
    pub fn changed_since(&self, old: &Catalog) -> Option<&[Uuid]> {
        let is_next = self.news.since == old.changes && self.changes > old.changes;
        is_next.then_some(&self.news.topics)
    }

    /// Those that came or changed since the one before.
    fn new_topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.news.topics.iter().filter_map(|id| self.by_id(id))
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    pub fn by_id(&self, id: &Uuid) -> Option<&Arc<Topic>> {
        self.by_id.get(id)
    }

    /// A topic whose name differs from this one in `.` and `_` only.
    pub fn colliding(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_metric_name
            .get(&metric_name(name))?
            .iter()
            .find(|t| t.name != *name)
    }

    /// Checks that a topic of this name can be created.
    pub fn check_free(&self, name: &str) -> Result<(), ChangeError> {
        if self.by_name(name).is_some() {
            return Err(ChangeError::Exists);
        }
        match self.colliding(name) {
            Some(other) => Err(ChangeError::Collides(other.name.to_string())),
            None => Ok(()),
        }
    }

    /// Configs of brokers, and what they come to for topics.
    pub fn broker(&self) -> &BrokerConfigs {
        &self.broker
    }

    /// Configs of groups.
    pub fn groups(&self) -> &GroupConfigs {
        &self.groups
    }

    /// How many changes led to this.
    pub fn changes(&self) -> i64 {
        self.changes
    }

    /// The same after that many changes.
    #[cfg(test)]
    pub fn after(self, changes: i64) -> Self {
        Catalog { changes, ..self }
    }

    /// Checks that a topic can be given this many partitions. Gives how many are new.
    pub fn check_increase(&self, id: &Uuid, partitions: i32) -> Result<i32, ChangeError> {
        let topic = self.by_id(id).ok_or(ChangeError::Unknown)?;
        if topic.adopted {
            return Err(ChangeError::Adopted);
        }
        match topic.partitions {
            has if partitions > has => Ok(partitions - has),
            has => Err(ChangeError::NoIncrease(has)),
        }
    }

    /// In no particular order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// Of all topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// How many topics there are.
    pub fn len(&self) -> usize {
        self.by_id.size()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.topics()
            .flat_map(|t| (0..t.partitions).map(|index| PartitionId { topic: t.id, index }))
    }

    /// True if the partition's topic exists and has that many.
    pub fn contains(&self, id: PartitionId) -> bool {
        self.by_id(&id.topic)
            .is_some_and(|t| t.partition(id.index).is_some())
    }

    fn apply(&mut self, change: Entry) {
        self.changes += 1;
        match change {
            Entry::TopicCreated(topic) => self.insert(topic.into_topic(self.broker.defaults())),
            Entry::TopicDeleted { id } | Entry::TopicForgotten { id } => {
                self.remove(&log::id(&id));
            }
            Entry::TopicConfigs { id, configs } => {
                let defaults = self.broker.defaults();
                self.update(&log::id(&id), |topic| {
                    topic.config = TopicConfig::of(&topic.name, &configs, defaults);
                    topic.configs = configs;
                });
            }
            Entry::Partitions { id, count, .. } => {
                self.update(&log::id(&id), |topic| topic.partitions = count);
            }
            Entry::BrokerConfigs { broker, configs } => {
                self.broker.set(broker, configs);
                self.take_defaults();
            }
            Entry::GroupConfigs { group, configs } => self.groups.set(group, configs),
            // They are the log's own.
            Entry::ProducerIds { .. } => {}
        }
    }

    /// The broker's defaults are others now.
    fn take_defaults(&mut self) {
        let defaults = self.broker.defaults();
        let changed = self.topics().filter_map(|topic| {
            let config = TopicConfig::of(&topic.name, &topic.configs, defaults);
            (config != topic.config).then_some((topic.id, config))
        });
        for (id, config) in changed.collect::<Vec<_>>() {
            self.update(&id, |topic| topic.config = config);
        }
    }

    fn update(&mut self, id: &Uuid, change: impl FnOnce(&mut Topic)) {
        if let Some(topic) = self.remove(id) {
            let mut topic = Topic::clone(&topic);
            change(&mut topic);
            self.insert(topic);
        }
    }

    fn insert(&mut self, topic: Topic) {
        self.partition_count += topic.partitions as usize;
        self.news.topics.push(topic.id);
        let topic = Arc::new(topic);
        self.by_name.insert_mut(topic.name.clone(), topic.clone());
        self.change_same(&topic.name, |same| same.push(topic.clone()));
        self.by_id.insert_mut(topic.id, topic);
    }

    fn remove(&mut self, id: &Uuid) -> Option<Arc<Topic>> {
        let topic = self.by_id(id)?.clone();
        self.partition_count -= topic.partitions as usize;
        self.news.topics.push(*id);
        self.by_id.remove_mut(id);
        self.by_name.remove_mut(&topic.name);
        self.change_same(&topic.name, |same| same.retain(|t| t.id != *id));
        Some(topic)
    }

    /// Changes which topics share the metrics' name of this one.
    fn change_same(&mut self, name: &str, change: impl FnOnce(&mut Vec<Arc<Topic>>)) {
        let name = metric_name(name);
        let mut same = self.by_metric_name.get(&name).cloned().unwrap_or_default();
        change(&mut same);
        if same.is_empty() {
            self.by_metric_name.remove_mut(&name);
        } else {
            self.by_metric_name.insert_mut(name, same);
        }
    }
}

impl FromIterator<Topic> for Catalog {
    fn from_iter<I: IntoIterator<Item = Topic>>(topics: I) -> Self {
        Catalog::new(BrokerConfigs::default(), topics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::new(&name.to_owned().into(), 3, TopicConfig::default()).expect("an id")
    }

    #[test]
    fn names_collide_while_either_topic_is_there() {
        let mut catalog = Catalog::default();
        let (dot, underscore) = (topic("d.e"), topic("d_e"));
        catalog.insert(dot.clone());
        assert_eq!(
            catalog.check_free("d_e"),
            Err(ChangeError::Collides("d.e".to_owned()))
        );
        assert_eq!(catalog.check_free("d.e"), Err(ChangeError::Exists));
        catalog.insert(underscore.clone());
        catalog.remove(&underscore.id);
        assert!(catalog.check_free("d_e").is_err());
        catalog.remove(&dot.id);
        assert_eq!(catalog.check_free("d_e"), Ok(()));
        assert!(catalog.by_metric_name.is_empty());
    }

    #[test]
    fn the_next_catalog_tells_what_is_new_and_only_to_the_one_before() {
        let (kept, altered, deleted, new) = (topic("a"), topic("b"), topic("c"), topic("d"));
        let topics = [&kept, &altered, &deleted].map(Topic::clone);
        let first = Catalog::from_iter(topics);
        let mut next = first.next();
        let entries = [
            Entry::created(&new),
            Entry::grown(&altered.id, 9),
            Entry::deleted(&deleted.id),
        ];
        entries.into_iter().for_each(|entry| next.apply(entry));
        let mut told = next.changed_since(&first).expect("the next").to_vec();
        told.sort();
        told.dedup();
        let mut changed = [altered.id, deleted.id, new.id];
        changed.sort();
        assert_eq!(told, changed);

        let one = next.with_topic(topic("e"));
        assert_eq!(one.changed_since(&next).map(<[Uuid]>::len), Some(1));
        assert_eq!(one.changed_since(&first), None);
        assert_eq!(first.changed_since(&first), None);
        // The ones before have not changed.
        let names = |catalog: &Catalog| {
            let mut names: Vec<_> = catalog.topics().map(|t| t.name.to_string()).collect();
            names.sort();
            names.concat()
        };
        assert_eq!([&first, &next, &one].map(names), ["abc", "abd", "abde"]);
        assert_eq!(first.by_id(&altered.id).map(|t| t.partitions), Some(3));
    }

    #[test]
    fn neighbouring_partitions_lie_on_different_shards() {
        let id = Uuid::random().unwrap();
        let owner = |index| Topic::owner(PartitionId { topic: id, index }, 4);
        let owners: std::collections::BTreeSet<_> = (0..4).map(owner).collect();
        assert_eq!(owners.len(), 4);
    }
}
