//! How a coordinator shares partitions out among the members of a group (KIP-848).
//!
//! An assignor is a pure function of what members subscribe to and of what each was to have before.
//! What all of them warrant: each partition of a topic that somebody subscribes to goes to exactly one
//! member, which subscribes to its topic; the same input gives the same output.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::PartitionId;
use crate::wire::{StrBytes, Uuid};

mod range;
#[cfg(test)]
mod tests;
mod uniform;

/// Partitions, in order.
pub type PartitionSet = BTreeSet<PartitionId>;

/// A member, as an assignor sees it.
#[derive(Debug, Clone)]
pub struct Subscriber {
    pub id: StrBytes,
    /// Of a static member (KIP-345).
    pub instance_id: Option<StrBytes>,
    /// What it subscribes to, of what exists.
    pub topics: BTreeSet<Uuid>,
    /// What it was to have until now.
    pub before: PartitionSet,
}

/// A group, as an assignor sees it.
#[derive(Debug, Clone, Default)]
pub struct Subscribers {
    pub members: Vec<Subscriber>,
    /// How many partitions each topic has that somebody subscribes to.
    pub partitions: BTreeMap<Uuid, i32>,
}

impl Subscribers {
    /// All members subscribe to the same.
    fn are_alike(&self) -> bool {
        self.members.windows(2).all(|w| w[0].topics == w[1].topics)
    }

    /// All partitions of a topic.
    fn of_topic(&self, topic: Uuid) -> impl Iterator<Item = PartitionId> + use<> {
        let count = self.partitions.get(&topic).copied().unwrap_or(0);
        (0..count).map(move |index| PartitionId { topic, index })
    }

    /// Members that subscribe to a topic, by their places.
    fn subscribers(&self) -> BTreeMap<Uuid, Vec<usize>> {
        let mut all: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for (place, member) in self.members.iter().enumerate() {
            for topic in &member.topics {
                all.entry(*topic).or_default().push(place);
            }
        }
        all
    }
}

/// The assignors that come with Kafka, under its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// As even as can be, moving as little as can be.
    Uniform,
    /// Neighbouring partitions, the same of each topic.
    Range,
}

impl Assignor {
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }

    /// What each member is to have, by their places.
    pub fn assign(self, group: &Subscribers) -> Vec<PartitionSet> {
        match self {
            Assignor::Uniform => uniform::assign(group),
            Assignor::Range => range::assign(group),
        }
    }
}
