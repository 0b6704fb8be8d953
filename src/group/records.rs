//! What a group writes to `__consumer_offsets`.

use bytes::Bytes;

use super::offsets::{Committed, TopicPartition};
use crate::wire::StrBytes;
use crate::wire::group_records::{
    GROUP_METADATA_KEY, GroupMetadataKey, GroupMetadataValue, OFFSET_COMMIT_KEY, OffsetCommitKey,
    OffsetCommitValue, encode,
};

/// The versions of values that Kafka 4.3 writes.
const OFFSET_COMMIT_VALUE: i16 = 4;
const GROUP_METADATA_VALUE: i16 = 3;
/// The last version that has an expiry of its own (OffsetCommit before v5).
const OFFSET_COMMIT_VALUE_WITH_EXPIRY: i16 = 1;

/// One record to be appended. Without a value it is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl Record {
    pub fn group(id: &StrBytes, value: Option<&GroupMetadataValue>) -> Self {
        let key = GroupMetadataKey { group: id.clone() };
        Record {
            key: encode(&key, GROUP_METADATA_KEY),
            value: value.map(|value| encode(value, GROUP_METADATA_VALUE)),
        }
    }

    pub fn offset(group: &StrBytes, of: &TopicPartition, value: Option<&Committed>) -> Self {
        let key = OffsetCommitKey {
            group: group.clone(),
            topic: of.topic.clone(),
            partition: of.partition,
        };
        Record {
            key: encode(&key, OFFSET_COMMIT_KEY),
            value: value.map(|value| {
                let version = match value.expires_ms {
                    Some(_) => OFFSET_COMMIT_VALUE_WITH_EXPIRY,
                    None => OFFSET_COMMIT_VALUE,
                };
                encode(&OffsetCommitValue::from(value), version)
            }),
        }
    }

    pub fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

impl From<&Committed> for OffsetCommitValue {
    fn from(committed: &Committed) -> Self {
        OffsetCommitValue {
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: committed.metadata.clone(),
            commit_timestamp: committed.committed_ms,
            expire_timestamp: committed.expires_ms.unwrap_or(-1),
            topic_id: committed.topic_id,
        }
    }
}

impl From<OffsetCommitValue> for Committed {
    fn from(value: OffsetCommitValue) -> Self {
        Committed {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            // The batch it was read from is not kept for it.
            metadata: value.metadata.detached(),
            committed_ms: value.commit_timestamp,
            expires_ms: (value.expire_timestamp >= 0).then_some(value.expire_timestamp),
            topic_id: value.topic_id,
        }
    }
}
