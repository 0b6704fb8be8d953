//! The gateway's behaviour with partitions in the local store.

#[path = "behaviour/mod.rs"]
mod behaviour;
mod common;

use common::data_folder;
