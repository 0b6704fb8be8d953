//! How the gateway behaves, over real sockets and whatever the store: each program that has this as a
//! module says where partitions are stored, with a `data_folder` of its own, and what that store does not
//! promise.
//!
//! What is not here, as it does not hold on every store:
//! - `local_files.rs`, `check.rs`, `crash.rs` and `faults.rs`: the local store's files, and disks that fail.
//!   Their like for SeaweedFS is in `seaweedmq.rs` and `seaweedmq_faults.rs`.
//! - `retention.rs`: which segments go is told by the local store's files, which end elsewhere than
//!   segments in SeaweedFS. `seaweedmq.rs` has what need not be kept there.
//! - `compaction.rs` and `seaweedmq_compaction.rs` have a source of their own in `common/compaction.rs`.
//! - `observe.rs`: metrics of the local store's reads and checkpoints.
//! - `limits.rs`: memory, also that of reads, which is another for each store.
//! - `cli.rs`, `hostile.rs`, `routing.rs` and `wire_hostile.rs`: what they are about ends before a store.

mod admin;
mod cluster;
mod compression;
mod consumer_protocol;
mod delete_records;
mod fetch_sessions;
mod gateway;
mod groups;
mod own_logs;
