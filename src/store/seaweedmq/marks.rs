//! Marks in the filer, beside the catalog: something was done, and is not to be done again.

use serde::Serialize;

use super::inline_file;
use super::layout::ROOT;
use crate::bridge::{Bridge, BridgeError, Removal};

/// Folders of topics that Tidegate makes, as long as they are there.
const MADE: &str = "/topics/kafka/.tidegate/made";

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

pub async fn is_made(bridge: &Bridge, folder: &str) -> Result<bool, BridgeError> {
    Ok(bridge.lookup(MADE, folder).await?.is_some())
}

pub async fn remove_made(bridge: &Bridge, folder: &str) -> Result<(), BridgeError> {
    bridge.delete(MADE, folder, Removal::default()).await
}
