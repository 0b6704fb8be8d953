//! Keys and values of the records in `__consumer_offsets`, as Kafka writes them.
//!
//! Each starts with its own version, and that of the key says what the record is: 0 and 1 are an
//! [`OffsetCommitKey`], 2 is a [`GroupMetadataKey`], 3 to 8 and 16 are of groups of the consumer protocol
//! (KIP-848), whose values are [`consumer_group_records`](super::consumer_group_records). Others belong to protocols that are not served here. A newer value is read as the newest one known here: from
//! version 4 on only tagged fields are added (KIP-915).

use bytes::Bytes;

use super::codec::{DecodeError, Message, Reader, Writer};
use super::message::message;
use super::{StrBytes, Uuid};

/// The version of keys of committed offsets; version 0 is the same.
pub const OFFSET_COMMIT_KEY: i16 = 1;
/// The version of keys of groups.
pub const GROUP_METADATA_KEY: i16 = 2;

/// What a record of a group of the consumer protocol is of: the version of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum ConsumerRecord {
    /// Of the classic group that it was before.
    ClassicGroup = 2,
    Group = 3,
    /// As before KIP-1101: the topics that the group subscribes to. It is not written any more.
    PartitionMetadata = 4,
    /// Of a member, as the two next ones.
    Member = 5,
    Target = 6,
    MemberTarget = 7,
    MemberCurrent = 8,
    RegularExpression = 16,
}

impl ConsumerRecord {
    const ALL: [Self; 7] = [
        Self::Group,
        Self::PartitionMetadata,
        Self::Member,
        Self::Target,
        Self::MemberTarget,
        Self::MemberCurrent,
        Self::RegularExpression,
    ];

    fn of(version: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|of| *of as i16 == version)
    }

    /// Its key names a member or a regular expression beside the group.
    pub fn is_part(self) -> bool {
        use ConsumerRecord::{Member, MemberCurrent, MemberTarget, RegularExpression};
        matches!(
            self,
            Member | MemberTarget | MemberCurrent | RegularExpression
        )
    }
}

message! {
    versions 0..=4, flexible 4..;

    /// Which offset a record commits.
    message OffsetCommitKey {
        group: StrBytes,
        topic: StrBytes,
        partition: i32,
    }

    /// A committed offset. v1: when it expires. v2: no more of that. v3: leader epoch (KIP-320). v4: topic id.
    message OffsetCommitValue {
        offset: i64,
        leader_epoch: i32 [3..] = -1,
        metadata: StrBytes,
        commit_timestamp: i64,
        /// -1: by the broker's retention (KIP-211).
        expire_timestamp: i64 [1..=1] = -1,
        topic_id: Uuid [4.., tag 0],
    }

    /// Which group a record is of.
    message GroupMetadataKey {
        group: StrBytes,
    }

    /// Which member of a group, or which of its regular expressions, a record is of.
    message ConsumerPartKey {
        group: StrBytes,
        part: StrBytes,
    }

    /// A generation of a group. v1: rebalance timeout. v2: since when it is in its state (KIP-211).
    /// v3: static members (KIP-345).
    message GroupMetadataValue {
        protocol_type: StrBytes,
        generation: i32,
        protocol: Option<StrBytes>,
        leader: Option<StrBytes>,
        current_state_timestamp: i64 [2..] = -1,
        members: Vec<MemberMetadata>,
    }

    struct MemberMetadata {
        member_id: StrBytes,
        group_instance_id: Option<StrBytes> [3..],
        client_id: StrBytes,
        client_host: StrBytes,
        rebalance_timeout: i32 [1..] = -1,
        session_timeout: i32,
        subscription: Bytes,
        assignment: Bytes,
    }
}

/// What a record is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Key {
    Offset(OffsetCommitKey),
    Group(GroupMetadataKey),
    /// Of a group of the consumer protocol. The part is the member or the regular expression, if it is of one.
    Consumer(ConsumerRecord, ConsumerPartKey),
    /// Of a version that is not known here.
    Other(i16),
}

impl Key {
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        match version(&mut r)? {
            v @ ..=OFFSET_COMMIT_KEY => OffsetCommitKey::decode(&mut r, v).map(Key::Offset),
            v @ GROUP_METADATA_KEY => GroupMetadataKey::decode(&mut r, v).map(Key::Group),
            v => match ConsumerRecord::of(v) {
                Some(of) => consumer_key(&mut r, of).map(|key| Key::Consumer(of, key)),
                None => Ok(Key::Other(v)),
            },
        }
    }
}

fn consumer_key(r: &mut Reader, of: ConsumerRecord) -> Result<ConsumerPartKey, DecodeError> {
    if of.is_part() {
        return ConsumerPartKey::decode(r, 0);
    }
    let GroupMetadataKey { group } = GroupMetadataKey::decode(r, 0)?;
    let part = StrBytes::default();
    Ok(ConsumerPartKey { group, part })
}

/// The key of a record of a group of the consumer protocol.
pub fn encode_consumer_key(of: ConsumerRecord, key: &ConsumerPartKey) -> Bytes {
    if of.is_part() {
        return encode_as(of as i16, key, 0);
    }
    let key = GroupMetadataKey {
        group: key.group.clone(),
    };
    encode_as(of as i16, &key, 0)
}

/// Reads an [`OffsetCommitValue`] or a [`GroupMetadataValue`] behind its version.
pub fn decode_value<M: Message>(bytes: Bytes) -> Result<M, DecodeError> {
    let mut r = Reader::new(bytes);
    let version = version(&mut r)?;
    M::decode(&mut r, version.min(*VERSIONS.end()))
}

/// Writes a key or a value behind its version.
pub fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    encode_as(version, message, version)
}

/// As [`encode`], where the version in front says more than that of the message.
fn encode_as<M: Message>(prefix: i16, message: &M, version: i16) -> Bytes {
    let mut w = Writer::new();
    w.i16(prefix);
    message.encode(&mut w, version);
    w.into_payload()
}

fn version(r: &mut Reader) -> Result<i16, DecodeError> {
    r.i16().map_err(|e| e.within("group_records.version"))
}
