use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// ListConfigResources (74): what has configs (KIP-1142). v0 was ListClientMetricsResources
    /// (KIP-714) and lists those only.
    api 74, versions 0..=1, flexible 0..;

    request {
        /// None asks for all types.
        resource_types: Vec<i8> [1..],
    }

    response {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        config_resources: Vec<ConfigResource>,
    }

    struct ConfigResource {
        resource_name: StrBytes,
        /// 2: topic; 4: broker; 8: broker logger; 16: client metrics; 32: group.
        resource_type: i8 [1..] = 16,
    }
}
