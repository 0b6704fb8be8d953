//! The store in SeaweedFS: logs of partitions as segments in SeaweedMQ's layout, written by the gateway
//! itself and not through SeaweedMQ's brokers, which acknowledge what they have in memory only. Topics that
//! these are to write all the same are in [`broker`] and [`adopted`].
//!
//! A commit uploads the large chunks of all partitions of a shard and writes one record to the shard's
//! [`journal`], in a transaction that proves that the store still is this gateway's ([`fence`]). It is
//! durable as SeaweedFS's volumes and filer are. Segments take over what the journal has soon after.
//! They are at most 128 MiB, and of 512 chunks of 64 KiB or more, so there are 8 to 32 of the filer's
//! entries for each GiB of a partition, and one for each that is rolled by age. What compaction leaves of
//! several becomes one ([`compact`]).
//!
//! The plans of this store block the thread that they run on, and wait there for [`crate::bridge`].

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::executor::block_on;
use futures::stream::{self, StreamExt, TryStreamExt};
use rustc_hash::FxHashMap;
use shards::lock;

use self::adopted::Adopted;
use self::background::Background;
use self::catalog::CatalogFile;
pub use self::compact::{Compaction, Swap};
use self::fence::{Fence, FenceError, take_over};
use self::journal::{Addition, DIRECT_BYTES, Journal, Storing};
use self::layout::{Part, ROOT, TOPICS, checkpoints_dir, partition_dir, time_name};
use self::log::Standing;
pub use self::log::{AppendPlan, Log, Removal};
use self::read::{ChunkCache, Tables};
pub use self::read::{ReadPlan, SeekPlan};
pub use self::recovery::Found;
use self::rules::Rules;
use self::segment::{Chunk, Piece, Place};
use super::{CheckpointError, NotOwner, PartitionId, Replay, Rewound, Rolling, StoredBatch};
use crate::bridge::{
    Bridge, BridgeError, Entry, FileChunk, FuseAttributes, List, Mutation, Placement,
    Removal as Remove, Role, path,
};
use crate::metrics::seaweedfs::StoreMetrics;
use crate::wire::Uuid;

pub mod adopted;
mod background;
pub mod broker;
pub mod catalog;
mod checkpoint;
pub mod codec;
mod compact;
pub mod consumer_offsets;
mod fence;
mod journal;
pub mod layout;
mod log;
pub mod marks;
mod merge;
mod read;
mod recovery;
pub mod rules;
mod segment;

const FILE_MODE: u32 = 0o644;
/// Bytes of chunks that were read lately, of all shards together.
pub const CHUNK_CACHE_BYTES: usize = 128 << 20;
/// Batches of one segment and commit go to several chunks from here on, in bytes. (A volume server of
/// SeaweedFS 4.48 takes 0.6 ms of CPU time for a chunk of 1 MiB, and 10 ms for one of 4 MiB.)
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks of one commit that are on their way at a time.
const UPLOADS_AT_ONCE: usize = 16;
/// Chunks of one file that are read at a time.
const READS_AT_ONCE: usize = 16;
/// Partitions that a start looks at at a time.
const PARTITIONS_AT_ONCE: usize = 64;
/// When too much is on its way.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(5);
/// Changes of one transaction that need not be made together.
const MUTATIONS_AT_ONCE: usize = 128;

/// Of errors that are none any more when a volume server is back.
const AWAY: io::ErrorKind = io::ErrorKind::HostUnreachable;
/// How long a start waits for volumes that are away, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(15);
const PATIENCE_PAUSE: Duration = Duration::from_millis(500);

/// What all shards share.
pub struct Shared {
    this: Weak<Shared>,
    bridge: Bridge,
    /// Where chunks go; without a path.
    volumes: Placement,
    /// Volumes sync or copy what they have, which the filer's store does not.
    is_safer_in_volumes: bool,
    /// Of which topics of SeaweedMQ each topic is made.
    topics: Mutex<HashMap<Uuid, Vec<Part>>>,
    /// Where the partitions are of topics that others made.
    adopted: Mutex<HashMap<Uuid, Arc<Adopted>>>,
    /// Topics of ours that brokers write, and whether they are new.
    brokers: Mutex<HashMap<Uuid, bool>>,
    chunks: ChunkCache,
    tables: Tables,
    background: Background,
    /// Written to by who removes a topic, read by who stores segments.
    keeping_topics: RwLock<()>,
    metrics: Arc<StoreMetrics>,
}

fn now_s() -> i64 {
    codec::Clock::now().div_euclid(1_000_000_000)
}

/// Of a file that is written now.
fn attributes(file_size: u64) -> FuseAttributes {
    FuseAttributes {
        file_size,
        file_mode: FILE_MODE,
        mtime: now_s(),
        ..FuseAttributes::default()
    }
}

/// A file whose content is in its entry.
fn inline_file(name: &str, content: Vec<u8>) -> Entry {
    Entry {
        name: name.to_owned(),
        attributes: Some(attributes(content.len() as u64)),
        content: content.into(),
        ..Entry::default()
    }
}

fn failed(error: BridgeError) -> io::Error {
    let kind = match &error {
        BridgeError::NotFound(_) => io::ErrorKind::NotFound,
        BridgeError::Damaged(_) => io::ErrorKind::InvalidData,
        BridgeError::Unavailable {
            role: Role::Volume, ..
        } => AWAY,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

fn refused(error: FenceError) -> io::Error {
    match error {
        FenceError::Fenced => io::Error::new(io::ErrorKind::PermissionDenied, NotOwner),
        FenceError::Bridge(error) => failed(error),
        error @ FenceError::Rewound { .. } => {
            io::Error::new(io::ErrorKind::InvalidData, Rewound(error.to_string()))
        }
        error @ FenceError::Unreadable { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

/// Does what has to wait while too much is on its way. The thread is there to wait.
async fn when_there_is_room<T, F: Future<Output = Result<T, BridgeError>>>(
    operation: impl Fn() -> F,
) -> Result<T, BridgeError> {
    loop {
        match operation().await {
            Err(BridgeError::Overloaded) => std::thread::sleep(OVERLOAD_PAUSE),
            done => return done,
        }
    }
}

/// Time that a start has for volumes that are away, all of them together. It begins with what first finds
/// one away.
#[derive(Default)]
struct Patience {
    until: Cell<Option<Instant>>,
}

impl Patience {
    /// Waits a little before what began then is tried again. False if there is no time any more.
    fn pause(&self, began: Instant, error: &io::Error) -> bool {
        let until = self.until.get().unwrap_or(began + PATIENCE);
        self.until.set(Some(until));
        if Instant::now() >= until {
            return false;
        }
        shards::log_limited!(warn, %error, "waiting for a volume server of SeaweedFS; see whether all of them run");
        std::thread::sleep(PATIENCE_PAUSE);
        true
    }

    /// Tries again what volumes are away for. Blocking.
    fn with<T>(&self, what: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let began = Instant::now();
        loop {
            match what() {
                Err(error) if error.kind() == AWAY && self.pause(began, &error) => {}
                done => return done,
            }
        }
    }
}

/// The same error for another partition.
fn like(error: &io::Error) -> io::Error {
    match (NotOwner::is(error), Rewound::is(error)) {
        (true, _) => io::Error::new(error.kind(), NotOwner),
        (_, true) => io::Error::new(error.kind(), Rewound(error.to_string())),
        _ => io::Error::new(error.kind(), error.to_string()),
    }
}

impl Shared {
    fn topics(&self) -> MutexGuard<'_, HashMap<Uuid, Vec<Part>>> {
        lock(&self.topics)
    }

    /// Says where a topic's partitions are.
    pub fn place(&self, topic: Uuid, parts: Vec<Part>) {
        self.topics().insert(topic, parts);
    }

    fn adopted(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Adopted>>> {
        lock(&self.adopted)
    }

    /// Says where the partitions are of a topic that others made.
    pub fn adopt(&self, topic: Uuid, adopted: Adopted) {
        self.adopted().insert(topic, Arc::new(adopted));
    }

    fn brokers(&self) -> MutexGuard<'_, HashMap<Uuid, bool>> {
        lock(&self.brokers)
    }

    /// Leaves the writing of a topic's logs to SeaweedMQ's brokers. Of one that is new nobody has written any.
    pub fn leave_to_brokers(&self, topic: Uuid, is_new: bool) {
        self.brokers().entry(topic).or_insert(is_new);
    }

    /// Others have deleted a topic that they made: there is nothing of it to be removed.
    pub fn forget(&self, topic: Uuid) {
        self.topics().remove(&topic);
        self.adopted().remove(&topic);
        self.brokers().remove(&topic);
    }

    /// Until this is dropped, no topic is removed that [`Shared::topics`] has.
    fn keep_topics(&self) -> RwLockReadGuard<'_, ()> {
        self.keeping_topics
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets where a topic's partitions are; waits for those who still store them.
    fn displace(&self, topic: Uuid) -> Vec<Part> {
        let parts = self.topics().remove(&topic).unwrap_or_default();
        self.forget(topic);
        drop(
            self.keeping_topics
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
        parts
    }

    fn dir(&self, id: PartitionId) -> Option<Arc<str>> {
        let dir = partition_dir(self.topics().get(&id.topic)?, id.index)?;
        Some(dir.into())
    }

    fn remove_segments(&self, dir: &str, names: &[i64]) -> Result<(), BridgeError> {
        let removal = Remove {
            data: true,
            recursive: false,
        };
        for name in names {
            let name = time_name(*name);
            block_on(self.bridge.delete(dir, &name, removal))?;
        }
        Ok(())
    }

    fn remove_parts(&self, topic: Uuid, parts: &[Part]) -> Result<(), BridgeError> {
        let removal = Remove {
            data: true,
            recursive: true,
        };
        for part in parts {
            block_on(self.bridge.delete(TOPICS, &part.folder, removal))?;
            block_on(marks::remove_made(&self.bridge, &part.folder))?;
        }
        let checkpoints = format!("{ROOT}/checkpoints");
        block_on(
            self.bridge
                .delete(&checkpoints, &topic.to_string(), removal),
        )
    }

    /// Where a partition is.
    fn known_dir(&self, id: PartitionId) -> io::Result<Arc<str>> {
        self.dir(id).ok_or_else(|| {
            io::Error::other(format!("the catalog does not say where partition {id} is"))
        })
    }

    /// Where chunks of a file with this path go.
    fn placement(&self, path: String) -> Placement {
        Placement {
            path,
            ..self.volumes.clone()
        }
    }

    /// A chunk of this data, for a file with this path.
    async fn upload(&self, data: Vec<Bytes>, path: &str) -> Result<FileChunk, BridgeError> {
        let placement = self.placement(path.to_owned());
        when_there_is_room(|| self.bridge.upload(data.clone(), placement.clone())).await
    }

    /// Removes chunks that no entry took.
    fn discard(&self, chunks: Vec<Arc<Chunk>>) {
        let bridge = self.bridge.clone();
        // What stays is found by SeaweedFS's own check of volumes (`volume.fsck`).
        self.background.run(move || {
            for file in chunks.iter().filter_map(|chunk| chunk.file()) {
                let _ = block_on(bridge.discard(file));
            }
        });
    }

    /// No more than the first bytes of a chunk.
    async fn read_front(&self, file: &FileChunk, len: u64) -> Result<Bytes, BridgeError> {
        when_there_is_room(|| self.bridge.read(file, 0..file.size.min(len))).await
    }

    /// A whole chunk.
    async fn read(&self, file: &FileChunk) -> Result<Bytes, BridgeError> {
        when_there_is_room(|| self.bridge.read(file, 0..file.size)).await
    }
}

/// A store that was opened and taken over.
pub struct Opened {
    pub catalog: CatalogFile,
    /// The lines of the catalog.
    pub lines: Vec<u8>,
    pub cluster_id: String,
    shared: Arc<Shared>,
    fences: Vec<Fence>,
    patience: Patience,
}

/// Opens the store, or makes it, and takes it over. `volumes` says where chunks go. Blocking.
pub fn open(
    bridge: Bridge,
    volumes: Placement,
    metrics: Arc<StoreMetrics>,
    shards: usize,
    cluster_id: &str,
) -> io::Result<Opened> {
    let patience = Patience::default();
    let rules = patience.with(|| block_on(Rules::read(&bridge)).map_err(failed))?;
    if let Some(rule) = rules.expiring() {
        return Err(io::Error::other(rule));
    }
    let default = block_on(bridge.default_replication()).map_err(failed)?;
    let is_safer_in_volumes = volumes.fsync || rules.copies(&volumes.replication, &default);
    let taken = take_over(&bridge, shards, cluster_id).map_err(refused)?;
    metrics.epoch.set(taken.owner.epoch());
    let background = Background::start()?;
    let shared = Arc::new_cyclic(|this| Shared {
        this: this.clone(),
        bridge,
        volumes,
        is_safer_in_volumes,
        topics: Mutex::default(),
        adopted: Mutex::default(),
        brokers: Mutex::default(),
        chunks: ChunkCache::new(CHUNK_CACHE_BYTES),
        tables: Tables::default(),
        background,
        keeping_topics: RwLock::default(),
        metrics,
    });
    let (catalog, lines) = CatalogFile::open(shared.clone(), taken.owner, &patience)?;
    Ok(Opened {
        patience,
        catalog,
        lines,
        cluster_id: taken.cluster_id,
        shared,
        fences: taken.shards,
    })
}

/// What recovery goes on from, once the catalog was read.
pub struct Parts {
    shared: Arc<Shared>,
    fences: Vec<Fence>,
    patience: Patience,
}

impl Opened {
    /// Takes the catalog and the rest apart.
    pub fn split(self) -> (CatalogFile, Vec<u8>, Parts) {
        let parts = Parts {
            shared: self.shared,
            fences: self.fences,
            patience: self.patience,
        };
        (self.catalog, self.lines, parts)
    }
}

impl Parts {
    /// Finds out how all partitions stand. `removed` are topics that may not be gone wholly. Blocking.
    pub fn recover<R: Replay>(
        self,
        partitions: &[PartitionId],
        removed: Vec<(Uuid, Vec<Part>)>,
        rolling: Rolling,
    ) -> io::Result<(Found<R>, Vec<ShardStore>)> {
        let Parts {
            shared,
            fences,
            patience,
        } = self;
        recovery::remove_leftovers(&shared, removed)?;
        let damaged = match fences.first() {
            Some(fence) => journal::recover(&shared, fence, partitions, &patience)?,
            None => HashSet::new(),
        };
        let began = Instant::now();
        let waits = |error: &io::Error| patience.pause(began, error);
        let found = recovery::recover(&shared, partitions, damaged, rolling, waits)?;
        let store = |(shard, fence): (usize, Fence)| {
            let fence = Arc::new(fence);
            let journal = Journal::new(shared.clone(), fence.clone(), shard);
            Ok(ShardStore {
                shared: shared.clone(),
                fence,
                journal: Storing::start(journal)?,
                rolling,
            })
        };
        let stores = fences.into_iter().enumerate().map(store);
        Ok((found, stores.collect::<io::Result<_>>()?))
    }
}

/// One shard's part of the store.
pub struct ShardStore {
    shared: Arc<Shared>,
    fence: Arc<Fence>,
    journal: Storing,
    /// Of topics that say nothing else.
    rolling: Rolling,
}

impl ShardStore {
    /// The log of a partition that never had a record.
    pub fn new_log(&self, id: PartitionId) -> Log {
        // Without a folder, which the catalog places before anybody knows the topic, writes fail.
        let dir = self.shared.dir(id).unwrap_or_else(|| Arc::from(""));
        let found = Standing {
            sealed: Vec::new(),
            active: None,
            next_offset: 0,
            dropped: Vec::new(),
            checkpointed_start: Some(0),
            listed: false,
        };
        Log::new(id, self.shared.clone(), dir, self.rolling, found)
    }

    /// Finds out whether the store still is this gateway's. Blocking.
    ///
    /// # Errors
    /// [`NotOwner`] if it is not; others if that cannot be told now.
    pub fn check_ownership(&self) -> impl FnOnce() -> io::Result<()> + Send + use<> {
        let fence = self.fence.clone();
        move || fence.check().map_err(refused)
    }

    /// Looks anew at partitions whose volumes were away. Blocking.
    pub fn look_again<R: Replay>(
        &self,
        partitions: Vec<PartitionId>,
    ) -> impl FnOnce() -> io::Result<Found<R>> + Send + use<R> {
        let (shared, rolling) = (self.shared.clone(), self.rolling);
        move || recovery::recover(&shared, &partitions, HashSet::new(), rolling, |_| false)
    }

    /// The log of a partition that brokers write. `None` if Tidegate does.
    pub fn adopted_log(&self, id: PartitionId) -> Option<adopted::Log> {
        let dirs = self.shared.log_dirs(id)?;
        let is_new = self.shared.brokers().get(&id.topic) == Some(&true);
        Some(adopted::Log::new(id, self.shared.clone(), dirs, is_new))
    }

    /// Removes all that a topic has in SeaweedFS. Blocking.
    pub fn remove_topic(&self, topic: Uuid) -> impl FnOnce() -> io::Result<()> + Send + use<> {
        let shared = self.shared.clone();
        move || {
            let parts = shared.displace(topic);
            shared.remove_parts(topic, &parts).map_err(failed)
        }
    }

    /// Plans one commit. Commits are made one after the other.
    pub fn plan_commit(&mut self, appends: Vec<AppendPlan>) -> Commit {
        Commit {
            shared: self.shared.clone(),
            journal: self.journal.0.clone(),
            appends,
            written: None,
            took: None,
        }
    }

    /// See [`crate::store::Store::begin_compaction`].
    pub fn begin_compaction(
        &self,
        log: &mut Log,
        start: i64,
        stable: i64,
        rules: super::compact::Rules,
        last_offsets: FxHashMap<i64, i64>,
    ) -> Option<Compaction> {
        compact::begin(
            &self.shared,
            &self.fence,
            log,
            start,
            stable,
            rules,
            last_offsets,
        )
    }

    /// Plans a checkpoint of these partitions (all of the shard).
    pub fn plan_checkpoint<'a, R: Replay>(
        &mut self,
        partitions: impl Iterator<Item = (&'a mut Log, i64, &'a R)>,
    ) -> Checkpoint {
        let news = |(log, start, state): (&'a mut Log, i64, &'a R)| {
            Some((log.id(), log.plan_checkpoint(start, state)?))
        };
        Checkpoint {
            fence: self.fence.clone(),
            journal: self.journal.0.clone(),
            news: partitions.filter_map(news).collect(),
        }
    }
}

/// One group commit: appends of many partitions in one transaction.
pub struct Commit {
    shared: Arc<Shared>,
    journal: Arc<Journal>,
    appends: Vec<AppendPlan>,
    written: Option<io::Result<()>>,
    took: Option<Duration>,
}

impl Commit {
    /// Stores everything. Blocking.
    pub fn run(&mut self) {
        if !self.appends.is_empty() {
            let began = Instant::now();
            self.written = Some(self.commit());
            self.took = Some(began.elapsed());
        }
    }

    /// How long it took.
    pub fn took(&self) -> Option<Duration> {
        self.took
    }

    /// Whether each append was stored, or why not: all of them, or none.
    pub fn ended(self) -> impl Iterator<Item = (AppendPlan, io::Result<()>)> {
        let written = self.written.unwrap_or(Ok(()));
        let outcome = move || match &written {
            Ok(()) => Ok(()),
            Err(error) => Err(like(error)),
        };
        let appends = self.appends.into_iter();
        appends.map(move |append| (append, outcome()))
    }

    fn commit(&self) -> io::Result<()> {
        let mut additions = Vec::with_capacity(self.appends.len());
        for append in &self.appends {
            encode(append, &mut additions)?;
        }
        let (additions, made) = self.upload(additions)?;
        self.journal.append(additions).map_err(|error| {
            // Otherwise it may have been done by half, and the journal may list them: the next commit
            // does not, and SeaweedFS then finds them to be nobody's.
            if matches!(error, FenceError::Fenced) {
                self.shared.discard(made);
            }
            refused(error)
        })
    }

    /// Makes files of the large chunks; gives these too.
    fn upload(&self, additions: Vec<Addition>) -> io::Result<(Vec<Addition>, Vec<Arc<Chunk>>)> {
        let upload = |mut addition: Addition| async move {
            let chunk = &mut addition.piece.chunk;
            if let Place::Journal(bytes) = &chunk.at
                && bytes.len() >= DIRECT_BYTES
            {
                let path = path(&addition.dir, &time_name(addition.piece.name_s));
                let file = self.shared.upload(vec![bytes.clone()], &path).await?;
                chunk.at = Place::File(file);
            }
            Ok(addition)
        };
        let placed: Vec<Result<Addition, BridgeError>> = block_on(
            stream::iter(additions)
                .map(upload)
                .buffered(UPLOADS_AT_ONCE)
                .collect(),
        );
        let failure = placed.iter().find_map(|one| one.as_ref().err().cloned());
        let placed: Vec<_> = placed.into_iter().flatten().collect();
        let chunks = placed.iter().map(|addition| &addition.piece.chunk);
        let files = chunks.filter(|chunk| chunk.file().is_some());
        let made = files.cloned().map(Arc::new).collect();
        match failure {
            None => Ok((placed, made)),
            Some(failure) => {
                self.shared.discard(made);
                Err(failed(failure))
            }
        }
    }
}

/// Encodes an append, a piece or more for each of its segments.
fn encode(append: &AppendPlan, additions: &mut Vec<Addition>) -> io::Result<()> {
    if append.dir.is_empty() {
        let text = format!("SeaweedMQ has no place for partition {}", append.id());
        return Err(io::Error::other(text));
    }
    let now_ns = codec::Clock::now();
    let mut clock = append.clock;
    for write in &append.writes {
        let batches = &append.batches()[write.batches.clone()];
        for batches in pieces(batches) {
            let size: usize = batches.iter().map(StoredBatch::size).sum();
            // An entry of a record is somewhat larger than it.
            let mut out = Vec::with_capacity(size + size / 4);
            for batch in batches {
                codec::encode(batch, now_ns, &mut clock, &mut out);
            }
            let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
                continue;
            };
            let max_timestamp = batches.iter().map(|batch| batch.max_timestamp).max();
            let piece = Piece {
                name_s: write.name_s,
                next_offset: last.last_offset + 1,
                bytes: size as u64,
                written_ms: append.now_ms,
                first_timestamp: write.first_timestamp,
                last_ns: clock.last_ns,
                chunk: Chunk {
                    base_offset: first.base_offset,
                    max_timestamp: max_timestamp.unwrap_or(-1),
                    at: Place::Journal(out.into()),
                },
            };
            additions.push(Addition {
                id: append.id(),
                dir: append.dir.clone(),
                open: append.open.clone(),
                piece,
            });
        }
    }
    Ok(())
}

/// Batches in groups of about the size of a chunk.
fn pieces(batches: &[StoredBatch]) -> impl Iterator<Item = &[StoredBatch]> {
    let mut bytes = 0;
    batches.chunk_by(move |batch, _| {
        bytes += batch.size();
        let fits = bytes < CHUNK_BYTES;
        bytes *= usize::from(fits);
        fits
    })
}

/// A checkpoint to be made, of the partitions of which there is news.
pub struct Checkpoint {
    fence: Arc<Fence>,
    journal: Arc<Journal>,
    news: Vec<(PartitionId, Vec<u8>)>,
}

impl Checkpoint {
    /// Blocking.
    pub fn run(&self) -> Result<(), CheckpointError> {
        // So that a clean end leaves no journal to be brought into segments.
        let stored = self.journal.store();
        stored.map_err(|error| CheckpointError::Failed(refused(error)))?;
        for some in self.news.chunks(MUTATIONS_AT_ONCE) {
            let put = |(id, content): &(PartitionId, Vec<u8>)| Mutation::Put {
                directory: checkpoints_dir(&id.topic),
                entry: inline_file(&id.index.to_string(), content.clone()),
            };
            let done = self.fence.transact(some.iter().map(put).collect());
            done.map_err(|error| CheckpointError::Failed(refused(error)))?;
        }
        Ok(())
    }
}

/// A file's chunks in the order of its content; filers may keep them in another.
fn in_order(entry: &Entry) -> Vec<FileChunk> {
    let mut chunks = entry.chunks.clone();
    chunks.sort_by_key(|chunk| chunk.offset);
    chunks
}

/// What chunks have.
async fn read_chunks(bridge: &Bridge, chunks: &[FileChunk]) -> Result<Vec<Bytes>, BridgeError> {
    stream::iter(chunks.to_vec())
        .map(|chunk| async move { when_there_is_room(|| bridge.read(&chunk, 0..chunk.size)).await })
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await
}

/// What a file has, in its entry and in chunks.
async fn content(bridge: &Bridge, entry: &Entry) -> Result<Bytes, BridgeError> {
    let mut all = read_chunks(bridge, &in_order(entry)).await?;
    all.insert(0, entry.content.clone());
    Ok(all.concat().into())
}

/// All entries of a folder behind a name, a page at a time. Blocking.
async fn list_all(
    bridge: &Bridge,
    directory: &str,
    after: &str,
) -> Result<Vec<Entry>, BridgeError> {
    let mut all = Vec::new();
    let mut after = after.to_owned();
    loop {
        let list = List {
            directory: directory.to_owned(),
            prefix: String::new(),
            after: after.clone(),
            limit: 1000,
        };
        let page = bridge.list(list).await?;
        if let Some(last) = page.entries.last() {
            after.clone_from(&last.name);
        }
        let more = page.more && !page.entries.is_empty();
        all.extend(page.entries);
        if !more {
            return Ok(all);
        }
    }
}
