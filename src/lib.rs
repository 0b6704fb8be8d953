//! Tidegate: a Kafka-protocol gateway, thread-per-core on io_uring.

pub mod catalog;
pub mod cli;
pub mod config;
pub mod logging;
pub mod partition;
pub mod record;
pub mod store;
pub mod wire;
