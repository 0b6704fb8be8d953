//! DescribeUserScramCredentials (50): which SCRAM credentials users have. KIP-554. There are none.

use std::collections::HashMap;

use super::{Api, Call, Handled, limits};
use crate::wire::ErrorCode;
use crate::wire::describe_user_scram_credentials::{
    DescribeUserScramCredentialsResult, KEY, Request, Response, UserName,
};

pub(super) const API: Api = Api {
    key: KEY,
    name: "DescribeUserScramCredentials",
    versions: 0..=0,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    call.answer(&Response {
        error_message: Some("".into()),
        results: describe(&request.users.unwrap_or_default()),
        ..Response::default()
    })
}

/// Each user once.
fn describe(users: &[UserName]) -> Vec<DescribeUserScramCredentialsResult> {
    let mut times = HashMap::new();
    for user in users {
        *times.entry(&user.name).or_insert(0) += 1;
    }
    let results = users.iter().filter_map(|UserName { name }| {
        let (error_code, text) = match times.remove(name)? {
            1 => (
                ErrorCode::RESOURCE_NOT_FOUND,
                format!("Attempt to describe a user credential that does not exist: {name}"),
            ),
            _ => (
                ErrorCode::DUPLICATE_RESOURCE,
                format!(
                    "Cannot describe SCRAM credentials for the same user twice in a single request: {name}"
                ),
            ),
        };
        Some(DescribeUserScramCredentialsResult {
            user: name.clone(),
            error_code,
            error_message: Some(limits::text(text)),
            ..DescribeUserScramCredentialsResult::default()
        })
    });
    results.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_credentials_and_each_is_told_once() {
        let users = ["a", "b", "a"].map(|name| UserName { name: name.into() });
        let results = describe(&users);
        let told = results.iter().map(|r| (&*r.user, r.error_code.0));
        assert!(told.eq([("a", 92), ("b", 91)]));
        let text = "Attempt to describe a user credential that does not exist: b";
        assert_eq!(results[1].error_message.as_deref(), Some(text));
    }
}
