use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// AlterConfigs (33): replaces all configs of a resource (KIP-133). IncrementalAlterConfigs is better.
    /// v2: flexible (KIP-482).
    api 33, versions 0..=2, flexible 2..;

    request {
        resources: Vec<AlterConfigsResource>,
        validate_only: bool,
    }

    response {
        throttle_time_ms: i32,
        responses: Vec<AlterConfigsResourceResponse>,
    }

    struct AlterConfigsResource {
        /// 2: topic; 4: broker; 8: broker logger; 16: client metrics; 32: group.
        resource_type: i8,
        resource_name: StrBytes,
        configs: Vec<AlterableConfig>,
    }

    struct AlterableConfig {
        name: StrBytes,
        value: Option<StrBytes>,
    }

    struct AlterConfigsResourceResponse {
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        /// 2: topic; 4: broker; 8: broker logger; 16: client metrics; 32: group.
        resource_type: i8,
        resource_name: StrBytes,
    }
}
