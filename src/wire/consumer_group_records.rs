//! Values of the records of a group of the consumer protocol (KIP-848): the group, its members and their
//! assignments, each in a record of its own. Their keys are among [`group_records`](super::group_records).

use bytes::Bytes;

use super::codec::{DecodeError, Message, Reader, Writer};
use super::message::message;
use super::{StrBytes, Uuid};

message! {
    versions 0..=0, flexible 0..;

    /// The group: its epoch, and a hash over the topics that it subscribes to (KIP-1101).
    message GroupValue {
        epoch: i32,
        metadata_hash: i64 [0.., tag 0],
    }

    /// What a member says of itself.
    message MemberValue {
        instance_id: Option<StrBytes>,
        rack_id: Option<StrBytes>,
        client_id: StrBytes,
        client_host: StrBytes,
        subscribed_topic_names: Vec<StrBytes>,
        subscribed_topic_regex: Option<StrBytes>,
        rebalance_timeout_ms: i32 = -1,
        server_assignor: Option<StrBytes>,
        /// Of a member that uses the classic protocol.
        classic_member_metadata: Option<ClassicMemberMetadata> [0.., tag 0],
    }

    /// The epoch of the target assignment, and when it was made (KIP-1263).
    message TargetValue {
        assignment_epoch: i32,
        assignment_timestamp: i64 [0.., tag 0],
    }

    /// What a member is to have in the end.
    message MemberTargetValue {
        topic_partitions: Vec<TopicPartitions>,
    }

    /// What a member has, and where it stands on the way to its target.
    message MemberCurrentValue {
        member_epoch: i32,
        previous_member_epoch: i32,
        state: i8,
        assigned_partitions: Vec<AssignedPartitions>,
        partitions_pending_revocation: Vec<AssignedPartitions>,
    }

    /// The topics that a regular expression matched, at a version of the metadata and a time.
    message RegularExpressionValue {
        topics: Vec<StrBytes>,
        version: i64,
        timestamp: i64,
    }

    struct ClassicMemberMetadata {
        session_timeout_ms: i32,
        supported_protocols: Vec<ClassicProtocol>,
    }

    struct ClassicProtocol {
        name: StrBytes,
        metadata: Bytes,
    }

    struct TopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }

    struct AssignedPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
        /// At which epoch the member got each of the partitions (KIP-1251).
        assignment_epochs: Option<Vec<i32>> [0.., tag 0],
    }
}

/// Reads a value behind its version.
pub fn decode_value<M: Message>(bytes: Bytes) -> Result<M, DecodeError> {
    let mut r = Reader::new(bytes);
    let version = r
        .i16()
        .map_err(|e| e.within("consumer_group_records.version"))?;
    // A newer one only adds tagged fields (KIP-915).
    M::decode(&mut r, version.min(*VERSIONS.end()))
}

/// Writes a value behind its version.
pub fn encode_value<M: Message>(value: &M) -> Bytes {
    let mut w = Writer::new();
    w.i16(*VERSIONS.end());
    value.encode(&mut w, *VERSIONS.end());
    w.into_payload()
}
