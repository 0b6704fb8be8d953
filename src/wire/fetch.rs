use super::message::message;
use super::{ErrorCode, Records, StrBytes, Uuid};

message! {
    /// Fetch (1): reads record batches of partitions, waiting for them if need be.
    /// v5: log start offset. v7: fetch sessions (KIP-227). v9: leader epochs fence (KIP-320). v10: zstd
    /// (KIP-110). v11: fetching from followers (KIP-392). v12: flexible (KIP-482), diverging epochs
    /// (KIP-595). v13: topic ids (KIP-516). v14: OFFSET_MOVED_TO_TIERED_STORAGE (KIP-405). v15: replica
    /// state (KIP-903). v16: leaders' addresses (KIP-951). v17: directory ids (KIP-853). v18: the
    /// follower's high watermark (KIP-1166).
    api 1, versions 4..=18, flexible 12..;

    request {
        cluster_id: Option<StrBytes> [12.., tag 0],
        replica_id: i32 [..=14] = -1,
        replica_state: ReplicaState [15.., tag 1],
        max_wait_ms: i32,
        min_bytes: i32,
        /// Bytes of all partitions together; a first batch that is larger is sent all the same.
        max_bytes: i32 = i32::MAX,
        /// 0: read uncommitted; 1: read committed.
        isolation_level: i8,
        session_id: i32 [7..],
        /// KIP-227: 0 opens a session, -1 is a fetch without one.
        session_epoch: i32 [7..] = -1,
        topics: Vec<FetchTopic>,
        /// Partitions that leave the fetch session.
        forgotten_topics_data: Vec<ForgottenTopic> [7..],
        rack_id: StrBytes [11..],
    }

    response {
        throttle_time_ms: i32,
        error_code: ErrorCode [7..],
        session_id: i32 [7..],
        responses: Vec<FetchableTopicResponse>,
        node_endpoints: Vec<NodeEndpoint> [16.., tag 0],
    }

    /// KIP-903: which incarnation of a broker it is that fetches.
    struct ReplicaState {
        replica_id: i32 = -1,
        replica_epoch: i64 = -1,
    }

    struct FetchTopic {
        topic: StrBytes [..=12],
        topic_id: Uuid [13..],
        partitions: Vec<FetchPartition>,
    }

    struct FetchPartition {
        partition: i32,
        current_leader_epoch: i32 [9..] = -1,
        fetch_offset: i64,
        last_fetched_epoch: i32 [12..] = -1,
        /// Of the follower that fetches; -1 from consumers.
        log_start_offset: i64 [5..] = -1,
        partition_max_bytes: i32,
        replica_directory_id: Uuid [17.., tag 0],
        high_watermark: i64 [18.., tag 1] = i64::MAX,
    }

    struct ForgottenTopic {
        topic: StrBytes [..=12],
        topic_id: Uuid [13..],
        partitions: Vec<i32>,
    }

    struct FetchableTopicResponse {
        topic: StrBytes [..=12],
        topic_id: Uuid [13..],
        partitions: Vec<PartitionData>,
    }

    struct PartitionData {
        partition_index: i32,
        error_code: ErrorCode,
        high_watermark: i64,
        last_stable_offset: i64 = -1,
        log_start_offset: i64 [5..] = -1,
        /// Set when the reader's log has gone another way (KIP-595).
        diverging_epoch: EpochEndOffset [12.., tag 0],
        /// KIP-951: where to go instead, with NOT_LEADER_OR_FOLLOWER.
        current_leader: LeaderIdAndEpoch [12.., tag 1],
        snapshot_id: SnapshotId [12.., tag 2],
        /// Null unless the isolation level is read committed.
        aborted_transactions: Option<Vec<AbortedTransaction>>,
        /// KIP-392: the replica to fetch from, or -1 for this one.
        preferred_read_replica: i32 [11..] = -1,
        /// Empty rather than null by default: librdkafka takes null for a broken frame.
        records: Option<Records> = Some(Records::default()),
    }

    struct EpochEndOffset {
        epoch: i32 = -1,
        end_offset: i64 = -1,
    }

    struct LeaderIdAndEpoch {
        leader_id: i32 = -1,
        leader_epoch: i32 = -1,
    }

    /// Where a KRaft snapshot ends.
    struct SnapshotId {
        end_offset: i64 = -1,
        epoch: i32 = -1,
    }

    /// A transaction whose records read-committed consumers have to leave out.
    struct AbortedTransaction {
        producer_id: i64,
        first_offset: i64,
    }

    struct NodeEndpoint {
        node_id: i32,
        host: StrBytes,
        port: i32,
        rack: Option<StrBytes>,
    }
}
