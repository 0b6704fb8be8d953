use super::message::message;
use super::{ErrorCode, StrBytes, Uuid};

message! {
    /// OffsetFetch (9): reads a group's stored offsets.
    /// v2: all topics at once, an error of the whole. v3: throttle time. v5: leader epoch (KIP-320). v6:
    /// flexible (KIP-482). v7: stable offsets only (KIP-447). v8: many groups (KIP-709). v9: members by
    /// epoch, v10: topic ids (KIP-848).
    api 9, versions 1..=10, flexible 6..;

    request {
        group_id: StrBytes [..=7],
        /// Null asks for all.
        topics: Option<Vec<OffsetFetchRequestTopic>> [..=7, nullable 2..],
        groups: Vec<OffsetFetchRequestGroup> [8..],
        /// KIP-447: fail with UNSTABLE_OFFSET_COMMIT while a transaction is open.
        require_stable: bool [7..],
    }

    response {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetFetchResponseTopic> [..=7],
        error_code: ErrorCode [2..=7],
        groups: Vec<OffsetFetchResponseGroup> [8..],
    }

    struct OffsetFetchRequestTopic {
        name: StrBytes,
        partition_indexes: Vec<i32>,
    }

    struct OffsetFetchRequestGroup {
        group_id: StrBytes,
        member_id: Option<StrBytes> [9..],
        member_epoch: i32 [9..] = -1,
        /// Null asks for all.
        topics: Option<Vec<OffsetFetchRequestTopics>>,
    }

    struct OffsetFetchRequestTopics {
        name: StrBytes [..=9],
        topic_id: Uuid [10..],
        partition_indexes: Vec<i32>,
    }

    struct OffsetFetchResponseTopic {
        name: StrBytes,
        partitions: Vec<OffsetFetchResponsePartition>,
    }

    struct OffsetFetchResponsePartition {
        partition_index: i32,
        /// -1 when nothing was committed.
        committed_offset: i64,
        committed_leader_epoch: i32 [5..] = -1,
        metadata: Option<StrBytes>,
        error_code: ErrorCode,
    }

    struct OffsetFetchResponseGroup {
        group_id: StrBytes,
        topics: Vec<OffsetFetchResponseTopics>,
        error_code: ErrorCode,
    }

    struct OffsetFetchResponseTopics {
        name: StrBytes [..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetFetchResponsePartitions>,
    }

    struct OffsetFetchResponsePartitions {
        partition_index: i32,
        /// -1 when nothing was committed.
        committed_offset: i64,
        committed_leader_epoch: i32 = -1,
        metadata: Option<StrBytes>,
        error_code: ErrorCode,
    }
}
