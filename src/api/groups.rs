//! Asking the coordinators of groups.

use std::future::Future;

use super::Call;
use crate::gateway::{Gateway, Reply, Request};
use crate::group::Caller;
use crate::group::messages::{GroupReply, GroupRequest};
use crate::wire::{ErrorCode, StrBytes};

/// Groups of one request that are asked about at a time.
const ASKED_AT_ONCE: usize = 64;

/// Asks the coordinator of the request's group, before this returns; the future tells its answer.
pub(super) fn ask(
    gateway: &Gateway,
    request: GroupRequest,
) -> impl Future<Output = Result<GroupReply, ErrorCode>> + use<> {
    let partition = request.group().and_then(|id| gateway.group_partition(id));
    let owner = partition.map(|id| gateway.owner(id));
    ask_shard(gateway, owner, request)
}

/// Asks one shard, if it is known.
pub(super) fn ask_shard(
    gateway: &Gateway,
    shard: Option<usize>,
    request: GroupRequest,
) -> impl Future<Output = Result<GroupReply, ErrorCode>> + use<> {
    let call = shard.map(|shard| {
        let request = Request::Group(Box::new(request));
        gateway.shard().call(shard, request)
    });
    async move {
        // Nobody asked for a coordinator yet, so there is none.
        let call = call.ok_or(ErrorCode::NOT_COORDINATOR)?;
        match call.await {
            Ok(Reply::Group(reply)) => Ok(*reply),
            // Overloaded, or on its way down.
            _ => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        }
    }
}

/// Asks about many groups. The answers come in their order.
pub(super) async fn ask_each(
    gateway: &Gateway,
    requests: impl IntoIterator<Item = GroupRequest>,
) -> Vec<Result<GroupReply, ErrorCode>> {
    let mut requests = requests.into_iter();
    let mut replies = Vec::new();
    loop {
        let asked: Vec<_> = requests
            .by_ref()
            .take(ASKED_AT_ONCE)
            .map(|request| ask(gateway, request))
            .collect();
        if asked.is_empty() {
            return replies;
        }
        for reply in asked {
            replies.push(reply.await);
        }
    }
}

/// What became of a request whose answer is nothing but that.
pub(super) fn done(reply: Result<GroupReply, ErrorCode>) -> ErrorCode {
    match reply {
        Ok(GroupReply::Done(result)) => result.err().unwrap_or_default(),
        Ok(_) => ErrorCode::UNKNOWN_SERVER_ERROR,
        Err(error) => error,
    }
}

/// Members have to name their group.
pub(super) fn check_id(group: &StrBytes) -> Result<(), ErrorCode> {
    match group.is_empty() {
        true => Err(ErrorCode::INVALID_GROUP_ID),
        false => Ok(()),
    }
}

/// Who asks, in the words of Kafka: Java writes an address so.
pub(super) fn caller(call: &Call) -> Caller {
    Caller {
        client_id: call.header.client_id.clone().unwrap_or_default(),
        host: format!("/{}", call.client.peer.ip().to_canonical()).into(),
    }
}
