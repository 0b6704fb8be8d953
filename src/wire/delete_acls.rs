use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// DeleteAcls (31): removes the ACLs that match filters (KIP-140). Null matches all.
    /// v1: pattern types (KIP-290). v2: flexible (KIP-482). v3: users as resources (KIP-373).
    api 31, versions 1..=3, flexible 2..;

    request {
        filters: Vec<DeleteAclsFilter>,
    }

    response {
        throttle_time_ms: i32,
        filter_results: Vec<DeleteAclsFilterResult>,
    }

    struct DeleteAclsFilter {
        resource_type_filter: i8,
        resource_name_filter: Option<StrBytes>,
        pattern_type_filter: i8 = 3,
        principal_filter: Option<StrBytes>,
        host_filter: Option<StrBytes>,
        operation: i8,
        permission_type: i8,
    }

    struct DeleteAclsFilterResult {
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        matching_acls: Vec<DeleteAclsMatchingAcl>,
    }

    struct DeleteAclsMatchingAcl {
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        resource_type: i8,
        resource_name: StrBytes,
        pattern_type: i8 = 3,
        principal: StrBytes,
        host: StrBytes,
        operation: i8,
        permission_type: i8,
    }
}
