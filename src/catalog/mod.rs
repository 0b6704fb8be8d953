//! The catalog: topics and what else must be durable before it is visible.
//!
//! [`Catalog`] is an immutable snapshot that every shard holds. [`CatalogLog`] is its one writer, on
//! shard 0: a text file with one change a line, each line `<CRC-32C, 8 hex digits> <JSON>`, replayed
//! at start. A torn last line was never acknowledged and is cut off.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

use crate::store::PartitionId;
use crate::wire::{StrBytes, Uuid};
use keeper::ChangeError;
use topic_config::TopicConfig;

pub mod keeper;
pub mod name;
pub mod topic_config;

/// A topic as it was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub name: StrBytes,
    pub id: Uuid,
    pub partitions: i32,
    /// Configs that were set for this topic, by Kafka's names.
    pub configs: BTreeMap<String, String>,
    /// What they and the broker's defaults come to.
    pub config: TopicConfig,
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
            configs: BTreeMap::new(),
            config: defaults,
        })
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

/// All topics at one moment.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    by_name: HashMap<StrBytes, Arc<Topic>, FxBuildHasher>,
    by_id: HashMap<Uuid, Arc<Topic>, FxBuildHasher>,
    /// By name with `.` read as `_`, as metrics' names do. Topics created together may share one.
    by_metric_name: HashMap<String, Vec<Arc<Topic>>, FxBuildHasher>,
}

fn metric_name(name: &str) -> String {
    name.replace('.', "_")
}

impl Catalog {
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

    /// In no particular order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
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

    fn insert(&mut self, topic: Topic) {
        let topic = Arc::new(topic);
        self.by_name.insert(topic.name.clone(), topic.clone());
        self.by_metric_name
            .entry(metric_name(&topic.name))
            .or_default()
            .push(topic.clone());
        self.by_id.insert(topic.id, topic);
    }

    fn remove(&mut self, id: &Uuid) {
        let Some(topic) = self.by_id.remove(id) else {
            return;
        };
        self.by_name.remove(&topic.name);
        if let Entry::Occupied(mut same) = self.by_metric_name.entry(metric_name(&topic.name)) {
            same.get_mut().retain(|t| t.id != *id);
            if same.get().is_empty() {
                same.remove();
            }
        }
    }
}

impl FromIterator<Topic> for Catalog {
    fn from_iter<I: IntoIterator<Item = Topic>>(topics: I) -> Self {
        let mut catalog = Catalog::default();
        topics.into_iter().for_each(|topic| catalog.insert(topic));
        catalog
    }
}

/// A line of the catalog's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    TopicCreated(SavedTopic),
    TopicDeleted {
        id: String,
    },
    /// Producer ids below this may have been given away.
    ProducerIds {
        below: i64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedTopic {
    name: String,
    id: String,
    partitions: i32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    configs: BTreeMap<String, String>,
}

impl SavedTopic {
    fn into_topic(self, defaults: TopicConfig) -> Topic {
        let mut config = defaults;
        for (name, value) in &self.configs {
            if let Err(error) = config.set(name, value) {
                tracing::warn!(topic = self.name, %error, "the topic keeps a config that this version does not take; using the default");
            }
        }
        Topic {
            name: self.name.into(),
            id: self.id.parse().unwrap_or(Uuid::ZERO),
            partitions: self.partitions,
            configs: self.configs,
            config,
        }
    }
}

impl From<&Topic> for SavedTopic {
    fn from(topic: &Topic) -> Self {
        SavedTopic {
            name: topic.name.to_string(),
            id: topic.id.to_string(),
            partitions: topic.partitions,
            configs: topic.configs.clone(),
        }
    }
}

/// The catalog's writer.
#[derive(Debug)]
pub struct CatalogLog {
    file: File,
    /// Length of what is good; a failed append is cut off before the next.
    len: u64,
    catalog: Arc<Catalog>,
    producer_ids_below: i64,
}

impl CatalogLog {
    /// Opens the log or makes an empty one, and replays it. `defaults` are for what topics do not set.
    /// Blocking.
    pub fn open(path: &Path, defaults: TopicConfig) -> io::Result<Self> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e),
        };
        let mut catalog = Catalog::default();
        let (mut len, mut producer_ids_below) = (0, 0);
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let Some(change) = decode(line) else { break };
            match change {
                Change::TopicCreated(topic) => catalog.insert(topic.into_topic(defaults)),
                Change::TopicDeleted { id } => catalog.remove(&id.parse().unwrap_or(Uuid::ZERO)),
                Change::ProducerIds { below } => producer_ids_below = below,
            }
            len += line.len() as u64;
        }
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        if len < bytes.len() as u64 {
            if bytes[len as usize..]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                > 1
            {
                let text = format!(
                    "{} is damaged at byte {len}, in the middle of good lines",
                    path.display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            tracing::warn!(path = %path.display(), bytes = bytes.len() as u64 - len, "cut off a torn line at the catalog's end");
        }
        file.set_len(len)?;
        file.sync_all()?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(CatalogLog {
            file,
            len,
            catalog: Arc::new(catalog),
            producer_ids_below,
        })
    }

    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Adds and removes topics in one durable step; gives the new snapshot. Blocking.
    pub fn change_topics(
        &mut self,
        created: &[Topic],
        deleted: &[Uuid],
    ) -> io::Result<Arc<Catalog>> {
        let creations = created.iter().map(|t| Change::TopicCreated(t.into()));
        let deletions = deleted
            .iter()
            .map(|id| Change::TopicDeleted { id: id.to_string() });
        self.append(&creations.chain(deletions).collect::<Vec<_>>())?;
        let mut catalog = Catalog::clone(&self.catalog);
        created
            .iter()
            .for_each(|topic| catalog.insert(topic.clone()));
        deleted.iter().for_each(|id| catalog.remove(id));
        self.catalog = Arc::new(catalog);
        Ok(self.catalog.clone())
    }

    /// Takes `count` producer ids that were never given away before and never will be again. Blocking.
    pub fn take_producer_ids(&mut self, count: i64) -> io::Result<std::ops::Range<i64>> {
        let first = self.producer_ids_below;
        let below = first
            .checked_add(count)
            .ok_or_else(|| io::Error::other("producer ids are exhausted"))?;
        self.append(&[Change::ProducerIds { below }])?;
        self.producer_ids_below = below;
        Ok(first..below)
    }

    fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let mut lines = Vec::new();
        for change in changes {
            let json = serde_json::to_vec(change)?;
            write!(lines, "{:08x} ", crc32c::crc32c(&json))?;
            lines.extend_from_slice(&json);
            lines.push(b'\n');
        }
        let written = self
            .file
            .write_all_at(&lines, self.len)
            .and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.len += lines.len() as u64;
                Ok(())
            }
            Err(e) => {
                // Whole lines left behind would be replayed though they were refused.
                self.file.set_len(self.len)?;
                Err(e)
            }
        }
    }
}

fn decode(line: &[u8]) -> Option<Change> {
    let line = line.strip_suffix(b"\n")?;
    let (crc, json) = line.split_at_checked(9)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?.strip_suffix(' ')?, 16).ok()?;
    if crc32c::crc32c(json) != crc {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Topic {
        let mut topic = Topic::new(&name.to_owned().into(), 3, TopicConfig::default()).unwrap();
        topic
            .configs
            .insert("segment.bytes".to_owned(), "1048576".to_owned());
        topic.config.segment_bytes = 1 << 20;
        topic
    }

    fn open(path: &Path) -> io::Result<CatalogLog> {
        CatalogLog::open(path, TopicConfig::default())
    }

    #[test]
    fn topics_and_producer_ids_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.log");
        let (kept, gone) = (topic("kept"), topic("gone"));
        {
            let mut log = open(&path).unwrap();
            log.change_topics(&[kept.clone(), gone.clone()], &[])
                .unwrap();
            log.change_topics(&[], &[gone.id]).unwrap();
            assert_eq!(log.take_producer_ids(1000).unwrap(), 0..1000);
        }
        let mut log = open(&path).unwrap();
        assert_eq!(**log.catalog().by_name("kept").unwrap(), kept);
        assert!(log.catalog().by_name("gone").is_none() && log.catalog().by_id(&gone.id).is_none());
        assert_eq!(log.take_producer_ids(10).unwrap(), 1000..1010);
    }

    #[test]
    fn topics_that_set_nothing_follow_the_brokers_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.log");
        open(&path)
            .unwrap()
            .change_topics(&[topic("a")], &[])
            .unwrap();
        let defaults = TopicConfig {
            max_message_bytes: 5,
            segment_bytes: 6,
            ..TopicConfig::default()
        };
        let log = CatalogLog::open(&path, defaults).unwrap();
        let config = log.catalog().by_name("a").unwrap().config;
        assert_eq!(
            (config.max_message_bytes, config.segment_bytes),
            (5, 1 << 20)
        );
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
    fn a_torn_last_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.log");
        open(&path)
            .unwrap()
            .change_topics(&[topic("a"), topic("b")], &[])
            .unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let mut log = open(&path).unwrap();
        assert!(log.catalog().by_name("a").is_some() && log.catalog().by_name("b").is_none());
        log.change_topics(&[topic("c")], &[]).unwrap();
        let log = open(&path).unwrap();
        assert!(log.catalog().by_name("a").is_some() && log.catalog().by_name("c").is_some());
    }

    #[test]
    fn damage_in_the_middle_is_said_and_not_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.log");
        open(&path)
            .unwrap()
            .change_topics(&[topic("a"), topic("b"), topic("c")], &[])
            .unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(open(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn neighbouring_partitions_lie_on_different_shards() {
        let id = Uuid::random().unwrap();
        let owner = |index| Topic::owner(PartitionId { topic: id, index }, 4);
        let owners: std::collections::BTreeSet<_> = (0..4).map(owner).collect();
        assert_eq!(owners.len(), 4);
    }
}
