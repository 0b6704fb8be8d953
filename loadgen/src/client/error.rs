//! What can go wrong between this client and a broker.

use std::io;
use std::time::Duration;

use tidegate::wire::{DecodeError, ErrorCode};

/// An error of the client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect to {address}")]
    Connect { address: String, source: io::Error },
    #[error("the connection to {address} broke")]
    Broke { address: String, source: io::Error },
    #[error("{address} closed the connection")]
    Closed { address: String },
    #[error("{address} did not answer {api} for {after:?}")]
    NoAnswer {
        address: String,
        api: &'static str,
        after: Duration,
    },
    #[error("{address} sent what is no answer to {api}")]
    Decode {
        address: String,
        api: &'static str,
        source: DecodeError,
    },
    #[error("{address} sent what this client did not ask for: {what}")]
    Unexpected { address: String, what: String },
    #[error("{address} serves no version of {api} that is known here")]
    Unsupported { address: String, api: &'static str },
    #[error("{what}: {code}{}", message.as_ref().map_or_else(String::new, |text| format!(" ({text})")))]
    Refused {
        what: String,
        code: ErrorCode,
        message: Option<String>,
    },
    #[error("{what} for {after:?}")]
    GaveUp {
        what: String,
        after: Duration,
        #[source]
        last: Option<Box<Error>>,
    },
    #[error("topic {topic} has {actual} partitions, not the {asked} of --partitions")]
    OtherPartitions {
        topic: String,
        actual: usize,
        asked: i32,
    },
    #[error("partition {partition} of {topic} has a record batch that cannot be read")]
    Records {
        topic: String,
        partition: i32,
        source: tidegate::record::RecordError,
    },
    #[error(
        "{wanted} open files are needed, and no more than {limit} are allowed: raise the limit with ulimit -n, and fs.nr_open if need be"
    )]
    Limit { wanted: u64, limit: u64 },
    #[error("process {pid} cannot be looked at")]
    Process { pid: u32, source: io::Error },
    #[error("a thread cannot be started")]
    Thread(#[source] io::Error),
    #[error("partition {partition} of {topic} has a record batch whose checksum is wrong")]
    Checksum { topic: String, partition: i32 },
}

impl Error {
    /// A broker that refused `what` with this code.
    pub fn refused(what: impl Into<String>, code: ErrorCode, message: Option<&str>) -> Self {
        Self::Refused {
            what: what.into(),
            code,
            message: message.map(str::to_owned),
        }
    }

    /// Whether it may go better the next time: with another connection, or another leader.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broke { .. } | Self::Closed { .. } => true,
            Self::NoAnswer { .. } => true,
            Self::Refused { code, .. } => is_retriable(*code),
            _ => false,
        }
    }
}

/// The codes that Kafka's clients try again after.
fn is_retriable(code: ErrorCode) -> bool {
    const RETRIABLE: [ErrorCode; 18] = [
        ErrorCode::CORRUPT_MESSAGE,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::LEADER_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::REPLICA_NOT_AVAILABLE,
        ErrorCode::NETWORK_EXCEPTION,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_CONTROLLER,
        ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::LISTENER_NOT_FOUND,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
        ErrorCode::OFFSET_NOT_AVAILABLE,
        ErrorCode::THROTTLING_QUOTA_EXCEEDED,
    ];
    RETRIABLE.contains(&code)
}
