use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// ListPartitionReassignments (46): reassignments that are under way (KIP-455).
    api 46, versions 0..=0, flexible 0..;

    request {
        timeout_ms: i32 = 60_000,
        /// Null asks for all.
        topics: Option<Vec<ListPartitionReassignmentsTopics>>,
    }

    response {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        topics: Vec<OngoingTopicReassignment>,
    }

    struct ListPartitionReassignmentsTopics {
        name: StrBytes,
        partition_indexes: Vec<i32>,
    }

    struct OngoingTopicReassignment {
        name: StrBytes,
        partitions: Vec<OngoingPartitionReassignment>,
    }

    struct OngoingPartitionReassignment {
        partition_index: i32,
        replicas: Vec<i32>,
        adding_replicas: Vec<i32>,
        removing_replicas: Vec<i32>,
    }
}
