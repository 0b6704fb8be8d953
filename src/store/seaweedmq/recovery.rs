//! Start: how each partition stands, from its checkpoint and what the filer lists behind it.
//!
//! A segment's entry is replaced whole whenever it changes, so there is nothing to be repaired: what it
//! lists was committed. Chunks behind the checkpoint are read for what a partition remembers beside
//! its records.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::checkpoint::{self, Checkpoint};
use super::layout::{Part, TOPICS, checkpoints_dir, time_name};
use super::log::{Log, Standing};
use super::merge::bytes_of;
use super::segment::{Segment, Table};
use super::{AWAY, PARTITIONS_AT_ONCE, Shared, adopted, codec, failed, list_all};
use crate::bridge::{BridgeError, List};
use crate::store::{PartitionId, Recovered, Replay, Rolling};
use crate::wire::Uuid;

/// Removes what is left of topics that were deleted: the process may have ended between the two.
pub(super) fn remove_leftovers(shared: &Shared, removed: Vec<(Uuid, Vec<Part>)>) -> io::Result<()> {
    if removed.is_empty() {
        return Ok(());
    }
    let there = block_on(list_all(&shared.bridge, TOPICS, "")).map_err(failed)?;
    let there: HashSet<_> = there.into_iter().map(|entry| entry.name).collect();
    for (topic, parts) in removed {
        let mut left = Vec::new();
        for part in parts {
            if there.contains(&part.folder) && block_on(is_left(shared, &part)).map_err(failed)? {
                left.push(part);
            }
        }
        if !left.is_empty() {
            tracing::info!(%topic, "removing what is left of a deleted topic");
            shared.remove_parts(topic, &left).map_err(failed)?;
        }
    }
    Ok(())
}

/// What a start found of the partitions.
pub struct Found<R> {
    pub partitions: Vec<Recovered<R, Log>>,
    /// Those of which a part is damaged. They are left as they are.
    pub unreadable: Vec<PartitionId>,
    /// Those that have something in volumes that are away.
    pub away: Vec<PartitionId>,
}

/// False if somebody else has made a topic of the same name since.
async fn is_left(shared: &Shared, part: &Part) -> Result<bool, BridgeError> {
    let folder = format!("{TOPICS}/{}", part.folder);
    let conf = shared.bridge.lookup(&folder, adopted::CONF).await?;
    let is_other = |conf| match adopted::read_conf(conf) {
        Some((generation_ns, _)) => generation_ns != part.generation_ns,
        None => true,
    };
    Ok(!conf.as_ref().is_some_and(is_other))
}

/// What a partition's checkpoint has, if there is one.
type Saved = (PartitionId, Option<Bytes>);

/// All partitions as SeaweedFS proves them. One that is damaged is no reason not to serve the others, nor
/// is a volume that is away; `waits` may wait for it. `damaged` are known to be. Blocking.
pub(super) fn recover<R: Replay>(
    shared: &Arc<Shared>,
    partitions: &[PartitionId],
    damaged: HashSet<PartitionId>,
    rolling: Rolling,
    waits: impl Fn(&io::Error) -> bool,
) -> io::Result<Found<R>> {
    let mut works = block_on(checkpoints(shared, partitions)).map_err(failed)?;
    works.retain(|(id, _)| !damaged.contains(id));
    let mut found = Found {
        partitions: Vec::with_capacity(partitions.len()),
        unreadable: damaged.into_iter().collect(),
        away: Vec::new(),
    };
    loop {
        let Some((left, error)) = block_on(look_at(shared, works, rolling, &mut found))? else {
            return Ok(found);
        };
        if !waits(&error) {
            shards::log_limited!(error, partitions = left.len(), %error, "partitions are not served, as no volume server has what they need, the others are; they are looked at again every few seconds: start the server that is away, or, if what it had is lost, remove the segment that is named from the filer to go on without its records");
            found.away = left.into_iter().map(|(id, _)| id).collect();
            return Ok(found);
        }
        works = left;
    }
}

/// The checkpoints of partitions.
async fn checkpoints(
    shared: &Shared,
    partitions: &[PartitionId],
) -> Result<Vec<Saved>, BridgeError> {
    let topics: HashSet<_> = partitions.iter().map(|id| id.topic).collect();
    let mut checkpoints: HashMap<_, _> = stream::iter(topics)
        .map(|topic| async move {
            let entries = list_all(&shared.bridge, &checkpoints_dir(&topic), "").await?;
            let entry = |e: crate::bridge::Entry| Some((e.name.parse::<i32>().ok()?, e.content));
            let of_topic: HashMap<_, _> = entries.into_iter().filter_map(entry).collect();
            Ok::<_, BridgeError>((topic, of_topic))
        })
        .buffer_unordered(PARTITIONS_AT_ONCE)
        .try_collect()
        .await?;
    let saved = partitions.iter().map(|id| {
        let of_topic = checkpoints.get_mut(&id.topic);
        (
            *id,
            of_topic.and_then(|of_topic| of_topic.remove(&id.index)),
        )
    });
    Ok(saved.collect())
}

/// Looks at partitions once. Gives those that have something in volumes that are away, with one's error.
async fn look_at<R: Replay>(
    shared: &Arc<Shared>,
    works: Vec<Saved>,
    rolling: Rolling,
    found: &mut Found<R>,
) -> io::Result<Option<(Vec<Saved>, io::Error)>> {
    let recover = |(id, bytes): Saved| async move {
        let recovered = recover_one(shared, id, bytes.clone(), rolling).await;
        (id, bytes, recovered)
    };
    let mut recovered = stream::iter(works)
        .map(recover)
        .buffer_unordered(PARTITIONS_AT_ONCE);
    let mut away: Option<(Vec<Saved>, io::Error)> = None;
    while let Some((id, bytes, one)) = recovered.next().await {
        match one {
            Ok(partition) => found.partitions.push(partition),
            Err(error) if error.kind() == AWAY => {
                let (ids, _) = away.get_or_insert_with(|| (Vec::new(), error));
                ids.push((id, bytes));
            }
            Err(error) if is_damage(&error) => {
                tracing::error!(partition = %id, %error, "the partition cannot be read and is not served, the others are; restore what is lost, or remove the file that is named from the filer to go on without its records, then restart");
                found.unreadable.push(id);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(away)
}

/// Trying again would not help.
pub(super) fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::NotFound
    )
}

fn damaged(id: PartitionId) -> io::Error {
    let path = format!("{}/{}", checkpoints_dir(&id.topic), id.index);
    let text =
        format!("the checkpoint {path} is damaged; remove it to have all segments read instead");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// `bytes` are those of its checkpoint, if there is one.
async fn recover_one<R: Replay>(
    shared: &Arc<Shared>,
    id: PartitionId,
    bytes: Option<Bytes>,
    rolling: Rolling,
) -> io::Result<Recovered<R, Log>> {
    let dir = shared.known_dir(id)?;
    let saved = match bytes {
        Some(bytes) => checkpoint::decode::<R>(&bytes).ok_or_else(|| damaged(id))?,
        None => Checkpoint {
            log_start_offset: 0,
            next_offset: 0,
            sealed: Vec::new(),
            state: R::default(),
        },
    };
    let after = saved.sealed.last().map_or(String::new(), Segment::name);
    let entries = list_all(&shared.bridge, &dir, &after)
        .await
        .map_err(failed)?;
    let mut tables: Vec<Table> = Vec::new();
    let mut replaced = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.is_directory) {
        match Table::read(entry) {
            Some(table) if is_replaced(tables.last(), &table) => {
                replaced.push(table.segment.name_s)
            }
            Some(table) => tables.push(table),
            None if Table::is_own(entry) => {
                let text = format!("the entry of the segment {dir}/{} is damaged", entry.name);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            None => {
                tracing::warn!(partition = %id, folder = %dir, name = entry.name, "a file that Tidegate did not write is left alone")
            }
        }
    }
    let mut state = saved.state;
    // It was saved with what waited for its commit.
    state.roll_back(saved.next_offset);
    for table in &tables {
        let replayed = replay(shared, table, saved.next_offset, &mut state).await;
        replayed.map_err(|error| {
            let name = table.segment.name();
            io::Error::new(error.kind(), format!("segment {dir}/{name}: {error}"))
        })?;
    }
    let listed = !saved.sealed.is_empty();
    let mut sealed = saved.sealed;
    sealed.extend(tables.iter().map(|table| table.segment));
    let next_offset = sealed.iter().map(|s| s.next_offset).max();
    let next_offset = next_offset.unwrap_or(0).max(saved.next_offset);
    // Let go of before the checkpoint, and not removed.
    let (gone, mut sealed): (Vec<_>, Vec<_>) = sealed
        .into_iter()
        .partition(|s| s.next_offset <= saved.log_start_offset);
    let first = sealed.first();
    let log_start_offset = first.map_or(next_offset, |s| s.base_offset);
    let log_start_offset = log_start_offset.max(saved.log_start_offset);
    let mut dropped: Vec<_> = gone.into_iter().map(|segment| segment.name_s).collect();
    dropped.extend(replaced);
    dropped.extend(before_first(shared, &dir, first).await?);
    dropped.sort_unstable();
    dropped.dedup();
    let is_last = |table: &Table| sealed.last() == Some(&table.segment);
    let active = tables.pop().filter(is_last);
    if active.is_some() {
        sealed.pop();
    }
    let is_news = next_offset > saved.next_offset || log_start_offset > saved.log_start_offset;
    let found = Standing {
        sealed,
        active,
        next_offset,
        dropped,
        checkpointed_start: (!is_news).then_some(saved.log_start_offset),
        listed,
    };
    Ok(Recovered {
        id,
        log: Log::new(id, shared.clone(), dir, rolling, found),
        log_start_offset,
        state,
    })
}

/// Whether a segment is one of those in whose place a compacted one, the last before it, is: a process
/// ended before it removed it, or the journal had it still.
fn is_replaced(before: Option<&Table>, table: &Table) -> bool {
    before.is_some_and(|before| {
        let ends_within = table.segment.next_offset <= before.segment.next_offset;
        before.segment.clean_offset.is_some() && ends_within
    })
}

/// Replays the batches of a segment that come after `from`.
async fn replay<R: Replay>(
    shared: &Shared,
    table: &Table,
    from: i64,
    state: &mut R,
) -> io::Result<()> {
    for (number, chunk) in table.chunks.iter().enumerate() {
        let next = table.chunks.get(number + 1).map(|c| c.base_offset);
        if next.unwrap_or(table.segment.next_offset) <= from {
            continue;
        }
        let bytes = bytes_of(shared, chunk).await.map_err(failed)?;
        let each = |header: &crate::record::BatchHeader| {
            if header.base_offset() >= from {
                state.replay(header);
            }
        };
        codec::headers(&bytes, each).map_err(|damaged| {
            let chunk = chunk.file().map_or("in the journal", |file| &file.file_id);
            let text = format!("chunk {chunk}: {damaged}");
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
    }
    Ok(())
}

/// Names of segments before the first of the log: a process ended before it removed them.
async fn before_first(shared: &Shared, dir: &str, first: Option<&Segment>) -> io::Result<Vec<i64>> {
    let list = List {
        directory: dir.to_owned(),
        prefix: String::new(),
        after: String::new(),
        limit: 1,
    };
    let page = shared.bridge.list(list).await.map_err(failed)?;
    let is_before = |name: &str| first.is_none_or(|first| *name < *time_name(first.name_s));
    if !page
        .entries
        .first()
        .is_some_and(|entry| is_before(&entry.name))
    {
        return Ok(Vec::new());
    }
    let all = list_all(&shared.bridge, dir, "").await.map_err(failed)?;
    let tables = all.iter().take_while(|entry| is_before(&entry.name));
    let tables = tables.filter_map(Table::read);
    Ok(tables.map(|table| table.segment.name_s).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_wholly_within_a_compacted_segment_before_it_was_replaced() {
        let table = |base_offset, next_offset, clean_offset| {
            let mut table = Table::begun(1_700_000_000 + base_offset, base_offset);
            table.segment.next_offset = next_offset;
            table.segment.clean_offset = clean_offset;
            table
        };
        let (compacted, plain) = (table(0, 30, Some(30)), table(0, 30, None));
        let after = |before, base, next| is_replaced(before, &table(base, next, None));
        assert!(after(Some(&compacted), 10, 20));
        assert!(after(Some(&compacted), 20, 30));
        assert!(!after(Some(&compacted), 30, 40));
        assert!(!after(Some(&compacted), 20, 40));
        assert!(!after(Some(&plain), 10, 20));
        assert!(!after(None, 10, 20));
    }
}
