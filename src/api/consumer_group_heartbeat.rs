//! ConsumerGroupHeartbeat (68): a member of the consumer protocol joins, stays and leaves. KIP-848,
//! KIP-1082 (members make up their ids).

use super::groups::{ask, caller};
use super::{Api, Call, Handled};
use crate::group::messages::{GroupReply, GroupRequest};
use crate::wire::ErrorCode;
use crate::wire::consumer_group_heartbeat::{KEY, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "ConsumerGroupHeartbeat",
    versions: 0..=1,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let asked = ask(
        &call.gateway,
        GroupRequest::ConsumerHeartbeat {
            request,
            version: call.version(),
            caller: caller(&call),
        },
    );
    call.later(|_| async move {
        let error_code = match asked.await {
            Ok(GroupReply::ConsumerHeartbeat(response)) => return response,
            Ok(_) => ErrorCode::UNKNOWN_SERVER_ERROR,
            Err(error) => error,
        };
        Response {
            error_code,
            ..Response::default()
        }
    })
}
