//! Tidegate: a Kafka-protocol gateway, thread-per-core on io_uring.
//!
//! Where to begin reading: [`serve`] starts everything; a client's bytes arrive in [`connection`] and
//! go through [`api`], one file for each Kafka API, to the shard that owns the partition
//! ([`partition`]), whose batches [`store`] keeps. [`wire`] and [`record`] are the protocol itself.
//! `shards`, a crate of its own, is the runtime below all of this.

pub mod admin;
pub mod api;
pub mod bridge;
pub mod budget;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod config;
pub mod connection;
pub mod connections;
pub mod dump;
pub mod fetch_session;
pub mod gateway;
pub mod group;
pub mod import_offsets;
pub mod logging;
pub mod metrics;
pub mod partition;
pub mod record;
pub mod serve;
pub mod store;
pub mod wire;
