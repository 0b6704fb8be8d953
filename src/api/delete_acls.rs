//! DeleteAcls (31): removes the ACLs that match filters. KIP-140. There is no authorizer that would
//! have any.

use super::error::NO_AUTHORIZER;
use super::{Api, Call, Handled};
use crate::wire::ErrorCode;
use crate::wire::delete_acls::{DeleteAclsFilterResult, KEY, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "DeleteAcls",
    versions: 1..=3,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let refused = DeleteAclsFilterResult {
        error_code: ErrorCode::SECURITY_DISABLED,
        error_message: Some(NO_AUTHORIZER.into()),
        ..DeleteAclsFilterResult::default()
    };
    call.answer(&Response {
        filter_results: vec![refused; request.filters.len()],
        ..Response::default()
    })
}
