//! The way to SeaweedFS: the filer (entries, transactions, locks), its volume servers (chunks) and the
//! brokers of SeaweedMQ (topics), through gRPC and HTTP.
//!
//! All of it runs on one thread of its own, with tokio. A shard reaches it through a [`Bridge`]: each of
//! its methods puts one message in a bounded queue and awaits the answer, whose arrival wakes the task
//! on its shard. Nothing on a shard blocks. What lives here: moving bytes and transactions, finding
//! peers, deadlines, retries. What must not live here: what the bytes mean (segments, offsets,
//! ownership); that is [`crate::store`]'s.
//!
//! # Rules
//!
//! - Every operation ends within [`BridgeConfig::deadline`], retries and waiting included.
//! - Memory is bounded both ways: at most [`BridgeConfig::calls_max`] operations are under way, and
//!   [`BridgeConfig::bytes_max`] bytes of chunks go to and come from volume servers at a time. What
//!   does not fit is refused at once with [`BridgeError::Overloaded`]; nothing was sent then.
//! - A change that may or may not have happened is reported as [`BridgeError::Unknown`], and may
//!   still happen *later*, after the report. Whoever commits under a fence ([`Transaction`]) repeats
//!   the same commit until its outcome is known, or takes the fence anew first.
//! - Dropping the future of an operation does not take it back.
//! - A volume that no server has is told at once: one operation at a time looks whether it is back, so
//!   that what is away costs nobody else.
//! - Several filers have to share their store: what one with a store of its own was told, the others
//!   know some time later, and an owner that is taken over meanwhile would be read as it was. All
//!   gateways prefer the same filer while it is well.

use std::time::Duration;

use bytes::Bytes;

pub use self::address::{AddressError, ServerAddress};
pub use self::filer::{etag, path};
pub use self::master::{Node, Room};
pub use self::proto::filer_pb::{Entry, FileChunk, FuseAttributes};
pub use self::proto::messaging_pb::{BrokerPartitionAssignment, DataMessage};
pub use self::proto::schema_pb::{Partition, RecordType};
pub use self::security::{Security, SecurityError};
pub use self::streams::{Ack, Change, Changes, Fetched, MessagePlace, PublishedMessage, Publisher};
pub use self::thread::{Bridge, BridgeThread, InFlight};

mod address;
mod broker;
mod call;
mod client;
mod discovery;
mod filer;
mod http;
mod master;
mod peers;
#[allow(clippy::enum_variant_names)] // The names are SeaweedFS's.
mod proto;
mod security;
mod streams;
mod thread;
mod volume;

/// How to reach SeaweedFS, and what an operation may cost.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// One that answers is enough.
    pub masters: Vec<ServerAddress>,
    /// The filer group of the filers and brokers to use; usually empty.
    pub filer_group: String,
    /// What the servers ask of their clients.
    pub security: Security,
    /// The longest that an operation takes, retries included.
    pub deadline: Duration,
    /// Most operations at a time, from all shards.
    pub calls_max: usize,
    /// Most bytes of chunks on their way at a time, up and down together.
    pub bytes_max: usize,
}

impl BridgeConfig {
    pub fn new(masters: Vec<ServerAddress>) -> Self {
        BridgeConfig {
            masters,
            filer_group: String::new(),
            security: Security::default(),
            deadline: Duration::from_secs(10),
            calls_max: 4096,
            bytes_max: 256 << 20,
        }
    }
}

/// Why an operation has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BridgeError {
    /// Too much is under way already; nothing was sent. Retriable.
    #[error("too many operations are on their way to SeaweedFS")]
    Overloaded,
    /// Nobody could be reached, or nobody answered, before the deadline; nothing was changed.
    /// Retriable.
    #[error("no {role} of SeaweedFS can be used: {reason}")]
    Unavailable { role: Role, reason: String },
    /// A change was sent, and it is not known whether it was made or will yet be. Retriable by who
    /// can tell: by repeating what is the same when done twice, or by reading.
    #[error("it is not known whether the {role} of SeaweedFS did it: {reason}")]
    Unknown { role: Role, reason: String },
    /// The condition does not hold: somebody else changed, or made, the entry.
    #[error("the condition does not hold: {0}")]
    Conflict(String),
    /// There is no such entry, chunk or topic.
    #[error("not found: {0}")]
    NotFound(String),
    /// SeaweedFS refused, and would again.
    #[error("the {role} of SeaweedFS refused: {reason}")]
    Refused { role: Role, reason: String },
    /// The bytes that arrived are not those that were meant.
    #[error("damaged on the way to or from SeaweedFS: {0}")]
    Damaged(String),
    /// The bridge has ended.
    #[error("the bridge to SeaweedFS has ended")]
    Stopped,
}

impl BridgeError {
    /// As metrics call the kinds.
    pub const KINDS: [&'static str; 8] = [
        "overloaded",
        "unavailable",
        "unknown",
        "conflict",
        "not_found",
        "refused",
        "damaged",
        "stopped",
    ];

    /// Its place among the kinds.
    pub(crate) fn kind(&self) -> usize {
        match self {
            BridgeError::Overloaded => 0,
            BridgeError::Unavailable { .. } => 1,
            BridgeError::Unknown { .. } => 2,
            BridgeError::Conflict(_) => 3,
            BridgeError::NotFound(_) => 4,
            BridgeError::Refused { .. } => 5,
            BridgeError::Damaged(_) => 6,
            BridgeError::Stopped => 7,
        }
    }

    /// Whether the same operation may succeed later.
    pub fn is_retriable(&self) -> bool {
        use BridgeError::*;
        matches!(self, Overloaded | Unavailable { .. } | Unknown { .. })
    }
}

/// What a peer is in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Master,
    Filer,
    Broker,
    Volume,
}

impl Role {
    /// In their order.
    pub const NAMES: [&'static str; 4] = ["master", "filer", "broker", "volume server"];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Several changes under one lock and, if need be, a condition: who lost the fence changes nothing.
///
/// They are made in their order. A filer that dies half way has made the first of them: order them so
/// that each prefix is harmless, or repeat the transaction. (`ObjectTransaction`, routed to the filer
/// that owns `lock`, so that it holds with several filers.)
#[derive(Debug, Clone, PartialEq)]
pub struct Transaction {
    /// Full path of the entry that is locked and that the condition is about; it need not exist.
    pub lock: String,
    pub condition: Option<Condition>,
    pub mutations: Vec<Mutation>,
}

/// What must be true of the locked entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    Absent,
    Present,
    /// It has this [`etag`].
    Etag(String),
}

#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are few at a time")]
pub enum Mutation {
    /// Makes or replaces an entry; parents are made too. Chunks of the old one that the new one has
    /// not are deleted.
    Put { directory: String, entry: Entry },
    /// No error if it is absent.
    Delete {
        directory: String,
        name: String,
        /// Its chunks too.
        data: bool,
        recursive: bool,
    },
    /// Sets and removes extended attributes. Nothing happens if the entry is absent.
    Patch {
        directory: String,
        name: String,
        set: Vec<(String, Bytes)>,
        remove: Vec<String>,
    },
}

/// One page of a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    pub directory: String,
    /// Only names that begin so.
    pub prefix: String,
    /// Only names after this one.
    pub after: String,
    /// At most so many entries, and at most so many as the answer's bounds allow.
    pub limit: u32,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// By name.
    pub entries: Vec<Entry>,
    /// There are more: after the last one's name.
    pub more: bool,
}

/// What goes with an entry that is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removal {
    /// Its chunks.
    pub data: bool,
    /// What is in it.
    pub recursive: bool,
}

/// Where a chunk goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Placement {
    /// Path of the file that it is for: the filer's rules for paths (fs.configure) choose collection,
    /// replication and disk where the fields here are empty.
    pub path: String,
    pub collection: String,
    /// As "001"; empty for the default.
    pub replication: String,
    /// As "ssd"; empty for the default.
    pub disk_type: String,
    /// The volume servers answer after fsync.
    pub fsync: bool,
}

/// A lease on a name, kept by the filers. It tells who should work, not who may: a filer that restarts
/// forgets it, so what is written is to be fenced by a [`Transaction`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub name: String,
    pub owner: String,
    /// Changes at each renewal.
    pub token: String,
}

/// What a topic of SeaweedMQ is made with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopicSpec {
    /// 1 to 2520.
    pub partition_count: i32,
    /// None keeps what is set.
    pub retention: Option<Duration>,
    /// None removes the schema, if there is one.
    pub record_type: Option<RecordType>,
    pub key_columns: Vec<String>,
    pub schema_format: String,
}

/// A topic of SeaweedMQ as the brokers know it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopicConfiguration {
    /// By the start of their ranges, which is the partition's index.
    pub partitions: Vec<BrokerPartitionAssignment>,
    pub retention: Option<Duration>,
    pub record_type: Option<RecordType>,
    pub key_columns: Vec<String>,
}

/// How one peer fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHealth {
    pub role: Role,
    pub address: String,
    /// It answered last time, or was not asked yet.
    pub up: bool,
    /// Failures since it last answered.
    pub failures: u32,
}

impl PeerHealth {
    /// A role that a commit needs and of which no server answers. Which volume servers there are is known
    /// once one was needed.
    pub fn lacking(peers: &[PeerHealth]) -> Option<Role> {
        let of = |role| peers.iter().filter(move |peer| peer.role == role);
        if !of(Role::Filer).any(|peer| peer.up) {
            return Some(Role::Filer);
        }
        let mut volumes = of(Role::Volume).peekable();
        let lacks = volumes.peek().is_some() && !volumes.any(|peer| peer.up);
        lacks.then_some(Role::Volume)
    }
}
