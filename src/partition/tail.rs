//! The newest batches of a partition that is read, in memory, for those who read at the end.
//!
//! Only committed ones.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::store::{BATCH_HEAD_LEN, StoredBatch};

/// A body smaller than this is copied: a slice would keep the buffer alive that it came in.
const COPY_BELOW_BYTES: usize = 16 << 10;
/// Copies are put side by side into pieces of this size.
const ARENA_BYTES: usize = 64 << 10;
/// In an answer, a body smaller than this is copied beside its neighbours: one piece for each would
/// cost more than the copy.
const GATHER_BELOW_BYTES: usize = 2 << 10;

#[derive(Debug, Default)]
pub struct Tail {
    batches: VecDeque<StoredBatch>,
    bytes: usize,
    arena: BytesMut,
}

impl Tail {
    /// Takes the next batch in. A small body is copied into the arena.
    pub fn keep(&mut self, batch: &StoredBatch) {
        self.bytes += batch.size();
        let body = match batch.body.len() {
            ..COPY_BELOW_BYTES => self.copy(&batch.body),
            _ => batch.body.clone(),
        };
        self.batches.push_back(StoredBatch { body, ..*batch });
    }

    fn copy(&mut self, body: &[u8]) -> Bytes {
        if self.arena.capacity() < body.len() {
            // A first piece that fits a small partition; more only for those that are written a lot.
            let room = if self.batches.is_empty() {
                body.len().next_power_of_two()
            } else {
                ARENA_BYTES
            };
            self.arena = BytesMut::with_capacity(room);
        }
        self.arena.extend_from_slice(body);
        self.arena.split().freeze()
    }

    /// Bytes of all batches held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the oldest batch; gives its size.
    pub fn evict_oldest(&mut self) -> Option<usize> {
        let size = self.batches.pop_front()?.size();
        self.bytes -= size;
        if self.batches.is_empty() {
            self.arena = BytesMut::new();
        }
        Some(size)
    }

    /// Drops all that end before `offset`; gives their number and their bytes.
    pub fn drop_before(&mut self, offset: i64) -> (usize, usize) {
        let gone = self.batches.partition_point(|b| b.last_offset < offset);
        let bytes = self.batches.drain(..gone).map(|b| b.size()).sum();
        self.bytes -= bytes;
        if self.batches.is_empty() {
            self.arena = BytesMut::new();
        }
        (gone, bytes)
    }

    /// True if the batch that holds `offset` is here.
    pub fn holds(&self, offset: i64) -> bool {
        self.batches
            .front()
            .is_some_and(|b| b.base_offset <= offset)
            && self.batches.back().is_some_and(|b| b.last_offset >= offset)
    }

    /// Bytes of batches from the one that holds `offset` on, counted up to `enough`.
    pub fn available(&self, offset: i64, enough: usize) -> usize {
        let mut bytes = 0;
        for batch in self.from(offset) {
            bytes += batch.size();
            if bytes >= enough {
                break;
            }
        }
        bytes
    }

    /// Whole batches from the one that holds `offset` on: at least one, then as many as fit.
    /// Large bodies are shared, not copied.
    pub fn read(&self, offset: i64, max_bytes: usize) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        let mut gather = BytesMut::new();
        let mut total = 0;
        for batch in self.from(offset) {
            if total > 0 && total + batch.size() > max_bytes {
                break;
            }
            total += batch.size();
            if gather.capacity() - gather.len() < BATCH_HEAD_LEN + GATHER_BELOW_BYTES {
                gather.reserve(gather_room(max_bytes - total.min(max_bytes)));
            }
            gather.extend_from_slice(&batch.head);
            if batch.body.len() < GATHER_BELOW_BYTES {
                gather.extend_from_slice(&batch.body);
            } else {
                pieces.push(gather.split().freeze());
                pieces.push(batch.body.clone());
            }
        }
        if !gather.is_empty() {
            pieces.push(gather.freeze());
        }
        pieces
    }

    fn from(&self, offset: i64) -> impl Iterator<Item = &StoredBatch> {
        let first = self.batches.partition_point(|b| b.last_offset < offset);
        self.batches.range(first..)
    }
}

/// Room for what may still come, not more than a piece that is cheap to be left half empty.
fn gather_room(may_come: usize) -> usize {
    may_come.clamp(BATCH_HEAD_LEN + GATHER_BELOW_BYTES, 16 << 10)
}
