//! DescribeGroups (15): state and members of groups. KIP-345 (static members), KIP-430 (authorized
//! operations), KIP-1043 (an error for groups that do not exist).

use std::rc::Rc;

use super::groups::ask_each;
use super::{Api, Call, Handled, operations};
use crate::group::State;
use crate::group::messages::{Described, GroupReply, GroupRequest};
use crate::wire::describe_groups::{DescribedGroup, KEY, Request, Response};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "DescribeGroups",
    versions: 0..=6,
    handle,
};

/// KIP-1043: before, a group that does not exist is a dead one.
const NOT_FOUND_VERSION_MIN: i16 = 6;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    call.later(|call| answer(call, request))
}

async fn answer(call: Rc<Call>, request: Request) -> Response {
    let version = call.version();
    let asked = request.groups.iter().cloned().map(GroupRequest::Describe);
    let replies = ask_each(&call.gateway, asked).await;
    let described = |(group_id, reply): (&StrBytes, _)| {
        let described = match reply {
            Ok(GroupReply::Describe(Ok(Described::Group(described)))) => described,
            Ok(GroupReply::Describe(Ok(Described::Nothing))) => {
                return missing(version, group_id, "not found");
            }
            Ok(GroupReply::Describe(Ok(Described::OfAnotherKind))) => {
                return missing(version, group_id, "is not a classic group");
            }
            Ok(GroupReply::Describe(Err(error))) | Err(error) => return failed(group_id, error),
            Ok(_) => return failed(group_id, ErrorCode::UNKNOWN_SERVER_ERROR),
        };
        DescribedGroup {
            authorized_operations: match request.include_authorized_operations {
                true => operations::GROUP,
                false => operations::NOT_ASKED,
            },
            ..described
        }
    };
    Response {
        groups: request.groups.iter().zip(replies).map(described).collect(),
        ..Response::default()
    }
}

fn failed(group_id: &StrBytes, error_code: ErrorCode) -> DescribedGroup {
    DescribedGroup {
        error_code,
        group_id: group_id.clone(),
        ..DescribedGroup::default()
    }
}

/// A group that is not there, or not as a classic one.
fn missing(version: i16, group_id: &StrBytes, why: &str) -> DescribedGroup {
    let dead = DescribedGroup {
        group_id: group_id.clone(),
        group_state: State::Dead.name().into(),
        ..DescribedGroup::default()
    };
    match version {
        NOT_FOUND_VERSION_MIN.. => DescribedGroup {
            error_code: ErrorCode::GROUP_ID_NOT_FOUND,
            error_message: Some(format!("Group {group_id} {why}.").into()),
            ..dead
        },
        _ => dead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_does_not_exist_is_dead_and_later_an_error() {
        let old = missing(5, &"g".into(), "not found");
        assert_eq!(
            (old.error_code, &*old.group_state),
            (ErrorCode::NONE, "Dead")
        );
        let new = missing(6, &"g".into(), "not found");
        assert_eq!(new.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
        assert_eq!(new.error_message.as_deref(), Some("Group g not found."));
    }
}
