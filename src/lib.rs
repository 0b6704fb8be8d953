//! Tidegate: a Kafka-protocol gateway, thread-per-core on io_uring.

pub mod record;
pub mod wire;
