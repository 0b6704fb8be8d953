use super::message::message;
use super::{ErrorCode, StrBytes};

message! {
    /// DescribeUserScramCredentials (50): which SCRAM credentials users have (KIP-554).
    api 50, versions 0..=0, flexible 0..;

    request {
        /// Null and empty ask for all.
        users: Option<Vec<UserName>>,
    }

    response {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        results: Vec<DescribeUserScramCredentialsResult>,
    }

    struct UserName {
        name: StrBytes,
    }

    struct DescribeUserScramCredentialsResult {
        user: StrBytes,
        error_code: ErrorCode,
        error_message: Option<StrBytes>,
        credential_infos: Vec<CredentialInfo>,
    }

    struct CredentialInfo {
        mechanism: i8,
        iterations: i32,
    }
}
