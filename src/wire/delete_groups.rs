use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// DeleteGroups (42): deletes groups that have no members (KIP-229).
    /// v2: flexible (KIP-482).
    api 42, versions 0..=2, flexible 2..;

    request {
        groups_names: Vec<StrBytes>,
    }

    response {
        throttle_time_ms: i32,
        results: Vec<DeletableGroupResult>,
    }

    struct DeletableGroupResult {
        group_id: StrBytes,
        error_code: ErrorCode,
    }
}
