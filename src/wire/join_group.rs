use bytes::Bytes;

use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// JoinGroup (11): enters a group, and waits until its new generation is complete.
    /// v1: rebalance timeout (KIP-62). v2: throttle time. v4: a member first gets its id, then joins with
    /// it (KIP-394). v5: static members (KIP-345). v6: flexible (KIP-482). v7: protocol type in the answer
    /// (KIP-559). v8: reason (KIP-800). v9: a leader may be told to keep the assignment (KIP-814).
    api 11, versions 0..=9, flexible 6..;

    request {
        group_id: StrBytes,
        session_timeout_ms: i32,
        /// Version 0 has none: the session timeout counts for both.
        rebalance_timeout_ms: i32 [1..] = -1,
        member_id: StrBytes,
        group_instance_id: Option<StrBytes> [5..],
        protocol_type: StrBytes,
        protocols: Vec<JoinGroupRequestProtocol>,
        reason: Option<StrBytes> [8..],
    }

    response {
        throttle_time_ms: i32 [2..],
        error_code: ErrorCode,
        generation_id: i32 = -1,
        protocol_type: Option<StrBytes> [7..],
        protocol_name: Option<StrBytes> [0.., nullable 7..],
        leader: StrBytes,
        /// KIP-814: a static leader came back; the old assignment stays.
        skip_assignment: bool [9..],
        member_id: StrBytes,
        /// For the leader only; empty for all others.
        members: Vec<JoinGroupResponseMember>,
    }

    struct JoinGroupRequestProtocol {
        name: StrBytes,
        /// For consumers a [`Subscription`](super::consumer_protocol::Subscription).
        metadata: Bytes,
    }

    struct JoinGroupResponseMember {
        member_id: StrBytes,
        group_instance_id: Option<StrBytes> [5..],
        metadata: Bytes,
    }
}
