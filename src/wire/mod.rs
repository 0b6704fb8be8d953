//! The Kafka wire codec: frames, headers, and one module for each API's messages.
//!
//! A message is a table of its fields and the versions that have them (see `message`); reading and
//! writing are made from it, so that the gateway, the load generator and tests use the same. Nothing
//! in here does I/O, and record batches stay opaque bytes.

pub mod alter_configs;
pub mod api_versions;
pub mod codec;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod consumer_protocol;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_topic_partitions;
mod error_code;
pub mod fetch;
pub mod find_coordinator;
pub mod frame;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
mod message;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;
pub mod types;

#[cfg(test)]
mod tests;

pub use codec::{DecodeError, ErrorCounts, Message, Reader, Writer};
pub use error_code::ErrorCode;
pub use types::{Records, StrBytes, Uuid};

macro_rules! apis {
    ($($module:ident $name:literal,)*) => {
        /// The name of an API, in the protocol's spelling; nothing for keys that are not known here.
        pub fn api_name(key: i16) -> Option<&'static str> {
            match key {
                $($module::KEY => Some($name),)*
                _ => None,
            }
        }

        /// The first flexible version of an API (KIP-482), which decides the version of its headers;
        /// nothing for keys that are not known here.
        pub fn first_flexible_version(key: i16) -> Option<i16> {
            match key {
                $($module::KEY => Some($module::FLEXIBLE),)*
                _ => None,
            }
        }
    };
}

apis! {
    produce "Produce",
    fetch "Fetch",
    list_offsets "ListOffsets",
    metadata "Metadata",
    offset_commit "OffsetCommit",
    offset_fetch "OffsetFetch",
    find_coordinator "FindCoordinator",
    join_group "JoinGroup",
    heartbeat "Heartbeat",
    leave_group "LeaveGroup",
    sync_group "SyncGroup",
    describe_groups "DescribeGroups",
    list_groups "ListGroups",
    api_versions "ApiVersions",
    create_topics "CreateTopics",
    delete_topics "DeleteTopics",
    delete_records "DeleteRecords",
    init_producer_id "InitProducerId",
    offset_for_leader_epoch "OffsetForLeaderEpoch",
    describe_configs "DescribeConfigs",
    alter_configs "AlterConfigs",
    describe_log_dirs "DescribeLogDirs",
    create_partitions "CreatePartitions",
    delete_groups "DeleteGroups",
    incremental_alter_configs "IncrementalAlterConfigs",
    offset_delete "OffsetDelete",
    describe_cluster "DescribeCluster",
    describe_producers "DescribeProducers",
    consumer_group_heartbeat "ConsumerGroupHeartbeat",
    consumer_group_describe "ConsumerGroupDescribe",
    describe_topic_partitions "DescribeTopicPartitions",
}
