use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// UnregisterBroker (64): forgets a broker that is gone for good (KIP-500).
    api 64, versions 0..=0, flexible 0..;

    request {
        broker_id: i32,
    }

    response {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
    }
}
