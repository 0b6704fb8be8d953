use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// UpdateFeatures (57): changes the versions of features that the cluster uses (KIP-584).
    /// v1: types of upgrades, and a dry run (KIP-778). v2: no more results by feature.
    api 57, versions 0..=2, flexible 0..;

    request {
        timeout_ms: i32 = 60_000,
        feature_updates: Vec<FeatureUpdateKey>,
        validate_only: bool [1..],
    }

    response {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        results: Vec<UpdatableFeatureResult> [0..=1],
    }

    struct FeatureUpdateKey {
        feature: StrBytes,
        /// 0 asks for the feature to be disabled.
        max_version_level: i16,
        allow_downgrade: bool [0..=0],
        /// 1: upgrade; 2: downgrade that loses nothing; 3: any downgrade.
        upgrade_type: i8 [1..] = 1,
    }

    struct UpdatableFeatureResult {
        feature: StrBytes,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
    }
}
