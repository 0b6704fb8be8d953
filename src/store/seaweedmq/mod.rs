//! The store in SeaweedFS: logs of partitions as segments in SeaweedMQ's layout, written by the gateway
//! itself and not through SeaweedMQ's brokers, which acknowledge what they have in memory only.
//!
//! A commit uploads what all partitions of a shard have, a chunk for each, and then adds the chunks to
//! their segments in one transaction, which proves that the store still is this gateway's ([`fence`]).
//! It is durable as SeaweedFS's volumes and filer are. Segments are at most 128 MiB, so there are about
//! eight of the filer's entries for each GiB of a partition, and one for each that is rolled by age.
//!
//! The plans of this store block the thread that they run on, and wait there for [`crate::bridge`].

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::executor::block_on;
use futures::stream::{self, StreamExt};

use self::adopted::Adopted;
use self::background::Background;
use self::catalog::CatalogFile;
use self::fence::{Fence, FenceError, take_over};
use self::layout::{Part, ROOT, TOPICS, checkpoints_dir, partition_dir};
pub use self::log::{AppendPlan, Log, Removal};
use self::log::{Standing, Write};
use self::read::{ChunkCache, Tables};
pub use self::read::{ReadPlan, SeekPlan};
pub use self::recovery::Found;
use self::segment::Chunk;
pub use self::segment::Table;
use super::{CheckpointError, NotOwner, PartitionId, Replay, Rewound, Rolling};
use crate::bridge::{
    Bridge, BridgeError, Entry, FileChunk, FuseAttributes, List, Mutation, Placement,
    Removal as Remove,
};
use crate::metrics::seaweedfs::StoreMetrics;
use crate::wire::Uuid;

pub mod adopted;
mod background;
pub mod broker;
pub mod catalog;
mod checkpoint;
pub mod codec;
pub mod consumer_offsets;
mod fence;
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
/// Batches of one segment and commit go to several chunks from here on, in bytes.
const CHUNK_BYTES: usize = 4 << 20;
/// Chunks of one commit that are on their way at a time.
const UPLOADS_AT_ONCE: usize = 16;
/// When too much is on its way.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(5);
/// Changes of one transaction that need not be made together.
const MUTATIONS_AT_ONCE: usize = 128;

/// What all shards share.
pub struct Shared {
    this: Weak<Shared>,
    bridge: Bridge,
    /// Where chunks go; without a path.
    volumes: Placement,
    /// Of which topics of SeaweedMQ each topic is made.
    topics: Mutex<HashMap<Uuid, Vec<Part>>>,
    /// Where the partitions are of topics that others made.
    adopted: Mutex<HashMap<Uuid, Arc<Adopted>>>,
    /// Topics of ours that brokers write.
    brokers: Mutex<HashSet<Uuid>>,
    chunks: ChunkCache,
    tables: Tables,
    background: Background,
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
        self.topics
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Says where a topic's partitions are.
    pub fn place(&self, topic: Uuid, parts: Vec<Part>) {
        self.topics().insert(topic, parts);
    }

    fn adopted(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Adopted>>> {
        self.adopted
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Says where the partitions are of a topic that others made.
    pub fn adopt(&self, topic: Uuid, adopted: Adopted) {
        self.adopted().insert(topic, Arc::new(adopted));
    }

    fn brokers(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.brokers
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Leaves the writing of a topic's logs to SeaweedMQ's brokers.
    pub fn leave_to_brokers(&self, topic: Uuid) {
        self.brokers().insert(topic);
    }

    /// Others have deleted a topic that they made: there is nothing of it to be removed.
    pub fn forget(&self, topic: Uuid) {
        self.topics().remove(&topic);
        self.adopted().remove(&topic);
        self.brokers().remove(&topic);
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
            let name = layout::time_name(*name);
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
}

/// Opens the store, or makes it, and takes it over. `volumes` says where chunks go. Blocking.
pub fn open(
    bridge: Bridge,
    volumes: Placement,
    metrics: Arc<StoreMetrics>,
    shards: usize,
    cluster_id: &str,
) -> io::Result<Opened> {
    if let Some(rule) = block_on(rules::that_expires(&bridge)).map_err(failed)? {
        return Err(io::Error::other(rule));
    }
    let taken = take_over(&bridge, shards, cluster_id).map_err(refused)?;
    metrics.epoch.set(taken.owner.epoch());
    let background = Background::start()?;
    let shared = Arc::new_cyclic(|this| Shared {
        this: this.clone(),
        bridge,
        volumes,
        topics: Mutex::default(),
        adopted: Mutex::default(),
        brokers: Mutex::default(),
        chunks: ChunkCache::new(CHUNK_CACHE_BYTES),
        tables: Tables::default(),
        background,
        metrics,
    });
    let (catalog, lines) = CatalogFile::open(shared.clone(), taken.owner)?;
    Ok(Opened {
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
}

impl Opened {
    /// Takes the catalog and the rest apart.
    pub fn split(self) -> (CatalogFile, Vec<u8>, Parts) {
        let parts = Parts {
            shared: self.shared,
            fences: self.fences,
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
        recovery::remove_leftovers(&self.shared, removed)?;
        let found = recovery::recover(&self.shared, partitions, rolling)?;
        let shared = self.shared;
        let store = |fence| ShardStore {
            shared: shared.clone(),
            fence: Arc::new(fence),
            rolling,
        };
        Ok((found, self.fences.into_iter().map(store).collect()))
    }
}

/// One shard's part of the store.
pub struct ShardStore {
    shared: Arc<Shared>,
    fence: Arc<Fence>,
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

    /// The log of a partition that brokers write. `None` if Tidegate does.
    pub fn adopted_log(&self, id: PartitionId) -> Option<adopted::Log> {
        let dirs = self.shared.log_dirs(id)?;
        Some(adopted::Log::new(id, self.shared.clone(), dirs))
    }

    /// Removes all that a topic has in SeaweedFS. Blocking.
    pub fn remove_topic(&self, topic: Uuid) -> impl FnOnce() -> io::Result<()> + Send + use<> {
        let shared = self.shared.clone();
        move || {
            let parts = shared.topics().get(&topic).cloned().unwrap_or_default();
            shared.remove_parts(topic, &parts).map_err(failed)?;
            shared.forget(topic);
            Ok(())
        }
    }

    /// Plans one commit. Commits are made one after the other.
    pub fn plan_commit(&mut self, appends: Vec<AppendPlan>) -> Commit {
        Commit {
            shared: self.shared.clone(),
            fence: self.fence.clone(),
            appends,
            written: None,
            took: None,
        }
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
            news: partitions.filter_map(news).collect(),
        }
    }
}

/// Of each append, its segments as they are now.
type Written = Vec<Vec<Arc<Table>>>;

/// One group commit: appends of many partitions in one transaction.
pub struct Commit {
    shared: Arc<Shared>,
    fence: Arc<Fence>,
    appends: Vec<AppendPlan>,
    written: Option<io::Result<Written>>,
    took: Option<Duration>,
}

/// A part of a commit: one chunk of one segment.
struct Upload {
    append: usize,
    write: usize,
    chunk: Chunk,
    data: Bytes,
    path: String,
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

    /// For each append, its segments as they are now, or why it failed: all of them, or none.
    pub fn ended(self) -> Vec<(AppendPlan, io::Result<Vec<Arc<Table>>>)> {
        let written = self.written.unwrap_or_else(|| Ok(Vec::new()));
        match written {
            Ok(tables) => self
                .appends
                .into_iter()
                .zip(tables.into_iter().map(Ok))
                .collect(),
            Err(error) => {
                let same = |append| (append, Err(like(&error)));
                self.appends.into_iter().map(same).collect()
            }
        }
    }

    fn commit(&self) -> io::Result<Written> {
        let mut written: Written = Vec::with_capacity(self.appends.len());
        let mut uploads = Vec::new();
        for (number, append) in self.appends.iter().enumerate() {
            written.push(plan_uploads(number, append, &mut uploads)?);
        }
        let placed = self.upload(uploads)?;
        for Upload {
            append,
            write,
            chunk,
            ..
        } in &placed
        {
            let table = &mut written[*append][*write];
            Arc::make_mut(table).chunks.push(chunk.clone());
        }
        let mut mutations = Vec::new();
        for (append, tables) in self.appends.iter().zip(&written) {
            put_segments(append, tables, &mut mutations);
        }
        if let Err(error) = self.fence.transact(mutations) {
            // Otherwise a part of it may have been done, and a segment may list them: the next commit
            // of that segment does not, and SeaweedFS then finds them to be nobody's.
            if matches!(error, FenceError::Fenced) {
                self.discard(placed);
            }
            return Err(refused(error));
        }
        Ok(written)
    }

    /// Gives the chunks their places in SeaweedFS.
    fn upload(&self, uploads: Vec<Upload>) -> io::Result<Vec<Upload>> {
        let upload = |mut upload: Upload| async move {
            let data = std::mem::take(&mut upload.data);
            let file = self.shared.upload(vec![data], &upload.path).await;
            file.map(|file| {
                upload.chunk.file = file;
                upload
            })
        };
        let placed: Vec<Result<Upload, BridgeError>> = block_on(
            stream::iter(uploads)
                .map(upload)
                .buffered(UPLOADS_AT_ONCE)
                .collect(),
        );
        if placed.iter().all(Result::is_ok) {
            return Ok(placed.into_iter().flatten().collect());
        }
        let mut first = None;
        let mut good = Vec::new();
        for one in placed {
            match one {
                Ok(upload) => good.push(upload),
                Err(error) => first = first.or(Some(error)),
            }
        }
        self.discard(good);
        Err(first.map_or_else(|| io::Error::other("nothing failed"), failed))
    }

    /// Removes chunks that no segment took.
    fn discard(&self, uploads: Vec<Upload>) {
        let bridge = self.shared.bridge.clone();
        // What stays is found by SeaweedFS's own check of volumes (`volume.fsck`).
        self.shared.background.run(move || {
            for upload in uploads {
                let _ = block_on(bridge.discard(&upload.chunk.file));
            }
        });
    }
}

/// Encodes an append; gives its segments as they will be, but for the chunks.
fn plan_uploads(
    number: usize,
    append: &AppendPlan,
    uploads: &mut Vec<Upload>,
) -> io::Result<Vec<Arc<Table>>> {
    if append.dir.is_empty() {
        let text = format!("SeaweedMQ has no place for partition {}", append.id());
        return Err(io::Error::other(text));
    }
    let now_ns = codec::Clock::now();
    let mut clock = append.clock;
    let mut tables = Vec::with_capacity(append.writes.len());
    for (place, write) in append.writes.iter().enumerate() {
        let mut table = Table::clone(&write.before);
        let path = format!("{}/{}", append.dir, table.segment.name());
        encode(append, write, now_ns, &mut clock, |chunk, data| {
            uploads.push(Upload {
                append: number,
                write: place,
                chunk,
                data,
                path: path.clone(),
            });
        });
        for batch in &append.batches()[write.batches.clone()] {
            table.segment.bytes += batch.size() as u64;
            table.segment.max_timestamp = table.segment.max_timestamp.max(batch.max_timestamp);
            table.segment.next_offset = batch.last_offset + 1;
        }
        if write.is_fresh() {
            table.first_timestamp = write.first_timestamp;
        }
        table.segment.written_ms = append.now_ms;
        table.last_ns = clock.last_ns;
        tables.push(Arc::new(table));
    }
    Ok(tables)
}

/// The chunks of one write.
fn encode(
    append: &AppendPlan,
    write: &Write,
    now_ns: i64,
    clock: &mut codec::Clock,
    mut each: impl FnMut(Chunk, Bytes),
) {
    let (mut out, mut chunk): (Vec<u8>, Option<Chunk>) = (Vec::new(), None);
    for batch in &append.batches()[write.batches.clone()] {
        if out.len() >= CHUNK_BYTES
            && let Some(chunk) = chunk.take()
        {
            each(chunk, std::mem::take(&mut out).into());
        }
        let chunk = chunk.get_or_insert_with(|| Chunk {
            base_offset: batch.base_offset,
            max_timestamp: -1,
            file: FileChunk::default(),
        });
        chunk.max_timestamp = chunk.max_timestamp.max(batch.max_timestamp);
        codec::encode(batch, now_ns, clock, &mut out);
    }
    if let Some(chunk) = chunk {
        each(chunk, out.into());
    }
}

/// The changes of the filer that make an append.
fn put_segments(append: &AppendPlan, tables: &[Arc<Table>], mutations: &mut Vec<Mutation>) {
    let directory = &append.dir;
    mutations.extend(append.stale.iter().map(|name| Mutation::Delete {
        directory: directory.to_string(),
        name: layout::time_name(*name),
        data: true,
        recursive: false,
    }));
    mutations.extend(tables.iter().map(|table| Mutation::Put {
        directory: directory.to_string(),
        entry: table.entry(),
    }));
}

/// A checkpoint to be made, of the partitions of which there is news.
pub struct Checkpoint {
    fence: Arc<Fence>,
    news: Vec<(PartitionId, Vec<u8>)>,
}

impl Checkpoint {
    /// Blocking.
    pub fn run(&self) -> Result<(), CheckpointError> {
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
