//! ApiVersions (18): which APIs and versions are served. KIP-35, KIP-511 (client's name and version),
//! KIP-584 (features).

use bytes::Bytes;

use super::{Api, Call, Handled, REGISTRY};
use crate::wire::ErrorCode;
use crate::wire::api_versions::{
    ApiVersion, FinalizedFeatureKey, KEY, Request, Response, SupportedFeatureKey,
};
use crate::wire::frame::encode_response;

pub(super) const API: Api = Api {
    key: KEY,
    name: "ApiVersions",
    versions: 0..=4,
    handle,
};

/// KIP-511: from here on clients say what they are.
const SOFTWARE_VERSION_MIN: i16 = 3;

/// KIP-848: whether there are groups of the consumer protocol.
const GROUP_VERSION: &str = "group.version";
const CONSUMER_GROUPS: i16 = 1;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let valid = is_name(&request.client_software_name) && is_name(&request.client_software_version);
    if call.version() >= SOFTWARE_VERSION_MIN && !valid {
        return call.answer(&Response {
            error_code: ErrorCode::INVALID_REQUEST,
            ..Response::default()
        });
    }
    call.answer(&Response {
        api_keys: REGISTRY.iter().map(served).collect(),
        supported_features: vec![SupportedFeatureKey {
            name: GROUP_VERSION.into(),
            // They cannot be turned off. And clients of before version 4 do not take 0 here.
            min_version: CONSUMER_GROUPS,
            max_version: CONSUMER_GROUPS,
        }],
        finalized_features_epoch: 0,
        finalized_features: vec![FinalizedFeatureKey {
            name: GROUP_VERSION.into(),
            max_version_level: CONSUMER_GROUPS,
            min_version_level: CONSUMER_GROUPS,
        }],
        ..Response::default()
    })
}

/// The answer to a version that is not served: in the form of version 0, which every client reads,
/// with the versions to choose from (KIP-511).
pub(super) fn unsupported(correlation_id: i32) -> Vec<Bytes> {
    let response = Response {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: vec![served(&API)],
        ..Response::default()
    };
    encode_response(KEY, 0, correlation_id, &response)
}

fn served(api: &Api) -> ApiVersion {
    ApiVersion {
        api_key: api.key,
        min_version: *api.versions.start(),
        max_version: *api.versions.end(),
    }
}

/// KIP-511: letters, digits, dots and dashes; a letter or digit first and last.
fn is_name(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    let at_end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    at_end(bytes.first()) && at_end(bytes.last()) && bytes.iter().copied().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_software_names_are_checked_as_kafka_does() {
        for good in ["a", "a.b-c", "1.0-x", &"x".repeat(300)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a b", "-a", "a.", "a_b", "żółw"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn an_unsupported_version_is_answered_in_the_form_of_version_0() {
        let frame: Vec<u8> = unsupported(77).concat();
        let expected = [
            &16_i32.to_be_bytes()[..],
            &77_i32.to_be_bytes(),
            &35_i16.to_be_bytes(),
            &1_i32.to_be_bytes(),
            &[0, 18, 0, 0, 0, 4],
        ];
        assert_eq!(frame, expected.concat());
    }
}
