//! Small chunks become larger ones in the background, so that a segment is neither a long list of
//! chunks nor a small file.
//!
//! What was merged takes the place of what it was made of with the next append; the filer then removes
//! the chunks that are not listed any more.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use futures::executor::block_on;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::Shared;
use super::segment::{Chunk, Table};
use crate::bridge::{BridgeError, FileChunk};

/// A chunk below this is small, and so many of them at the end are merged.
const SMALL_BYTES: u64 = 64 << 10;
const SMALL_MAX: usize = 32;
/// A chunk below this is of middling size, and so many of them in a row are merged.
const MIDDLING_BYTES: u64 = 1 << 20;
const MIDDLING_MAX: usize = 16;
/// What is merged is not larger, but by its last part.
const MERGED_BYTES: u64 = 4 << 20;
const READS_AT_ONCE: usize = 8;

/// The chunks to be merged next, if any.
fn due(chunks: &[Chunk]) -> Option<Range<usize>> {
    let size = |at: usize| chunks[at].file.size;
    let run_before = |end: usize, limit: u64| {
        (0..end)
            .rev()
            .take_while(|at| size(*at) < limit)
            .last()
            .unwrap_or(end)
    };
    let small = run_before(chunks.len(), SMALL_BYTES);
    if chunks.len() - small >= SMALL_MAX {
        return Some(bounded(chunks, small..chunks.len()));
    }
    let middling = run_before(small, MIDDLING_BYTES);
    (small - middling >= MIDDLING_MAX).then(|| bounded(chunks, middling..small))
}

/// As many from the front as make up one chunk of the size aimed at.
fn bounded(chunks: &[Chunk], range: Range<usize>) -> Range<usize> {
    let mut bytes = 0;
    let fits = |chunk: &&Chunk| {
        let before = bytes;
        bytes += chunk.file.size;
        before < MERGED_BYTES
    };
    let count = chunks[range.clone()].iter().take_while(fits).count();
    range.start..range.start + count
}

/// What a merge came to.
struct Merged {
    from: Vec<Chunk>,
    into: Chunk,
}

enum Progress {
    UnderWay,
    /// It failed: not tried again before there are more chunks.
    Failed,
    Done(Box<Merged>),
    /// Nobody wants it any more.
    Abandoned,
}

/// The merge of one log that is under way, if any.
#[derive(Default)]
pub(super) struct Merging {
    progress: Option<Arc<Mutex<Progress>>>,
    /// Chunks that the segment had when one failed.
    failed_at: usize,
}

impl Merging {
    /// Begins one if it is due and none is under way.
    pub fn begin(&mut self, shared: &Arc<Shared>, dir: &Arc<str>, table: &Table) {
        if self.progress.is_some() {
            return;
        }
        let Some(range) = due(&table.chunks) else {
            return;
        };
        if self.failed_at + SMALL_MAX > table.chunks.len() && self.failed_at > 0 {
            return;
        }
        let progress = Arc::new(Mutex::new(Progress::UnderWay));
        let (from, path) = (
            table.chunks[range].to_vec(),
            format!("{dir}/{}", table.segment.name()),
        );
        let (result, merger) = (progress.clone(), shared.clone());
        let begun = shared.background.run(move || {
            let done = match merge(&merger, &path, &from) {
                Ok(into) => Progress::Done(Box::new(Merged { from, into })),
                Err(error) => {
                    shards::log_limited!(warn, %error, "cannot merge small chunks; trying again later");
                    Progress::Failed
                }
            };
            let before = std::mem::replace(&mut *lock(&result), done);
            if let Progress::Abandoned = before
                && let Progress::Done(merged) = &*lock(&result)
            {
                discard(&merger, merged.into.file.clone());
            }
        });
        self.progress = begun.then_some(progress);
    }

    /// Puts what was merged into the place of what it was made of.
    pub fn take(&mut self, shared: &Arc<Shared>, active: &mut Arc<Table>) {
        let Some(progress) = &self.progress else {
            return;
        };
        let progress = match &mut *lock(progress) {
            Progress::UnderWay => return,
            ended => std::mem::replace(ended, Progress::Abandoned),
        };
        self.progress = None;
        let Progress::Done(merged) = progress else {
            self.failed_at = active.chunks.len();
            return;
        };
        let Merged { from, into } = *merged;
        self.failed_at = 0;
        let first = from.first().map_or(0, |chunk| chunk.base_offset);
        let at = active.chunks.partition_point(|c| c.base_offset < first);
        let range = at..at + from.len();
        if active.chunks.get(range.clone()) == Some(&from[..]) {
            shared.metrics.merges.add(1);
            shared.metrics.merged_bytes.add(into.file.size);
            Arc::make_mut(active).chunks.splice(range, [into]);
        } else {
            discard(shared, into.file);
        }
    }

    /// The segment takes no more appends.
    pub fn abandon(&mut self, shared: &Shared) {
        let Some(progress) = std::mem::take(self).progress else {
            return;
        };
        if let Progress::Done(merged) =
            std::mem::replace(&mut *lock(&progress), Progress::Abandoned)
        {
            discard(shared, merged.into.file);
        }
    }
}

/// Removes a chunk that no segment took.
fn discard(shared: &Shared, file: FileChunk) {
    let bridge = shared.bridge.clone();
    shared
        .background
        .run(move || drop(block_on(bridge.discard(&file))));
}

fn lock(progress: &Mutex<Progress>) -> std::sync::MutexGuard<'_, Progress> {
    progress
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn merge(shared: &Shared, path: &str, from: &[Chunk]) -> Result<Chunk, BridgeError> {
    let files: Vec<_> = from.iter().map(|chunk| chunk.file.clone()).collect();
    let file = block_on(async {
        let read = stream::iter(files)
            .map(|file| async move { shared.read(&file).await })
            .buffered(READS_AT_ONCE);
        shared.upload(read.try_collect().await?, path).await
    })?;
    Ok(Chunk {
        base_offset: from.first().map_or(0, |chunk| chunk.base_offset),
        max_timestamp: from.iter().map(|c| c.max_timestamp).max().unwrap_or(-1),
        file,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::FileChunk;

    fn chunk(base_offset: usize, size: u64) -> Chunk {
        Chunk {
            base_offset: base_offset as i64,
            max_timestamp: 0,
            file: FileChunk {
                size,
                ..FileChunk::default()
            },
        }
    }

    /// Commits of a size, merged as soon as it is due, until the segment is full.
    fn fill(size: impl Fn(usize) -> u64) -> (Vec<Chunk>, u64) {
        let (mut chunks, mut total, mut written) = (Vec::new(), 0, 0);
        let mut most = 0;
        for number in 0.. {
            let size = size(number);
            chunks.push(chunk(number, size));
            total += size;
            written += size;
            while let Some(range) = due(&chunks) {
                let merged: u64 = chunks[range.clone()].iter().map(|c| c.file.size).sum();
                assert!(merged < MERGED_BYTES + MIDDLING_BYTES);
                written += merged;
                let first = chunk(chunks[range.start].base_offset as usize, merged);
                chunks.splice(range, [first]);
            }
            most = most.max(chunks.len());
            if total >= 128 << 20 {
                break;
            }
        }
        assert!(most <= 256, "{most} chunks");
        (chunks, written / total)
    }

    #[test]
    fn a_segment_is_a_short_list_of_chunks_whatever_the_size_of_commits() {
        for size in [
            300,
            1 << 10,
            20 << 10,
            65 << 10,
            500 << 10,
            1 << 20,
            9 << 20,
        ] {
            let (chunks, writes) = fill(|_| size);
            assert!(chunks.len() <= 192, "{size}: {} chunks", chunks.len());
            // The smallest commits are merged with what was merged of others before, until that is not small.
            assert!(writes <= 6, "{size}: written {writes} times");
        }
        fill(|number| if number % 2 == 0 { 100 } else { 2 << 20 });
        fill(|number| [100, 70 << 10, 900 << 10, 5000][number % 4]);
    }
}
