//! DescribeAcls (29): ACLs that match a filter. KIP-140. There is no authorizer: everybody may do
//! everything.

use super::{Api, Call, Handled};
use crate::wire::ErrorCode;
use crate::wire::describe_acls::{KEY, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "DescribeAcls",
    versions: 1..=3,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let _: Request = call.decode()?;
    call.answer(&Response {
        error_code: ErrorCode::SECURITY_DISABLED,
        error_message: Some("No Authorizer is configured on the broker".into()),
        ..Response::default()
    })
}
