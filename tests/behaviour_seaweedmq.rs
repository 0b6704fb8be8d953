//! The gateway's behaviour with partitions in SeaweedFS.

#[path = "behaviour/mod.rs"]
mod behaviour;
mod common;

use common::places::{Place, next_place};

/// Batches are made again from their records: with the same codec, but not at the same level.
const KEEPS_BATCHES: bool = false;

fn data_folder() -> Place {
    next_place("", &[])
}
