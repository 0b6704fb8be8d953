//! Seeded runs of the store with crashes, against an oracle.
//!
//! What a crash may do: end the process between any two steps (`kill -9`), and after a power loss also
//! drop or tear whatever no sync has covered. What it may never do: lose, change, reorder or repeat
//! what a commit has acknowledged, or give an offset twice.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRng};
use rand::RngExt;

use super::*;
use crate::record::batch::{Batch, BatchHeader};
use crate::record::{Builder, split_first};
use crate::store::StoredBatch;

const ROLLING: Rolling = Rolling {
    segment_bytes: 3000,
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
    /// What was acknowledged, byte for byte.
    acked: Vec<Bytes>,
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
            builder.append(1000 + n, None, Some(&value), &[]);
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

    fn read_all(&self) -> Vec<Bytes> {
        let mut offset = 0;
        let mut all = Vec::new();
        while offset < self.log.next_offset() {
            let mut bytes = self
                .log
                .plan_read(offset, 700)
                .expect("a segment has it")
                .run()
                .expect("readable");
            while let Some(batch) = split_first(&mut bytes).unwrap() {
                assert!(
                    batch.last_offset() >= offset,
                    "batches before the offset are not given"
                );
                offset = batch.last_offset() + 1;
                all.push(batch.bytes().clone());
            }
        }
        all
    }
}

fn whole(batch: &StoredBatch) -> Bytes {
    [&batch.head[..], &batch.body[..]].concat().into()
}

fn on_disk() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    std::fs::create_dir_all(folder).unwrap();
    folder.to_owned()
}

struct World {
    root: tempfile::TempDir,
    ids: Vec<PartitionId>,
    durable: bool,
    shards: usize,
    data: Option<DataDir>,
    stores: Vec<LocalStore>,
    replicas: HashMap<PartitionId, Replica>,
}

impl World {
    fn new(durable: bool) -> Self {
        let topic = Uuid([7; 16]);
        World {
            // On the disk's own file system, not on tmpfs.
            root: tempfile::tempdir_in(on_disk()).unwrap(),
            ids: (0..3).map(|index| PartitionId { topic, index }).collect(),
            durable,
            shards: 1,
            data: None,
            stores: Vec::new(),
            replicas: HashMap::new(),
        }
    }

    fn owner(&self, id: PartitionId) -> usize {
        id.index as usize % self.shards
    }

    /// Starts, and holds what came back against what was acknowledged.
    fn start(&mut self, shards: usize) -> Result<(), TestCaseError> {
        self.shards = shards;
        let data = DataDir::open(self.root.path(), Some("cluster")).unwrap();
        let options = Options {
            shards,
            durable: self.durable,
            rolling: ROLLING,
        };
        let (recovered, stores, _) = data.recover::<Seen>(&self.ids, &options).unwrap();
        for partition in recovered {
            let acked = self
                .replicas
                .remove(&partition.id)
                .map_or_else(Vec::new, |r| r.acked);
            let mut replica = Replica {
                log: partition.log,
                seen: partition.state,
                waiting: Vec::new(),
                acked,
            };
            let found = replica.read_all();
            prop_assert!(
                found.len() >= replica.acked.len(),
                "{}: acknowledged batches are gone",
                partition.id
            );
            prop_assert_eq!(&found[..replica.acked.len()], &replica.acked[..]);
            let offsets: Vec<_> = found
                .iter()
                .map(|b| BatchHeader::parse(b).unwrap())
                .collect();
            prop_assert!(
                offsets
                    .windows(2)
                    .all(|w| w[0].last_offset() + 1 == w[1].base_offset())
            );
            prop_assert_eq!(
                &replica.seen.0,
                &offsets.iter().map(|h| h.base_offset()).collect::<Vec<_>>()
            );
            // What survived without an acknowledgement is part of the log from now on.
            replica.acked = found;
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

    fn commit(&mut self, shard: usize) {
        let Some(mut commit) = self.plan_commit(shard) else {
            return;
        };
        commit.write();
        commit.sync();
        for (plan, outcome) in self.stores[shard].committed(commit) {
            let replica = self.replicas.get_mut(&plan.id()).unwrap();
            replica.log.appended(&plan, outcome.unwrap());
            replica.acked.extend(plan.batches().iter().map(whole));
            replica
                .seen
                .0
                .extend(plan.batches().iter().map(|b| b.base_offset));
        }
    }

    /// A commit whose writes or whose sync fail: refused, and everything goes on.
    fn fail_commit(&mut self, shard: usize, rng: &mut TestRng) {
        let Some(mut commit) = self.plan_commit(shard) else {
            return;
        };
        commit.write();
        let refused = || io::Error::other("no");
        if rng.random() {
            commit.written.iter_mut().for_each(|w| *w = Err(refused()));
        }
        commit.sync();
        commit.journaled = commit.journaled.map(|_| Err(refused()));
        if commit.journaled.is_none() {
            commit.written.iter_mut().for_each(|w| *w = Err(refused()));
        }
        for (plan, outcome) in self.stores[shard].committed(commit) {
            assert!(outcome.is_err());
            self.replicas
                .get_mut(&plan.id())
                .unwrap()
                .log
                .roll_back(&plan);
        }
    }

    fn checkpoint(&mut self, shard: usize) {
        let (shards, store) = (self.shards, &mut self.stores[shard]);
        let mine = self
            .replicas
            .values_mut()
            .filter(|r| r.log.id().index as usize % shards == shard);
        let plan = store.plan_checkpoint(mine.map(|r| (&mut r.log, 0, &r.seen)));
        plan.run().unwrap();
        store.checkpointed(&plan)();
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
    }

    /// After a power loss, what no checkpoint has synced in the segments may be torn anywhere: only
    /// the journal can be relied on.
    fn tear_segments(&self, synced: &HashMap<PartitionId, (i64, u64)>, rng: &mut TestRng) {
        for id in &self.ids {
            let dir = recovery::partition_dir(&self.root.path().join("topics"), *id);
            let (base, position) = synced.get(id).copied().unwrap_or((0, 0));
            for found in segment::list(&dir)
                .unwrap()
                .into_iter()
                .filter(|b| *b >= base)
            {
                let path = dir.join(format!("{found:020}.log"));
                let keep = if found == base { position } else { 0 };
                tear(&path, keep, rng);
            }
        }
    }

    fn synced_points(&self) -> HashMap<PartitionId, (i64, u64)> {
        let checkpoints =
            checkpoint::read_all::<Seen>(&self.root.path().join("checkpoint")).unwrap();
        checkpoints
            .entries
            .values()
            .map(|e| (e.id, (e.point.segment_base, e.point.position)))
            .collect()
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
        match rng.random_range(0..20) {
            0..10 => {
                let id = world.ids[rng.random_range(0..world.ids.len())];
                world.replicas.get_mut(&id).unwrap().append(rng);
            }
            10..15 => world.commit(shard),
            15 => world.fail_commit(shard, rng),
            16 | 17 => world.checkpoint(shard),
            18 => {
                world.crash(rng);
                world.start(rng.random_range(1..4))?;
            }
            _ => {
                world.crash(rng);
                if world.durable {
                    let synced = world.synced_points();
                    world.tear_segments(&synced, rng);
                }
                world.start(rng.random_range(1..4))?;
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_crash_loses_changes_or_repeats_what_was_acknowledged(seed: [u8; 32]) {
        simulate(&mut TestRng::from_seed(RngAlgorithm::ChaCha, &seed))?;
    }
}
