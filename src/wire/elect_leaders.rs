use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// ElectLeaders (43): makes replicas leaders of their partitions (KIP-183).
    /// v1: a type of election, an error of the whole (KIP-460). v2: flexible (KIP-482).
    api 43, versions 0..=2, flexible 2..;

    request {
        /// 0: the preferred replica; 1: any replica when none is in sync.
        election_type: i8 [1..],
        /// Null asks for all.
        topic_partitions: Option<Vec<TopicPartitions>>,
        timeout_ms: i32 = 60_000,
    }

    response {
        throttle_time_ms: i32,
        error_code: ErrorCode [1..],
        replica_election_results: Vec<ReplicaElectionResult>,
    }

    struct TopicPartitions {
        topic: StrBytes,
        partitions: Vec<i32>,
    }

    struct ReplicaElectionResult {
        topic: StrBytes,
        partition_result: Vec<PartitionResult>,
    }

    struct PartitionResult {
        partition_id: i32,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
    }
}
