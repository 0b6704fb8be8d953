use super::message::message;
use super::{ErrorCode, StrBytes, Uuid};

message! {
    /// OffsetCommit (8): stores a group's offsets.
    /// v3: throttle time. v5: no retention time any more (KIP-211). v6: leader epoch (KIP-320). v7: static
    /// members (KIP-345). v8: flexible (KIP-482). v9: members by epoch, v10: topic ids (KIP-848).
    api 8, versions 2..=10, flexible 8..;

    request {
        group_id: StrBytes,
        /// -1 with an empty member id: a commit from outside of the group.
        generation_id_or_member_epoch: i32 = -1,
        member_id: StrBytes,
        group_instance_id: Option<StrBytes> [7..],
        retention_time_ms: i64 [..=4] = -1,
        topics: Vec<OffsetCommitRequestTopic>,
    }

    response {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetCommitResponseTopic>,
    }

    struct OffsetCommitRequestTopic {
        name: StrBytes [..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetCommitRequestPartition>,
    }

    struct OffsetCommitRequestPartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [6..] = -1,
        /// Text of the consumer, kept beside the offset.
        committed_metadata: Option<StrBytes>,
    }

    struct OffsetCommitResponseTopic {
        name: StrBytes [..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetCommitResponsePartition>,
    }

    struct OffsetCommitResponsePartition {
        partition_index: i32,
        error_code: ErrorCode,
    }
}
