use super::message::message;
use super::{ErrorCode, StrBytes, Uuid};

message! {
    /// Metadata (3): brokers of the cluster, and leaders of topics' partitions.
    /// v1: racks, controller, internal topics. v2: cluster id (KIP-78). v3: throttle time. v4: creating
    /// topics is asked for (KIP-204). v5: offline replicas (KIP-112). v7: leader epochs (KIP-320). v8:
    /// authorized operations (KIP-430), those of the cluster up to v10 (KIP-700). v9: flexible (KIP-482).
    /// v10: topic ids in answers, v12: in requests (KIP-516). v13: an error of the whole (KIP-1102).
    api 3, versions 0..=13, flexible 9..;

    request {
        /// Null asks for all topics. Version 0 cannot say null: there, empty asks for all.
        topics: Option<Vec<MetadataRequestTopic>> [0.., nullable 1..],
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }

    response {
        throttle_time_ms: i32 [3..],
        brokers: Vec<MetadataResponseBroker>,
        cluster_id: Option<StrBytes> [2..],
        controller_id: i32 [1..] = -1,
        topics: Vec<MetadataResponseTopic>,
        /// A bit field (KIP-430); `i32::MIN` when it was not asked for.
        cluster_authorized_operations: i32 [8..=10] = i32::MIN,
        error_code: ErrorCode [13..],
    }

    struct MetadataRequestTopic {
        topic_id: Uuid [10..],
        name: Option<StrBytes> [0.., nullable 10..],
    }

    struct MetadataResponseBroker {
        node_id: i32,
        host: StrBytes,
        port: i32,
        rack: Option<StrBytes> [1..],
    }

    struct MetadataResponseTopic {
        error_code: ErrorCode,
        name: Option<StrBytes> [0.., nullable 12..],
        topic_id: Uuid [10..],
        is_internal: bool [1..],
        partitions: Vec<MetadataResponsePartition>,
        /// A bit field (KIP-430); `i32::MIN` when it was not asked for.
        topic_authorized_operations: i32 [8..] = i32::MIN,
    }

    struct MetadataResponsePartition {
        error_code: ErrorCode,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 [7..] = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        offline_replicas: Vec<i32> [5..],
    }
}
