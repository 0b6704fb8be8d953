//! A group of the consumer protocol (KIP-848): the coordinator shares partitions out, and leads each
//! member to its share by the answers to its heartbeats. Apache Kafka's GroupCoordinator is the
//! specification.
//!
//! Three epochs tell how far the group is. The group's goes up with every change of its members, of what
//! they subscribe to and of the topics that there are. The target's is that of the group for which
//! partitions were shared out. A member's is that of the target that it has come to, which it does by
//! [`reconcile`]. A partition that a member holds goes to no other before the member has given it up, left,
//! or shown no sign of life for too long.
//!
//! | state | |
//! | --- | --- |
//! | Empty | no members |
//! | Assigning | the group's epoch is ahead of the target's |
//! | Reconciling | some member is not where its target is |
//! | Stable | all are |
//! | Dead | the deletion is on its way to the log |
//!
//! The group is what it is in memory; members are told nothing that is not durable. An answer waits for
//! all records of the group that are on their way, and is an error if one of them failed: then the
//! [parts](stored) are written again with what is written next.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::assignor::{Assignor, Subscriber, Subscribers};
use super::offsets::{Committed, Offsets, TopicPartition};
use super::records::Record;
use super::{AppendError, Note, Reason, Step, Then, classic};
use crate::catalog::Catalog;
use crate::store::PartitionId;
use crate::wire::consumer_group_describe as describe;
use crate::wire::group_records::ConsumerRecord;
use crate::wire::{ErrorCode, StrBytes, Uuid, list_groups};
use member::{Member, MemberState, NEVER_MS, Terms};
use stored::{Part, by_topic, member_parts};
use subscription::Regexes;

mod classic_members;
mod heartbeat;
pub mod member;
mod reconcile;
pub mod stored;
mod subscription;
#[cfg(test)]
mod tests;

pub use classic_members::taken_over;
pub use heartbeat::{Refusal, check, check_newcomer};

/// OffsetCommit: the first version that knows epochs of members.
const COMMIT_VERSION_MIN: i16 = 9;
const PROTOCOL_TYPE: &str = "consumer";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Empty,
    Assigning,
    Reconciling,
    Stable,
    Dead,
}

impl State {
    /// As Kafka calls it.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Assigning => "Assigning",
            State::Reconciling => "Reconciling",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

#[derive(Debug)]
pub struct Group {
    id: StrBytes,
    epoch: i32,
    metadata_hash: i64,
    target_epoch: i32,
    /// When the target was made, in milliseconds since the epoch.
    target_ms: i64,
    members: BTreeMap<StrBytes, Member>,
    /// Static members: their ids by instance id.
    instances: HashMap<StrBytes, StrBytes>,
    /// Who holds each partition, to keep it or to give it up.
    owners: HashMap<PartitionId, StrBytes>,
    regexes: Regexes,
    /// How many changes the catalog had seen when the group last looked.
    seen_changes: Option<i64>,
    /// Nothing is due before.
    wake_ms: i64,
    is_dead: bool,
    /// There are records of it, or they are on their way.
    was_stored: bool,
    /// Parts that are not as the log says, and not on their way to it.
    unstored: BTreeSet<Part>,
    /// Appends that began, and the last of those that failed: answers to all up to then are errors.
    begun: u64,
    failed: u64,
    in_flight: u32,
    pub offsets: Offsets,
}

// ---- making one, and looking at it

impl Group {
    pub fn new(id: StrBytes) -> Self {
        Group {
            id,
            // As with Kafka: the first member makes it the second.
            epoch: 1,
            metadata_hash: 0,
            target_epoch: 0,
            target_ms: 0,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            owners: HashMap::new(),
            regexes: Regexes::new(),
            seen_changes: None,
            wake_ms: NEVER_MS,
            is_dead: false,
            was_stored: false,
            unstored: BTreeSet::new(),
            begun: 0,
            failed: 0,
            in_flight: 0,
            offsets: Offsets::default(),
        }
    }

    /// In the place of a classic group without members, whose offsets it takes over.
    pub fn in_place_of(id: StrBytes, offsets: Offsets, was_stored: bool) -> Self {
        let mut group = Group::new(id);
        group.offsets = offsets;
        if was_stored {
            group.was_stored = true;
            group.mark_group(ConsumerRecord::ClassicGroup);
        }
        group
    }

    pub fn id(&self) -> &StrBytes {
        &self.id
    }

    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// When [`Group::expire`] is to be called next, by the steady clock.
    pub fn wake_ms(&self) -> i64 {
        self.wake_ms
    }

    /// Nothing would be lost with it: it was never stored.
    pub fn is_nothing(&self) -> bool {
        self.members.is_empty() && !self.was_stored && self.offsets.is_untouched()
    }

    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    pub fn has_member(&self, member_id: &str) -> bool {
        self.members.contains_key(member_id)
    }

    pub fn state(&self) -> State {
        let is_there = |m: &Member| m.current.is_reconciled_to(self.target_epoch);
        if self.is_dead {
            State::Dead
        } else if self.members.is_empty() {
            State::Empty
        } else if self.epoch > self.target_epoch {
            State::Assigning
        } else if self.members.values().all(is_there) {
            State::Stable
        } else {
            State::Reconciling
        }
    }

    /// Whether its members read a topic.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        let mut members = self.members.values();
        members.any(|m| subscription::subscribes(&m.terms, &self.regexes, topic))
    }

    pub fn listed(&self) -> list_groups::ListedGroup {
        list_groups::ListedGroup {
            group_id: self.id.clone(),
            protocol_type: PROTOCOL_TYPE.into(),
            group_state: self.state().name().into(),
            group_type: "consumer".into(),
        }
    }

    pub fn described(&self, assignors: &[Assignor], catalog: &Catalog) -> describe::DescribedGroup {
        let members = self.members.iter();
        describe::DescribedGroup {
            group_id: self.id.clone(),
            group_state: self.state().name().into(),
            group_epoch: self.epoch,
            assignment_epoch: self.target_epoch,
            assignor_name: self.preferred(assignors).name().into(),
            members: members
                .map(|(id, m)| described_member(id, m, catalog))
                .collect(),
            ..describe::DescribedGroup::default()
        }
    }

    /// The assignor that most members would like; the first of those there are, if none says.
    fn preferred(&self, assignors: &[Assignor]) -> Assignor {
        let votes = |assignor: &Assignor| {
            let members = self.members.values();
            members
                .filter(|m| m.terms.assignor.as_deref() == Some(assignor.name()))
                .count()
        };
        // Of equals `max_by_key` takes the last.
        let best = assignors
            .iter()
            .rev()
            .max_by_key(|assignor| votes(assignor));
        best.copied().unwrap_or(Assignor::Uniform)
    }
}

fn described_member(id: &StrBytes, member: &Member, catalog: &Catalog) -> describe::Member {
    let assignment = |ids: &mut dyn Iterator<Item = &PartitionId>| {
        let mut topics = by_topic(ids, |topic_id, partitions| describe::TopicPartitions {
            topic_id,
            topic_name: catalog
                .by_id(&topic_id)
                .map(|t| t.name.clone())
                .unwrap_or_default(),
            partitions,
        });
        topics.retain(|topic| catalog.by_id(&topic.topic_id).is_some());
        describe::Assignment {
            topic_partitions: topics,
        }
    };
    let held: BTreeSet<_> = member.current.held().copied().collect();
    let terms = &member.terms;
    describe::Member {
        member_id: id.clone(),
        instance_id: terms.instance_id.clone(),
        rack_id: terms.rack_id.clone(),
        member_epoch: member.current.epoch,
        client_id: terms.caller.client_id.clone(),
        client_host: terms.caller.host.clone(),
        subscribed_topic_names: terms.topics.iter().cloned().collect(),
        subscribed_topic_regex: Some(terms.regex.clone()),
        assignment: assignment(&mut held.iter()),
        target_assignment: assignment(&mut member.target.iter()),
        member_type: i8::from(!member.is_classic()),
    }
}

// ---- members

impl Group {
    fn mark(&mut self, of: ConsumerRecord, part: &StrBytes) {
        self.unstored.insert((of, part.clone()));
    }

    fn mark_group(&mut self, of: ConsumerRecord) {
        self.unstored.insert((of, StrBytes::default()));
    }

    /// Takes members out, and what they held is free.
    fn remove(&mut self, ids: &[StrBytes], step: &mut Step<'_>) {
        for id in ids {
            let Some(member) = self.members.remove(id) else {
                continue;
            };
            if let Some(instance_id) = &member.terms.instance_id {
                self.instances.remove(instance_id);
            }
            self.release(id, &member);
            self.unstored.extend(member_parts(id));
        }
        self.refresh(true, step);
    }

    fn release(&mut self, id: &StrBytes, member: &Member) {
        for held in member.current.held() {
            if self.owners.get(held) == Some(id) {
                self.owners.remove(held);
            }
        }
    }

    fn set_current(&mut self, id: &StrBytes, current: member::Current, step: &Step<'_>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let before = std::mem::replace(&mut member.current, current);
        for held in before.held() {
            self.owners.remove(held);
        }
        for held in member.current.held() {
            self.owners.insert(*held, id.clone());
        }
        self.mark(ConsumerRecord::MemberCurrent, id);
        self.set_revocation_timer(id, step);
    }

    fn set_revocation_timer(&mut self, id: &StrBytes, step: &Step<'_>) {
        if let Some(member) = self.members.get_mut(id) {
            member.revokes_by_ms = match member.current.state {
                MemberState::Unrevoked if !member.is_classic() => {
                    step.in_ms(member.terms.rebalance_timeout_ms.into())
                }
                _ => NEVER_MS,
            };
            self.wake_ms = self.wake_ms.min(member.revokes_by_ms);
        }
    }

    /// Its session begins anew.
    fn keep_alive(&mut self, id: &StrBytes, step: &Step<'_>) {
        if let Some(member) = self.members.get_mut(id) {
            let session_ms = match &member.terms.classic {
                Some(classic) => classic.session_timeout_ms,
                None => step.config_of(&self.id).session_timeout_ms,
            };
            member.expires_ms = step.in_ms(session_ms.into());
            self.wake_ms = self.wake_ms.min(member.expires_ms);
        }
    }

    /// Does what is due.
    pub fn expire(&mut self, step: &mut Step<'_>) {
        let now_ms = step.now.steady_ms;
        if now_ms < self.wake_ms {
            return;
        }
        let is_out = |(_, m): &(&StrBytes, &Member)| m.out_ms() <= now_ms;
        let out: Vec<_> = self
            .members
            .iter()
            .filter(is_out)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &out {
            let is_silent = self.members[id].expires_ms <= now_ms;
            if is_silent {
                step.note(Note::Silent);
            }
            let reason = match is_silent {
                true => "it gave no sign of life",
                false => "it did not take part in a rebalance in time",
            };
            tracing::info!(group = %self.id, member = %id, reason, "a member is out of its group");
        }
        if !out.is_empty() {
            self.remove(&out, step);
            self.flush(step);
        }
        let wakes = self.members.values().map(Member::out_ms);
        self.wake_ms = wakes.min().unwrap_or(NEVER_MS);
    }
}

// ---- epochs

impl Group {
    /// Looks whether what the assignment depends on has changed; the group's epoch goes up then, and if
    /// `has_changed` says so.
    fn refresh(&mut self, has_changed: bool, step: &mut Step<'_>) {
        let changes = step.catalog.changes();
        let has_seen = self.seen_changes == Some(changes) && !self.misses_regexes(step);
        if !has_changed && has_seen {
            return;
        }
        let other_topics = self.resolve_regexes(step);
        self.seen_changes = Some(changes);
        let terms = self.members.values().map(|m| &m.terms);
        let hash = subscription::metadata_hash(terms, &self.regexes, step.catalog);
        if has_changed || other_topics || hash != self.metadata_hash {
            self.epoch += 1;
            self.metadata_hash = hash;
            self.mark_group(ConsumerRecord::Group);
            tracing::info!(group = %self.id, epoch = self.epoch, members = self.members.len(), "a group has a new epoch");
            step.note(Note::Rebalance(Reason::NewEpoch));
        }
    }

    fn misses_regexes(&self, step: &Step<'_>) -> bool {
        let is_fresh = |regex| self.regexes.get(regex).is_some_and(|r| r.is_fresh(step));
        let mut regexes = self.members.values().map(|m| &m.terms.regex);
        regexes.any(|regex| !regex.is_empty() && !is_fresh(regex))
    }

    /// True if one of them stands for other topics now.
    fn resolve_regexes(&mut self, step: &Step<'_>) -> bool {
        let (changes, wall_ms) = (step.catalog.changes(), step.now.wall_ms);
        let used: BTreeSet<_> = {
            let regexes = self.members.values().map(|m| &m.terms.regex);
            regexes.filter(|regex| !regex.is_empty()).cloned().collect()
        };
        let unused = self
            .regexes
            .extract_if(.., |regex, _| !used.contains(regex));
        let unused: Vec<_> = unused.map(|(regex, _)| regex).collect();
        for regex in unused {
            self.mark(ConsumerRecord::RegularExpression, &regex);
        }
        let mut other_topics = false;
        for regex in used {
            let known = self.regexes.get(&regex);
            let is_fresh = known.is_some_and(|known| known.is_fresh(step));
            if is_fresh && self.seen_changes == Some(changes) {
                continue;
            }
            let topics = subscription::resolve(&regex, step.catalog);
            let is_same = known.is_some_and(|known| known.topics == topics);
            if is_same && is_fresh {
                continue;
            }
            other_topics |= known.is_some() && !is_same;
            self.mark(ConsumerRecord::RegularExpression, &regex);
            let resolved = subscription::Resolved {
                topics,
                version: changes,
                resolved_ms: wall_ms,
            };
            self.regexes.insert(regex, resolved);
        }
        other_topics
    }

    /// Shares partitions out anew if the group has a new epoch, not more often than it may (KIP-1263).
    fn assign(&mut self, step: &Step<'_>) {
        let now_ms = step.now.wall_ms;
        let interval_ms = step.config_of(&self.id).assignment_interval_ms;
        // A clock that was set back must not put it off.
        let next_ms = self.target_ms.saturating_add(interval_ms.into());
        let is_too_early = self.target_ms != 0 && (self.target_ms..next_ms).contains(&now_ms);
        if self.epoch <= self.target_epoch || is_too_early {
            return;
        }
        let assignor = self.preferred(&step.rules.consumer.assignors);
        let shares = assignor.assign(&self.subscribers(step.catalog));
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for (id, share) in ids.iter().zip(shares) {
            if let Some(member) = self.members.get_mut(id)
                && member.target != share
            {
                member.target = share;
                self.mark(ConsumerRecord::MemberTarget, id);
            }
        }
        self.target_epoch = self.epoch;
        self.target_ms = now_ms;
        self.mark_group(ConsumerRecord::Target);
        tracing::info!(group = %self.id, epoch = self.epoch, members = ids.len(), assignor = assignor.name(), "a group's partitions are shared out");
    }

    fn subscribers(&self, catalog: &Catalog) -> Subscribers {
        let member = |(id, member): (&StrBytes, &Member)| Subscriber {
            id: id.clone(),
            instance_id: member.terms.instance_id.clone(),
            topics: self.topics_of(&member.terms, catalog),
            before: member.target.clone(),
        };
        let members: Vec<_> = self.members.iter().map(member).collect();
        let topics: BTreeSet<Uuid> = members
            .iter()
            .flat_map(|m| m.topics.iter().copied())
            .collect();
        let count = |id: Uuid| Some((id, catalog.by_id(&id)?.partitions));
        Subscribers {
            members,
            partitions: topics.into_iter().filter_map(count).collect(),
        }
    }

    fn topics_of(&self, terms: &Terms, catalog: &Catalog) -> BTreeSet<Uuid> {
        subscription::topic_ids(terms, &self.regexes, catalog)
    }
}

// ---- records

impl Group {
    /// What has changed goes to the log.
    fn flush(&mut self, step: &mut Step<'_>) {
        if self.unstored.is_empty() {
            return;
        }
        let parts = std::mem::take(&mut self.unstored);
        let records = self.records(parts.iter());
        self.was_stored = true;
        self.begun += 1;
        self.in_flight += 1;
        step.append(
            records,
            Then::Kept {
                number: self.begun,
                parts,
            },
        );
    }

    /// What became of parts' records: an error if that of records before them was one.
    pub fn kept(
        &mut self,
        number: u64,
        parts: BTreeSet<Part>,
        result: Result<(), AppendError>,
    ) -> Result<(), AppendError> {
        self.in_flight = self.in_flight.saturating_sub(1);
        if result.is_err() {
            self.failed = self.begun;
        }
        if number <= self.failed {
            self.unstored.extend(parts);
            return result.and(Err(AppendError::NotStored));
        }
        result
    }
}

// ---- offsets

impl Group {
    /// Takes offsets from a member, or from outside of the group (epoch -1). They count when they are
    /// durable.
    pub fn commit(
        &mut self,
        member_id: &StrBytes,
        epoch: i32,
        version: i16,
        offsets: Vec<(TopicPartition, Committed)>,
        step: &mut Step<'_>,
    ) -> Result<(), ErrorCode> {
        self.check_commit(member_id, epoch, version, &offsets)?;
        if !offsets.is_empty() {
            let records = self.offsets.begin_all(&self.id, &offsets);
            step.append(records, Then::Committed(offsets));
        }
        Ok(())
    }

    fn check_commit(
        &self,
        member_id: &StrBytes,
        epoch: i32,
        version: i16,
        offsets: &[(TopicPartition, Committed)],
    ) -> Result<(), ErrorCode> {
        if self.is_dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self
            .members
            .get(member_id)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if !member.is_classic() && version < COMMIT_VERSION_MIN {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        // KIP-1251: an older epoch will do for what the member had already then.
        let has_it = |(of, committed): &(TopicPartition, Committed)| {
            let id = PartitionId {
                topic: committed.topic_id,
                index: of.partition,
            };
            member
                .current
                .epoch_of(&id)
                .is_some_and(|since| epoch >= since)
        };
        let is_older = epoch < member.current.epoch;
        match epoch == member.current.epoch || is_older && offsets.iter().all(has_it) {
            true => Ok(()),
            false => Err(stale(member)),
        }
    }

    /// Checks who reads offsets. A client that says nothing of itself may.
    pub fn check_fetch(&self, member_id: Option<&StrBytes>, epoch: i32) -> Result<(), ErrorCode> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = self.members.get(member_id.map_or("", |id| id));
        let member = member.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        match member.current.epoch == epoch {
            true => Ok(()),
            false => Err(stale(member)),
        }
    }

    /// DeleteGroups: it is gone when the records are durable.
    pub fn delete(&mut self, step: &mut Step<'_>) -> Result<(), ErrorCode> {
        match self.state() {
            State::Dead => Err(ErrorCode::GROUP_ID_NOT_FOUND),
            State::Empty => {
                self.begin_deletion(step);
                Ok(())
            }
            _ => Err(ErrorCode::NON_EMPTY_GROUP),
        }
    }

    fn begin_deletion(&mut self, step: &mut Step<'_>) {
        let mut records = self.offsets.tombstones(&self.id, &self.offsets.all());
        self.is_dead = true;
        records.extend(self.tombstones());
        step.append(records, Then::Deleted);
    }

    /// Of all parts that the log may have.
    pub(super) fn tombstones(&mut self) -> Vec<Record> {
        let was_dead = std::mem::replace(&mut self.is_dead, true);
        let parts: BTreeSet<_> = self.parts().chain(self.unstored.iter().cloned()).collect();
        let records = self.records(parts.iter());
        self.is_dead = was_dead;
        records
    }

    /// A classic group, which takes its place while it has no members.
    pub fn become_classic(&mut self, step: &mut Step<'_>) -> classic::Group {
        if self.was_stored {
            let records = self.tombstones();
            step.append(records, Then::Nothing);
        }
        let mut group = classic::Group::new(self.id.clone(), step.now.wall_ms);
        group.offsets = std::mem::take(&mut self.offsets);
        group
    }

    /// The deletion could not be stored.
    pub fn undelete(&mut self) {
        self.is_dead = false;
    }

    pub fn is_dead(&self) -> bool {
        self.is_dead
    }

    /// KIP-211: offsets go when they were not used for long enough, and then the group, if it is empty.
    pub fn expire_offsets(&mut self, retention_ms: i64, step: &mut Step<'_>) {
        let now_ms = step.now.wall_ms;
        let is_expired = |(of, committed): &(TopicPartition, &Committed)| {
            committed.is_expired(now_ms, committed.committed_ms, retention_ms)
                && !self.offsets.is_under_way(of)
                && !self.is_subscribed(&of.topic)
        };
        let expired: Vec<_> = {
            let offsets = self.offsets.iter();
            offsets.filter(is_expired).map(|(of, _)| of).collect()
        };
        let has_more = self.offsets.len() > expired.len();
        if self.state() == State::Empty && !has_more && self.offsets.is_settled() {
            self.begin_deletion(step);
        } else {
            self.offsets.forget(&self.id, expired, step);
        }
    }
}

fn stale(member: &Member) -> ErrorCode {
    match member.is_classic() {
        true => ErrorCode::ILLEGAL_GENERATION,
        false => ErrorCode::STALE_MEMBER_EPOCH,
    }
}
