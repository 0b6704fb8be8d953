use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// DescribeConfigs (32): configs of topics, brokers and groups (KIP-133).
    /// v1: synonyms and sources (KIP-226). v3: types and documentation (KIP-569). v4: flexible (KIP-482).
    api 32, versions 1..=4, flexible 4..;

    request {
        resources: Vec<DescribeConfigsResource>,
        include_synonyms: bool,
        include_documentation: bool [3..],
    }

    response {
        throttle_time_ms: i32,
        results: Vec<DescribeConfigsResult>,
    }

    struct DescribeConfigsResource {
        /// 2: topic; 4: broker; 8: broker logger; 16: client metrics; 32: group.
        resource_type: i8,
        resource_name: StrBytes,
        /// Null asks for all.
        configuration_keys: Option<Vec<StrBytes>>,
    }

    struct DescribeConfigsResult {
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        /// 2: topic; 4: broker; 8: broker logger; 16: client metrics; 32: group.
        resource_type: i8,
        resource_name: StrBytes,
        configs: Vec<DescribeConfigsResourceResult>,
    }

    struct DescribeConfigsResourceResult {
        name: StrBytes,
        value: Option<StrBytes>,
        read_only: bool,
        /// 1: topic; 2: broker, dynamic; 3: default of brokers, dynamic; 4: broker, static; 5: default;
        /// 6: broker logger; 7: client metrics; 8: group.
        config_source: i8 = -1,
        is_sensitive: bool,
        synonyms: Vec<DescribeConfigsSynonym>,
        /// 1: boolean; 2: string; 3: int; 4: short; 5: long; 6: double; 7: list; 8: class; 9: password.
        config_type: i8 [3..],
        documentation: Option<StrBytes> [3..],
    }

    struct DescribeConfigsSynonym {
        name: StrBytes,
        value: Option<StrBytes>,
        /// As `config_source`.
        source: i8,
    }
}
