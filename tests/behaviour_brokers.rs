//! The gateway's behaviour with partitions in SeaweedFS that SeaweedMQ's brokers write. What does not hold of
//! these logs is left out: that batches are compressed as their topic says (`compression.rs`), and what
//! `own_logs.rs` says of logs that the gateway writes itself.

mod behaviour {
    mod admin;
    mod cluster;
    mod consumer_protocol;
    mod delete_records;
    mod fetch_sessions;
    mod gateway;
    mod groups;
}
mod common;

use common::places::{Place, next_place};

fn data_folder() -> Place {
    next_place("seaweedmq_path = \"broker\"\n", &["-logFlushInterval=1"])
}
