use super::message::message;
use super::{ErrorCode, Records, StrBytes, Uuid};

message! {
    /// Produce (0): appends record batches to partitions.
    /// v1: throttle time. v2: log append time. v3: record batches v2, transactional id. v5: log start
    /// offset. v7: zstd (KIP-110). v8: errors of single records (KIP-467). v9: flexible (KIP-482). v10:
    /// leaders and their addresses (KIP-951). v11: TRANSACTION_ABORTABLE, v12: partitions join their
    /// transaction by producing (KIP-890). v13: topic ids (KIP-516).
    ///
    /// Versions 0 to 2 are listed because librdkafka takes a broker without them for one that lacks
    /// compression (KAFKA-18659). Their record format is gone; servers refuse them.
    api 0, versions 0..=13, flexible 9..;

    request {
        transactional_id: Option<StrBytes> [3..],
        /// 0: no answer is wanted; 1: the leader has it; -1: all in-sync replicas have it.
        acks: i16,
        timeout_ms: i32,
        topic_data: Vec<TopicProduceData>,
    }

    response {
        responses: Vec<TopicProduceResponse>,
        throttle_time_ms: i32 [1..],
        node_endpoints: Vec<NodeEndpoint> [10.., tag 0],
    }

    struct TopicProduceData {
        name: StrBytes [..=12],
        topic_id: Uuid [13..],
        partition_data: Vec<PartitionProduceData>,
    }

    struct PartitionProduceData {
        index: i32,
        records: Option<Records>,
    }

    struct TopicProduceResponse {
        name: StrBytes [..=12],
        topic_id: Uuid [13..],
        partition_responses: Vec<PartitionProduceResponse>,
    }

    struct PartitionProduceResponse {
        index: i32,
        error_code: ErrorCode,
        /// Offset of the first record appended.
        base_offset: i64,
        /// Milliseconds since the epoch; -1 when the producer's timestamps were kept.
        log_append_time_ms: i64 [2..] = -1,
        log_start_offset: i64 [5..] = -1,
        /// The records for which a batch was refused (KIP-467).
        record_errors: Vec<BatchIndexAndErrorMessage> [8..],
        error_message: Option<StrBytes> [8..],
        /// KIP-951: where to go instead, with NOT_LEADER_OR_FOLLOWER.
        current_leader: LeaderIdAndEpoch [10.., tag 0],
    }

    struct BatchIndexAndErrorMessage {
        batch_index: i32,
        batch_index_error_message: Option<StrBytes>,
    }

    struct LeaderIdAndEpoch {
        leader_id: i32 = -1,
        leader_epoch: i32 = -1,
    }

    struct NodeEndpoint {
        node_id: i32,
        host: StrBytes,
        port: i32,
        rack: Option<StrBytes>,
    }
}
