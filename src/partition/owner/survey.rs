//! The state of a shard's partitions, for who watches the gateway.

use shards::turn;

use super::{Inner, Partitions};
use crate::metrics::survey::{PartitionSurvey, TopicSums};
use crate::store::PartitionId;

/// Partitions looked at without giving the core back.
const AT_ONCE: usize = 500;

impl Partitions {
    /// Sums over all partitions, in turns: what changes meanwhile is in it or not.
    pub async fn survey(&self) -> PartitionSurvey {
        let (mut survey, ids) = self.inner.borrow().begin_survey();
        for ids in ids.chunks(AT_ONCE) {
            self.inner.borrow().survey_some(ids, &mut survey);
            turn().await;
        }
        survey
    }
}

impl Inner {
    fn begin_survey(&self) -> (PartitionSurvey, Vec<PartitionId>) {
        let survey = PartitionSurvey {
            count: self.slots.len(),
            open_segments: self.open_files,
            journal_files: self.store.journal_files(),
            uncommitted_bytes: self.uncommitted_bytes,
            tail_bytes: self.tail.bytes,
            held_back: self.held_back.len(),
            waiting_fetches: self.fetches.len(),
            ..PartitionSurvey::default()
        };
        (survey, self.slots.keys().copied().collect())
    }

    fn survey_some(&self, ids: &[PartitionId], survey: &mut PartitionSurvey) {
        for id in ids {
            if let Some(slot) = self.slots.get(id) {
                let sums = TopicSums {
                    size_bytes: slot.partition.size_bytes(),
                    ..slot.traffic
                };
                survey.topics.entry(id.topic).or_default().add(&sums);
            }
        }
    }
}
