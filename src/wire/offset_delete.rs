use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// OffsetDelete (47): deletes a group's stored offsets (KIP-496).
    api 47, versions 0..=0, flexible none;

    request {
        group_id: StrBytes,
        topics: Vec<OffsetDeleteRequestTopic>,
    }

    response {
        error_code: ErrorCode,
        throttle_time_ms: i32,
        topics: Vec<OffsetDeleteResponseTopic>,
    }

    struct OffsetDeleteRequestTopic {
        name: StrBytes,
        partitions: Vec<OffsetDeleteRequestPartition>,
    }

    struct OffsetDeleteRequestPartition {
        partition_index: i32,
    }

    struct OffsetDeleteResponseTopic {
        name: StrBytes,
        partitions: Vec<OffsetDeleteResponsePartition>,
    }

    struct OffsetDeleteResponsePartition {
        partition_index: i32,
        error_code: ErrorCode,
    }
}
