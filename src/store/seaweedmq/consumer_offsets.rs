//! Offsets of consumer groups as SeaweedFS's own Kafka gateway keeps them in the filer
//! (`weed/mq/kafka/consumer_offset/filer_storage.go`):
//!
//! ```text
//! /topics/kafka/.meta/consumer_offsets/<group>/<topic>/<partition>/offset
//! {"type":"offset","value":42,"committed_at":1700000000000,"metadata":""}
//! ```
//! The value is what the client sent in its OffsetCommit: the offset that is to be read next.

use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Deserialize;

use super::list_all;
use crate::bridge::{Bridge, BridgeError, Entry};
use crate::catalog::name;

const OFFSETS: &str = "/topics/kafka/.meta/consumer_offsets";
const FILE: &str = "offset";
/// Files looked up at a time.
const FILES_AT_ONCE: usize = 32;
/// Of one file: its metadata comes from a request of that gateway, which has this limit.
const FILE_BYTES_MAX: usize = 64 << 10;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOffset {
    pub topic: String,
    pub partition: i32,
    /// To be read next.
    pub offset: i64,
    pub metadata: String,
    /// In ms since the epoch.
    pub committed_ms: i64,
}

/// All that is kept of a group.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeptGroup {
    pub offsets: Vec<KeptOffset>,
    /// What cannot be an offset, by its path below the group, and why.
    pub unusable: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Position {
    r#type: String,
    value: i64,
    #[serde(default)]
    committed_at: i64,
    #[serde(default)]
    metadata: String,
}

/// The names of the groups.
pub async fn groups(bridge: &Bridge) -> Result<Vec<String>, BridgeError> {
    folders(bridge, OFFSETS).await
}

/// What is kept of one of them.
pub async fn of_group(bridge: &Bridge, group: &str) -> Result<KeptGroup, BridgeError> {
    let mut kept = KeptGroup::default();
    let mut files = Vec::new();
    for topic in folders(bridge, &format!("{OFFSETS}/{group}")).await? {
        if let Err(error) = name::check(&topic) {
            kept.unusable.push((topic, error.to_string()));
            continue;
        }
        for folder in folders(bridge, &format!("{OFFSETS}/{group}/{topic}")).await? {
            match folder.parse::<i32>() {
                Ok(partition) if partition >= 0 && partition.to_string() == folder => {
                    files.push((topic.clone(), partition));
                }
                _ => {
                    let why = "its folder is not named by a partition";
                    kept.unusable
                        .push((format!("{topic}/{folder}"), why.to_owned()));
                }
            }
        }
    }
    let look_up = |(topic, partition): (String, i32)| async move {
        let folder = format!("{OFFSETS}/{group}/{topic}/{partition}");
        let entry = bridge.lookup(&folder, FILE).await?;
        Ok::<_, BridgeError>((topic, partition, entry))
    };
    let mut found = stream::iter(files).map(look_up).buffered(FILES_AT_ONCE);
    while let Some((topic, partition, entry)) = found.try_next().await? {
        match read(entry.as_ref()) {
            Ok(position) => kept.offsets.push(KeptOffset {
                topic,
                partition,
                offset: position.value,
                metadata: position.metadata,
                committed_ms: position.committed_at,
            }),
            Err(why) => kept.unusable.push((format!("{topic}/{partition}"), why)),
        }
    }
    Ok(kept)
}

fn read(entry: Option<&Entry>) -> Result<Position, String> {
    let content = &entry.ok_or("there is no file `offset`")?.content;
    if content.is_empty() || content.len() > FILE_BYTES_MAX {
        return Err(format!("the file has {} bytes in its entry", content.len()));
    }
    let position: Position = serde_json::from_slice(content).map_err(|e| e.to_string())?;
    match (&*position.r#type, position.value) {
        ("offset", 0..) => Ok(position),
        ("offset", value) => Err(format!("the offset is {value}")),
        (other, _) => Err(format!("it is not an offset but a {other:.20}")),
    }
}

async fn folders(bridge: &Bridge, directory: &str) -> Result<Vec<String>, BridgeError> {
    let all = list_all(bridge, directory, "").await?.into_iter();
    let folders = all.filter(|entry| entry.is_directory);
    Ok(folders.map(|entry| entry.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> Result<(i64, i64, String), String> {
        let entry = Entry {
            content: content.to_owned().into(),
            ..Entry::default()
        };
        let read = read(Some(&entry));
        read.map(|p| (p.value, p.committed_at, p.metadata))
    }

    #[test]
    fn a_file_is_an_offset_or_says_why_it_is_none() {
        let good = r#"{"type":"offset","value":42,"committed_at":7,"metadata":"m"}"#;
        assert_eq!(file(good), Ok((42, 7, "m".to_owned())));
        assert!(file(r#"{"type":"timestamp","value":42}"#).is_err());
        assert!(file(r#"{"type":"offset","value":-1}"#).is_err());
        assert!(file("").is_err());
        assert!(file("{").is_err());
        assert!(file(&"x".repeat(FILE_BYTES_MAX + 1)).is_err());
        assert!(read(None).is_err());
    }
}
