use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// AlterPartitionReassignments (45): moves replicas of partitions to other brokers (KIP-455).
    /// v1: whether their number may change (KIP-860).
    api 45, versions 0..=1, flexible 0..;

    request {
        timeout_ms: i32 = 60_000,
        allow_replication_factor_change: bool [1..] = true,
        topics: Vec<ReassignableTopic>,
    }

    response {
        throttle_time_ms: i32,
        allow_replication_factor_change: bool [1..] = true,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        responses: Vec<ReassignableTopicResponse>,
    }

    struct ReassignableTopic {
        name: StrBytes,
        partitions: Vec<ReassignablePartition>,
    }

    struct ReassignablePartition {
        partition_index: i32,
        /// Null ends the reassignment that is under way.
        replicas: Option<Vec<i32>>,
    }

    struct ReassignableTopicResponse {
        name: StrBytes,
        partitions: Vec<ReassignablePartitionResponse>,
    }

    struct ReassignablePartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
    }
}
