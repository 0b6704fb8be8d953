use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// ListOffsets (2): finds a partition's offset by timestamp, or one of its ends.
    /// v2: isolation level (KIP-98). v4: leader epochs fence (KIP-320). v5: OFFSET_NOT_AVAILABLE (KIP-207).
    /// v6: flexible (KIP-482). v7: largest timestamp (KIP-734). v8: earliest local offset (KIP-405). v9:
    /// latest tiered offset (KIP-1005). v10: timeout (KIP-1075). v11: earliest offset that waits for upload
    /// (KIP-1023).
    api 2, versions 1..=11, flexible 6..;

    request {
        /// -1 from consumers.
        replica_id: i32,
        /// 0: read uncommitted; 1: read committed.
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic>,
        timeout_ms: i32 [10..],
    }

    response {
        throttle_time_ms: i32 [2..],
        topics: Vec<ListOffsetsTopicResponse>,
    }

    struct ListOffsetsTopic {
        name: StrBytes,
        partitions: Vec<ListOffsetsPartition>,
    }

    struct ListOffsetsPartition {
        partition_index: i32,
        current_leader_epoch: i32 [4..] = -1,
        /// Milliseconds since the epoch; or -1: latest, -2: earliest, -3: largest timestamp, -4: earliest
        /// local, -5: latest tiered, -6: earliest that waits for upload.
        timestamp: i64,
    }

    struct ListOffsetsTopicResponse {
        name: StrBytes,
        partitions: Vec<ListOffsetsPartitionResponse>,
    }

    struct ListOffsetsPartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
        timestamp: i64 = -1,
        /// -1 when no record is at or behind the timestamp.
        offset: i64 = -1,
        leader_epoch: i32 [4..] = -1,
    }
}
