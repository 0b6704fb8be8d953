use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// ApiVersions (18): which APIs and versions a broker serves (KIP-35).
    /// v1: throttle time. v3: flexible (KIP-482), the client's name and version (KIP-511), features
    /// (KIP-584). v4: features may start at version 0.
    ///
    /// The answer's header is never flexible: a client that asks in a version the broker does not know
    /// has to be able to read it (KIP-511).
    api 18, versions 0..=4, flexible 3..;

    request {
        client_software_name: StrBytes [3..],
        client_software_version: StrBytes [3..],
    }

    response {
        error_code: ErrorCode,
        api_keys: Vec<ApiVersion>,
        throttle_time_ms: i32 [1..],
        supported_features: Vec<SupportedFeatureKey> [3.., tag 0],
        /// -1 when it is not known (KIP-584).
        finalized_features_epoch: i64 [3.., tag 1] = -1,
        finalized_features: Vec<FinalizedFeatureKey> [3.., tag 2],
        zk_migration_ready: bool [3.., tag 3],
    }

    struct ApiVersion {
        api_key: i16,
        min_version: i16,
        max_version: i16,
    }

    struct SupportedFeatureKey {
        name: StrBytes,
        min_version: i16,
        max_version: i16,
    }

    struct FinalizedFeatureKey {
        name: StrBytes,
        max_version_level: i16,
        min_version_level: i16,
    }
}
