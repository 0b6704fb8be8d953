//! SyncGroup (14): the leader hands in the assignment, and each member gets its part. KIP-345 (static
//! members), KIP-559 (protocol type and name).

use super::groups::{ask, check_id};
use super::{Api, Call, Handled};
use crate::group::messages::{GroupReply, GroupRequest};
use crate::wire::ErrorCode;
use crate::wire::sync_group::{KEY, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "SyncGroup",
    versions: 0..=5,
    handle,
};

/// KIP-559: from here on both have to be told.
const PROTOCOL_VERSION_MIN: i16 = 5;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    if let Err(error) = check(call.version(), &request) {
        return call.answer(&refuse(error));
    }
    let asked = ask(&call.gateway, GroupRequest::Sync(request));
    call.later(|_| async move {
        match asked.await {
            Ok(GroupReply::Sync(response)) => response,
            Ok(_) => refuse(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(error) => refuse(error),
        }
    })
}

fn check(version: i16, request: &Request) -> Result<(), ErrorCode> {
    let told = request.protocol_type.is_some() && request.protocol_name.is_some();
    if version >= PROTOCOL_VERSION_MIN && !told {
        return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    check_id(&request.group_id)
}

fn refuse(error_code: ErrorCode) -> Response {
    Response {
        error_code,
        ..Response::default()
    }
}
