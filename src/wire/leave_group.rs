use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// LeaveGroup (13): members leave their group.
    /// v1: throttle time. v3: many members, static ones by instance id (KIP-345). v4: flexible (KIP-482).
    /// v5: reason (KIP-800).
    api 13, versions 0..=5, flexible 4..;

    request {
        group_id: StrBytes,
        /// The only member, before leaving in bulk.
        member_id: StrBytes [..=2],
        members: Vec<MemberIdentity> [3..],
    }

    response {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode,
        members: Vec<MemberResponse> [3..],
    }

    struct MemberIdentity {
        member_id: StrBytes,
        group_instance_id: Option<StrBytes>,
        reason: Option<StrBytes> [5..],
    }

    struct MemberResponse {
        member_id: StrBytes,
        group_instance_id: Option<StrBytes>,
        error_code: ErrorCode,
    }
}
