//! Bytes that rot on the disk: found, said where, never given to anybody, and mended where the journal
//! has them.

use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::file::tests::folder_on_disk;
use super::*;
use crate::record::batch::{Batch, BatchHeader};
use crate::record::{Builder, split_first};
use crate::store::StoredBatch;

/// Remembers nothing.
#[derive(Debug, Default)]
struct Nothing;

impl Replay for Nothing {
    fn encode(&self, _: &mut Vec<u8>) {}

    fn decode(_: &[u8]) -> Option<Self> {
        Some(Nothing)
    }

    fn roll_back(&mut self, _: i64) {}

    fn replay(&mut self, _: &BatchHeader) {}
}

const BATCHES: i64 = 10;

struct World {
    root: tempfile::TempDir,
    id: PartitionId,
    store: Option<(DataDir, LocalStore)>,
    log: Option<Log>,
}

impl World {
    /// A log with batches of one record.
    fn new() -> Self {
        let id = PartitionId {
            topic: Uuid([7; 16]),
            index: 0,
        };
        let mut world = World {
            root: folder_on_disk(),
            id,
            store: None,
            log: None,
        };
        world.start();
        (0..BATCHES).for_each(|offset| world.append(offset));
        world
    }

    /// Ends as by `kill -9`, and starts again.
    fn start(&mut self) -> Report {
        (self.store, self.log) = (None, None);
        let data = DataDir::open(self.root.path(), Some("cluster")).unwrap();
        let options = Options {
            shards: 1,
            durable: true,
            rolling: Rolling {
                segment_bytes: 1 << 20,
                segment_ms: i64::MAX,
                segment_jitter_ms: 0,
            },
        };
        let (mut logs, mut stores, report) = data.recover::<Nothing>(&[self.id], &options).unwrap();
        self.log = Some(logs.remove(0).log);
        self.store = Some((data, stores.remove(0)));
        report
    }

    fn append(&mut self, offset: i64) {
        let mut builder = Builder::new();
        builder.append(1000, None, Some(&[b'x'; 1000]), &[]);
        let batch = Batch::parse(&builder.build()).unwrap();
        let stored = StoredBatch {
            base_offset: offset,
            last_offset: offset,
            max_timestamp: 1000,
            head: batch.patched_head(offset, 0),
            body: batch.after_head(),
        };
        let (log, (_, store)) = (self.log.as_mut().unwrap(), self.store.as_mut().unwrap());
        let mut commit = store.plan_commit(vec![log.plan_append(vec![stored], 0)]);
        commit.write();
        commit.sync();
        for (plan, file) in store.committed(commit) {
            log.appended(&plan, file.unwrap());
        }
    }

    fn checkpoint(&mut self) {
        let (log, (_, store)) = (self.log.as_mut().unwrap(), self.store.as_mut().unwrap());
        let plan = store.plan_checkpoint([(&mut *log, 0, &Nothing)].into_iter());
        plan.run().unwrap();
        store.checkpointed(&plan)();
        log.checkpointed();
    }

    /// Flips a bit of the batch at `offset`, `at` bytes behind its beginning.
    fn damage(&self, offset: u64, at: u64) {
        let dir = recovery::partition_dir(&self.root.path().join("topics"), self.id);
        let file = file::open_to_write(&segment::log_path(&dir, 0)).unwrap();
        let size = (file.metadata().unwrap().len() - segment::HEADER_LEN as u64) / BATCHES as u64;
        let at = segment::HEADER_LEN as u64 + offset * size + at;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }

    /// The offsets that one read at `offset` gives, or why it gives none.
    fn read(&self, offset: i64) -> Result<Vec<i64>, String> {
        let log = self.log.as_ref().unwrap();
        let plan = log.plan_read(offset, 1 << 20).unwrap();
        let mut bytes: Bytes = plan.run().map_err(|error| error.to_string())?;
        let mut offsets = Vec::new();
        while let Some(batch) = split_first(&mut bytes).unwrap() {
            assert!(batch.crc_ok());
            offsets.push(batch.base_offset());
        }
        Ok(offsets)
    }
}

#[test]
fn a_damaged_batch_is_named_and_those_around_it_are_read() {
    // A byte of a record, of the offset, and of the length.
    for at in [200, 7, 11] {
        let world = World::new();
        world.damage(4, at);
        assert_eq!(world.read(0), Ok(vec![0, 1, 2, 3]), "byte {at}");
        assert_eq!(world.read(3), Ok(vec![3]));
        let said = world.read(4).unwrap_err();
        for part in [&*world.id.to_string(), "segment 0", "offset 4", "byte "] {
            assert!(said.contains(part), "{said}");
        }
        // The index knows where offset 8 is, whatever stands before it.
        assert_eq!(world.read(8), Ok(vec![8, 9]));
    }
}

#[test]
fn what_is_damaged_behind_the_checkpoint_comes_back_from_the_journal() {
    for at in [200, 7, 11] {
        let mut world = World::new();
        world.damage(4, at);
        let report = world.start();
        assert!(report.restored_batches > 0);
        assert_eq!(world.read(0), Ok((0..BATCHES).collect()), "byte {at}");
    }
}

#[test]
fn what_is_damaged_before_the_checkpoint_stays_where_it_is_and_the_log_goes_on() {
    let mut world = World::new();
    world.checkpoint();
    world.damage(4, 200);
    world.start();
    assert_eq!(world.log.as_ref().unwrap().next_offset(), BATCHES);
    assert!(world.read(4).is_err());
    assert_eq!(world.read(8), Ok(vec![8, 9]));
    world.append(BATCHES);
    assert_eq!(world.read(8), Ok(vec![8, 9, BATCHES]));
}
