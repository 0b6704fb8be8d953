//! Marks in the filer, beside the catalog: something was done, and is not to be done again.

use serde::Serialize;

use super::layout::ROOT;
use super::{FILE_MODE, now_s};
use crate::bridge::{Bridge, BridgeError, Entry, FuseAttributes};

pub async fn is_set(bridge: &Bridge, name: &str) -> Result<bool, BridgeError> {
    Ok(bridge.lookup(ROOT, name).await?.is_some())
}

/// Sets a mark that says this, as JSON.
pub async fn set(bridge: &Bridge, name: &str, says: &impl Serialize) -> Result<(), BridgeError> {
    let content = serde_json::to_vec(says).unwrap_or_default();
    let entry = Entry {
        name: name.to_owned(),
        attributes: Some(FuseAttributes {
            file_size: content.len() as u64,
            file_mode: FILE_MODE,
            mtime: now_s(),
            ..FuseAttributes::default()
        }),
        content: content.into(),
        ..Entry::default()
    };
    bridge.create(ROOT, entry, false).await
}
