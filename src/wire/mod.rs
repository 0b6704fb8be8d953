//! The Kafka wire codec: frames, headers, and one module for each API's messages.
//!
//! A message is a table of its fields and the versions that have them (see `message`); reading and
//! writing are made from it, so that the gateway, the load generator and tests use the same. Nothing
//! in here does I/O, and record batches stay opaque bytes.

pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod api_versions;
pub mod codec;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod consumer_group_records;
pub mod consumer_protocol;
pub mod create_acls;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_acls;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod describe_user_scram_credentials;
pub mod elect_leaders;
mod error_code;
pub mod fetch;
pub mod find_coordinator;
pub mod frame;
pub mod group_records;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
mod message;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;
pub mod types;
pub mod unregister_broker;
pub mod update_features;

#[cfg(test)]
mod tests;

pub use codec::{DecodeError, ErrorCounts, Message, Reader, Writer};
pub use error_code::ErrorCode;
pub use types::{Double, Records, StrBytes, Uuid};

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
    describe_acls "DescribeAcls",
    create_acls "CreateAcls",
    delete_acls "DeleteAcls",
    describe_configs "DescribeConfigs",
    alter_configs "AlterConfigs",
    alter_replica_log_dirs "AlterReplicaLogDirs",
    describe_log_dirs "DescribeLogDirs",
    create_partitions "CreatePartitions",
    delete_groups "DeleteGroups",
    elect_leaders "ElectLeaders",
    incremental_alter_configs "IncrementalAlterConfigs",
    alter_partition_reassignments "AlterPartitionReassignments",
    list_partition_reassignments "ListPartitionReassignments",
    offset_delete "OffsetDelete",
    describe_client_quotas "DescribeClientQuotas",
    describe_user_scram_credentials "DescribeUserScramCredentials",
    describe_quorum "DescribeQuorum",
    update_features "UpdateFeatures",
    describe_cluster "DescribeCluster",
    describe_producers "DescribeProducers",
    unregister_broker "UnregisterBroker",
    consumer_group_heartbeat "ConsumerGroupHeartbeat",
    consumer_group_describe "ConsumerGroupDescribe",
    list_config_resources "ListConfigResources",
    describe_topic_partitions "DescribeTopicPartitions",
}
