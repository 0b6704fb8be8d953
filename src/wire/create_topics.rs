use super::message::message;
use super::{ErrorCode, StrBytes, Uuid};

message! {
    /// CreateTopics (19): creates topics (KIP-4).
    /// v4: partitions and replication factor may be left to the broker (KIP-464). v5: flexible (KIP-482),
    /// configs in the answer (KIP-525). v6: THROTTLING_QUOTA_EXCEEDED (KIP-599). v7: topic ids (KIP-516).
    api 19, versions 2..=7, flexible 5..;

    request {
        topics: Vec<CreatableTopic>,
        timeout_ms: i32 = 60000,
        validate_only: bool,
    }

    response {
        throttle_time_ms: i32,
        topics: Vec<CreatableTopicResult>,
    }

    struct CreatableTopic {
        name: StrBytes,
        /// -1: the broker's default (KIP-464), or given by the assignments.
        num_partitions: i32,
        /// -1: the broker's default (KIP-464), or given by the assignments.
        replication_factor: i16,
        assignments: Vec<CreatableReplicaAssignment>,
        configs: Vec<CreatableTopicConfig>,
    }

    struct CreatableReplicaAssignment {
        partition_index: i32,
        broker_ids: Vec<i32>,
    }

    struct CreatableTopicConfig {
        name: StrBytes,
        value: Option<StrBytes>,
    }

    struct CreatableTopicResult {
        name: StrBytes,
        topic_id: Uuid [7..],
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        /// Why the configs below are missing, if they are.
        topic_config_error_code: ErrorCode [5.., tag 0],
        num_partitions: i32 [5..] = -1,
        replication_factor: i16 [5..] = -1,
        configs: Option<Vec<CreatableTopicConfigs>> [5..],
    }

    struct CreatableTopicConfigs {
        name: StrBytes,
        value: Option<StrBytes>,
        read_only: bool,
        /// 1: topic; 2: broker, dynamic; 3: default of brokers, dynamic; 4: broker, static; 5: default;
        /// 6: broker logger; 7: client metrics; 8: group.
        config_source: i8 = -1,
        is_sensitive: bool,
    }
}
