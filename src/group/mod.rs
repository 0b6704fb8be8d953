//! Consumer groups: who is a member, what each is to read, how far each has come.
//!
//! [`Group`] is one group as a pure, synchronous state machine: requests and the time go in, [`Effect`]s
//! come out (answers to who waited, records for `__consumer_offsets`). There are two kinds: in [`classic`]
//! groups the leader shares partitions out, in [`consumer`] groups (KIP-848) the coordinator does, by its
//! [assignors](assignor). [`Groups`] are those of one shard, as pure; [`coordinator`] brings them requests
//! and time and appends their records; [`load`] makes groups of records after a start.
//!
//! # States and events of classic groups
//!
//! The rules are those of Apache Kafka's classic groups. `->` is the next state; "join", "sync",
//! "heartbeat" and "leave" are the requests of that name of a member that is known, with the right
//! generation.
//!
//! | event | Empty | PreparingRebalance | CompletingRebalance | Stable |
//! | --- | --- | --- | --- | --- |
//! | join without a member id (KIP-394) | gets an id; is expected until its session ends | the same | the same | the same |
//! | join, new | waits -> PreparingRebalance (initial delay) | waits | waits -> PreparingRebalance | waits -> PreparingRebalance |
//! | join, known | UNKNOWN_MEMBER_ID | waits | same protocols: answered with this generation; else as new | the leader, or other protocols: as new; else answered with this generation |
//! | join, static instance without a member id (KIP-345) | as new | takes the old one's place, which is fenced | the same -> PreparingRebalance | the same; without a rebalance if the protocol stays, and the old one was to give up nothing (KIP-429; Kafka does not look at that) |
//! | all have joined, or the time to rebalance is over | | those missing are out, all who wait are answered -> CompletingRebalance; nobody left -> Empty | | |
//! | sync of the leader | UNKNOWN_MEMBER_ID | REBALANCE_IN_PROGRESS | stored, then all who wait are answered -> Stable | answered |
//! | sync of another | UNKNOWN_MEMBER_ID | REBALANCE_IN_PROGRESS | waits | answered |
//! | heartbeat | UNKNOWN_MEMBER_ID | lives on, REBALANCE_IN_PROGRESS | lives on | lives on |
//! | leave, or session over | an id given out lapses | is out; who is left may be complete | is out -> PreparingRebalance | is out -> PreparingRebalance |
//! | no sync in time after a join | | | is out -> PreparingRebalance | is out -> PreparingRebalance |
//! | commit of a member | UNKNOWN_MEMBER_ID | stored | REBALANCE_IN_PROGRESS | stored |
//! | commit from outside | stored | UNKNOWN_MEMBER_ID | UNKNOWN_MEMBER_ID | UNKNOWN_MEMBER_ID |
//! | delete | -> Dead | NON_EMPTY_GROUP | NON_EMPTY_GROUP | NON_EMPTY_GROUP |
//!
//! A Dead group is one whose deletion is on its way to the log. It answers COORDINATOR_NOT_AVAILABLE to
//! all, so that nothing comes to be in it that the deletion does not know; it is gone when the records
//! are durable, and Empty again if they cannot be stored.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::Catalog;
use crate::catalog::group_config::GroupConfig;
use crate::wire::{StrBytes, join_group, sync_group};
use assignor::Assignor;
use offsets::{Committed, TopicPartition};
use records::Record;

pub use any::Group;
pub use classic::State;
pub use groups::Groups;
pub use member::Caller;

mod any;
mod assignment;
pub mod assignor;
pub mod classic;
pub mod consumer;
pub mod coordinator;
mod groups;
pub mod import;
pub mod load;
mod member;
pub mod messages;
pub mod offsets;
pub mod offsets_topic;
mod records;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// The topic that groups and offsets are kept in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Names a request that waits.
pub type Ticket = u64;

/// The time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// In milliseconds from some moment on: what sessions are measured with.
    pub steady_ms: i64,
    /// In milliseconds since the epoch: what records say.
    pub wall_ms: i64,
}

/// What holds for all groups.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How long an empty group waits for more members after the first.
    pub initial_rebalance_delay_ms: i64,
    /// Members of one group.
    pub group_max_size: usize,
    /// Look for partitions that an assignment gives to two members.
    pub check_assignments: bool,
    pub consumer: ConsumerRules,
}

/// What holds for groups of the consumer protocol, beside the configs of each that the catalog has.
#[derive(Debug, Clone)]
pub struct ConsumerRules {
    /// Members of one group.
    pub max_size: usize,
    /// Those that members may ask for; the first is for those that do not.
    pub assignors: Vec<Assignor>,
    /// A regular expression is resolved with every change of the catalog, and again after this time.
    pub regex_refresh_interval_ms: i64,
    /// A classic group becomes one of these when a member of their protocol joins.
    pub upgrades: bool,
    /// One of these becomes a classic group when all of its members are classic.
    pub downgrades: bool,
    /// Classic members may join one of these.
    pub mixes: bool,
}

/// As in Kafka.
impl Default for ConsumerRules {
    fn default() -> Self {
        ConsumerRules {
            max_size: i32::MAX as usize,
            assignors: Assignor::ALL.to_vec(),
            regex_refresh_interval_ms: 600_000,
            upgrades: true,
            downgrades: true,
            mixes: true,
        }
    }
}

/// What an event comes with: the time, the rules, and where its effects go.
pub struct Step<'a> {
    pub now: Now,
    pub rules: &'a Rules,
    /// The topics that there are.
    pub catalog: &'a Catalog,
    pub out: &'a mut Vec<Effect>,
}

impl Step<'_> {
    /// What is set for a group of the consumer protocol. Looked up with each use: a group goes by a change
    /// from its next event on.
    fn config_of(&self, group: &str) -> GroupConfig {
        self.catalog.groups().of(group)
    }

    fn in_ms(&self, ms: i64) -> i64 {
        self.now.steady_ms.saturating_add(ms.max(0))
    }

    fn joined(&mut self, ticket: Ticket, response: join_group::Response) {
        self.out.push(Effect::Joined(ticket, response));
    }

    fn synced(&mut self, ticket: Ticket, response: sync_group::Response) {
        self.out.push(Effect::Synced(ticket, response));
    }

    fn note(&mut self, note: Note) {
        self.out.push(Effect::Noted(note));
    }

    fn append(&mut self, records: Vec<Record>, then: Then) {
        self.out.push(Effect::Append(Append { records, then }));
    }
}

/// What a group wants done.
#[derive(Debug)]
pub enum Effect {
    Joined(Ticket, join_group::Response),
    Synced(Ticket, sync_group::Response),
    Append(Append),
    Noted(Note),
}

/// What happened in a group, to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    Rebalance(Reason),
    /// All members of a generation may work, so long after its rebalance began.
    Settled {
        after_ms: i64,
    },
    /// A member gave no sign of life for its session.
    Silent,
    /// So many offsets are durable.
    Committed(usize),
}

macro_rules! reasons {
    ($($reason:ident = $name:literal, $text:literal;)+) => {
        /// Why a group rebalances.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason { $($reason),+ }

        impl Reason {
            /// As metrics call them, in order.
            pub const NAMES: &[&str] = &[$($name),+];

            /// For people.
            pub fn text(self) -> &'static str {
                match self { $(Reason::$reason => $text),+ }
            }
        }
    };
}

reasons! {
    Joined = "joined", "a member joined";
    JoinedAgain = "joined_again", "a member joined again";
    StaticChanged = "static_member_changed", "a static member changed the protocol";
    StaticBack = "static_member_back", "a static member came back";
    Left = "left", "members left";
    Silent = "session_over", "a member's session ended";
    NotSynced = "not_synced_in_time", "members did not sync in time";
    AssignedTwice = "assigned_twice", "a partition was assigned to two members";
    NotStored = "not_stored", "an assignment could not be stored";
    Downgraded = "downgraded", "the last member of the consumer protocol is gone";
    NewEpoch = "consumer_epoch", "members or topics changed";
}

/// Records to be appended, in the order in which they were wanted. The group is to be told by
/// [`Group::appended`] what became of them.
#[derive(Debug)]
pub struct Append {
    pub records: Vec<Record>,
    pub then: Then,
}

/// What follows when records are durable.
#[derive(Debug)]
pub enum Then {
    Nothing,
    /// The leader's assignment counts, if the group is still in this generation.
    Assigned {
        generation: i32,
    },
    /// A static member has a new id.
    Replaced(Box<Replaced>),
    Committed(Vec<(TopicPartition, Committed)>),
    Forgotten(Vec<TopicPartition>),
    /// The group and all of its offsets are gone.
    Deleted,
    /// Parts of a group of the consumer protocol are as it was then.
    Kept {
        number: u64,
        parts: BTreeSet<consumer::stored::Part>,
    },
}

/// A static member that came back under a new id, and how it was before.
#[derive(Debug)]
pub struct Replaced {
    pub instance_id: StrBytes,
    pub member_id: StrBytes,
    pub old_member_id: StrBytes,
    pub old_terms: member::Terms,
    /// KIP-814: its JoinGroup's version knows that the assignment may be skipped.
    pub skips_assignment: bool,
    /// Whom its JoinGroup was told to lead before KIP-814.
    pub old_leader: Option<StrBytes>,
}

/// Why records were not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("the disk did not take the records, or the coordinator stops")]
    NotStored,
    #[error("a record is larger than a record may be")]
    TooLarge,
}

/// How many members support each protocol.
type Support = BTreeMap<StrBytes, usize>;
