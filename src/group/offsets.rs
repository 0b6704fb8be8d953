//! The offsets that a group has committed.
//!
//! What is shown is what is durable. Commits on their way are only counted, so that what deletes
//! offsets knows of them too.

use std::collections::BTreeMap;

use super::records::Record;
use super::{Step, Then};
use crate::wire::{ErrorCode, StrBytes, Uuid};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: StrBytes,
    pub partition: i32,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    /// Of the last record before it; -1: not known (KIP-320).
    pub leader_epoch: i32,
    /// Text of the consumer.
    pub metadata: StrBytes,
    /// Milliseconds since the epoch.
    pub committed_ms: i64,
    /// Set by clients of before KIP-211 only.
    pub expires_ms: Option<i64>,
    /// Zero in what older versions wrote.
    pub topic_id: Uuid,
}

impl Committed {
    /// KIP-211. `since_ms` is when the time began to count.
    pub fn is_expired(&self, now_ms: i64, since_ms: i64, retention_ms: i64) -> bool {
        match self.expires_ms {
            Some(expires_ms) => now_ms >= expires_ms,
            None => now_ms.saturating_sub(since_ms) >= retention_ms,
        }
    }
}

#[derive(Debug, Default)]
pub struct Offsets {
    /// By topic, so that a lookup by name needs no key to be made.
    durable: BTreeMap<StrBytes, BTreeMap<i32, Committed>>,
    /// How many commits of each are on their way.
    under_way: BTreeMap<TopicPartition, u32>,
    count: usize,
    /// Something was durable once.
    was_used: bool,
}

impl Offsets {
    pub fn get(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.durable.get(topic)?.get(&partition)
    }

    pub fn topics(&self) -> impl Iterator<Item = (&StrBytes, &BTreeMap<i32, Committed>)> {
        self.durable.iter()
    }

    pub fn iter(&self) -> impl Iterator<Item = (TopicPartition, &Committed)> {
        self.durable.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(|(partition, committed)| {
                let topic = topic.clone();
                let partition = *partition;
                (TopicPartition { topic, partition }, committed)
            })
        })
    }

    /// How many are durable.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Nobody ever committed anything, and nothing is on its way.
    pub fn is_untouched(&self) -> bool {
        !self.was_used && self.under_way.is_empty()
    }

    /// No commit is on its way.
    pub fn is_settled(&self) -> bool {
        self.under_way.is_empty()
    }

    /// All that has an offset, or will have one soon.
    pub fn all(&self) -> Vec<TopicPartition> {
        let mut all: Vec<_> = self.iter().map(|(of, _)| of).collect();
        all.extend(self.under_way.keys().cloned());
        all.sort_unstable();
        all.dedup();
        all
    }

    pub fn is_under_way(&self, of: &TopicPartition) -> bool {
        self.under_way.contains_key(of)
    }

    pub fn has(&self, of: &TopicPartition) -> bool {
        self.get(&of.topic, of.partition).is_some() || self.is_under_way(of)
    }

    pub fn put(&mut self, of: TopicPartition, committed: Committed) {
        let partitions = self.durable.entry(of.topic).or_default();
        let before = partitions.insert(of.partition, committed);
        self.count += usize::from(before.is_none());
        self.was_used = true;
    }

    pub fn remove(&mut self, of: &TopicPartition) {
        let Some(partitions) = self.durable.get_mut(&of.topic) else {
            return;
        };
        self.count -= usize::from(partitions.remove(&of.partition).is_some());
        if partitions.is_empty() {
            self.durable.remove(&of.topic);
        }
    }

    /// A commit went to the log.
    pub fn begin(&mut self, of: &TopicPartition) {
        *self.under_way.entry(of.clone()).or_default() += 1;
    }

    /// It is durable, or it failed.
    pub fn end(&mut self, of: &TopicPartition) {
        if let Some(commits) = self.under_way.get_mut(of) {
            *commits -= 1;
            if *commits == 0 {
                self.under_way.remove(of);
            }
        }
    }

    /// Commits go to the log: gives their records.
    pub fn begin_all(
        &mut self,
        group: &StrBytes,
        offsets: &[(TopicPartition, Committed)],
    ) -> Vec<Record> {
        offsets.iter().for_each(|(of, _)| self.begin(of));
        let record = |(of, committed): &(_, Committed)| Record::offset(group, of, Some(committed));
        offsets.iter().map(record).collect()
    }

    /// What became of commits.
    pub fn end_all(&mut self, commits: Vec<(TopicPartition, Committed)>, are_durable: bool) {
        for (of, committed) in commits {
            self.end(&of);
            if are_durable {
                self.put(of, committed);
            }
        }
    }

    pub fn tombstones(&self, group: &StrBytes, gone: &[TopicPartition]) -> Vec<Record> {
        let tombstone = |of: &TopicPartition| Record::offset(group, of, None);
        gone.iter().map(tombstone).collect()
    }

    /// Offsets are gone when that is durable.
    pub fn forget(&self, group: &StrBytes, gone: Vec<TopicPartition>, step: &mut Step<'_>) {
        if !gone.is_empty() {
            step.append(self.tombstones(group, &gone), Then::Forgotten(gone));
        }
    }

    /// OffsetDelete (KIP-496): which of these cannot go, in their order. Those that can are on their way.
    pub fn forget_unread(
        &self,
        group: &StrBytes,
        asked: &[TopicPartition],
        is_subscribed: impl Fn(&str) -> bool,
        step: &mut Step<'_>,
    ) -> Vec<ErrorCode> {
        let result = |of: &TopicPartition| match is_subscribed(&of.topic) {
            true => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
            false => ErrorCode::NONE,
        };
        let results: Vec<_> = asked.iter().map(result).collect();
        let gone = asked.iter().zip(&results);
        let gone = gone.filter(|(of, r)| r.is_ok() && self.has(of));
        let gone = gone.map(|(of, _)| TopicPartition {
            topic: of.topic.detached(),
            partition: of.partition,
        });
        self.forget(group, gone.collect(), step);
        results
    }

    /// Topics are gone, and offsets in them mean nothing any more.
    pub fn forget_topics(
        &self,
        group: &StrBytes,
        is_gone: impl Fn(&str) -> bool,
        step: &mut Step<'_>,
    ) {
        let mut gone = self.all();
        gone.retain(|of| is_gone(&of.topic));
        self.forget(group, gone, step);
    }
}
