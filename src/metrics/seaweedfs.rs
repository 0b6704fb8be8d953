//! What is counted on the way to SeaweedFS, and in the store that is there.

use std::sync::{Arc, Mutex, MutexGuard};

use super::cell::{Histogram, Latency, Number, Tally};
use crate::bridge::{BridgeError, Role};

/// What the bridge's thread counts; it alone writes what is a [`Number`].
#[derive(Debug, Default)]
pub struct BridgeMetrics {
    /// Of each operation that was made, by its name.
    operations: Mutex<Vec<(&'static str, Arc<OperationMetrics>)>>,
    pub retries: [Number; Role::NAMES.len()],
    pub sent_bytes: Number,
    pub received_bytes: Number,
    /// Operations that were refused by the limits of what is under way.
    pub overloads: Tally,
}

/// Operations of one name.
#[derive(Debug, Default)]
pub struct OperationMetrics {
    /// By what came of them: 0 for what was done, then by the kind of the error.
    pub results: [Number; 1 + BridgeError::KINDS.len()],
    /// Retries and waiting for servers included.
    pub latency: Histogram<Latency>,
}

impl OperationMetrics {
    /// As metrics call the results.
    pub fn result_names() -> impl Iterator<Item = &'static str> {
        std::iter::once("ok").chain(BridgeError::KINDS.iter().copied())
    }
}

impl BridgeMetrics {
    fn locked(&self) -> MutexGuard<'_, Vec<(&'static str, Arc<OperationMetrics>)>> {
        shards::lock(&self.operations)
    }

    /// Those of an operation.
    pub fn operation(&self, name: &'static str) -> Arc<OperationMetrics> {
        let mut all = self.locked();
        if let Some((_, known)) = all.iter().find(|(known, _)| *known == name) {
            return known.clone();
        }
        let new = Arc::<OperationMetrics>::default();
        all.push((name, new.clone()));
        new
    }

    /// All that were made, by name.
    pub fn operations(&self) -> Vec<(&'static str, Arc<OperationMetrics>)> {
        let mut all = self.locked().clone();
        all.sort_by_key(|(name, _)| *name);
        all
    }
}

/// What the store in SeaweedFS counts, all shards together.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// Of the fences: set once, at the start.
    pub epoch: Number,
    /// Chunks wanted by reads that were in memory, and those that were not.
    pub chunk_hits: Tally,
    pub chunk_misses: Tally,
    /// Of the chunks in memory.
    pub chunk_cache_bytes: Number,
    /// Merges of small chunks that took the place of what they were made of.
    pub merges: Tally,
    pub merged_bytes: Tally,
    /// Of files that brokers write, as filers told of them.
    pub changes: Tally,
}
