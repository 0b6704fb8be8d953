//! Partitions whose log SeaweedMQ's brokers write: of topics that others made, and of those with
//! `seaweedmq.path=broker`. Records go to the broker that leads the partition ([`Outlet`]), which gives
//! them their offsets, has them in memory when it acknowledges them, and writes them to the partition's
//! files some seconds later. From these they are read ([`super::adopted`]).

use std::sync::Arc;

use bytes::Buf;

use super::layout::{NAMESPACE, TOPICS, time_name};
use super::{ShardStore, Shared, inline_file};
use crate::bridge::{Bridge, BridgeError, MessagePlace, Publisher};
use crate::store::PartitionId;
use crate::wire::Uuid;

pub mod envelope;

/// Where a broker notes the last offset that it gave (`weed/mq/offset/filer_storage.go`): 8 bytes. It is
/// read when a broker first has the partition, and written every 2 s, whatever the files say.
const CHECKPOINT: &str = "checkpoint.offset";

/// The way of records into a partition.
#[derive(Clone)]
pub struct Outlet {
    bridge: Bridge,
    /// The topic's name to SeaweedMQ.
    folder: String,
    /// The partition's place in the ring.
    index: usize,
    dir: Arc<str>,
}

impl ShardStore {
    /// Whether brokers write the logs of a topic.
    pub fn is_brokers(&self, topic: Uuid) -> bool {
        let shared = &self.shared;
        shared.brokers().contains_key(&topic) || shared.adopted().contains_key(&topic)
    }

    /// Where records of a partition are to be published. `None` if no broker takes any.
    pub fn outlet(&self, id: PartitionId) -> Option<Outlet> {
        self.shared.outlet(id)
    }
}

impl Shared {
    fn outlet(&self, id: PartitionId) -> Option<Outlet> {
        let dir = self.log_dirs(id)?.pop()?;
        let topics = self.topics();
        let mut parts = topics.get(&id.topic)?.iter();
        let part = parts.find(|p| (p.first..p.first + p.count).contains(&id.index))?;
        // Brokers know the newest generation only.
        let generation = time_name(part.generation_ns.div_euclid(1_000_000_000));
        let is_newest = dir.starts_with(&format!("{TOPICS}/{}/v{generation}/", part.folder));
        is_newest.then(|| Outlet {
            bridge: self.bridge.clone(),
            folder: part.folder.clone(),
            index: (id.index - part.first) as usize,
            dir,
        })
    }

    /// The folders, by time, of a partition that brokers write.
    pub(super) fn log_dirs(&self, id: PartitionId) -> Option<Vec<Arc<str>>> {
        if self.brokers().contains_key(&id.topic) {
            return Some(vec![self.dir(id)?]);
        }
        let adopted = self.adopted().get(&id.topic).cloned()?;
        let parts = self.topics().get(&id.topic).cloned()?;
        let folder = &parts.first()?.folder;
        let dirs = adopted.partitions.get(usize::try_from(id.index).ok()?)?;
        let dir = |dir: &String| Arc::from(format!("{TOPICS}/{folder}/{dir}"));
        Some(dirs.iter().map(dir).collect())
    }
}

impl Outlet {
    /// Opens a stream to the broker that leads the partition now. Offsets below `floor` were given: a broker
    /// that has lost its memory is told so, as it would give them anew.
    ///
    /// # Errors
    /// [`BridgeError::NotFound`] if there is no such topic any more; others that pass.
    pub async fn open(&self, floor: i64) -> Result<(Publisher, MessagePlace), BridgeError> {
        self.raise_checkpoint(floor).await?;
        let place = self.place().await?;
        let publisher = self.bridge.publish(&place, "tidegate").await?;
        Ok((publisher, place))
    }

    /// Whether the broker answers to which a stream was opened, and still leads the partition.
    pub async fn is_at(&self, place: &MessagePlace) -> bool {
        self.place().await.as_ref() == Ok(place)
    }

    async fn place(&self) -> Result<MessagePlace, BridgeError> {
        self.bridge
            .message_place(NAMESPACE, &self.folder, self.index)
            .await
    }

    async fn raise_checkpoint(&self, floor: i64) -> Result<(), BridgeError> {
        if floor == 0 {
            return Ok(());
        }
        let entry = self.bridge.lookup(&self.dir, CHECKPOINT).await?;
        let given = entry.and_then(|entry| entry.content.clone().try_get_i64().ok());
        if given.is_some_and(|last| last >= floor - 1) {
            return Ok(());
        }
        let last = (floor - 1).to_be_bytes().to_vec();
        self.bridge
            .create(&self.dir, inline_file(CHECKPOINT, last), false)
            .await
    }
}
