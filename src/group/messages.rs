//! What shards ask of the coordinator of a group, and what it answers.

use super::Caller;
use super::offsets::{Committed, TopicPartition};
use crate::wire::leave_group::{MemberIdentity, MemberResponse};
use crate::wire::{
    ErrorCode, StrBytes, Uuid, consumer_group_describe, consumer_group_heartbeat, describe_groups,
    heartbeat, join_group, list_groups, sync_group,
};

/// Asked of the shard that owns the group's partition of `__consumer_offsets`; the list of all shards.
#[derive(Debug)]
pub enum GroupRequest {
    Join {
        request: join_group::Request,
        version: i16,
        caller: Caller,
    },
    Sync(sync_group::Request),
    Heartbeat(heartbeat::Request),
    ConsumerHeartbeat {
        request: consumer_group_heartbeat::Request,
        version: i16,
        caller: Caller,
    },
    Leave {
        group: StrBytes,
        members: Vec<MemberIdentity>,
    },
    Commit(Commit),
    /// Offsets that another program kept, of a group that need not exist. What is committed stays.
    Import {
        group: StrBytes,
        offsets: Vec<(TopicPartition, Committed)>,
    },
    /// Of the topics named with their ids, or of all.
    Offsets {
        group: StrBytes,
        /// Of a member that says who it is.
        member_id: Option<StrBytes>,
        member_epoch: i32,
        topics: Option<Vec<TopicOffsets>>,
    },
    Forget {
        group: StrBytes,
        offsets: Vec<TopicPartition>,
    },
    Describe(StrBytes),
    /// As a group of the consumer protocol.
    ConsumerDescribe(StrBytes),
    Delete(StrBytes),
    /// Groups in these states and of these types, by Kafka's names in lower case; none: all.
    List {
        states: Vec<String>,
        types: Vec<String>,
    },
}

/// Offsets to be committed.
#[derive(Debug)]
pub struct Commit {
    pub group: StrBytes,
    pub member_id: StrBytes,
    pub instance_id: Option<StrBytes>,
    pub generation: i32,
    /// Of the request.
    pub version: i16,
    pub offsets: Vec<(TopicPartition, Committed)>,
}

/// What became of an offset that was to be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// It is committed now.
    Taken,
    /// Something is committed there already, or will be in a moment.
    Kept,
    /// There is no such partition.
    Unknown,
}

/// Which offsets of a topic are asked for.
#[derive(Debug)]
pub struct TopicOffsets {
    pub topic: StrBytes,
    /// Of the topic that has this name now; offsets of one that had it before are not its offsets.
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
}

/// The offsets of a topic; `None` where nothing is committed.
#[derive(Debug, PartialEq, Eq)]
pub struct FoundOffsets {
    pub topic: StrBytes,
    pub partitions: Vec<(i32, Option<Committed>)>,
}

/// A group, if it is there and of the kind that was asked for.
#[derive(Debug)]
pub enum Described<T> {
    Group(T),
    OfAnotherKind,
    Nothing,
}

#[derive(Debug)]
pub enum GroupReply {
    Join(join_group::Response),
    Sync(sync_group::Response),
    Leave(Result<Vec<MemberResponse>, ErrorCode>),
    Offsets(Result<Vec<FoundOffsets>, ErrorCode>),
    /// In the order asked.
    Import(Result<Vec<Imported>, ErrorCode>),
    /// In the order asked.
    Forget(Result<Vec<ErrorCode>, ErrorCode>),
    ConsumerHeartbeat(consumer_group_heartbeat::Response),
    Describe(Result<Described<describe_groups::DescribedGroup>, ErrorCode>),
    ConsumerDescribe(Result<Described<consumer_group_describe::DescribedGroup>, ErrorCode>),
    List(Result<Vec<list_groups::ListedGroup>, ErrorCode>),
    /// To all others.
    Done(Result<(), ErrorCode>),
}

impl GroupRequest {
    /// The group that is asked about.
    pub fn group(&self) -> Option<&StrBytes> {
        match self {
            GroupRequest::Join { request, .. } => Some(&request.group_id),
            GroupRequest::Sync(request) => Some(&request.group_id),
            GroupRequest::Heartbeat(request) => Some(&request.group_id),
            GroupRequest::ConsumerHeartbeat { request, .. } => Some(&request.group_id),
            GroupRequest::Commit(commit) => Some(&commit.group),
            GroupRequest::Leave { group, .. }
            | GroupRequest::Import { group, .. }
            | GroupRequest::Offsets { group, .. }
            | GroupRequest::Forget { group, .. }
            | GroupRequest::Describe(group)
            | GroupRequest::ConsumerDescribe(group)
            | GroupRequest::Delete(group) => Some(group),
            GroupRequest::List { .. } => None,
        }
    }

    /// The answer if it cannot be done.
    pub fn refusal(&self, error: ErrorCode) -> GroupReply {
        match self {
            GroupRequest::Join { request, .. } => GroupReply::Join(join_group::Response {
                error_code: error,
                member_id: request.member_id.clone(),
                ..join_group::Response::default()
            }),
            GroupRequest::Sync(_) => GroupReply::Sync(sync_group::Response {
                error_code: error,
                ..sync_group::Response::default()
            }),
            GroupRequest::ConsumerHeartbeat { .. } => {
                GroupReply::ConsumerHeartbeat(consumer_group_heartbeat::Response {
                    error_code: error,
                    ..consumer_group_heartbeat::Response::default()
                })
            }
            GroupRequest::ConsumerDescribe(_) => GroupReply::ConsumerDescribe(Err(error)),
            GroupRequest::Leave { .. } => GroupReply::Leave(Err(error)),
            GroupRequest::Offsets { .. } => GroupReply::Offsets(Err(error)),
            GroupRequest::Import { .. } => GroupReply::Import(Err(error)),
            GroupRequest::Forget { .. } => GroupReply::Forget(Err(error)),
            GroupRequest::Describe(_) => GroupReply::Describe(Err(error)),
            GroupRequest::List { .. } => GroupReply::List(Err(error)),
            // Kafka's coordinator takes heartbeats while it loads: the sessions begin when it has.
            GroupRequest::Heartbeat(_) if error == ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {
                GroupReply::Done(Ok(()))
            }
            GroupRequest::Heartbeat(_) | GroupRequest::Commit(_) | GroupRequest::Delete(_) => {
                GroupReply::Done(Err(error))
            }
        }
    }
}

/// The partition of `__consumer_offsets` that keeps a group: Java's hash of its name.
pub fn partition_of(group: &str, partitions: i32) -> i32 {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(unit.into())
    });
    (hash & i32::MAX) % partitions.max(1)
}
