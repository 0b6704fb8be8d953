//! Looking into what a leader assigns, where it is in the consumer protocol.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::wire::StrBytes;
use crate::wire::consumer_protocol::{self, Assignment, Subscription};

/// The protocol type of consumers; others (Kafka Connect) have words of their own.
pub const CONSUMER: &str = "consumer";

/// A partition that an assignment gives to two members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twice {
    pub topic: StrBytes,
    pub partition: i32,
    pub members: [StrBytes; 2],
}

/// Finds a partition that two members would own. What cannot be read is the leader's own business.
pub fn find_twice<'a>(
    assignments: impl IntoIterator<Item = (&'a StrBytes, &'a Bytes)>,
) -> Option<Twice> {
    let mut owners: HashMap<(StrBytes, i32), &StrBytes> = HashMap::new();
    for (member, bytes) in assignments {
        let Ok(assignment) = consumer_protocol::decode::<Assignment>(bytes.clone()) else {
            continue;
        };
        for part in assignment.assigned_partitions {
            for partition in part.partitions {
                let owner = owners.insert((part.topic.clone(), partition), member);
                if let Some(owner) = owner.filter(|owner| *owner != member) {
                    return Some(Twice {
                        topic: part.topic.detached(),
                        partition,
                        members: [owner.clone(), member.clone()],
                    });
                }
            }
        }
    }
    None
}

/// Whether a member has said that it owns a partition that nobody is assigned: one that it is to give up
/// first, so that the next generation can give it to another (KIP-429).
pub fn is_withheld<'a>(metadata: Bytes, assignments: impl Iterator<Item = &'a Bytes>) -> bool {
    let Ok(subscription) = consumer_protocol::decode::<Subscription>(metadata) else {
        return false;
    };
    let flat = |parts: Vec<consumer_protocol::TopicPartition>| {
        let pairs = parts.into_iter().flat_map(|part| {
            let topic = part.topic;
            let indexes = part.partitions.into_iter();
            indexes.map(move |index| (topic.clone(), index))
        });
        pairs.collect::<HashSet<_>>()
    };
    let mut owned = flat(subscription.owned_partitions);
    for bytes in assignments {
        if let Ok(assignment) = consumer_protocol::decode::<Assignment>(bytes.clone()) {
            let given = flat(assignment.assigned_partitions);
            owned.retain(|pair| !given.contains(pair));
        }
    }
    !owned.is_empty()
}

/// What a member is assigned, where that can be read and says nothing else.
pub fn assigned(bytes: &Bytes) -> Option<Vec<consumer_protocol::TopicPartition>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let assignment = consumer_protocol::decode::<Assignment>(bytes.clone()).ok()?;
    let has_more = assignment.user_data.is_some_and(|data| !data.is_empty());
    (!has_more).then_some(assignment.assigned_partitions)
}

/// An assignment for a member with this metadata, in its version.
pub fn encode(parts: Vec<consumer_protocol::TopicPartition>, metadata: &Bytes) -> Bytes {
    let version = metadata.first_chunk().map_or(0, |b| i16::from_be_bytes(*b));
    let assignment = Assignment {
        assigned_partitions: parts,
        user_data: None,
    };
    let versions = consumer_protocol::VERSIONS;
    let version = version.clamp(*versions.start(), *versions.end());
    consumer_protocol::encode(&assignment, version)
}

/// The topics that a member subscribes to; `None` if its metadata cannot be read.
pub fn topics(metadata: Bytes) -> Option<Vec<StrBytes>> {
    let subscription = consumer_protocol::decode::<Subscription>(metadata).ok()?;
    Some(subscription.topics.iter().map(StrBytes::detached).collect())
}
