//! A client for any Kafka broker: connections, and what a cluster has to say about its topics.

mod cluster;
mod connection;
mod error;
mod sources;

pub use cluster::{Cluster, RETRY_BACKOFF, Topic};
pub use connection::{Connection, wait};
pub use error::Error;
pub use sources::Sources;
