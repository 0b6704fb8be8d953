//! Looking into what a leader assigns, where it is in the consumer protocol.

use std::collections::HashMap;

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

/// The topics that a member subscribes to; `None` if its metadata cannot be read.
pub fn topics(metadata: Bytes) -> Option<Vec<StrBytes>> {
    let subscription = consumer_protocol::decode::<Subscription>(metadata).ok()?;
    Some(subscription.topics.iter().map(StrBytes::detached).collect())
}
