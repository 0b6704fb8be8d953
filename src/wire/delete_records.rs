use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// DeleteRecords (21): moves the log start offset of partitions (KIP-107).
    /// v2: flexible (KIP-482).
    api 21, versions 0..=2, flexible 2..;

    request {
        topics: Vec<DeleteRecordsTopic>,
        timeout_ms: i32,
    }

    response {
        throttle_time_ms: i32,
        topics: Vec<DeleteRecordsTopicResult>,
    }

    struct DeleteRecordsTopic {
        name: StrBytes,
        partitions: Vec<DeleteRecordsPartition>,
    }

    struct DeleteRecordsPartition {
        partition_index: i32,
        /// Records before it go; -1: all up to the high watermark.
        offset: i64,
    }

    struct DeleteRecordsTopicResult {
        name: StrBytes,
        partitions: Vec<DeleteRecordsPartitionResult>,
    }

    struct DeleteRecordsPartitionResult {
        partition_index: i32,
        /// The smallest offset that is left in any replica.
        low_watermark: i64,
        error_code: ErrorCode,
    }
}
