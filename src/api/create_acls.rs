//! CreateAcls (30): adds ACLs. KIP-140. There is no authorizer that would go by them.

use super::error::NO_AUTHORIZER;
use super::{Api, Call, Handled};
use crate::wire::ErrorCode;
use crate::wire::create_acls::{AclCreationResult, KEY, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "CreateAcls",
    versions: 1..=3,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let refused = AclCreationResult {
        error_code: ErrorCode::SECURITY_DISABLED,
        error_message: Some(NO_AUTHORIZER.into()),
    };
    call.answer(&Response {
        results: vec![refused; request.creations.len()],
        ..Response::default()
    })
}
