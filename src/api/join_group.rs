//! JoinGroup (11): enters a group, and waits until its new generation is complete. KIP-62 (rebalance
//! timeout), KIP-345 (static members), KIP-394 (member ids come first), KIP-559 (protocol type and
//! name), KIP-800 (reasons), KIP-814 (a static leader keeps the assignment).

use super::groups::{ask, caller, check_id};
use super::{Api, Call, Handled};
use crate::config::Config;
use crate::group::messages::{GroupReply, GroupRequest};
use crate::wire::ErrorCode;
use crate::wire::join_group::{KEY, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "JoinGroup",
    versions: 0..=9,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let member_id = request.member_id.clone();
    let refuse = move |error_code| Response {
        error_code,
        member_id,
        ..Response::default()
    };
    if let Err(error) = check(&request, call.gateway.config()) {
        return call.answer(&refuse(error));
    }
    let asked = ask(
        &call.gateway,
        GroupRequest::Join {
            request,
            version: call.version(),
            caller: caller(&call),
        },
    );
    call.later(|_| async move {
        match asked.await {
            Ok(GroupReply::Join(response)) => response,
            Ok(_) => refuse(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(error) => refuse(error),
        }
    })
}

fn check(request: &Request, config: &Config) -> Result<(), ErrorCode> {
    check_id(&request.group_id)?;
    let allowed = config.group_min_session_timeout..=config.group_max_session_timeout;
    let session_timeout = u64::try_from(request.session_timeout_ms).unwrap_or(0);
    match allowed.contains(&std::time::Duration::from_millis(session_timeout)) {
        true => Ok(()),
        false => Err(ErrorCode::INVALID_SESSION_TIMEOUT),
    }
}
