use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// FindCoordinator (10): which broker a group or a transaction belongs to.
    /// v1: transactions, throttle time, error message (KIP-98). v3: flexible (KIP-482). v4: many keys
    /// (KIP-699). v5: TRANSACTION_ABORTABLE (KIP-890). v6: share groups (KIP-932).
    api 10, versions 0..=6, flexible 3..;

    request {
        /// A group id or transactional id.
        key: StrBytes [..=3],
        /// 0: group; 1: transaction; 2: share group.
        key_type: i8 [1..],
        /// Group ids or transactional ids.
        coordinator_keys: Vec<StrBytes> [4..],
    }

    response {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [..=3],
        error_message: Option<StrBytes> [1..=3],
        node_id: i32 [..=3],
        host: StrBytes [..=3],
        port: i32 [..=3],
        coordinators: Vec<Coordinator> [4..],
    }

    struct Coordinator {
        key: StrBytes,
        node_id: i32,
        host: StrBytes,
        port: i32,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
    }
}
