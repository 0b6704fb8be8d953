use super::message::message;
use super::{ErrorCode, StrBytes, Uuid};

message! {
    /// DeleteTopics (20): deletes topics (KIP-4).
    /// v1: throttle time. v3: TOPIC_DELETION_DISABLED (KIP-322). v4: flexible (KIP-482). v5: error message,
    /// THROTTLING_QUOTA_EXCEEDED (KIP-599). v6: topics by name or id (KIP-516).
    api 20, versions 1..=6, flexible 4..;

    request {
        topics: Vec<DeleteTopicState> [6..],
        topic_names: Vec<StrBytes> [..=5],
        timeout_ms: i32,
    }

    response {
        throttle_time_ms: i32,
        responses: Vec<DeletableTopicResult>,
    }

    struct DeleteTopicState {
        name: Option<StrBytes>,
        topic_id: Uuid,
    }

    struct DeletableTopicResult {
        name: Option<StrBytes> [1.., nullable 6..],
        topic_id: Uuid [6..],
        error_code: ErrorCode,
        error_message: Option<StrBytes> [5..],
    }
}
