//! DescribeClientQuotas (48): quotas of users, clients and addresses. KIP-546, KIP-612 (addresses).
//! No quotas can be set: filters are checked as Kafka does, and nothing matches them.

use std::collections::HashSet;

use super::{Api, Call, Handled, limits};
use crate::wire::ErrorCode;
use crate::wire::describe_client_quotas::{ComponentData, KEY, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "DescribeClientQuotas",
    versions: 0..=1,
    handle,
};

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    call.answer(&match check(&request.components) {
        Ok(()) => Response {
            error_message: Some("".into()),
            entries: Some(Vec::new()),
            ..Response::default()
        },
        Err((error_code, text)) => Response {
            error_code,
            error_message: Some(limits::text(text)),
            ..Response::default()
        },
    })
}

fn check(components: &[ComponentData]) -> Result<(), (ErrorCode, String)> {
    let invalid = |text: String| (ErrorCode::INVALID_REQUEST, text);
    let mut types = HashSet::new();
    for component in components {
        let entity = &*component.entity_type;
        if entity.is_empty() {
            return Err(invalid("Invalid empty entity type.".to_owned()));
        }
        if !types.insert(entity) {
            let text = format!("Entity type {entity} cannot appear more than once in the filter.");
            return Err(invalid(text));
        }
        if !["user", "client-id", "ip"].contains(&entity) {
            let text = format!("Unsupported entity type {entity}");
            return Err((ErrorCode::UNSUPPORTED_VERSION, text));
        }
        check_match(component).map_err(invalid)?;
    }
    match types.contains("ip") && types.len() > 1 {
        true => Err(invalid(
            "Invalid entity filter component combination. IP filter component should not be used \
             with user or clientId filter component."
                .to_owned(),
        )),
        false => Ok(()),
    }
}

fn check_match(component: &ComponentData) -> Result<(), String> {
    let also = |name| format!("Request specified {name}, but also specified a match string.");
    match (component.match_type, &component.r#match) {
        (EXACT, Some(_)) | (DEFAULT | SPECIFIED, None) => Ok(()),
        (EXACT, None) => {
            Err("Request specified MATCH_TYPE_EXACT, but set match string to null.".to_owned())
        }
        (DEFAULT, Some(_)) => Err(also("MATCH_TYPE_DEFAULT")),
        (SPECIFIED, Some(_)) => Err(also("MATCH_TYPE_SPECIFIED")),
        (unknown, _) => Err(format!("Unknown match type {unknown}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Asked = (&'static str, i8, Option<&'static str>);

    fn checked(components: &[Asked]) -> Result<(), (ErrorCode, String)> {
        let component = |(entity_type, match_type, name): &Asked| ComponentData {
            entity_type: (*entity_type).into(),
            match_type: *match_type,
            r#match: name.map(Into::into),
        };
        check(&components.iter().map(component).collect::<Vec<_>>())
    }

    #[test]
    fn filters_are_checked_in_kafkas_words() {
        let invalid = ErrorCode::INVALID_REQUEST;
        let unsupported = ErrorCode::UNSUPPORTED_VERSION;
        let user = ("user", EXACT, Some("a"));
        for (components, code, text) in [
            (&[("", 9, None)][..], invalid, "Invalid empty entity type."),
            (
                &[user, ("user", 9, None)],
                invalid,
                "Entity type user cannot appear more than once in the filter.",
            ),
            (&[("x", 9, None)], unsupported, "Unsupported entity type x"),
            (
                &[("user", EXACT, None)],
                invalid,
                "Request specified MATCH_TYPE_EXACT, but set match string to null.",
            ),
            (
                &[("user", DEFAULT, Some("a"))],
                invalid,
                "Request specified MATCH_TYPE_DEFAULT, but also specified a match string.",
            ),
            (
                &[("user", SPECIFIED, Some("a"))],
                invalid,
                "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.",
            ),
            (&[("ip", -1, None)], invalid, "Unknown match type -1"),
            (
                &[("ip", DEFAULT, None), user],
                invalid,
                "Invalid entity filter component combination. IP filter component should not be \
                 used with user or clientId filter component.",
            ),
        ] {
            assert_eq!(checked(components), Err((code, text.to_owned())));
        }
        for good in [
            &[][..],
            &[("ip", EXACT, Some("anything"))],
            &[user, ("client-id", SPECIFIED, None)],
        ] {
            assert_eq!(checked(good), Ok(()));
        }
    }
}
