//! The embedded store: segment files on this machine's disk.
//!
//! ```text
//! <data folder>/
//!   lock                         held while a process uses the folder
//!   meta.json                    format version, cluster id
//!   clean                        there after a stop that left nothing to repair
//!   catalog.log                  topics (see `crate::catalog`)
//!   topics/<topic id>/<partition>/<base offset>.log, .index; with .deleted behind it when it is to go,
//!     with more numbers in it once compacted, with .cleaned behind it until that is done
//!   journal/, checkpoint/        per shard; the next start takes them over, whatever its number of shards
//! ```
//! What is acknowledged as durable is in the journal, synced (`flush = durable`); what is acknowledged
//! at all is at least in the page cache of its segment. Nothing in `topics/` depends on the number of
//! shards.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shards::log_limited;

pub use self::compact::{Compaction, Swap};
pub use self::journal::FILE_BYTES as JOURNAL_FILE_BYTES;
use self::journal::{Journal, JournalFile, Slot};
use self::log::SyncPlan;
pub use self::log::{AgePlan, AppendPlan, Expired, Log, ReadPlan, Removal, SeekPlan};
pub use self::recovery::Report;
use super::{CheckpointError, PartitionId, Recovered, Replay, Rolling, StoredBatch};
use crate::wire::Uuid;

mod checkpoint;
mod compact;
#[cfg(test)]
mod damage;
pub(crate) mod fault;
pub(crate) mod file;
mod index;
mod journal;
mod log;
mod recovery;
pub mod segment;
#[cfg(test)]
mod simulation;

const FORMAT_VERSION: u32 = 1;
/// A checkpoint is due after that much. It bounds what a start after a crash has to read, and with
/// `flush = durable` to sync. With `flush = os` it syncs what the kernel would otherwise write when it
/// sees fit, so it should have had the time to.
const CHECKPOINT_BYTES_DURABLE: u64 = 128 << 20;
const CHECKPOINT_BYTES_OS: u64 = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the data folder {0} is in use by another process; stop that one or choose another --data-dir"
    )]
    Locked(PathBuf),
    #[error(
        "the data folder {dir} has format version {found}, this program understands {FORMAT_VERSION}"
    )]
    Version { dir: PathBuf, found: u32 },
    #[error("cannot use the data folder {dir}: {source}")]
    Io { dir: PathBuf, source: io::Error },
}

#[derive(Serialize, Deserialize)]
struct Meta {
    format_version: u32,
    cluster_id: String,
}

/// A data folder that this process holds.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    cluster_id: String,
    /// Locked for as long as this is alive.
    _lock: File,
}

impl DataDir {
    /// Opens a data folder, or makes one. `cluster_id` is for a new one; it gets a random id without.
    pub fn open(root: &Path, cluster_id: Option<&str>) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io {
            dir: root.to_owned(),
            source,
        };
        for folder in ["topics", "journal", "checkpoint"] {
            file::make_dir(&root.join(folder)).map_err(io)?;
        }
        let lock = lock_folder(root).map_err(io)?;
        let lock = lock.ok_or_else(|| OpenError::Locked(root.to_owned()))?;
        let meta = read_or_make_meta(root, cluster_id).map_err(io)?;
        if meta.format_version != FORMAT_VERSION {
            return Err(OpenError::Version {
                dir: root.to_owned(),
                found: meta.format_version,
            });
        }
        Ok(DataDir {
            root: root.to_owned(),
            cluster_id: meta.cluster_id,
            _lock: lock,
        })
    }

    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    pub fn catalog_path(&self) -> PathBuf {
        self.root.join("catalog.log")
    }

    /// Brings all partitions to the state that the disk proves, and removes what belongs to no topic.
    /// Blocking; uses one thread for each shard.
    #[allow(clippy::type_complexity)] // Each part has one user.
    pub fn recover<R: Replay>(
        &self,
        partitions: &[PartitionId],
        options: &Options,
    ) -> io::Result<(Vec<Recovered<R, Log>>, Vec<LocalStore>, Report)> {
        let clean = self.take_clean_mark()?;
        self.remove_unknown_topics(partitions)?;
        let topics = self.root.join("topics");
        let journal = self.root.join("journal");
        let checkpoint = self.root.join("checkpoint");
        let folders = recovery::Folders {
            topics: &topics,
            journal: &journal,
            checkpoint: &checkpoint,
        };
        let start = recovery::recover::<R>(&folders, partitions, clean, options)?;
        let store = |shard| LocalStore {
            topics: topics.clone(),
            checkpoint: checkpoint::path(&checkpoint, start.generation + 1, shard),
            rolling: options.rolling,
            journal: options
                .durable
                .then(|| Journal::new(journal.clone(), shard)),
            unsynced: Vec::new(),
            behind: start.behind,
        };
        Ok((
            start.partitions,
            (0..options.shards).map(store).collect(),
            start.report,
        ))
    }

    /// Says for the next start that there is nothing to repair: every shard has made its last checkpoint.
    pub fn mark_clean(&self) -> io::Result<()> {
        file::replace_durably(&self.root.join("clean"), b"")
    }

    fn take_clean_mark(&self) -> io::Result<bool> {
        match file::remove(&self.root.join("clean")) {
            Ok(()) => file::sync_dir(&self.root).map(|()| true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// A topic's folder outlives its entry in the catalog when the process ends between the two.
    fn remove_unknown_topics(&self, partitions: &[PartitionId]) -> io::Result<()> {
        let known: std::collections::HashSet<String> =
            partitions.iter().map(|p| p.topic.to_string()).collect();
        for folder in file::list(&self.root.join("topics"))? {
            let name = folder.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| !known.contains(name)) {
                tracing::info!(folder = %folder.display(), "removing what is left of a deleted topic");
                file::remove_dir(&folder)?;
            }
        }
        Ok(())
    }
}

/// Takes the lock of a data folder, for as long as the file is open. `None`: another process has it.
pub fn lock_folder(root: &Path) -> io::Result<Option<File>> {
    let lock = file::open_or_make(&root.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

fn read_or_make_meta(root: &Path, cluster_id: Option<&str>) -> io::Result<Meta> {
    let path = root.join("meta.json");
    match file::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let cluster_id = match cluster_id {
                Some(id) => id.to_owned(),
                None => Uuid::random().map_err(io::Error::other)?.to_string(),
            };
            let meta = Meta {
                format_version: FORMAT_VERSION,
                cluster_id,
            };
            file::replace_durably(&path, &serde_json::to_vec(&meta)?)?;
            Ok(meta)
        }
        Err(e) => Err(e),
    }
}

/// How the store is to work.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub shards: usize,
    /// Sync before acknowledging.
    pub durable: bool,
    /// Of topics that say nothing else.
    pub rolling: Rolling,
}

/// One shard's part of the store. Makes plans; what they do runs off the shard.
pub struct LocalStore {
    topics: PathBuf,
    checkpoint: PathBuf,
    rolling: Rolling,
    /// With `flush = durable`.
    journal: Option<Journal>,
    /// What a checkpoint that failed should have synced.
    unsynced: Vec<SyncPlan>,
    /// The start left to the first checkpoint what it should have synced.
    behind: bool,
}

impl LocalStore {
    /// The log of a partition that never had a record.
    pub fn new_log(&self, id: PartitionId) -> Log {
        let dir = recovery::partition_dir(&self.topics, id);
        Log::resume(
            id,
            dir,
            self.rolling,
            &[],
            log::LogPoint::empty(0),
            log::Age::UNKNOWN,
            None,
        )
    }

    /// Removes all that a topic has on the disk. Blocking.
    pub fn remove_topic(&self, topic: Uuid) -> impl FnOnce() -> io::Result<()> + Send + use<> {
        let dir = self.topics.join(topic.to_string());
        move || file::remove_dir(&dir)
    }

    /// Plans one commit. Commits are made one after the other.
    pub fn plan_commit(&mut self, appends: Vec<AppendPlan>) -> Commit {
        let batches = || appends.iter().flat_map(|a| a.batches());
        let payload = batches().map(|b| b.size() as u64).sum();
        let count = batches().count();
        // A commit of retries alone has nothing to store.
        let journal = self.journal.as_mut().filter(|_| count > 0);
        let slot = journal.map(|j| j.reserve(count, payload));
        Commit {
            appends,
            slot,
            written: Vec::new(),
            journaled: None,
            sync_took: None,
        }
    }

    /// Notes how a commit ended; gives for each append its file, or why it failed.
    pub fn committed(&mut self, commit: Commit) -> Vec<(AppendPlan, io::Result<Arc<File>>)> {
        let mut journal_error = None;
        if let (Some(journal), Some(slot)) = (&mut self.journal, &commit.slot) {
            match commit.journaled {
                Some(Ok((file, bytes))) => journal.written(slot, bytes, file),
                Some(Err(e)) => {
                    journal.failed(slot);
                    journal_error = Some(e);
                }
                None => journal.unused(slot),
            }
        }
        let outcome = |written: io::Result<Arc<File>>| match &journal_error {
            Some(e) => Err(io::Error::new(e.kind(), format!("journal: {e}"))),
            None => written,
        };
        let written = commit.written.into_iter().map(outcome);
        commit.appends.into_iter().zip(written).collect()
    }

    /// Files of the shard's journal.
    pub fn journal_files(&self) -> usize {
        self.journal.as_ref().map_or(0, Journal::files)
    }

    /// Whether a checkpoint is due when so many bytes were committed since the last one.
    pub fn wants_checkpoint(&self, bytes: u64) -> bool {
        match &self.journal {
            Some(journal) => bytes >= CHECKPOINT_BYTES_DURABLE || journal.wants_checkpoint(),
            None => bytes >= CHECKPOINT_BYTES_OS || self.behind,
        }
    }

    /// Plans a checkpoint of these partitions (all of the shard). No commit may be under way.
    pub fn plan_checkpoint<'a, R: Replay>(
        &mut self,
        partitions: impl Iterator<Item = (&'a mut Log, i64, &'a R)>,
    ) -> Checkpoint {
        self.behind = false;
        let mut syncs = std::mem::take(&mut self.unsynced);
        let mut writer = checkpoint::Writer::new();
        for (log, log_start_offset, state) in partitions {
            syncs.extend(log.plan_sync());
            writer.add(log.id(), log_start_offset, log.plan_checkpoint(), state);
        }
        Checkpoint {
            topics: self.topics.clone(),
            path: self.checkpoint.clone(),
            bytes: writer.finish(),
            syncs,
            sequence: self.journal.as_ref().map_or(0, Journal::last_sequence),
        }
    }

    /// Notes that a checkpoint failed, and that the next one is to do its work.
    pub fn checkpoint_failed(&mut self, failed: Checkpoint) {
        self.unsynced.extend(failed.syncs);
    }

    /// Notes that a checkpoint is on the disk; gives the files to be removed now.
    pub fn checkpointed(&mut self, done: &Checkpoint) -> impl FnOnce() + Send + use<> {
        let surplus = self
            .journal
            .as_mut()
            .map_or_else(Vec::new, |j| j.release(done.sequence));
        move || {
            for path in surplus {
                if let Err(error) = file::remove(&path) {
                    log_limited!(warn, path = %path.display(), %error, "cannot remove a journal file that is done with; the next start will try again");
                }
            }
        }
    }
}

/// A write of so much into the page cache takes about 0.1 ms.
const QUICK_BYTES_MAX: usize = 256 << 10;

/// One group commit: appends of many partitions, made durable by one sync.
pub struct Commit {
    appends: Vec<AppendPlan>,
    slot: Option<Slot>,
    written: Vec<io::Result<Arc<File>>>,
    journaled: Option<io::Result<(Arc<JournalFile>, u64)>>,
    sync_took: Option<Duration>,
}

impl Commit {
    /// True if to write it takes less time than to have another thread do it, and nothing is to be
    /// synced: a copy into the page cache of files that are open.
    pub fn is_quick(&self) -> bool {
        let bytes: usize = self.batches().map(StoredBatch::size).sum();
        self.slot.is_none()
            && bytes <= QUICK_BYTES_MAX
            && self.appends.iter().all(AppendPlan::is_plain)
    }

    fn batches(&self) -> impl Iterator<Item = &StoredBatch> {
        self.appends.iter().flat_map(|a| a.batches())
    }

    /// Hands all batches to the kernel. Blocking.
    pub fn write(&mut self) {
        self.written = self.appends.iter().map(AppendPlan::run).collect();
    }

    /// Partitions whose batches the kernel did not take.
    pub fn failed_writes(&self) -> impl Iterator<Item = PartitionId> {
        self.appends
            .iter()
            .zip(&self.written)
            .filter(|(_, w)| w.is_err())
            .map(|(a, _)| a.id())
    }

    /// Makes what was written durable, if the store is to do so. Blocking.
    pub fn sync(&mut self) {
        let good: Vec<_> = self
            .appends
            .iter()
            .zip(&self.written)
            .filter(|(_, w)| w.is_ok())
            .map(|(a, _)| a)
            .collect();
        if let Some(slot) = &self.slot
            && !good.is_empty()
        {
            let began = Instant::now();
            self.journaled = Some(slot.write(&good));
            self.sync_took = Some(began.elapsed());
        }
    }

    /// How long writing to the journal and its sync took, if there was one.
    pub fn sync_took(&self) -> Option<Duration> {
        self.sync_took
    }

    /// Bytes that went to the journal.
    pub fn journaled_bytes(&self) -> u64 {
        match &self.journaled {
            Some(Ok((_, bytes))) => *bytes,
            _ => 0,
        }
    }
}

/// A checkpoint to be made.
pub struct Checkpoint {
    topics: PathBuf,
    path: PathBuf,
    bytes: Vec<u8>,
    syncs: Vec<SyncPlan>,
    /// The last journal group that it overtakes.
    sequence: u64,
}

impl Checkpoint {
    /// Syncs the segments, then writes the checkpoint. Blocking.
    pub fn run(&self) -> Result<(), CheckpointError> {
        log::sync_all(&self.syncs, &self.topics)?;
        file::replace_durably(&self.path, &self.bytes).map_err(CheckpointError::Failed)
    }
}
