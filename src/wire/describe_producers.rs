use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// DescribeProducers (61): producers whose state partitions keep (KIP-664).
    api 61, versions 0..=0, flexible 0..;

    request {
        topics: Vec<TopicRequest>,
    }

    response {
        throttle_time_ms: i32,
        topics: Vec<TopicResponse>,
    }

    struct TopicRequest {
        name: StrBytes,
        partition_indexes: Vec<i32>,
    }

    struct TopicResponse {
        name: StrBytes,
        partitions: Vec<PartitionResponse>,
    }

    struct PartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        active_producers: Vec<ProducerState>,
    }

    struct ProducerState {
        producer_id: i64,
        producer_epoch: i32,
        last_sequence: i32 = -1,
        last_timestamp: i64 = -1,
        coordinator_epoch: i32,
        current_txn_start_offset: i64 = -1,
    }
}
