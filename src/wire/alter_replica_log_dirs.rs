use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// AlterReplicaLogDirs (34): moves partitions to other log directories (KIP-113).
    /// v2: flexible (KIP-482).
    api 34, versions 1..=2, flexible 2..;

    request {
        dirs: Vec<AlterReplicaLogDir>,
    }

    response {
        throttle_time_ms: i32,
        results: Vec<AlterReplicaLogDirTopicResult>,
    }

    struct AlterReplicaLogDir {
        path: StrBytes,
        topics: Vec<AlterReplicaLogDirTopic>,
    }

    struct AlterReplicaLogDirTopic {
        name: StrBytes,
        partitions: Vec<i32>,
    }

    struct AlterReplicaLogDirTopicResult {
        topic_name: StrBytes,
        partitions: Vec<AlterReplicaLogDirPartitionResult>,
    }

    struct AlterReplicaLogDirPartitionResult {
        partition_index: i32,
        error_code: ErrorCode,
    }
}
