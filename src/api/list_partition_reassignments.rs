//! ListPartitionReassignments (46): reassignments that are under way. KIP-455. There are none: see
//! `alter_partition_reassignments`.

use super::{Api, Call, Handled};
use crate::wire::list_partition_reassignments::{KEY, Request, Response};

pub(super) const API: Api = Api {
    key: KEY,
    name: "ListPartitionReassignments",
    versions: 0..=0,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let _: Request = call.decode()?;
    call.answer(&Response::default())
}
