//! Marks in the filer, beside the catalog: something was done, and is not to be done again.

use serde::Serialize;

use super::inline_file;
use super::layout::ROOT;
use crate::bridge::{Bridge, BridgeError, Removal};

/// Folders of topics that Tidegate makes, as long as they are there.
const MADE: &str = "/topics/kafka/.tidegate/made";
/// A topic whose creation was broken off appears so soon after its mark, or never.
const MADE_WITHIN_S: i64 = 60;

pub async fn is_set(bridge: &Bridge, name: &str) -> Result<bool, BridgeError> {
    Ok(bridge.lookup(ROOT, name).await?.is_some())
}

/// Sets a mark that says this, as JSON.
pub async fn set(bridge: &Bridge, name: &str, says: &impl Serialize) -> Result<(), BridgeError> {
    // Cannot fail: there are only numbers and strings in it.
    let content = serde_json::to_vec(says).unwrap_or_default();
    bridge.create(ROOT, inline_file(name, content), false).await
}

/// Says that a topic of SeaweedMQ is Tidegate's, before it is made: one whose creation is broken off is not
/// taken for somebody else's.
pub async fn set_made(bridge: &Bridge, folder: &str) -> Result<(), BridgeError> {
    bridge
        .create(MADE, inline_file(folder, Vec::new()), false)
        .await
}

/// Whether a topic that was made at this time is Tidegate's. A mark may be there for longer than what it is
/// about, and others may use the name later.
pub async fn is_made(
    bridge: &Bridge,
    folder: &str,
    generation_ns: i64,
) -> Result<bool, BridgeError> {
    let mark = bridge.lookup(MADE, folder).await?;
    let set_s = mark.map(|mark| mark.attributes.map_or(0, |attributes| attributes.mtime));
    let made_s = generation_ns.div_euclid(1_000_000_000);
    Ok(set_s.is_some_and(|set_s| made_s <= set_s + MADE_WITHIN_S))
}

pub async fn remove_made(bridge: &Bridge, folder: &str) -> Result<(), BridgeError> {
    bridge.delete(MADE, folder, Removal::default()).await
}
