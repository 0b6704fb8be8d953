//! The gateway's behaviour with partitions in the local store.

#[path = "behaviour/mod.rs"]
mod behaviour;
mod common;

use common::data_folder;

/// Whether batches come back byte for byte.
const KEEPS_BATCHES: bool = true;
