use super::message::message;
use super::{ErrorCode, StrBytes, Uuid};

message! {
    /// DescribeTopicPartitions (75): partitions of topics, page by page (KIP-966).
    api 75, versions 0..=0, flexible 0..;

    request {
        topics: Vec<TopicRequest>,
        response_partition_limit: i32 = 2000,
        /// Where to go on; null starts at the first topic.
        cursor: Option<Cursor>,
    }

    response {
        throttle_time_ms: i32,
        topics: Vec<DescribeTopicPartitionsResponseTopic>,
        /// Where the next request is to go on; null when this was all.
        next_cursor: Option<Cursor>,
    }

    struct TopicRequest {
        name: StrBytes,
    }

    struct Cursor {
        topic_name: StrBytes,
        partition_index: i32,
    }

    struct DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode,
        name: Option<StrBytes>,
        topic_id: Uuid,
        is_internal: bool,
        partitions: Vec<DescribeTopicPartitionsResponsePartition>,
        /// A bit field (KIP-430); `i32::MIN` when it was not asked for.
        topic_authorized_operations: i32 = i32::MIN,
    }

    struct DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        eligible_leader_replicas: Option<Vec<i32>>,
        last_known_elr: Option<Vec<i32>>,
        offline_replicas: Vec<i32>,
    }
}
