use bytes::Bytes;

use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// SyncGroup (14): the leader hands in the assignment, and each member gets its part.
    /// v1: throttle time. v3: static members (KIP-345). v4: flexible (KIP-482). v5: protocol type and name
    /// (KIP-559).
    api 14, versions 0..=5, flexible 4..;

    request {
        group_id: StrBytes,
        generation_id: i32,
        member_id: StrBytes,
        group_instance_id: Option<StrBytes> [3..],
        protocol_type: Option<StrBytes> [5..],
        protocol_name: Option<StrBytes> [5..],
        /// From the leader only; empty from all others.
        assignments: Vec<SyncGroupRequestAssignment>,
    }

    response {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode,
        protocol_type: Option<StrBytes> [5..],
        protocol_name: Option<StrBytes> [5..],
        assignment: Bytes,
    }

    struct SyncGroupRequestAssignment {
        member_id: StrBytes,
        /// For consumers an [`Assignment`](super::consumer_protocol::Assignment).
        assignment: Bytes,
    }
}
