//! Seeded runs of the store with crashes and failing files, against an oracle.
//!
//! What a crash may do: end the process between any two steps (`kill -9`), and after a power loss also
//! drop or tear whatever no sync has covered, and take renames back. What a failing file may do: refuse
//! any operation, once or for a while, and make half of a write. What neither may ever do: lose, change,
//! reorder or repeat what a commit has acknowledged, give an offset twice, bring back what a client
//! deleted, or stop writing from going on when nothing fails any more. With `flush = os` a power loss
//! may take the end of a log: what comes behind the last checkpoint, and nothing out of its middle. One of
//! the logs is compacted: it may lose a record when a later one has its key, and only then.
//!
//! `SIMULATION_CASES` says how many runs to make (by default as many as proptest makes).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRng};
use rand::RngExt;

use super::file::tests::folder_on_disk;
use super::log::Segment;
use super::*;
use crate::record::batch::{Batch, BatchHeader};
use crate::record::{Builder, records, split_first};
use crate::store::compact::{CompactionError, Rules, Step};
use crate::store::{Removal, Removals, Retention, StoredBatch};

const ROLLING: Rolling = Rolling {
    segment_bytes: 1000,
    segment_ms: i64::MAX,
    segment_jitter_ms: 0,
};

/// Base offsets of all batches, as the state that is checkpointed and replayed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Seen(Vec<i64>);

impl Replay for Seen {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.0.iter().flat_map(|o| o.to_be_bytes()));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let offset = |c: &[u8]| Some(i64::from_be_bytes(c.try_into().ok()?));
        Some(Seen(bytes.chunks(8).map(offset).collect::<Option<_>>()?))
    }

    fn roll_back(&mut self, offset: i64) {
        self.0.retain(|o| *o < offset);
    }

    fn replay(&mut self, batch: &BatchHeader) {
        self.0.push(batch.base_offset());
    }
}

struct Replica {
    log: Log,
    seen: Seen,
    waiting: Vec<StoredBatch>,
    /// What was acknowledged, byte for byte, from the first batch on.
    acked: Vec<Bytes>,
    /// Where the log starts now: it may be lower again after a crash.
    start: i64,
    /// Where a client was told that it starts.
    acked_start: i64,
    compacts: bool,
    /// Names of segments that are, or were, part of the log, which a power loss does not take.
    taken: Vec<segment::Name>,
}

/// A record by its offset: key and value.
type Records = BTreeMap<i64, (Option<Bytes>, Option<Bytes>)>;

fn records_of<'a>(batches: impl Iterator<Item = &'a Bytes>) -> Records {
    let of_batch = |bytes: &Bytes| {
        let batch = Batch::parse(bytes).unwrap();
        let read = records(&batch, 1 << 20).unwrap().map(Result::unwrap);
        read.map(|r| (r.offset, (r.key, r.value)))
            .collect::<Vec<_>>()
    };
    batches.flat_map(of_batch).collect()
}

impl Replica {
    fn next_offset(&self) -> i64 {
        self.waiting
            .last()
            .map_or(self.log.next_offset(), |b| b.last_offset + 1)
    }

    fn append(&mut self, rng: &mut TestRng) {
        let base = self.next_offset();
        let mut builder = Builder::new();
        for n in 0..rng.random_range(1..5) {
            let value = vec![rng.random::<u8>(); rng.random_range(0..400)];
            let key = [rng.random_range(0..6)];
            builder.append(1000 + n, Some(&key), Some(&value), &[]);
        }
        let batch = Batch::parse(&builder.build()).unwrap();
        self.waiting.push(StoredBatch {
            base_offset: base,
            last_offset: base + i64::from(batch.last_offset_delta()),
            max_timestamp: batch.max_timestamp(),
            head: batch.patched_head(base, 0),
            body: batch.after_head(),
        });
    }

    /// All batches from the one on that holds the log's start.
    fn read_all(&self) -> io::Result<Vec<Bytes>> {
        let mut offset = self.start;
        let mut all = Vec::new();
        while offset < self.log.next_offset() {
            let mut bytes = self
                .log
                .plan_read(offset, 700)
                .expect("a segment has it")
                .run()?;
            while let Some(batch) = split_first(&mut bytes).unwrap() {
                assert!(
                    batch.last_offset() >= offset,
                    "batches before the offset are not given"
                );
                offset = batch.last_offset() + 1;
                all.push(batch.bytes().clone());
            }
        }
        Ok(all)
    }

    /// What was acknowledged and not deleted.
    fn kept(&self) -> &[Bytes] {
        let gone = self
            .acked
            .partition_point(|batch| header(batch).last_offset() < self.start);
        &self.acked[gone..]
    }

    /// Holds what is read against what was acknowledged. Gives what was not, behind it.
    fn check(&self, found: &[Bytes]) -> Result<Vec<Bytes>, TestCaseError> {
        let kept = self.kept();
        if !self.compacts {
            prop_assert!(found.len() >= kept.len(), "acknowledged batches are gone");
            prop_assert_eq!(&found[..kept.len()], kept);
            return Ok(found[kept.len()..].to_vec());
        }
        let end = self.acked.last().map_or(0, |b| header(b).last_offset() + 1);
        let behind = found.partition_point(|batch| header(batch).base_offset() < end);
        let (left, all) = (
            records_of(found[..behind].iter()),
            records_of(self.acked.iter()),
        );
        for (offset, record) in &left {
            prop_assert_eq!(all.get(offset), Some(record), "offset {}", offset);
        }
        let last: HashMap<_, _> = all.iter().map(|(o, (key, _))| (key, *o)).collect();
        for offset in last.into_values().filter(|offset| *offset >= self.start) {
            prop_assert!(
                left.contains_key(&offset),
                "offset {}, a key's last",
                offset
            );
        }
        Ok(found[behind..].to_vec())
    }

    /// An offset that the log can start at.
    fn any_start(&self, rng: &mut TestRng) -> i64 {
        rng.random_range(self.start..=self.log.next_offset())
    }
}

/// The names of a log's segments, and those that it had before.
fn names_of(log: &Log, before: &[segment::Name]) -> Vec<segment::Name> {
    let now = log.segments().iter().map(Segment::name);
    now.chain(before.iter().copied()).collect()
}

fn header(batch: &Bytes) -> BatchHeader {
    BatchHeader::parse(batch).unwrap()
}

fn whole(batch: &StoredBatch) -> Bytes {
    [&batch.head[..], &batch.body[..]].concat().into()
}

type Opened = (DataDir, Vec<Recovered<Seen, Log>>, Vec<LocalStore>);

struct World {
    root: tempfile::TempDir,
    ids: Vec<PartitionId>,
    durable: bool,
    shards: usize,
    data: Option<DataDir>,
    stores: Vec<LocalStore>,
    replicas: HashMap<PartitionId, Replica>,
    removals: Removals,
    /// A power loss may have taken acknowledged batches; not those before these offsets.
    lossy: Option<HashMap<PartitionId, i64>>,
}

impl World {
    fn new(durable: bool) -> Self {
        let topic = Uuid([7; 16]);
        World {
            // On the disk's own file system, not on tmpfs.
            root: folder_on_disk(),
            ids: (0..3).map(|index| PartitionId { topic, index }).collect(),
            durable,
            shards: 1,
            data: None,
            stores: Vec::new(),
            replicas: HashMap::new(),
            removals: Removals::default(),
            lossy: None,
        }
    }

    fn owner(&self, id: PartitionId) -> usize {
        id.index as usize % self.shards
    }

    fn any_replica(&mut self, rng: &mut TestRng) -> &mut Replica {
        let id = self.ids[rng.random_range(0..self.ids.len())];
        self.replicas.get_mut(&id).unwrap()
    }

    fn open(&self) -> io::Result<Opened> {
        let data = DataDir::open(self.root.path(), Some("cluster")).map_err(io::Error::other)?;
        let options = Options {
            shards: self.shards,
            durable: self.durable,
            rolling: ROLLING,
        };
        let (recovered, stores, _) = data.recover(&self.ids, &options)?;
        Ok((data, recovered, stores))
    }

    /// A start in which files fail. One thread, so that what fails is the same in each run of a seed.
    fn try_to_start(&mut self, rng: &mut TestRng) {
        self.shards = 1;
        fault::begin(rng.random(), 40);
        drop(self.open());
        fault::end();
    }

    /// Starts, and holds what came back against what was acknowledged.
    fn start(&mut self, shards: usize) -> Result<(), TestCaseError> {
        self.shards = shards;
        let (data, recovered, stores) = self.open().unwrap();
        let lossy = self.lossy.take();
        for partition in recovered {
            let before = self.replicas.remove(&partition.id);
            let start = partition.log_start_offset;
            if let Some(before) = &before {
                prop_assert!(
                    (before.acked_start..=before.start).contains(&start),
                    "{}: deleted up to {}, starts at {start}",
                    partition.id,
                    before.acked_start
                );
            }
            let acked_start = before.as_ref().map_or(0, |b| b.acked_start);
            let mut replica = Replica {
                log: partition.log,
                seen: partition.state,
                waiting: Vec::new(),
                acked: before.map_or_else(Vec::new, |b| b.acked),
                start,
                acked_start,
                compacts: partition.id == self.ids[0],
                taken: Vec::new(),
            };
            replica.taken = names_of(&replica.log, &[]);
            let follows = |pair: &[Segment]| match pair[0].compacted {
                Some(compacted) => compacted.end_offset == pair[1].base_offset,
                None => pair[0].base_offset < pair[1].base_offset,
            };
            prop_assert!(
                replica.log.segments().windows(2).all(follows),
                "what a compacted segment replaced is gone: {:?}",
                replica.log.segments()
            );
            let found = replica.read_all().expect("readable");
            if let Some(synced) = &lossy {
                let synced = synced.get(&partition.id).copied().unwrap_or(0);
                let end = replica.log.next_offset();
                prop_assert!(end >= synced);
                replica.acked.retain(|b| header(b).last_offset() < end);
            }
            // What survived without an acknowledgement is part of the log from now on.
            let survived = replica.check(&found)?;
            replica.acked.extend(survived);
            let headers: Vec<_> = replica.acked.iter().map(header).collect();
            prop_assert!(
                headers
                    .windows(2)
                    .all(|w| w[0].last_offset() + 1 == w[1].base_offset())
            );
            prop_assert_eq!(
                headers.last().map_or(0, |h| h.last_offset() + 1),
                replica.log.next_offset()
            );
            prop_assert_eq!(
                &replica.seen.0,
                &headers.iter().map(|h| h.base_offset()).collect::<Vec<_>>()
            );
            self.replicas.insert(partition.id, replica);
        }
        (self.data, self.stores) = (Some(data), stores);
        Ok(())
    }

    fn plan_commit(&mut self, shard: usize) -> Option<Commit> {
        let mine: Vec<_> = self
            .ids
            .iter()
            .copied()
            .filter(|id| self.owner(*id) == shard)
            .collect();
        let mut plans = Vec::new();
        for id in mine {
            let replica = self.replicas.get_mut(&id).unwrap();
            if !replica.waiting.is_empty() {
                plans.push(
                    replica
                        .log
                        .plan_append(std::mem::take(&mut replica.waiting), 0),
                );
            }
        }
        (!plans.is_empty()).then(|| self.stores[shard].plan_commit(plans))
    }

    /// Commits what waits. What fails is refused, and everything goes on. True if nothing failed.
    fn commit(&mut self, shard: usize) -> bool {
        let Some(mut commit) = self.plan_commit(shard) else {
            return true;
        };
        commit.write();
        commit.sync();
        let mut good = true;
        for (plan, outcome) in self.stores[shard].committed(commit) {
            let replica = self.replicas.get_mut(&plan.id()).unwrap();
            let Ok(file) = outcome else {
                replica.log.roll_back(&plan);
                good = false;
                continue;
            };
            replica.log.appended(&plan, file);
            replica.acked.extend(plan.batches().iter().map(whole));
            replica
                .seen
                .0
                .extend(plan.batches().iter().map(|b| b.base_offset));
        }
        good
    }

    /// Deletes records of one partition as a client asks for it, or makes a plain checkpoint.
    /// False if the store is not to be used any more before a start.
    fn checkpoint(&mut self, shard: usize, rng: &mut TestRng) -> bool {
        let shards = self.shards;
        let mine = |r: &&mut Replica| r.log.id().index as usize % shards == shard;
        let mut wanted = HashMap::new();
        for replica in self.replicas.values_mut().filter(mine) {
            if rng.random_range(0..3) == 0 {
                wanted.insert(replica.log.id(), replica.any_start(rng));
            }
        }
        let store = &mut self.stores[shard];
        let parts = self.replicas.values_mut().filter(mine).map(|r| {
            let start = wanted.get(&r.log.id()).copied().unwrap_or(r.start);
            (&mut r.log, start, &r.seen)
        });
        let plan = store.plan_checkpoint(parts);
        match plan.run() {
            Ok(()) => {}
            Err(CheckpointError::Failed(_)) => {
                store.checkpoint_failed(plan);
                // It may have been made, but for its name.
                for (id, start) in wanted {
                    let replica = self.replicas.get_mut(&id).unwrap();
                    replica.start = replica.start.max(start);
                }
                return true;
            }
            Err(CheckpointError::Sync(_)) => {
                self.move_starts(&wanted, false);
                return false;
            }
        }
        store.checkpointed(&plan)();
        self.move_starts(&wanted, true);
        for replica in self.replicas.values_mut().filter(mine) {
            replica.log.checkpointed();
            replica.log.drop_before(replica.start);
        }
        true
    }

    fn move_starts(&mut self, wanted: &HashMap<PartitionId, i64>, durable: bool) {
        for (id, start) in wanted {
            let replica = self.replicas.get_mut(id).unwrap();
            replica.start = replica.start.max(*start);
            if durable {
                replica.acked_start = replica.acked_start.max(*start);
            }
        }
    }

    /// The oldest segments of one partition are not to be kept any more; maybe all of them.
    fn expire(&mut self, rng: &mut TestRng) {
        let keep = Retention {
            bytes: rng.random_range(0..6000),
            ms: -1,
        };
        let replica = self.any_replica(rng);
        let Expired::Before(end) = replica.log.expired(keep, 0) else {
            return;
        };
        replica.log.drop_expired(end);
        replica.start = replica.start.max(end);
    }

    /// Compacts a log, or begins to. Files may fail, but none is damaged.
    fn compact(&mut self, rng: &mut TestRng) {
        let replica = self.replicas.get_mut(&self.ids[0]).unwrap();
        let rules = Rules {
            now_ms: 0,
            min_dirty_ratio: 0.0,
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
            delete_retention_ms: 0,
            segment_bytes: ROLLING.segment_bytes,
            memory_bytes: rng.random_range(1..1000),
        };
        let (start, end) = (replica.start, replica.log.next_offset());
        let producers = Default::default();
        let Some(mut run) = replica.log.begin_compaction(start, end, rules, producers) else {
            return;
        };
        for _ in 0..rng.random_range(0..30) {
            match run.step() {
                Ok(Step::More) => {}
                Ok(Step::Swap(swap)) => {
                    let old = replica.log.swap(&swap).expect("they are there");
                    replica.taken = names_of(&replica.log, &replica.taken);
                    self.removals
                        .push(self.ids[0], Removal::Local(old), due(rng));
                    self.removals.run(Instant::now());
                }
                Ok(Step::Done(_) | Step::NotDue) => break,
                Err(error) => {
                    assert!(matches!(error, CompactionError::Io(_)), "{error}");
                    break;
                }
            }
        }
        replica.log.end_compaction();
        if rng.random() {
            run.discard();
        }
    }

    /// Removes files that are not needed, or only renames them.
    fn tidy(&mut self, rng: &mut TestRng) {
        for id in &self.ids {
            let replica = self.replicas.get_mut(id).unwrap();
            if let Some(removal) = replica.log.plan_removal() {
                self.removals.push(*id, Removal::Local(removal), due(rng));
            }
        }
        self.removals.run(Instant::now());
    }

    /// What is read is what was acknowledged, or an error.
    fn read(&mut self, rng: &mut TestRng) -> Result<(), TestCaseError> {
        let replica = self.any_replica(rng);
        if let Ok(found) = replica.read_all() {
            prop_assert!(replica.check(&found)?.is_empty());
        }
        Ok(())
    }

    /// The process ends in the middle of a commit: after none, some or all of its steps.
    fn crash(&mut self, rng: &mut TestRng) {
        let shard = rng.random_range(0..self.shards);
        if let Some(mut commit) = self.plan_commit(shard) {
            if rng.random() {
                commit.write();
            }
            if rng.random() {
                commit.sync();
            }
        }
        self.data = None;
        self.stores.clear();
        self.removals = Removals::default();
    }

    /// After a power loss, what no checkpoint has synced in the segments may be torn anywhere: only
    /// the journal can be relied on, if there is one. The last renames may not have happened.
    fn lose_power(&mut self, rng: &mut TestRng) {
        let points = self.synced_points();
        let synced: HashMap<_, _> = points
            .iter()
            .map(|(id, point)| (*id, (point.segment_base, point.position)))
            .collect();
        if !self.durable {
            let ends = points.iter().map(|(id, point)| (*id, point.next_offset));
            self.lossy = Some(ends.collect());
        }
        for id in &self.ids {
            let dir = partition_dir(self.root.path(), *id);
            if let Some(replica) = self.replicas.get(id) {
                forget_unsynced_names(&dir, &replica.taken, rng);
            }
            take_renames_back(&dir, rng);
            let (base, position) = synced.get(id).copied().unwrap_or((0, 0));
            for found in segment::list(&dir)
                .unwrap()
                .into_iter()
                .map(|name| name.base_offset)
                .filter(|b| *b >= base)
            {
                let path = dir.join(format!("{found:020}.log"));
                let keep = if found == base { position } else { 0 };
                tear(&path, keep, rng);
            }
        }
    }

    fn synced_points(&self) -> HashMap<PartitionId, log::LogPoint> {
        let checkpoints =
            checkpoint::read_all::<Seen>(&self.root.path().join("checkpoint")).unwrap();
        checkpoints
            .entries
            .values()
            .map(|e| (e.id, e.point))
            .collect()
    }
}

fn partition_dir(root: &Path, id: PartitionId) -> PathBuf {
    recovery::partition_dir(&root.join("topics"), id)
}

/// Segments that were renamed to go, the oldest first.
fn retired_in(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).into_iter().flatten();
    let paths = files.map(|file| file.unwrap().path());
    let renamed = |path: &PathBuf| path.to_string_lossy().ends_with(".log.deleted");
    let mut retired: Vec<_> = paths.filter(renamed).collect();
    retired.sort();
    retired
}

/// Some of the youngest segments that were renamed to go have their old names.
fn take_renames_back(dir: &Path, rng: &mut TestRng) {
    let mut retired = retired_in(dir);
    let stay = rng.random_range(0..=retired.len());
    for path in retired.drain(stay..) {
        std::fs::rename(&path, path.with_extension("")).unwrap();
    }
}

/// Some of the compacted segments whose names were not synced, so that the log has not taken them over,
/// have none.
fn forget_unsynced_names(dir: &Path, taken: &[segment::Name], rng: &mut TestRng) {
    for path in file::list(dir).unwrap_or_default() {
        let name = segment::Name::of(&path).filter(|name| name.compacted.is_some());
        if name.is_some_and(|name| !taken.contains(&name)) && rng.random() {
            std::fs::rename(&path, path.with_extension("log.cleaned")).unwrap();
        }
    }
}

fn tear(path: &Path, keep: u64, rng: &mut TestRng) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    if len <= keep {
        return;
    }
    match rng.random_range(0..3) {
        0 => file.set_len(rng.random_range(keep..=len)).unwrap(),
        1 => {
            use std::os::unix::fs::FileExt;
            file.write_all_at(&[0x5a; 9], rng.random_range(keep..len))
                .unwrap();
        }
        _ if keep == 0 => std::fs::remove_file(path).unwrap(),
        _ => {}
    }
}

fn simulate(rng: &mut TestRng) -> Result<(), TestCaseError> {
    let mut world = World::new(rng.random());
    world.start(rng.random_range(1..4))?;
    for _ in 0..rng.random_range(20..120) {
        let shard = rng.random_range(0..world.shards);
        // Files fail in some steps.
        if rng.random_range(0..4) == 0 {
            fault::begin(rng.random(), rng.random_range(1..15));
        }
        let mut usable = true;
        match rng.random_range(0..30) {
            0..10 => world.any_replica(rng).append(rng),
            10..15 => drop(world.commit(shard)),
            15..18 => usable = world.checkpoint(shard, rng),
            18 => world.expire(rng),
            19 | 20 => world.tidy(rng),
            21 | 22 => world.read(rng)?,
            23 | 24 => usable = false,
            25..29 => world.compact(rng),
            _ => {
                world.crash(rng);
                fault::end();
                if world.durable || rng.random() {
                    world.lose_power(rng);
                }
                world.start(rng.random_range(1..4))?;
            }
        }
        if !usable {
            world.crash(rng);
            fault::end();
            if rng.random() {
                world.try_to_start(rng);
            }
            world.start(rng.random_range(1..4))?;
        }
        fault::end();
    }
    for replica in world.replicas.values_mut() {
        replica.append(rng);
    }
    for shard in 0..world.shards {
        prop_assert!(world.commit(shard), "writing goes on when nothing fails");
    }
    world.crash(rng);
    world.start(1)
}

/// When files may be removed: now, or not before the next crash.
fn due(rng: &mut TestRng) -> Instant {
    let delay = [Duration::ZERO, Duration::from_secs(3600)];
    Instant::now() + delay[rng.random_range(0..2)]
}

fn cases() -> u32 {
    let given = std::env::var("SIMULATION_CASES");
    given.ok().and_then(|n| n.parse().ok()).unwrap_or(256)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn no_crash_and_no_failing_file_loses_changes_or_repeats_what_was_acknowledged(seed: [u8; 32]) {
        let run = simulate(&mut TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        fault::end();
        run?;
    }
}
