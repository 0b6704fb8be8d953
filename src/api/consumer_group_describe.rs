//! ConsumerGroupDescribe (69): state and members of groups of the consumer protocol. KIP-848, KIP-1099
//! (type of a member).

use std::rc::Rc;

use super::groups::{ask_each, check_id};
use super::{Api, Call, Handled, operations};
use crate::group::messages::{Described, GroupReply, GroupRequest};
use crate::wire::consumer_group_describe::{DescribedGroup, KEY, Request, Response};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "ConsumerGroupDescribe",
    versions: 0..=1,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    call.later(|call| answer(call, request))
}

async fn answer(call: Rc<Call>, request: Request) -> Response {
    let ids = request.group_ids.iter().cloned();
    let replies = ask_each(&call.gateway, ids.map(GroupRequest::ConsumerDescribe)).await;
    let asks = request.include_authorized_operations;
    let described = |(group_id, reply): (&StrBytes, _)| match check_id(group_id) {
        Ok(()) => described(group_id, reply, asks),
        Err(error) => failed(group_id, error, None),
    };
    Response {
        groups: request
            .group_ids
            .iter()
            .zip(replies)
            .map(described)
            .collect(),
        ..Response::default()
    }
}

fn described(
    group_id: &StrBytes,
    reply: Result<GroupReply, ErrorCode>,
    asks_operations: bool,
) -> DescribedGroup {
    let found = match reply {
        Ok(GroupReply::ConsumerDescribe(found)) => found,
        Ok(_) => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        Err(error) => Err(error),
    };
    let why = match found {
        Ok(Described::Group(described)) => {
            return DescribedGroup {
                authorized_operations: match asks_operations {
                    true => operations::GROUP,
                    false => operations::NOT_ASKED,
                },
                ..described
            };
        }
        Ok(Described::Nothing) => "not found",
        Ok(Described::OfAnotherKind) => "is not a consumer group",
        Err(error) => return failed(group_id, error, None),
    };
    let message = format!("Group {group_id} {why}.");
    failed(
        group_id,
        ErrorCode::GROUP_ID_NOT_FOUND,
        Some(message.into()),
    )
}

fn failed(group_id: &StrBytes, error_code: ErrorCode, message: Option<StrBytes>) -> DescribedGroup {
    DescribedGroup {
        error_code,
        error_message: message,
        group_id: group_id.clone(),
        ..DescribedGroup::default()
    }
}
