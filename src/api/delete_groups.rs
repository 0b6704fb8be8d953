//! DeleteGroups (42): deletes groups that have no members, with their offsets. KIP-229.

use std::collections::HashSet;
use std::rc::Rc;

use super::groups::{ask_each, done};
use super::{Api, Call, Handled};
use crate::group::messages::GroupRequest;
use crate::wire::delete_groups::{DeletableGroupResult, KEY, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "DeleteGroups",
    versions: 0..=2,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    call.later(|call| answer(call, request))
}

async fn answer(call: Rc<Call>, request: Request) -> Response {
    let mut seen = HashSet::new();
    let mut groups = request.groups_names;
    groups.retain(|group| seen.insert(group.clone()));
    let asked = groups.iter().cloned().map(GroupRequest::Delete);
    let replies = ask_each(&call.gateway, asked).await;
    let results = groups.into_iter().zip(replies);
    Response {
        results: results
            .map(|(group_id, reply)| DeletableGroupResult {
                group_id,
                error_code: done(reply),
            })
            .collect(),
        ..Response::default()
    }
}
