use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// OffsetForLeaderEpoch (23): where a leader epoch ends in a partition's log (KIP-101).
    /// v2: leader epochs fence, throttle time (KIP-320). v3: replica id (KIP-392). v4: flexible (KIP-482).
    api 23, versions 2..=4, flexible 4..;

    request {
        /// -1: a consumer; -2: a consumer that may see what is not committed.
        replica_id: i32 [3..] = -2,
        topics: Vec<OffsetForLeaderTopic>,
    }

    response {
        throttle_time_ms: i32,
        topics: Vec<OffsetForLeaderTopicResult>,
    }

    struct OffsetForLeaderTopic {
        topic: StrBytes,
        partitions: Vec<OffsetForLeaderPartition>,
    }

    struct OffsetForLeaderPartition {
        partition: i32,
        current_leader_epoch: i32 = -1,
        leader_epoch: i32,
    }

    struct OffsetForLeaderTopicResult {
        topic: StrBytes,
        partitions: Vec<EpochEndOffset>,
    }

    struct EpochEndOffset {
        error_code: ErrorCode,
        partition: i32,
        leader_epoch: i32 = -1,
        /// Where the epoch ends; -1 when it isn't known.
        end_offset: i64 = -1,
    }
}
