//! LeaveGroup (13): members leave their group. KIP-345 (several at once, static ones by instance id),
//! KIP-800 (reasons).

use super::groups::{ask, check_id};
use super::{Api, Call, Handled};
use crate::group::messages::{GroupReply, GroupRequest};
use crate::wire::ErrorCode;
use crate::wire::leave_group::{KEY, MemberIdentity, MemberResponse, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "LeaveGroup",
    versions: 0..=5,
    handle,
};

/// KIP-345: from here on there may be several members.
const MEMBERS_VERSION_MIN: i16 = 3;

fn handle(mut call: Call) -> Handled {
    let mut request: Request = call.decode()?;
    let version = call.version();
    if version < MEMBERS_VERSION_MIN {
        request.members = vec![MemberIdentity {
            member_id: request.member_id.clone(),
            ..MemberIdentity::default()
        }];
    }
    if let Err(error) = check_id(&request.group_id) {
        return call.answer(&respond(version, &request.members, Err(error)));
    }
    let members = request.members.clone();
    let asked = ask(
        &call.gateway,
        GroupRequest::Leave {
            group: request.group_id,
            members: request.members,
        },
    );
    call.later(move |_| async move {
        let left = match asked.await {
            Ok(GroupReply::Leave(left)) => left,
            Ok(_) => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(error) => Err(error),
        };
        respond(version, &members, left)
    })
}

fn respond(
    version: i16,
    asked: &[MemberIdentity],
    left: Result<Vec<MemberResponse>, ErrorCode>,
) -> Response {
    let unknown = |one: &MemberIdentity| MemberResponse {
        member_id: one.member_id.clone(),
        group_instance_id: one.group_instance_id.clone(),
        error_code: ErrorCode::UNKNOWN_MEMBER_ID,
    };
    let (error_code, members) = match left {
        Ok(members) => (ErrorCode::NONE, members),
        // There is no such group, so each of them is unknown.
        Err(ErrorCode::UNKNOWN_MEMBER_ID) => (ErrorCode::NONE, asked.iter().map(unknown).collect()),
        Err(error) => (error, Vec::new()),
    };
    let first_error = members.first().map_or(ErrorCode::NONE, |m| m.error_code);
    Response {
        error_code: match version {
            // The one member's error is that of the request.
            ..MEMBERS_VERSION_MIN if error_code.is_ok() => first_error,
            _ => error_code,
        },
        members,
        ..Response::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_members_error_is_the_requests_before_version_3() {
        let asked = [MemberIdentity::default()];
        let unknown = || Err(ErrorCode::UNKNOWN_MEMBER_ID);
        let old = respond(2, &asked, unknown());
        assert_eq!(old.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
        let new = respond(3, &asked, unknown());
        assert_eq!(new.error_code, ErrorCode::NONE);
        assert_eq!(new.members[0].error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    }
}
