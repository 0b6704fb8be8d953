//! Runs of compaction over random logs, against an oracle that knows every record.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRng};
use rand::RngExt;

use super::*;
use crate::record::batch::batches;
use crate::record::{Builder, Compression, records};
use crate::store::compact::{KEY_BYTES, Step};
use crate::store::local::{DataDir, LocalStore, Options, Recovered, Rolling};
use crate::store::{Replay, StoredBatch};
use crate::wire::Uuid;

const DELETE_RETENTION_MS: i64 = 1000;
const SEGMENT_BYTES: u64 = 2000;

/// Where the last batch of each producer ends, as the state that is checkpointed and replayed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Producers(BTreeMap<i64, i64>);

impl Replay for Producers {
    fn encode(&self, out: &mut Vec<u8>) {
        for (id, last) in &self.0 {
            out.extend(id.to_be_bytes());
            out.extend(last.to_be_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: &[u8]| Some(i64::from_be_bytes(at.try_into().ok()?));
        let pair = |c: &[u8]| Some((number(c.get(..8)?)?, number(c.get(8..)?)?));
        Some(Producers(
            bytes.chunks(16).map(pair).collect::<Option<_>>()?,
        ))
    }

    fn roll_back(&mut self, _: i64) {}

    fn replay(&mut self, batch: &BatchHeader) {
        if batch.has_producer_id() {
            self.0.insert(batch.producer_id(), batch.last_offset());
        }
    }
}

/// A record, but for its offset.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    key: Option<Bytes>,
    value: Option<Bytes>,
    timestamp: i64,
    headers: usize,
}

struct World {
    root: tempfile::TempDir,
    id: PartitionId,
    open: Option<(DataDir, LocalStore)>,
    log: Option<Log>,
    producers: Producers,
    written: BTreeMap<i64, Known>,
    codecs: HashMap<i64, Compression>,
    /// Of tombstones that a run has met: when they may go.
    horizons: HashMap<i64, i64>,
    now_ms: i64,
}

impl World {
    fn new() -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
        std::fs::create_dir_all(folder).unwrap();
        let mut world = World {
            root: tempfile::tempdir_in(folder).unwrap(),
            id: PartitionId {
                topic: Uuid([7; 16]),
                index: 0,
            },
            open: None,
            log: None,
            producers: Producers::default(),
            written: BTreeMap::new(),
            codecs: HashMap::new(),
            horizons: HashMap::new(),
            now_ms: 1_000_000,
        };
        world.start();
        world
    }

    /// Ends as by `kill -9`, and starts again.
    fn start(&mut self) {
        (self.open, self.log) = (None, None);
        let data = DataDir::open(self.root.path(), Some("cluster")).unwrap();
        let options = Options {
            shards: 1,
            durable: false,
            rolling: Rolling {
                segment_bytes: SEGMENT_BYTES,
                segment_ms: i64::MAX,
                segment_jitter_ms: 0,
            },
        };
        let (logs, mut stores, _) = data.recover::<Producers>(&[self.id], &options).unwrap();
        let Recovered { log, state, .. } = logs.into_iter().next().unwrap();
        assert_eq!(state, self.producers, "what the batches say of producers");
        self.log = Some(log);
        self.open = Some((data, stores.remove(0)));
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn append(&mut self, rng: &mut TestRng) {
        let base = self.log().next_offset();
        let codec = Compression::ALL[rng.random_range(0..5)];
        let mut builder = Builder::new().compression(codec, None);
        if rng.random() {
            builder = builder.producer(rng.random_range(0..3), 0, base as i32);
        }
        if rng.random_range(0..4) == 0 {
            builder = builder.log_append_time(self.now_ms);
        }
        for _ in 0..rng.random_range(1..6) {
            let key = (rng.random_range(0..10) != 0)
                .then(|| Bytes::from(format!("key {}", rng.random_range(0..30))));
            let value = (rng.random_range(0..4) != 0).then(|| {
                let byte = rng.random::<u8>();
                Bytes::from(vec![byte; rng.random_range(0..200)])
            });
            let headers: &[(&[u8], Option<&[u8]>)] = match rng.random() {
                true => &[(b"h", Some(b"v")), (b"n", None)],
                false => &[],
            };
            let timestamp = self.now_ms - rng.random_range(0..500);
            builder.append(timestamp, key.as_deref(), value.as_deref(), headers);
        }
        let batch = Batch::parse(&builder.build()).unwrap();
        let head = batch.patched_head(base, 3);
        let stored = StoredBatch {
            base_offset: base,
            last_offset: base + i64::from(batch.last_offset_delta()),
            max_timestamp: batch.max_timestamp(),
            head,
            body: batch.after_head(),
        };
        let whole = Bytes::from([&head[..], &stored.body[..]].concat());
        let batch = Batch::parse(&whole).unwrap();
        self.producers.replay(&batch);
        for (offset, record) in known(&batch) {
            self.written.insert(offset, record);
            self.codecs.insert(offset, codec);
        }
        let (log, (_, store)) = (self.log.as_mut().unwrap(), self.open.as_mut().unwrap());
        let mut commit = store.plan_commit(vec![log.plan_append(vec![stored], 0)]);
        commit.write();
        for (plan, file) in store.committed(commit) {
            log.appended(&plan, file.unwrap());
        }
    }

    fn checkpoint(&mut self) {
        let (log, (_, store)) = (self.log.as_mut().unwrap(), self.open.as_mut().unwrap());
        let plan = store.plan_checkpoint([(&mut *log, 0, &self.producers)].into_iter());
        plan.run().unwrap();
        store.checkpointed(&plan)();
        log.checkpointed();
    }

    /// Moves all checkpoints away, as the program says to do when one is damaged.
    fn lose_checkpoints(&mut self) {
        (self.open, self.log) = (None, None);
        for file in std::fs::read_dir(self.root.path().join("checkpoint")).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
    }

    /// All batches, as whoever reads from the beginning gets them, in pieces of any size.
    fn read(&mut self, piece: usize) -> Vec<Batch> {
        let log = self.log();
        let (mut offset, mut all) = (0, Vec::new());
        while offset < log.next_offset() {
            let plan = log.plan_read(offset, piece).expect("a segment has it");
            let read = batches(plan.run().expect("it is read"));
            for batch in read.map(|batch| batch.expect("a batch")) {
                assert!(batch.crc_ok());
                assert!(batch.base_offset() >= offset || all.is_empty());
                offset = batch.last_offset() + 1;
                all.push(batch);
            }
        }
        all
    }

    fn records(&mut self, piece: usize) -> BTreeMap<i64, Known> {
        let batches = self.read(piece);
        batches.iter().flat_map(known).collect()
    }

    fn clean_offset(&mut self) -> i64 {
        let segments = self.log().segments();
        let clean = segments.iter().map_while(|s| s.compacted);
        clean.last().map_or(0, |c| c.clean_offset)
    }

    /// A run; false if it ended before its end.
    fn compact(&mut self, memory_keys: usize, steps: usize) -> bool {
        let rules = Rules {
            memory_bytes: memory_keys * KEY_BYTES * 3,
            ..rules(self.now_ms)
        };
        let last_offsets = self.producers.0.clone().into_iter().collect();
        let begun = self
            .log()
            .begin_compaction(0, i64::MAX, rules, last_offsets);
        let Some(mut run) = begun else {
            return true;
        };
        for _ in 0..steps {
            match run.step().expect("nothing is damaged") {
                Step::More => {}
                Step::Swap(swap) => {
                    let old = self.log().swap(&swap).expect("they are there");
                    old.retire();
                    old.remove();
                }
                Step::Done(_) | Step::NotDue => {
                    self.log().end_compaction();
                    return true;
                }
            }
        }
        self.log().end_compaction();
        run.discard();
        false
    }
}

fn rules(now_ms: i64) -> Rules {
    Rules {
        now_ms,
        min_dirty_ratio: 0.0,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        delete_retention_ms: DELETE_RETENTION_MS,
        segment_bytes: SEGMENT_BYTES,
        memory_bytes: 1 << 20,
    }
}

fn known(batch: &Batch) -> Vec<(i64, Known)> {
    let known = |record: Result<crate::record::Record, _>| {
        let record = record.unwrap();
        let known = Known {
            key: record.key,
            value: record.value,
            timestamp: record.timestamp,
            headers: record.headers.len(),
        };
        (record.offset, known)
    };
    records(batch, 1 << 20).unwrap().map(known).collect()
}

/// What a run may leave, and must. One that was `cut` short has done a part of it.
fn check(world: &mut World, before: &BTreeMap<i64, Known>, cut: bool) -> Result<(), TestCaseError> {
    let clean = world.clean_offset();
    let batches = world.read(1 << 20);
    let left: BTreeMap<_, _> = batches.iter().flat_map(known).collect();
    for (offset, record) in &left {
        prop_assert_eq!(before.get(offset), Some(record), "offset {}", offset);
    }
    // A run that was cut short has known of more than it says.
    let end = if cut { i64::MAX } else { clean };
    let mut last = HashMap::new();
    for (offset, record) in &world.written {
        if let Some(key) = record.key.clone().filter(|_| *offset < end) {
            last.insert(key, *offset);
        }
    }
    for (offset, record) in before {
        let is_last = record
            .key
            .as_ref()
            .is_some_and(|key| last.get(key) == Some(offset));
        let horizon = world.horizons.get(offset);
        let is_over = record.value.is_none() && horizon.is_some_and(|h| world.now_ms >= *h);
        let stays = *offset >= clean || (is_last && !is_over);
        let is_left = left.contains_key(offset);
        let good = is_left == stays || (cut && is_left);
        prop_assert!(good, "offset {}: {:?}, left: {}", offset, record, is_left);
    }
    for batch in &batches {
        let codec = batch.attributes().compression().unwrap();
        for (offset, record) in known(batch) {
            prop_assert_eq!(codec, world.codecs[&offset]);
            let horizon = batch.delete_horizon_ms();
            if record.value.is_none() && offset < clean {
                let horizon = horizon.expect("a run has met it");
                prop_assert!(cut || horizon > world.now_ms);
            }
            // Of a batch that a run has known in part it may say so for all of it.
            if let Some(horizon) = horizon.filter(|_| record.value.is_none()) {
                let known = *world.horizons.entry(offset).or_insert(horizon);
                prop_assert_eq!(known, horizon, "it does not move");
            }
        }
    }
    let ends: HashSet<_> = batches.iter().map(|batch| batch.last_offset()).collect();
    for last in world.producers.0.values() {
        prop_assert!(ends.contains(last), "a producer's last batch");
    }
    Ok(())
}

fn simulate(rng: &mut TestRng) -> Result<(), TestCaseError> {
    let mut world = World::new();
    for _ in 0..rng.random_range(10..80) {
        match rng.random_range(0..12) {
            0..6 => (0..rng.random_range(1..8)).for_each(|_| world.append(rng)),
            6 => world.checkpoint(),
            7..10 => {
                world.now_ms += rng.random_range(0..800);
                let before = world.records(1 << 20);
                let clean = world.clean_offset();
                let steps = match rng.random() {
                    true => usize::MAX,
                    false => rng.random_range(0..12),
                };
                let whole = world.compact(rng.random_range(2..60), steps);
                if !whole {
                    check(&mut world, &before, true)?;
                } else if world.clean_offset() > clean {
                    check(&mut world, &before, false)?;
                }
            }
            10 => {
                let left = world.records(1 << 20);
                if rng.random() {
                    world.lose_checkpoints();
                }
                world.start();
                prop_assert_eq!(&world.records(1 << 20), &left);
            }
            _ => {
                let piece = rng.random_range(1..3000);
                prop_assert_eq!(world.records(piece), world.records(1 << 20));
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_last_record_of_each_key_stays_where_it_is_and_tombstones_go_in_time(seed: [u8; 32]) {
        simulate(&mut TestRng::from_seed(RngAlgorithm::ChaCha, &seed))?;
    }
}
