use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// Heartbeat (12): a member says that it is alive.
    /// v1: throttle time. v3: static members (KIP-345). v4: flexible (KIP-482).
    api 12, versions 0..=4, flexible 4..;

    request {
        group_id: StrBytes,
        generation_id: i32,
        member_id: StrBytes,
        group_instance_id: Option<StrBytes> [3..],
    }

    response {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode,
    }
}
