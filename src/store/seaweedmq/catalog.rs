//! The catalog's log as one file in the filer, and the topics of SeaweedMQ that belong to it.
//!
//! A change is a chunk with its lines, added to the file under the fence of the whole store. When there
//! are many chunks, all of them become one.

use std::io;
use std::sync::Arc;

use futures::executor::block_on;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::adopted::{self, Adopted};
use super::fence::Fence;
use super::layout::{NAMESPACE, Part, RING_SIZE, ROOT, TOPICS, folder_names};
use super::{
    Patience, Shared, attributes, failed, in_order, list_all, marks, read_chunks, refused,
};
use crate::bridge::{Bridge, BridgeError, Entry, FileChunk, Mutation, TopicSpec};
use crate::catalog::name;
use crate::wire::Uuid;

const NAME: &str = "catalog";
const CHUNKS_MAX: usize = 64;
/// Topics that SeaweedMQ is asked to make at a time.
const TOPICS_AT_ONCE: usize = 8;

/// The file, and the right to write to it.
pub struct CatalogFile {
    shared: Arc<Shared>,
    owner: Fence,
    chunks: Vec<FileChunk>,
}

/// Partitions that are to be made: of a topic by name and id, how many from which on.
#[derive(Debug, Clone)]
pub struct NewPartitions {
    pub topic: String,
    pub id: Uuid,
    pub first: i32,
    pub count: i32,
}

impl CatalogFile {
    /// Opens the file, which may not be there yet, and reads it. Blocking.
    pub(super) fn open(
        shared: Arc<Shared>,
        owner: Fence,
        patience: &Patience,
    ) -> io::Result<(Self, Vec<u8>)> {
        let entry = block_on(shared.bridge.lookup(ROOT, NAME)).map_err(failed)?;
        let chunks = entry.as_ref().map_or_else(Vec::new, in_order);
        let read = || block_on(read_chunks(&shared.bridge, &chunks)).map_err(failed);
        let bytes = patience.with(read).map_err(|error| {
            let text = format!("the catalog {ROOT}/{NAME} cannot be read: {error}");
            io::Error::new(error.kind(), text)
        })?;
        let file = CatalogFile {
            shared,
            owner,
            chunks,
        };
        Ok((file, bytes.concat()))
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Adds to the end; nothing is added when it fails. Blocking.
    pub fn append(&mut self, lines: Vec<u8>) -> io::Result<()> {
        let (mut kept, mut data) = (self.chunks.clone(), Vec::new());
        if kept.len() >= CHUNKS_MAX {
            data = block_on(read_chunks(&self.shared.bridge, &kept)).map_err(failed)?;
            kept.clear();
        }
        data.push(lines.into());
        let end: u64 = kept.iter().map(|chunk| chunk.size).sum();
        let placement = self.shared.placement(format!("{ROOT}/{NAME}"));
        let chunk = block_on(self.shared.bridge.upload(data, placement)).map_err(failed)?;
        kept.push(FileChunk {
            offset: end as i64,
            ..chunk
        });
        let entry = Entry {
            name: NAME.to_owned(),
            attributes: Some(attributes(kept.iter().map(|chunk| chunk.size).sum())),
            chunks: kept.clone(),
            ..Entry::default()
        };
        let directory = ROOT.to_owned();
        let put = vec![Mutation::Put { directory, entry }];
        self.owner.transact(put).map_err(refused)?;
        self.chunks = kept;
        Ok(())
    }

    /// Looks at the topics that others have in SeaweedMQ. `is_own` tells folders of Tidegate's topics.
    /// Blocking.
    pub fn find_others(&self, is_own: impl Fn(&str) -> bool) -> io::Result<Vec<(String, Adopted)>> {
        let bridge = &self.shared.bridge;
        let find = async {
            let all = list_all(bridge, TOPICS, "").await?.into_iter();
            let may_be = |entry: &Entry| {
                let name = &*entry.name;
                entry.is_directory
                    && !name.starts_with('.')
                    && name::check(name).is_ok()
                    && !name::is_internal(name)
                    && !is_own(name)
            };
            let folders = all.filter(may_be).map(|entry| entry.name);
            let look = |folder: String| async move {
                let found = adopted::look_at(bridge, &folder).await?;
                Ok::<_, BridgeError>(match found {
                    Some(adopted) => {
                        let is_own = marks::is_made(bridge, &folder, adopted.generation_ns).await?;
                        (!is_own).then_some((folder, adopted))
                    }
                    None => None,
                })
            };
            let found: Vec<_> = stream::iter(folders)
                .map(look)
                .buffered(TOPICS_AT_ONCE)
                .try_collect()
                .await?;
            Ok(found.into_iter().flatten().collect())
        };
        block_on(find).map_err(failed)
    }

    /// Has SeaweedMQ make topics for new partitions; gives for each what it is made of. `is_used` tells
    /// names of SeaweedMQ's that had another use before. Blocking.
    pub fn make_parts(
        &self,
        wanted: Vec<NewPartitions>,
        is_used: impl Fn(&str) -> bool,
    ) -> io::Result<Vec<Vec<Part>>> {
        let bridge = &self.shared.bridge;
        let is_used = &is_used;
        block_on(
            stream::iter(wanted)
                .map(|new| async move { make_all(bridge, &new, is_used).await })
                .buffered(TOPICS_AT_ONCE)
                .try_collect(),
        )
    }
}

/// As many topics of SeaweedMQ as it takes.
async fn make_all(
    bridge: &Bridge,
    new: &NewPartitions,
    is_used: &impl Fn(&str) -> bool,
) -> io::Result<Vec<Part>> {
    let (mut first, end) = (new.first, new.first + new.count);
    let mut parts = Vec::new();
    while first < end {
        let count = (end - first).min(RING_SIZE);
        parts.push(make(bridge, new, first, count, is_used).await?);
        first += count;
    }
    Ok(parts)
}

async fn make(
    bridge: &Bridge,
    new: &NewPartitions,
    first: i32,
    count: i32,
    is_used: &impl Fn(&str) -> bool,
) -> io::Result<Part> {
    // It was checked when it came; what goes into a path is checked where it does.
    name::check(&new.topic).map_err(io::Error::other)?;
    let [plain, unique] = folder_names(&new.topic, &new.id, first);
    let taken = is_used(&plain)
        || bridge
            .lookup(TOPICS, &plain)
            .await
            .map_err(failed)?
            .is_some();
    let folder = if taken { unique } else { plain };
    let spec = TopicSpec {
        partition_count: count,
        ..TopicSpec::default()
    };
    marks::set_made(bridge, &folder).await.map_err(failed)?;
    let made = bridge.configure_topic(NAMESPACE, &folder, spec).await;
    let made = made.map_err(failed)?;
    let generation = made.partitions.first().and_then(|p| p.partition.as_ref());
    match generation {
        Some(partition) if made.partitions.len() == count as usize => Ok(Part {
            folder,
            first,
            count,
            generation_ns: partition.unix_time_ns,
        }),
        _ => Err(io::Error::other(format!(
            "SeaweedMQ has made {} partitions for {folder} instead of {count}",
            made.partitions.len()
        ))),
    }
}
