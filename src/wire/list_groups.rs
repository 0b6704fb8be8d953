use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// ListGroups (16): the groups that this broker coordinates.
    /// v1: throttle time. v3: flexible (KIP-482). v4: states (KIP-518). v5: types (KIP-848).
    api 16, versions 0..=5, flexible 3..;

    request {
        /// Empty lists groups in all states.
        states_filter: Vec<StrBytes> [4..],
        /// Empty lists groups of all types.
        types_filter: Vec<StrBytes> [5..],
    }

    response {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode,
        groups: Vec<ListedGroup>,
    }

    struct ListedGroup {
        group_id: StrBytes,
        protocol_type: StrBytes,
        group_state: StrBytes [4..],
        group_type: StrBytes [5..],
    }
}
