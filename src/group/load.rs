//! Groups out of the records of a partition of `__consumer_offsets`, after a start.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::consumer::stored::Parts;
use super::offsets::{Committed, TopicPartition};
use super::{Group, Step, classic, consumer};
use crate::record::{Batch, RecordError, batches, records};
use crate::wire::StrBytes;
use crate::wire::codec::DecodeError;
use crate::wire::group_records::{
    ConsumerRecord, GroupMetadataValue, Key, OffsetCommitKey, OffsetCommitValue, decode_value,
};

/// The coordinator writes its batches uncompressed; this only bounds damage.
const INFLATED_BYTES_MAX: usize = 1 << 30;

/// What records say so far. It is filled off the shard, in the order of the log.
#[derive(Default)]
pub struct Replay {
    groups: HashMap<StrBytes, Stored>,
    /// Each name once, however many offsets have it.
    topics: HashSet<StrBytes>,
    pub records: u64,
}

#[derive(Default)]
struct Stored {
    /// The last value, with memory of its own.
    metadata: Option<Bytes>,
    /// The same, of a group of the consumer protocol.
    parts: Parts,
    offsets: HashMap<TopicPartition, Committed>,
}

impl Replay {
    /// Takes pieces of the log, of whole batches. Gives the offset at which to go on.
    pub fn take(&mut self, pieces: Vec<Bytes>, mut next_offset: i64) -> i64 {
        for piece in pieces {
            for batch in batches(piece) {
                let batch = match batch {
                    Ok(batch) => batch,
                    Err(error) => {
                        tracing::error!(%error, next_offset, "a part of __consumer_offsets cannot be read; groups may be as they were before it");
                        break;
                    }
                };
                if let Err(error) = self.take_batch(&batch) {
                    tracing::error!(%error, offset = batch.header().base_offset(),
                        "a batch of __consumer_offsets cannot be read; groups may be as they were before it");
                }
                next_offset = next_offset.max(batch.header().last_offset() + 1);
            }
        }
        next_offset
    }

    fn take_batch(&mut self, batch: &Batch) -> Result<(), RecordError> {
        if batch.header().attributes().is_control() {
            return Ok(());
        }
        for record in records(batch, INFLATED_BYTES_MAX)? {
            let record = record?;
            let Some(key) = record.key else {
                continue;
            };
            self.records += 1;
            if let Err(error) = self.take_record(key, record.value) {
                tracing::error!(%error, offset = record.offset, "a record of __consumer_offsets cannot be read; what it says is left out");
            }
        }
        Ok(())
    }

    fn take_record(&mut self, key: Bytes, value: Option<Bytes>) -> Result<(), DecodeError> {
        match Key::decode(key)? {
            Key::Offset(key) => {
                let value = value.map(decode_value::<OffsetCommitValue>).transpose()?;
                self.take_offset(key, value);
            }
            Key::Group(key) => {
                let stored = self.group(&key.group);
                stored.metadata = value.map(|value| Bytes::copy_from_slice(&value));
                if stored.metadata.is_some() {
                    // It is a classic group from here on.
                    stored.parts.clear();
                }
            }
            Key::Consumer(of, key) => {
                let parts = &mut self.group(&key.group).parts;
                let part = (of, key.part.detached());
                match value {
                    Some(value) => parts.insert(part, Bytes::copy_from_slice(&value)),
                    None => parts.remove(&part),
                };
            }
            // Of protocols that are not served here.
            Key::Other(_) => {}
        }
        Ok(())
    }

    fn take_offset(&mut self, key: OffsetCommitKey, value: Option<OffsetCommitValue>) {
        let of = TopicPartition {
            topic: self.topic(key.topic),
            partition: key.partition,
        };
        let offsets = &mut self.group(&key.group).offsets;
        match value {
            Some(value) => offsets.insert(of, value.into()),
            None => offsets.remove(&of),
        };
    }

    fn topic(&mut self, name: StrBytes) -> StrBytes {
        if let Some(known) = self.topics.get(&name) {
            return known.clone();
        }
        let name = name.detached();
        self.topics.insert(name.clone());
        name
    }

    fn group(&mut self, id: &StrBytes) -> &mut Stored {
        if !self.groups.contains_key(id) {
            self.groups.insert(id.detached(), Stored::default());
        }
        self.groups.entry(id.clone()).or_default()
    }

    /// The groups that there are in the end. Members' sessions begin now.
    pub fn into_groups(self, step: &Step<'_>) -> Vec<Group> {
        let mut groups = Vec::with_capacity(self.groups.len());
        let mut all: Vec<_> = self.groups.into_iter().collect();
        // The same log gives the same run.
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (id, mut stored) in all {
            let Some(mut group) = stored.group(id, step) else {
                continue;
            };
            for (of, committed) in stored.offsets {
                group.offsets_mut().put(of, committed);
            }
            groups.push(group);
        }
        groups
    }
}

impl Stored {
    /// `None` if there is none.
    fn group(&mut self, id: StrBytes, step: &Step<'_>) -> Option<Group> {
        let parts = std::mem::take(&mut self.parts);
        let is_consumer = parts.keys().any(|(of, _)| *of == ConsumerRecord::Group);
        let metadata = self.metadata.take().map(decode_value::<GroupMetadataValue>);
        if is_consumer && metadata.is_none() {
            let group = consumer::Group::stored(id, parts, step);
            return Some(Group::Consumer(Box::new(group)));
        }
        let group = match metadata.transpose() {
            Ok(Some(value)) => classic::Group::stored(id, &value, step),
            Ok(None) if self.offsets.is_empty() => return None,
            Ok(None) => classic::Group::new(id, step.now.wall_ms),
            Err(error) => {
                tracing::error!(group = %id, %error, "a group's record cannot be read; its members have to join anew");
                classic::Group::new(id, step.now.wall_ms)
            }
        };
        Some(Group::Classic(Box::new(group)))
    }
}
