//! The consumer protocol: what consumers put into the opaque bytes of JoinGroup and SyncGroup.
//!
//! Each message starts with its own version. v1: owned partitions (KIP-429). v2: generation
//! (KIP-792). v3: rack (KIP-881). A newer version is read as the newest one known here: newer
//! versions only append fields.

use bytes::Bytes;

use super::StrBytes;
use super::codec::{DecodeError, Message, Reader, Writer};
use super::message::message;

message! {
    versions 0..=3, flexible none;

    /// What a member wants to read, and what it owned: its metadata in JoinGroup.
    message Subscription {
        topics: Vec<StrBytes>,
        user_data: Option<Bytes>,
        owned_partitions: Vec<TopicPartition> [1..],
        generation_id: i32 [2..] = -1,
        rack_id: Option<StrBytes> [3..],
    }

    /// What a member is to read: its assignment in SyncGroup.
    message Assignment {
        assigned_partitions: Vec<TopicPartition>,
        user_data: Option<Bytes>,
    }

    struct TopicPartition {
        topic: StrBytes,
        partitions: Vec<i32>,
    }
}

/// Reads a [`Subscription`] or an [`Assignment`] behind its version.
pub fn decode<M: Message>(bytes: Bytes) -> Result<M, DecodeError> {
    let mut r = Reader::new(bytes);
    let version = r.i16().map_err(|e| e.within("consumer_protocol.version"))?;
    M::decode(&mut r, version.min(*VERSIONS.end()))
}

/// Writes a [`Subscription`] or an [`Assignment`] behind its version.
pub fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut w = Writer::new();
    w.i16(version);
    message.encode(&mut w, version);
    w.into_payload()
}
