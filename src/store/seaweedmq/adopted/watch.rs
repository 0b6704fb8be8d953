//! One watch for many partitions: the filer tells when what brokers write to their folders changes.

use std::sync::Arc;

use futures::StreamExt;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Log, Shared, is_time_name};
use crate::bridge::{BridgeError, Change, Changes};
use crate::store::PartitionId;

/// It takes a moment until the filer knows that somebody listens, and its clock is another.
const MARGIN_NS: i64 = 10_000_000_000;

/// The folders that brokers write to, and whose they are.
type Folders = FxHashMap<Arc<str>, PartitionId>;

/// A watch to be begun.
pub struct WatchPlan {
    shared: Arc<Shared>,
    folders: Folders,
}

/// A watch that goes on until the filer, or the connection, ends it.
pub struct Watch {
    shared: Arc<Shared>,
    folders: Folders,
    changes: Changes,
}

/// Partitions whose files changed.
#[derive(Debug, Default)]
pub struct Touched {
    pub written: FxHashSet<PartitionId>,
    /// Those that lost files.
    pub shortened: FxHashSet<PartitionId>,
}

impl WatchPlan {
    /// `None` if there are no logs. Of each its newest folder: nobody writes to the others.
    pub fn of<'a>(logs: impl IntoIterator<Item = &'a Log>) -> Option<Self> {
        let mut logs = logs.into_iter().peekable();
        let shared = logs.peek()?.shared.clone();
        let newest = |log: &Log| Some((log.dirs.last()?.clone(), log.id));
        Some(WatchPlan {
            shared,
            folders: logs.filter_map(newest).collect(),
        })
    }

    pub fn is_of(&self, watch: &Watch) -> bool {
        self.folders == watch.folders
    }

    /// Begins to watch for what changes after `now_ms`, in milliseconds since the epoch, and shortly before.
    pub async fn begin(self, now_ms: i64) -> Result<Watch, BridgeError> {
        let since_ns = now_ms.saturating_mul(1_000_000) - MARGIN_NS;
        let folders = self.folders.keys().map(|folder| (**folder).to_owned());
        let bridge = &self.shared.bridge;
        let changes = bridge.watch(folders.collect(), since_ns).await?;
        Ok(Watch {
            shared: self.shared,
            folders: self.folders,
            changes,
        })
    }
}

impl Watch {
    /// What changed since; waits until something did. `None`: the watch ended.
    pub async fn next(&mut self) -> Option<Touched> {
        let mut touched = Touched::default();
        let first = self.changes.next().await?;
        self.note(&first, &mut touched);
        while let Ok(change) = self.changes.try_recv() {
            self.note(&change, &mut touched);
        }
        Some(touched)
    }

    fn note(&self, change: &Change, touched: &mut Touched) {
        if let Some(id) = self.folders.get(&*change.folder)
            && is_time_name(&change.name)
        {
            self.shared.metrics.changes.add(1);
            match change.entry {
                Some(_) => touched.written.insert(*id),
                None => touched.shortened.insert(*id),
            };
        }
    }
}
