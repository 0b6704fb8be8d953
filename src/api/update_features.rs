//! UpdateFeatures (57): changes the versions of features that a cluster uses. KIP-584, KIP-778 (dry
//! runs, kinds of downgrades).
//!
//! A feature's version says how Kafka's brokers speak with each other and what they write down. What
//! features there are here have one version, so that nothing can be changed.

use std::collections::BTreeMap;

use super::{Api, Call, Handled, limits};
use crate::wire::ErrorCode;
use crate::wire::update_features::{FeatureUpdateKey, KEY, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "UpdateFeatures",
    versions: 0..=2,
    handle,
};

/// KIP-778: upgrade, downgrade that loses nothing, any downgrade.
const UPGRADE_TYPES: std::ops::RangeInclusive<i8> = 1..=3;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let controller = call.gateway.facts().controller_id();
    call.answer(&respond(&request, controller))
}

/// All are wrong; the first by its name is told.
fn respond(request: &Request, controller: i32) -> Response {
    let updates = request.feature_updates.iter();
    let by_name: BTreeMap<_, _> = updates.map(|update| (&update.feature, update)).collect();
    let Some((_, update)) = by_name.first_key_value() else {
        return Response::default();
    };
    let text = format!(
        "The update failed for all features since the following feature had an error: \
         Invalid update version {} for feature {}. {}",
        update.max_version_level,
        update.feature,
        reason(update, controller)
    );
    Response {
        error_code: ErrorCode::INVALID_UPDATE_VERSION,
        error_message: Some(limits::text(text)),
        ..Response::default()
    }
}

fn reason(update: &FeatureUpdateKey, controller: i32) -> String {
    if !UPGRADE_TYPES.contains(&update.upgrade_type) {
        return "The controller does not support the given upgrade type.".to_owned();
    }
    match update.max_version_level {
        ..0 => "A feature version cannot be less than 0.".to_owned(),
        0 => format!("Feature {} not found.", update.feature),
        1.. => format!("Local controller {controller} does not support this feature."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(updates: &[(&'static str, i16, i8)]) -> (i16, String) {
        let update = |(feature, level, upgrade_type): &(&'static str, i16, i8)| FeatureUpdateKey {
            feature: (*feature).into(),
            max_version_level: *level,
            upgrade_type: *upgrade_type,
            ..FeatureUpdateKey::default()
        };
        let request = Request {
            feature_updates: updates.iter().map(update).collect(),
            ..Request::default()
        };
        let response = respond(&request, 1);
        let text = response.error_message.unwrap_or_default();
        (response.error_code.0, text.to_string())
    }

    #[test]
    fn no_feature_can_be_changed() {
        let unsupported = "Local controller 1 does not support this feature.";
        for (updates, said) in [
            (
                &[("f", 1, 1)][..],
                format!("1 for feature f. {unsupported}"),
            ),
            (&[("f", 1, 3)], format!("1 for feature f. {unsupported}")),
            (
                &[("f", 1, 1), ("b", 1, 1), ("b", 2, 1)],
                format!("2 for feature b. {unsupported}"),
            ),
            (
                &[("f", 0, 2)],
                "0 for feature f. Feature f not found.".to_owned(),
            ),
            (
                &[("f", -1, 1)],
                "-1 for feature f. A feature version cannot be less than 0.".to_owned(),
            ),
            (
                &[("f", -1, 0)],
                "-1 for feature f. The controller does not support the given upgrade type."
                    .to_owned(),
            ),
        ] {
            let failed =
                "The update failed for all features since the following feature had an error";
            let text = format!("{failed}: Invalid update version {said}");
            assert_eq!(told(updates), (95, text));
        }
        assert_eq!(told(&[]), (0, String::new()));
    }
}
