use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// CreatePartitions (37): gives topics more partitions (KIP-195).
    /// v2: flexible (KIP-482). v3: THROTTLING_QUOTA_EXCEEDED (KIP-599).
    api 37, versions 0..=3, flexible 2..;

    request {
        topics: Vec<CreatePartitionsTopic>,
        timeout_ms: i32,
        validate_only: bool,
    }

    response {
        throttle_time_ms: i32,
        results: Vec<CreatePartitionsTopicResult>,
    }

    struct CreatePartitionsTopic {
        name: StrBytes,
        /// Partitions that the topic is to have in the end.
        count: i32,
        assignments: Option<Vec<CreatePartitionsAssignment>>,
    }

    struct CreatePartitionsAssignment {
        broker_ids: Vec<i32>,
    }

    struct CreatePartitionsTopicResult {
        name: StrBytes,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
    }
}
