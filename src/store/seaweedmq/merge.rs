//! What becomes of small chunks when a segment is stored: they are joined to larger ones, so that a
//! segment is neither a long list of chunks nor a small file.
//!
//! Those that the journal has are in memory, so they are joined before they are written for good. Only
//! what few records in a long time left is read again.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::segment::{Chunk, Place, Table};
use super::{CHUNK_BYTES, Shared};
use crate::bridge::BridgeError;

/// A chunk below this is small, and so many of them at the end are merged.
pub(super) const SMALL_BYTES: u64 = 64 << 10;
const SMALL_MAX: usize = 16;
const READS_AT_ONCE: usize = 8;

/// Chunks that are to be one.
type Group = Range<usize>;

/// What is to be joined of the chunks of a segment: what the journal has, and, if `merges`, many small ones
/// at the end. `place` gives a chunk's size, and whether it is in the journal.
fn groups(count: usize, merges: bool, place: impl Fn(usize) -> (u64, bool)) -> Vec<Group> {
    let mut groups: Vec<(Group, u64, bool)> = Vec::with_capacity(count);
    for at in 0..count {
        let (size, in_journal) = place(at);
        match groups.last_mut() {
            Some((group, bytes, true)) if in_journal && *bytes < CHUNK_BYTES as u64 => {
                group.end = at + 1;
                *bytes += size;
            }
            _ => groups.push((at..at + 1, size, in_journal)),
        }
    }
    let small = groups
        .iter()
        .rev()
        .take_while(|(_, size, _)| *size < SMALL_BYTES);
    let small = groups.len() - small.count();
    if merges && groups.len() - small >= SMALL_MAX {
        let merged = groups[small].0.start..count;
        groups.truncate(small);
        groups.push((merged, 0, false));
    }
    groups.into_iter().map(|(group, ..)| group).collect()
}

/// A segment all of whose chunks are files, and those that were made for it.
pub(super) struct Joined {
    pub table: Table,
    pub made: Vec<Arc<Chunk>>,
}

/// Stores what only the journal has of a segment; joins what is small.
pub(super) async fn join(
    shared: &Shared,
    path: &str,
    table: &Table,
) -> Result<Joined, BridgeError> {
    match join_groups(shared, path, table, true).await {
        // Small chunks can wait; what the journal has cannot, as others wait for its room.
        Err(Failure::Read(error)) => {
            shards::log_limited!(warn, segment = path, %error, "small chunks of a segment cannot be read and are left as they are");
            join_new(shared, path, table).await
        }
        Err(Failure::Upload(error)) => Err(error),
        Ok(joined) => Ok(joined),
    }
}

/// Stores what only the journal has of a segment. Nothing is read for it, so it can be done while volumes
/// are away.
pub(super) async fn join_new(
    shared: &Shared,
    path: &str,
    table: &Table,
) -> Result<Joined, BridgeError> {
    let joined = join_groups(shared, path, table, false).await;
    joined.map_err(|(Failure::Read(error) | Failure::Upload(error))| error)
}

enum Failure {
    Read(BridgeError),
    Upload(BridgeError),
}

async fn join_groups(
    shared: &Shared,
    path: &str,
    table: &Table,
    merges: bool,
) -> Result<Joined, Failure> {
    let place = |at: usize| {
        let chunk = &table.chunks[at];
        (chunk.size(), chunk.file().is_none())
    };
    let groups = groups(table.chunks.len(), merges, place);
    let mut made = Vec::new();
    let mut chunks = Vec::with_capacity(groups.len());
    for group in groups {
        let group = &table.chunks[group];
        match group {
            [one] if one.file().is_some() => chunks.push(one.clone()),
            _ => match merge(shared, path, group).await.map(Arc::new) {
                Ok(chunk) => {
                    made.push(chunk.clone());
                    chunks.push(chunk);
                }
                Err(failure) => {
                    shared.discard(made);
                    return Err(failure);
                }
            },
        }
    }
    let table = Table {
        chunks,
        ..table.clone_without_chunks()
    };
    Ok(Joined { table, made })
}

async fn merge(shared: &Shared, path: &str, from: &[Arc<Chunk>]) -> Result<Chunk, Failure> {
    let read = stream::iter(from.to_vec())
        .map(|chunk| async move { bytes_of(shared, &chunk).await })
        .buffered(READS_AT_ONCE);
    let pieces: Vec<Bytes> = read.try_collect().await.map_err(Failure::Read)?;
    // One buffer is sent with less ado than a thousand.
    let file = shared.upload(vec![pieces.concat().into()], path).await;
    Ok(Chunk {
        base_offset: from.first().map_or(0, |chunk| chunk.base_offset),
        max_timestamp: from.iter().map(|c| c.max_timestamp).max().unwrap_or(-1),
        at: Place::File(file.map_err(Failure::Upload)?),
    })
}

/// A whole chunk.
pub(super) async fn bytes_of(shared: &Shared, chunk: &Chunk) -> Result<Bytes, BridgeError> {
    match &chunk.at {
        Place::File(file) => shared.read(file).await,
        Place::Journal(bytes) => Ok(bytes.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of the chunks that a segment has in the end, and how often its bytes were written, if
    /// `commits` of a size come before it is stored each time.
    fn fill(size: impl Fn(usize) -> u64, commits: usize) -> (Vec<u64>, u64) {
        let (mut chunks, mut total, mut written) = (Vec::<u64>::new(), 0, 0);
        let mut number = 0;
        while total < 16 << 20 {
            let stored = chunks.len();
            for _ in 0..commits {
                chunks.push(size(number));
                total += size(number);
                number += 1;
            }
            let groups = groups(chunks.len(), true, |at| (chunks[at], at >= stored));
            let sum = |group: &Group| chunks[group.clone()].iter().sum::<u64>();
            let made = groups.iter().filter(|g| g.len() > 1 || g.start >= stored);
            written += made.map(sum).sum::<u64>();
            chunks = groups.iter().map(sum).collect();
        }
        assert_eq!(chunks.iter().sum::<u64>(), total);
        (chunks, written / total)
    }

    #[test]
    fn a_segment_is_a_short_list_of_chunks_whatever_the_size_of_commits() {
        for (size, commits) in [
            (300, 1),
            (300, 2000),
            (20 << 10, 1),
            (60 << 10, 3),
            (60 << 10, 500),
        ] {
            let (chunks, writes) = fill(|_| size, commits);
            assert!(
                chunks.len() <= 256 + SMALL_MAX,
                "{size}: {} chunks",
                chunks.len()
            );
            assert!(*chunks.iter().max().unwrap() < (CHUNK_BYTES as u64) + 2 * SMALL_BYTES);
            // The smallest are merged with what was merged before, until that is not small.
            assert!(writes <= 16, "{size}: written {writes} times");
        }
    }

    #[test]
    fn what_the_journal_has_is_joined_and_what_is_stored_is_left_alone() {
        let sizes = [70 << 10, 90 << 10, 5, 5, 80 << 10, 5];
        let is_new = [false, false, true, true, false, true];
        let found = groups(6, true, |at| (sizes[at], is_new[at]));
        assert_eq!(found, [0..1, 1..2, 2..4, 4..5, 5..6]);
        assert!(groups(0, true, |_| (0, false)).is_empty());
        // Of many small ones, only those of the journal if nothing may be read.
        let small = |merges| groups(20, merges, |at| (5, at >= 18));
        assert_eq!((small(true).len(), small(true).last()), (1, Some(&(0..20))));
        assert_eq!(
            (small(false).len(), small(false).last()),
            (19, Some(&(18..20)))
        );
    }
}
