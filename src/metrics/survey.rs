//! What only a shard itself knows, told when a scrape asks for it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::catalog::Catalog;
use crate::gateway::Gateway;
use crate::wire::{StrBytes, Uuid};

/// Where the answer goes, on another thread.
pub type SurveyReply = oneshot::Sender<Survey>;

/// The state of one shard.
#[derive(Debug)]
pub struct Survey {
    pub catalog: Arc<Catalog>,
    pub partitions: PartitionSurvey,
    pub groups: GroupSurvey,
    pub request_large_bytes: usize,
    pub request_small_bytes: usize,
    pub answer_bytes: usize,
    pub fetch_sessions: usize,
}

/// The state of the partitions that a shard owns.
#[derive(Debug, Default)]
pub struct PartitionSurvey {
    pub count: usize,
    pub open_segments: usize,
    pub journal_files: usize,
    pub uncommitted_bytes: usize,
    pub tail_bytes: usize,
    pub held_back: usize,
    pub waiting_fetches: usize,
    pub topics: FxHashMap<Uuid, TopicSums>,
}

/// The partitions of one topic, summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicSums {
    pub size_bytes: u64,
    pub produced_bytes: u64,
    pub produced_records: u64,
    pub fetched_bytes: u64,
}

impl TopicSums {
    pub fn add(&mut self, other: &TopicSums) {
        self.size_bytes += other.size_bytes;
        self.produced_bytes += other.produced_bytes;
        self.produced_records += other.produced_records;
        self.fetched_bytes += other.fetched_bytes;
    }
}

/// The state of the groups that a shard coordinates.
#[derive(Debug, Default)]
pub struct GroupSurvey {
    /// How many groups are in a state, by its name in Kafka.
    pub states: BTreeMap<&'static str, usize>,
    pub members: Vec<(StrBytes, usize)>,
    pub lags: Vec<GroupLag>,
    /// Groups without a place in `members`, and partitions with an offset of a group without one in `lags`.
    pub hidden: usize,
}

/// How far a group is behind the end of a partition.
#[derive(Debug)]
pub struct GroupLag {
    pub group: StrBytes,
    pub topic: StrBytes,
    pub partition: i32,
    /// Offsets from the committed one to the high watermark.
    pub records: i64,
    /// Age of the oldest record that the group has not committed; `None` if it could not be read in time.
    pub seconds: Option<f64>,
}

/// Looks at the shard, in turns, and answers.
pub async fn answer(gateway: Rc<Gateway>, reply: SurveyReply) {
    let partitions = gateway.partitions().survey().await;
    let shards = gateway.config().shards;
    let series_max = gateway.config().metrics_groups_max / shards;
    let groups = gateway.coordinator().survey(series_max).await;
    let memory = gateway.request_memory();
    let survey = Survey {
        catalog: gateway.catalog(),
        partitions,
        groups,
        request_large_bytes: memory.large.used(),
        request_small_bytes: memory.small.used(),
        answer_bytes: gateway.answer_memory().used(),
        fetch_sessions: gateway.fetch_sessions().borrow().count(),
    };
    // Who asked may have lost patience.
    let _ = reply.send(survey);
}
