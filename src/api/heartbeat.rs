//! Heartbeat (12): keeps a member in its group. KIP-62 (session timeout), KIP-345 (static members).

use super::groups::{ask, check_id, done};
use super::{Api, Call, Handled};
use crate::group::messages::GroupRequest;
use crate::wire::ErrorCode;
use crate::wire::heartbeat::{KEY, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "Heartbeat",
    versions: 0..=4,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    if let Err(error) = check_id(&request.group_id) {
        return call.answer(&respond(error));
    }
    let asked = ask(&call.gateway, GroupRequest::Heartbeat(request));
    call.later(|_| async move { respond(done(asked.await)) })
}

fn respond(error_code: ErrorCode) -> Response {
    Response {
        error_code,
        ..Response::default()
    }
}
