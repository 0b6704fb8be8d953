use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// IncrementalAlterConfigs (44): changes single configs of a resource (KIP-339).
    /// v1: flexible (KIP-482).
    api 44, versions 0..=1, flexible 1..;

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
        /// 0: set; 1: delete; 2: append; 3: subtract.
        config_operation: i8,
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
