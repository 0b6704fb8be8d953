use super::message::message;
use super::{ErrorCode, StrBytes, Uuid};

message! {
    /// DescribeQuorum (55): who votes in KRaft, and how far each is (KIP-595).
    /// v1: when replicas were caught up (KIP-836). v2: directories, endpoints, texts of errors (KIP-853).
    api 55, versions 0..=2, flexible 0..;

    request {
        topics: Vec<TopicRequest>,
    }

    response {
        error_code: ErrorCode,
        error_message: Option<StrBytes> [2..],
        topics: Vec<TopicData>,
        nodes: Vec<Node> [2..],
    }

    struct TopicRequest {
        topic_name: StrBytes,
        partitions: Vec<PartitionRequest>,
    }

    struct PartitionRequest {
        partition_index: i32,
    }

    struct TopicData {
        topic_name: StrBytes,
        partitions: Vec<PartitionData>,
    }

    struct PartitionData {
        partition_index: i32,
        error_code: ErrorCode,
        error_message: Option<StrBytes> [2..],
        leader_id: i32,
        leader_epoch: i32,
        high_watermark: i64,
        current_voters: Vec<ReplicaState>,
        observers: Vec<ReplicaState>,
    }

    struct ReplicaState {
        replica_id: i32,
        replica_directory_id: Uuid [2..],
        log_end_offset: i64,
        /// Milliseconds since the epoch; -1 when it is not known.
        last_fetch_timestamp: i64 [1..] = -1,
        /// Milliseconds since the epoch; -1 when it is not known.
        last_caught_up_timestamp: i64 [1..] = -1,
    }

    struct Node {
        node_id: i32,
        listeners: Vec<Listener>,
    }

    struct Listener {
        name: StrBytes,
        host: StrBytes,
        port: u16,
    }
}
