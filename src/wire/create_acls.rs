use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// CreateAcls (30): adds ACLs (KIP-140).
    /// v1: pattern types (KIP-290). v2: flexible (KIP-482). v3: users as resources (KIP-373).
    api 30, versions 1..=3, flexible 2..;

    request {
        creations: Vec<AclCreation>,
    }

    response {
        throttle_time_ms: i32,
        results: Vec<AclCreationResult>,
    }

    struct AclCreation {
        resource_type: i8,
        resource_name: StrBytes,
        resource_pattern_type: i8 = 3,
        principal: StrBytes,
        host: StrBytes,
        operation: i8,
        permission_type: i8,
    }

    struct AclCreationResult {
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
    }
}
