//! Tidegate: a Kafka-protocol gateway, thread-per-core on io_uring.

pub mod cli;
pub mod config;
pub mod logging;
pub mod record;
pub mod wire;
