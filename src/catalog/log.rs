//! The catalog as it is stored: a text file with one change a line, each line `<CRC-32C, 8 hex digits>
//! <JSON>`, replayed at start. On the local disk a torn last line was never acknowledged and is cut off;
//! in SeaweedFS lines come whole or not at all.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::topic_config::TopicConfig;
use super::{Catalog, Topic, Values};
use crate::store::local::file;
use crate::store::seaweedmq::adopted::Adopted;
use crate::store::seaweedmq::catalog::{CatalogFile, NewPartitions};
use crate::store::seaweedmq::layout::Part;
use crate::wire::Uuid;

/// A line of the catalog's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    TopicCreated(SavedTopic),
    TopicDeleted {
        id: String,
    },
    /// Others have deleted a topic that they had made.
    TopicForgotten {
        id: String,
    },
    /// All configs that a topic sets from now on.
    TopicConfigs {
        id: String,
        configs: Values,
    },
    /// How many partitions a topic has from now on.
    Partitions {
        id: String,
        count: i32,
        /// What those that were added are made of in SeaweedMQ.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parts: Vec<Part>,
    },
    /// All configs that are set for a broker from now on, or for all brokers together.
    BrokerConfigs {
        broker: Option<i32>,
        configs: Values,
    },
    /// All configs that a group sets from now on.
    GroupConfigs {
        group: String,
        configs: Values,
    },
    /// Producer ids below this may have been given away.
    ProducerIds {
        below: i64,
    },
}

impl Entry {
    pub(super) fn created(topic: &Topic) -> Self {
        Entry::TopicCreated(SavedTopic {
            name: topic.name.to_string(),
            id: topic.id.to_string(),
            partitions: topic.partitions,
            configs: topic.configs.clone(),
            parts: Vec::new(),
            adopted: None,
        })
    }

    /// A topic that others made, in a folder of this name.
    fn adopted(folder: &str, adopted: Adopted) -> io::Result<Self> {
        let id = Uuid::random().map_err(io::Error::other)?;
        let partitions = adopted.partitions.len() as i32;
        Ok(Entry::TopicCreated(SavedTopic {
            name: folder.to_owned(),
            id: id.to_string(),
            partitions,
            configs: Values::new(),
            parts: vec![Part {
                folder: folder.to_owned(),
                first: 0,
                count: partitions,
                generation_ns: adopted.generation_ns,
            }],
            adopted: Some(adopted),
        }))
    }

    pub(super) fn grown(id: &Uuid, count: i32) -> Self {
        Entry::Partitions {
            id: id.to_string(),
            count,
            parts: Vec::new(),
        }
    }

    /// The topic that it gives partitions to.
    fn places(&self) -> Option<Uuid> {
        match self {
            Entry::TopicCreated(topic) => Some(id(&topic.id)),
            Entry::Partitions { id: grown, .. } => Some(id(grown)),
            _ => None,
        }
    }

    pub(super) fn deleted(id: &Uuid) -> Self {
        Entry::TopicDeleted { id: id.to_string() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedTopic {
    name: String,
    id: String,
    partitions: i32,
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    configs: Values,
    /// What it is made of in SeaweedMQ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
    /// Where its partitions are, if others made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adopted: Option<Adopted>,
}

impl SavedTopic {
    pub(super) fn into_topic(self, defaults: TopicConfig) -> Topic {
        Topic {
            config: TopicConfig::of(&self.name, &self.configs, defaults),
            name: self.name.into(),
            id: id(&self.id),
            partitions: self.partitions,
            configs: self.configs,
            adopted: self.adopted.is_some(),
        }
    }
}

/// A topic id as the log writes it.
pub(super) fn id(text: &str) -> Uuid {
    text.parse().unwrap_or(Uuid::ZERO)
}

/// The catalog's writer.
pub struct CatalogLog {
    home: Home,
    catalog: Arc<Catalog>,
    producer_ids_below: i64,
    places: Places,
}

/// Where the lines are.
enum Home {
    Disk(LogFile),
    SeaweedMq(Box<CatalogFile>),
}

/// Says which of these topics brokers are to write, if it was not said before.
fn leave_to_brokers<'a>(
    file: &CatalogFile,
    topics: impl Iterator<Item = &'a Arc<Topic>>,
    are_new: bool,
) {
    for topic in topics.filter(|topic| topic.config.is_brokers()) {
        file.shared().leave_to_brokers(topic.id, are_new);
    }
}

/// Of which topics of SeaweedMQ topics are made.
#[derive(Debug, Default)]
struct Places {
    of: HashMap<Uuid, Vec<Part>>,
    /// Of topics that were deleted.
    removed: Vec<(Uuid, Vec<Part>)>,
    /// All names that were ever used.
    used: HashSet<String>,
    /// Where the partitions are of topics that others made.
    adopted: HashMap<Uuid, Adopted>,
    /// Folders, with their generations, of topics that were deleted here: they may not be removed yet.
    gone: HashSet<(String, i64)>,
    /// Of topics that others made, those that were not there at the last look.
    missing: HashSet<Uuid>,
}

impl Places {
    fn note(&mut self, entry: &Entry) {
        let (topic, parts) = match entry {
            Entry::TopicCreated(topic) => {
                if let Some(adopted) = &topic.adopted {
                    self.adopted.insert(id(&topic.id), adopted.clone());
                }
                (&topic.id, &topic.parts)
            }
            Entry::Partitions { id, parts, .. } => (id, parts),
            Entry::TopicDeleted { id: gone } => {
                let gone = id(gone);
                if let Some((topic, parts)) = self.of.remove_entry(&gone) {
                    let gone = parts.iter().map(|p| (p.folder.clone(), p.generation_ns));
                    self.gone.extend(gone);
                    self.removed.push((topic, parts));
                }
                self.adopted.remove(&gone);
                return;
            }
            Entry::TopicForgotten { id: gone } => {
                let gone = id(gone);
                self.of.remove(&gone);
                self.adopted.remove(&gone);
                return;
            }
            _ => return,
        };
        self.used
            .extend(parts.iter().map(|part| part.folder.clone()));
        if !parts.is_empty() {
            let all = self.of.entry(id(topic)).or_default();
            all.extend_from_slice(parts);
        }
    }
}

/// What the lines come to.
struct Replayed {
    catalog: Catalog,
    producer_ids_below: i64,
    places: Places,
    /// Bytes of good lines.
    len: usize,
}

impl Replayed {
    /// `catalog` is that of a broker on which nothing was done yet.
    fn of(lines: &[u8], catalog: Catalog) -> Self {
        let mut replayed = Replayed {
            catalog,
            producer_ids_below: 0,
            places: Places::default(),
            len: 0,
        };
        for line in lines.split_inclusive(|b| *b == b'\n') {
            let Some(entry) = decode(line) else { break };
            replayed.places.note(&entry);
            match entry {
                Entry::ProducerIds { below } => replayed.producer_ids_below = below,
                entry => replayed.catalog.apply(entry),
            }
            replayed.len += line.len();
        }
        replayed
    }

    fn log(self, home: Home) -> CatalogLog {
        CatalogLog {
            home,
            catalog: Arc::new(self.catalog.next()),
            producer_ids_below: self.producer_ids_below,
            places: self.places,
        }
    }
}

impl CatalogLog {
    /// Opens the log on the disk or makes an empty one, and replays it. `catalog` is that
    /// of a broker on which nothing was done yet. Blocking.
    pub fn open(path: &Path, catalog: Catalog) -> io::Result<Self> {
        let bytes = match file::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e),
        };
        let replayed = Replayed::of(&bytes, catalog);
        let file = LogFile::open(path, &bytes, replayed.len)?;
        Ok(replayed.log(Home::Disk(file)))
    }

    /// The log in SeaweedFS, which has these lines.
    pub fn in_seaweedmq(file: CatalogFile, lines: &[u8], catalog: Catalog) -> io::Result<Self> {
        let replayed = Replayed::of(lines, catalog);
        if replayed.len < lines.len() {
            let text = format!("the catalog is damaged at byte {}", replayed.len);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        for (topic, parts) in &replayed.places.of {
            file.shared().place(*topic, parts.clone());
        }
        for (topic, adopted) in &replayed.places.adopted {
            file.shared().adopt(*topic, adopted.clone());
        }
        leave_to_brokers(&file, replayed.catalog.topics(), false);
        Ok(replayed.log(Home::SeaweedMq(Box::new(file))))
    }

    /// Of which topics of SeaweedMQ those topics were made that are deleted.
    pub fn take_removed(&mut self) -> Vec<(Uuid, Vec<Part>)> {
        std::mem::take(&mut self.places.removed)
    }

    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Makes changes in one durable step; gives the new snapshot. Blocking.
    pub(super) fn commit(&mut self, mut changes: Vec<Entry>) -> io::Result<Arc<Catalog>> {
        if let Home::SeaweedMq(file) = &self.home {
            make_parts(file, &self.catalog, &self.places, &mut changes)?;
        }
        self.append(&changes)?;
        changes.iter().for_each(|change| self.places.note(change));
        if let Home::SeaweedMq(file) = &self.home {
            for change in &changes {
                match change {
                    Entry::TopicCreated(SavedTopic {
                        id: topic,
                        adopted: Some(adopted),
                        ..
                    }) => file.shared().adopt(id(topic), adopted.clone()),
                    Entry::TopicForgotten { id: gone } => file.shared().forget(id(gone)),
                    _ => {}
                }
            }
            // The parts of what was deleted are needed until they are removed.
            self.places.removed.clear();
            for id in changes.iter().filter_map(Entry::places) {
                let parts = self.places.of.get(&id).cloned().unwrap_or_default();
                file.shared().place(id, parts);
            }
        }
        let mut catalog = self.catalog.next();
        changes.into_iter().for_each(|change| catalog.apply(change));
        if let Home::SeaweedMq(file) = &self.home {
            leave_to_brokers(file, catalog.new_topics(), true);
        }
        self.catalog = Arc::new(catalog);
        Ok(self.catalog.clone())
    }

    /// Takes over what others have made in SeaweedMQ since the last time, and lets go of what they have
    /// deleted. Gives the new snapshot, if there is one. There are no more partitions than `max_partitions`.
    /// Blocking.
    pub(crate) fn adopt_others(
        &mut self,
        max_partitions: usize,
    ) -> io::Result<Option<Arc<Catalog>>> {
        let Home::SeaweedMq(file) = &self.home else {
            return Ok(None);
        };
        let places = &mut self.places;
        let parts = places.of.iter();
        let own = parts.filter(|(topic, _)| !places.adopted.contains_key(topic));
        let own: HashSet<_> = own
            .flat_map(|(_, parts)| parts)
            .map(|p| &*p.folder)
            .collect();
        let mut found: HashMap<_, _> = file
            .find_others(|folder| own.contains(folder))?
            .into_iter()
            .collect();
        let mut changes = Vec::new();
        let mut count = self.catalog.partition_count();
        for (topic, known) in &places.adopted {
            let Some(has) = self.catalog.by_id(topic) else {
                continue;
            };
            let is_gone = match found.get(&*has.name) {
                Some(now) if now.generation_ns == known.generation_ns => {
                    found.remove(&*has.name);
                    places.missing.remove(topic);
                    continue;
                }
                Some(_) => true,
                // Seen to be so twice: a filer may be behind others.
                None => !places.missing.insert(*topic),
            };
            if is_gone {
                tracing::info!(topic = %has.name, "others have deleted a topic of SeaweedMQ, or given it another number of partitions");
                count -= has.partitions as usize;
                changes.push(Entry::TopicForgotten {
                    id: topic.to_string(),
                });
            }
        }
        places
            .missing
            .retain(|topic| places.adopted.contains_key(topic));
        found.retain(|folder, adopted| {
            let key = (folder.clone(), adopted.generation_ns);
            !places.gone.contains(&key)
        });
        for (folder, adopted) in found {
            let partitions = adopted.partitions.len();
            let other = self.catalog.by_name(&folder);
            if other.is_some_and(|other| !other.adopted) {
                shards::log_limited!(
                    warn,
                    topic = folder,
                    "a topic that others made in SeaweedMQ is not shown: Tidegate has one of that name"
                );
                continue;
            }
            if count + partitions > max_partitions {
                shards::log_limited!(
                    warn,
                    topic = folder,
                    partitions,
                    "a topic that others made in SeaweedMQ is not shown: there may be no more partitions (max_partitions)"
                );
                continue;
            }
            count += partitions;
            tracing::info!(
                topic = folder,
                partitions,
                "a topic that others made in SeaweedMQ is shown; SeaweedMQ's brokers keep its log"
            );
            changes.push(Entry::adopted(&folder, adopted)?);
        }
        match changes.is_empty() {
            true => Ok(None),
            false => self.commit(changes).map(Some),
        }
    }

    /// Takes `count` producer ids that were never given away before and never will be again. Blocking.
    pub fn take_producer_ids(&mut self, count: i64) -> io::Result<std::ops::Range<i64>> {
        let first = self.producer_ids_below;
        let below = first
            .checked_add(count)
            .ok_or_else(|| io::Error::other("producer ids are exhausted"))?;
        self.append(&[Entry::ProducerIds { below }])?;
        self.producer_ids_below = below;
        Ok(first..below)
    }

    fn append(&mut self, changes: &[Entry]) -> io::Result<()> {
        let mut lines = Vec::new();
        for change in changes {
            let json = serde_json::to_vec(change)?;
            write!(lines, "{:08x} ", crc32c::crc32c(&json))?;
            lines.extend_from_slice(&json);
            lines.push(b'\n');
        }
        match &mut self.home {
            Home::Disk(file) => file.append(&lines),
            Home::SeaweedMq(file) => file.append(lines),
        }
    }
}

/// Has SeaweedMQ make the partitions that the changes add.
fn make_parts(
    file: &CatalogFile,
    catalog: &Catalog,
    places: &Places,
    changes: &mut [Entry],
) -> io::Result<()> {
    let wanted = changes.iter().filter_map(|change| match change {
        Entry::TopicCreated(topic) if topic.adopted.is_none() => Some(NewPartitions {
            topic: topic.name.clone(),
            id: id(&topic.id),
            first: 0,
            count: topic.partitions,
        }),
        Entry::Partitions {
            id: grown, count, ..
        } => {
            let topic = catalog.by_id(&id(grown))?;
            Some(NewPartitions {
                topic: topic.name.to_string(),
                id: topic.id,
                first: topic.partitions,
                count: count - topic.partitions,
            })
        }
        _ => None,
    });
    let wanted: Vec<_> = wanted.collect();
    let mut made = file
        .make_parts(wanted, |folder| places.used.contains(folder))?
        .into_iter();
    for change in changes {
        if let Entry::TopicCreated(SavedTopic {
            parts,
            adopted: None,
            ..
        })
        | Entry::Partitions { parts, .. } = change
        {
            *parts = made.next().unwrap_or_default();
        }
    }
    Ok(())
}

/// The file on the local disk.
struct LogFile {
    file: File,
    /// Length of what is good.
    len: u64,
    /// A failed append may have left bytes behind it, which go before the next.
    torn: bool,
}

impl LogFile {
    /// `good` bytes of those that it has are lines.
    fn open(path: &Path, bytes: &[u8], good: usize) -> io::Result<Self> {
        let file = file::open_or_make(path)?;
        let (len, torn) = (good as u64, &bytes[good..]);
        if !torn.is_empty() {
            if torn.iter().filter(|b| **b == b'\n').count() > 1 {
                let text = format!(
                    "{} is damaged at byte {len}, in the middle of good lines",
                    path.display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            tracing::warn!(path = %path.display(), bytes = torn.len(), "cut off a torn line at the catalog's end");
        }
        file::set_len(&file, len)?;
        file::sync(&file)?;
        if let Some(dir) = path.parent() {
            file::sync_dir(dir)?;
        }
        Ok(LogFile {
            file,
            len,
            torn: false,
        })
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.cut_if_torn()?;
        self.torn = true;
        let written =
            file::write_all_at(&self.file, lines, self.len).and_then(|()| file::sync(&self.file));
        match written {
            Ok(()) => {
                self.torn = false;
                self.len += lines.len() as u64;
                Ok(())
            }
            Err(e) => {
                // Whole lines left behind would be replayed though they were refused.
                if let Err(error) = self.cut_if_torn() {
                    tracing::error!(%error, "cannot take a refused change back out of the catalog; the next change will try again");
                }
                Err(e)
            }
        }
    }

    fn cut_if_torn(&mut self) -> io::Result<()> {
        if self.torn {
            file::set_len(&self.file, self.len)?;
            self.torn = false;
        }
        Ok(())
    }
}

fn decode(line: &[u8]) -> Option<Entry> {
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
    use crate::catalog::broker_config::BrokerConfigs;
    use crate::store::local::fault::{self, Op};

    fn topic(name: &str) -> Topic {
        let mut topic = Topic::new(&name.to_owned().into(), 3, TopicConfig::default()).unwrap();
        topic
            .configs
            .insert("segment.bytes".to_owned(), "1048576".to_owned());
        topic.config.segment_bytes = 1 << 20;
        topic
    }

    fn open(path: &Path) -> io::Result<CatalogLog> {
        CatalogLog::open(path, Catalog::default())
    }

    fn created(topics: &[Topic]) -> Vec<Entry> {
        topics.iter().map(Entry::created).collect()
    }

    fn values(pairs: &[(&str, &str)]) -> Values {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn topics_and_producer_ids_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.log");
        let (kept, gone) = (topic("kept"), topic("gone"));
        {
            let mut log = open(&path).unwrap();
            log.commit(created(&[kept.clone(), gone.clone()])).unwrap();
            log.commit(vec![Entry::deleted(&gone.id)]).unwrap();
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
        open(&path).unwrap().commit(created(&[topic("a")])).unwrap();
        let defaults = TopicConfig {
            max_message_bytes: 5,
            segment_bytes: 6,
            ..TopicConfig::default()
        };
        let log =
            CatalogLog::open(&path, Catalog::new(BrokerConfigs::new(1, defaults), [])).unwrap();
        let config = log.catalog().by_name("a").unwrap().config;
        assert_eq!(
            (config.max_message_bytes, config.segment_bytes),
            (5, 1 << 20)
        );
    }

    #[test]
    fn changed_topics_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.log");
        let topic = topic("a");
        let configs = values(&[("max.message.bytes", "7")]);
        {
            let mut log = open(&path).unwrap();
            log.commit(created(std::slice::from_ref(&topic))).unwrap();
            let id = topic.id.to_string();
            let grown = Entry::grown(&topic.id, 5);
            let configs = configs.clone();
            let altered = Entry::TopicConfigs { id, configs };
            let catalog = log.commit(vec![grown, altered]).unwrap();
            assert_eq!(catalog.changes(), 3);
        }
        let log = open(&path).unwrap();
        let found = log.catalog().by_name("a").unwrap();
        assert_eq!(log.catalog().by_id(&topic.id), Some(found));
        assert_eq!((found.partitions, &found.configs), (5, &configs));
        let config = TopicConfig {
            max_message_bytes: 7,
            ..TopicConfig::default()
        };
        assert_eq!(found.config, config, "segment.bytes is not set any more");
        assert_eq!(log.catalog().changes(), 3);
    }

    #[test]
    fn broker_configs_survive_a_restart_and_reach_topics_that_set_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.log");
        let set = |broker, name, value| Entry::BrokerConfigs {
            broker,
            configs: values(&[(name, value)]),
        };
        let broker = || Catalog::new(BrokerConfigs::new(1, TopicConfig::default()), []);
        {
            let mut log = CatalogLog::open(&path, broker()).unwrap();
            log.commit(created(&[topic("a")])).unwrap();
            log.commit(vec![
                set(None, "message.max.bytes", "5"),
                set(Some(2), "message.max.bytes", "6"),
                set(Some(1), "log.segment.bytes", "2097152"),
            ])
            .unwrap();
            log.commit(created(&[topic("b")])).unwrap();
        }
        let log = CatalogLog::open(&path, broker()).unwrap();
        for name in ["a", "b"] {
            let config = log.catalog().by_name(name).unwrap().config;
            assert_eq!(config.max_message_bytes, 5, "that of broker 2 is not ours");
            assert_eq!(config.segment_bytes, 1 << 20, "the topic's own counts");
        }
        let defaults = log.catalog().broker().defaults();
        assert_eq!(defaults.segment_bytes, 2 << 20);
    }

    #[test]
    fn configs_of_groups_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.log");
        let set = |group: &str, pairs: &[(&str, &str)]| Entry::GroupConfigs {
            group: group.to_owned(),
            configs: values(pairs),
        };
        let session = [("consumer.session.timeout.ms", "50000")];
        {
            let mut log = open(&path).unwrap();
            log.commit(vec![set("g", &session), set("h", &session)])
                .unwrap();
            log.commit(vec![set("h", &[])]).unwrap();
        }
        let log = open(&path).unwrap();
        let groups = log.catalog().groups();
        assert_eq!(groups.names().collect::<Vec<_>>(), ["g"]);
        assert_eq!(groups.of("g").session_timeout_ms, 50_000);
    }

    #[test]
    fn logs_of_the_first_version_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.log");
        let id = "AAECAwQFBgcICQoLDA0ODw";
        let lines = [
            format!(r#"{{"topic_created":{{"name":"a","id":"{id}","partitions":2}}}}"#),
            r#"{"producer_ids":{"below":1000}}"#.to_owned(),
        ];
        let line = |json: &String| format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes()));
        std::fs::write(&path, lines.iter().map(line).collect::<String>()).unwrap();
        let mut log = open(&path).unwrap();
        assert_eq!(log.catalog().by_name("a").unwrap().partitions, 2);
        assert_eq!(log.catalog().by_name("a").unwrap().id.to_string(), id);
        assert_eq!(log.take_producer_ids(1).unwrap(), 1000..1001);
    }

    #[test]
    fn what_failed_is_not_there_and_does_not_spoil_what_comes_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.log");
        for op in [Op::Write, Op::Sync] {
            let mut log = open(&path).unwrap();
            let before = log.catalog().topics().count();
            fault::fail_all(op);
            let many: Vec<_> = (0..9).map(|n| topic(&format!("{op:?}{n}"))).collect();
            assert!(log.commit(created(&many)).is_err());
            fault::fail_all(Op::SetLen);
            assert!(
                log.commit(created(&many)).is_ok(),
                "the file was cut already"
            );
            fault::end();
            log.commit(created(&[topic(&format!("after{op:?}"))]))
                .unwrap();
            let log = open(&path).unwrap();
            assert_eq!(log.catalog().topics().count(), before + 10);
        }
    }

    #[test]
    fn a_torn_last_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.log");
        open(&path)
            .unwrap()
            .commit(created(&[topic("a"), topic("b")]))
            .unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let mut log = open(&path).unwrap();
        assert!(log.catalog().by_name("a").is_some() && log.catalog().by_name("b").is_none());
        log.commit(created(&[topic("c")])).unwrap();
        let log = open(&path).unwrap();
        assert!(log.catalog().by_name("a").is_some() && log.catalog().by_name("c").is_some());
    }

    #[test]
    fn damage_in_the_middle_is_said_and_not_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.log");
        open(&path)
            .unwrap()
            .commit(created(&[topic("a"), topic("b"), topic("c")]))
            .unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(open(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}
