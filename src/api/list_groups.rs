//! ListGroups (16): the groups that this broker coordinates. KIP-518 (states), KIP-848 (types).

use std::rc::Rc;

use super::groups::ask_shard;
use super::{Api, Call, Handled};
use crate::config::Routing;
use crate::group::messages::{GroupReply, GroupRequest};
use crate::wire::list_groups::{KEY, ListedGroup, Request, Response};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "ListGroups",
    versions: 0..=5,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    call.later(|call| answer(call, request))
}

async fn answer(call: Rc<Call>, request: Request) -> Response {
    match list(&call, request).await {
        Ok(groups) => Response {
            groups,
            ..Response::default()
        },
        Err(error_code) => Response {
            error_code,
            ..Response::default()
        },
    }
}

async fn list(call: &Call, request: Request) -> Result<Vec<ListedGroup>, ErrorCode> {
    let words = |words: &[StrBytes]| -> Vec<_> {
        let words = words.iter().map(|word| word.trim().to_lowercase());
        words.collect()
    };
    let states = words(&request.states_filter);
    let types = words(&request.types_filter);
    let gateway = &call.gateway;
    let shards = match gateway.config().routing {
        Routing::Shared => 0..gateway.shard().count(),
        // Clients ask each broker, which here is a shard.
        Routing::PerCore => gateway.shard().index()..gateway.shard().index() + 1,
    };
    let ask = |shard| {
        let (states, types) = (states.clone(), types.clone());
        ask_shard(gateway, Some(shard), GroupRequest::List { states, types })
    };
    // All are asked before the first is waited for.
    let asked: Vec<_> = shards.map(ask).collect();
    let mut groups = Vec::new();
    for reply in asked {
        match reply.await? {
            GroupReply::List(listed) => groups.extend(listed?),
            _ => return Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        }
    }
    Ok(groups)
}
