use bytes::Bytes;

use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// DescribeGroups (15): state and members of classic groups.
    /// v1: throttle time. v3: authorized operations (KIP-430). v4: static members (KIP-345). v5: flexible
    /// (KIP-482). v6: GROUP_ID_NOT_FOUND, error message (KIP-1043).
    api 15, versions 0..=6, flexible 5..;

    request {
        groups: Vec<StrBytes>,
        include_authorized_operations: bool [3..],
    }

    response {
        throttle_time_ms: i32 [1..],
        groups: Vec<DescribedGroup>,
    }

    struct DescribedGroup {
        error_code: ErrorCode,
        error_message: Option<StrBytes> [6..],
        group_id: StrBytes,
        group_state: StrBytes,
        protocol_type: StrBytes,
        protocol_data: StrBytes,
        members: Vec<DescribedGroupMember>,
        /// A bit field (KIP-430); `i32::MIN` when it was not asked for.
        authorized_operations: i32 [3..] = i32::MIN,
    }

    struct DescribedGroupMember {
        member_id: StrBytes,
        group_instance_id: Option<StrBytes> [4..],
        client_id: StrBytes,
        client_host: StrBytes,
        member_metadata: Bytes,
        member_assignment: Bytes,
    }
}
