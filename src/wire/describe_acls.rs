use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// DescribeAcls (29): ACLs that match a filter (KIP-140). Null matches all.
    /// v1: pattern types (KIP-290). v2: flexible (KIP-482). v3: users as resources (KIP-373).
    api 29, versions 1..=3, flexible 2..;

    request {
        resource_type_filter: i8,
        resource_name_filter: Option<StrBytes>,
        pattern_type_filter: i8 = 3,
        principal_filter: Option<StrBytes>,
        host_filter: Option<StrBytes>,
        operation: i8,
        permission_type: i8,
    }

    response {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        resources: Vec<DescribeAclsResource>,
    }

    struct DescribeAclsResource {
        resource_type: i8,
        resource_name: StrBytes,
        pattern_type: i8 = 3,
        acls: Vec<AclDescription>,
    }

    struct AclDescription {
        principal: StrBytes,
        host: StrBytes,
        operation: i8,
        permission_type: i8,
    }
}
