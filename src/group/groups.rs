//! All groups that one shard coordinates, with their timers and limits. Pure, as one [`Group`] is: the
//! [coordinator](super::coordinator) brings requests and time, and does what comes out.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::any::Committer;
use super::classic::Join;
use super::consumer::{self, Refusal};
use super::messages::{
    Commit, Described, FoundOffsets, GroupReply, GroupRequest, Imported, TopicOffsets, partition_of,
};
use super::offsets::{Committed, TopicPartition};
use super::{
    Append, AppendError, Caller, Effect, Group, Note, Now, Rules, Step, Then, Ticket, classic,
};
use crate::catalog::Catalog;
use crate::wire::leave_group::MemberIdentity;
use crate::wire::{
    ErrorCode, StrBytes, consumer_group_heartbeat, heartbeat, join_group, list_groups, sync_group,
};

/// From here on a commit to a group that does not exist is told so; before, that its generation is none.
const GROUP_ID_NOT_FOUND_VERSION_MIN: i16 = 9;
/// Strings in records have a length of 16 bits.
const STRING_BYTES_MAX: usize = i16::MAX as usize;
/// What is put behind a client's or an instance's id to make a member's.
const SUFFIX_BYTES: usize = 37;

/// Of one shard.
#[derive(Debug, Clone)]
pub struct Limits {
    pub groups_max: usize,
    /// Members of all groups.
    pub members_max: usize,
    /// Of what a member tells the leader, by all of its protocols.
    pub metadata_bytes_max: usize,
}

/// What is to be done.
#[derive(Debug)]
pub enum Outcome {
    Reply(Ticket, GroupReply),
    Append(Queued),
    Noted(Note),
}

/// Records of a group on their way to the log, and who is answered when they are there.
#[derive(Debug)]
pub struct Queued {
    pub group: StrBytes,
    pub append: Append,
    pub answer: Option<(Ticket, GroupReply)>,
}

pub struct Groups {
    rules: Rules,
    limits: Limits,
    catalog: Arc<Catalog>,
    groups: FxHashMap<StrBytes, Group>,
    /// When each group is to be looked at.
    timers: BTreeSet<(i64, StrBytes)>,
    members: usize,
    effects: Vec<Effect>,
}

impl Groups {
    pub fn new(rules: Rules, limits: Limits, catalog: Arc<Catalog>) -> Self {
        Groups {
            rules,
            limits,
            catalog,
            groups: FxHashMap::default(),
            timers: BTreeSet::new(),
            members: 0,
            effects: Vec::new(),
        }
    }

    /// Takes a new snapshot of the topics that there are. Groups look at it with their next heartbeats.
    pub fn take_catalog(&mut self, catalog: Arc<Catalog>) {
        self.catalog = catalog;
    }

    pub fn get(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    pub fn ids(&self) -> Vec<StrBytes> {
        self.groups.keys().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// When [`Groups::expire`] is to be called, by the steady clock.
    pub fn wake_ms(&self) -> Option<i64> {
        self.timers.first().map(|(at_ms, _)| *at_ms)
    }

    /// Takes groups that were loaded.
    pub fn load(&mut self, groups: Vec<Group>) {
        for group in groups {
            self.members += group.size();
            self.schedule(i64::MAX, group.wake_ms(), group.id());
            self.groups.insert(group.id().clone(), group);
        }
    }

    /// Lets go of all groups, as when their topic is gone: those who wait are told.
    pub fn unload(&mut self, now: Now, out: &mut Vec<Outcome>) {
        for id in self.ids() {
            self.with(&id, now, out, |group, step| group.unload(step));
        }
        self.groups.clear();
        self.timers.clear();
        self.members = 0;
    }

    /// Answers, now or later, by [`Outcome::Reply`] with this ticket. `unique` makes ids of new members.
    pub fn handle(
        &mut self,
        request: GroupRequest,
        ticket: Ticket,
        unique: String,
        now: Now,
        out: &mut Vec<Outcome>,
    ) {
        let reply = match request {
            GroupRequest::Join {
                request,
                version,
                caller,
            } => {
                let join = Join {
                    request,
                    version,
                    caller,
                    ticket,
                    unique,
                };
                return self.join(join, now, out);
            }
            GroupRequest::Sync(request) => return self.sync(&request, ticket, now, out),
            GroupRequest::Heartbeat(request) => {
                GroupReply::Done(self.heartbeat(&request, now, out))
            }
            GroupRequest::ConsumerHeartbeat {
                mut request,
                version,
                caller,
            } => {
                if request.member_id.is_empty() {
                    request.member_id = unique.into();
                }
                return self.consumer_heartbeat(&request, version, caller, ticket, now, out);
            }
            GroupRequest::Leave { group, members } => {
                return self.leave(&group, &members, ticket, now, out);
            }
            GroupRequest::Commit(commit) => return self.commit(commit, ticket, now, out),
            GroupRequest::Import { group, offsets } => {
                return self.import(&group, offsets, ticket, now, out);
            }
            GroupRequest::Offsets {
                group,
                member_id,
                member_epoch,
                topics,
            } => {
                let found = self.groups.get(&group);
                let checked =
                    found.map_or(Ok(()), |g| g.check_fetch(member_id.as_ref(), member_epoch));
                GroupReply::Offsets(checked.map(|()| self.offsets(&group, topics)))
            }
            GroupRequest::Forget { group, offsets } => {
                return self.forget(&group, &offsets, ticket, now, out);
            }
            GroupRequest::Describe(group) => GroupReply::Describe(Ok(match self.get(&group) {
                Some(Group::Classic(group)) => Described::Group(group.described()),
                Some(Group::Consumer(_)) => Described::OfAnotherKind,
                None => Described::Nothing,
            })),
            GroupRequest::ConsumerDescribe(group) => {
                GroupReply::ConsumerDescribe(Ok(match self.get(&group) {
                    Some(Group::Consumer(group)) => {
                        let assignors = &self.rules.consumer.assignors;
                        Described::Group(group.described(assignors, &self.catalog))
                    }
                    Some(Group::Classic(_)) => Described::OfAnotherKind,
                    None => Described::Nothing,
                }))
            }
            GroupRequest::Delete(group) => return self.delete(&group, ticket, now, out),
            GroupRequest::List { states, types } => {
                GroupReply::List(Ok(self.list(&states, &types)))
            }
        };
        out.push(Outcome::Reply(ticket, reply));
    }

    /// Runs one event of a group, and sees to what follows from it.
    fn with<R>(
        &mut self,
        id: &str,
        now: Now,
        out: &mut Vec<Outcome>,
        event: impl FnOnce(&mut Group, &mut Step<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(id)?;
        let id = group.id().clone();
        let (size, wake_ms) = (group.size(), group.wake_ms());
        let mut step = Step {
            now,
            rules: &self.rules,
            catalog: &self.catalog,
            out: &mut self.effects,
        };
        let result = event(group, &mut step);
        let is_nothing = group.is_nothing();
        self.members = self.members + group.size() - size;
        let next_ms = group.wake_ms();
        self.schedule(wake_ms, if is_nothing { i64::MAX } else { next_ms }, &id);
        if is_nothing {
            self.groups.remove(&id);
        }
        out.extend(self.effects.drain(..).map(|effect| match effect {
            Effect::Joined(ticket, response) => Outcome::Reply(ticket, GroupReply::Join(response)),
            Effect::Synced(ticket, response) => Outcome::Reply(ticket, GroupReply::Sync(response)),
            Effect::Append(append) => Outcome::Append(Queued {
                group: id.clone(),
                append,
                answer: None,
            }),
            Effect::Noted(note) => Outcome::Noted(note),
        }));
        Some(result)
    }

    fn schedule(&mut self, before_ms: i64, next_ms: i64, id: &StrBytes) {
        if before_ms != next_ms {
            self.timers.remove(&(before_ms, id.clone()));
            if next_ms != i64::MAX {
                self.timers.insert((next_ms, id.clone()));
            }
        }
    }

    /// Does what is due in all groups.
    pub fn expire(&mut self, now: Now, out: &mut Vec<Outcome>) {
        while let Some((at_ms, id)) = self.timers.first()
            && *at_ms <= now.steady_ms
        {
            let id = id.clone();
            self.with(&id, now, out, |group, step| group.expire(step));
        }
    }

    /// What became of records.
    pub fn appended(
        &mut self,
        queued: Queued,
        result: Result<(), AppendError>,
        now: Now,
        out: &mut Vec<Outcome>,
    ) {
        let Queued {
            group,
            append,
            answer,
        } = queued;
        let then = append.then;
        let told = self.with(&group, now, out, |group, step| {
            group.appended(then, result, step)
        });
        let (is_gone, result) = told.unwrap_or((false, result));
        if is_gone && let Some(gone) = self.groups.remove(&group) {
            self.members -= gone.size();
            self.timers.remove(&(gone.wake_ms(), group));
        }
        if let Some((ticket, reply)) = answer {
            let reply = match result {
                Ok(()) => reply,
                Err(error) => reply.failed(error.into()),
            };
            out.push(Outcome::Reply(ticket, reply));
        }
    }

    /// KIP-211, for some groups.
    pub fn expire_offsets(
        &mut self,
        ids: &[StrBytes],
        retention_ms: i64,
        now: Now,
        out: &mut Vec<Outcome>,
    ) {
        for id in ids {
            self.with(id, now, out, |group, step| {
                group.expire_offsets(retention_ms, step);
            });
        }
    }

    /// Topics are gone, and offsets in them with them.
    pub fn forget_topics(
        &mut self,
        is_gone: impl Fn(&str) -> bool,
        now: Now,
        out: &mut Vec<Outcome>,
    ) {
        for id in self.ids() {
            self.with(&id, now, out, |group, step| {
                group.forget_topics(&is_gone, step);
            });
        }
    }
}

impl Groups {
    fn join(&mut self, join: Join, now: Now, out: &mut Vec<Outcome>) {
        let refuse = |error_code, out: &mut Vec<Outcome>| {
            let response = join_group::Response {
                error_code,
                member_id: join.request.member_id.clone(),
                ..join_group::Response::default()
            };
            out.push(Outcome::Reply(join.ticket, GroupReply::Join(response)));
        };
        if let Err(error) = self.check_join(&join.request, &join.caller) {
            return refuse(error, out);
        }
        let id = join.request.group_id.clone();
        if join.request.member_id.is_empty()
            && let Err(error) = self.make_room(&id, now)
        {
            return refuse(error, out);
        }
        if self.groups.contains_key(&id) {
            let (before, ticket) = (out.len(), join.ticket);
            let joined = self.with(&id, now, out, |group, step| group.join(join, step));
            if let Some(response) = joined.flatten() {
                answer_when_stored(out, before, ticket, GroupReply::Join(response));
            }
        } else {
            // Who has an id got it from a group that is no more.
            refuse(ErrorCode::UNKNOWN_MEMBER_ID, out);
        }
    }

    fn check_join(&self, request: &join_group::Request, caller: &Caller) -> Result<(), ErrorCode> {
        let instance_id = request.group_instance_id.as_deref().unwrap_or_default();
        let names = request.protocols.iter().map(|p| p.name.len());
        let longest_name = names.max().unwrap_or(0).max(request.protocol_type.len());
        let prefix = instance_id.len().max(caller.client_id.len());
        let metadata: usize = request.protocols.iter().map(|p| p.metadata.len()).sum();
        if request.group_id.len() > STRING_BYTES_MAX {
            Err(ErrorCode::INVALID_GROUP_ID)
        } else if longest_name > STRING_BYTES_MAX
            || prefix + SUFFIX_BYTES > STRING_BYTES_MAX
            || metadata > self.limits.metadata_bytes_max
        {
            // Kafka finds out when it writes the group's record.
            Err(ErrorCode::UNKNOWN_SERVER_ERROR)
        } else {
            Ok(())
        }
    }

    /// For a new member, and its group if there is none yet.
    fn make_room(&mut self, id: &StrBytes, now: Now) -> Result<(), ErrorCode> {
        if self.members >= self.limits.members_max {
            tracing::warn!(group = %id, members = self.members, "a member is refused: this shard has as many members of groups as it may (max_group_members)");
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        self.make_group(id, now)
    }

    fn make_group(&mut self, id: &StrBytes, now: Now) -> Result<(), ErrorCode> {
        if self.groups.contains_key(id) {
            return Ok(());
        }
        if self.groups.len() >= self.limits.groups_max {
            tracing::warn!(group = %id, groups = self.groups.len(), "a group is refused: this shard has as many groups as it may (max_groups)");
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let id = id.detached();
        let group = classic::Group::new(id.clone(), now.wall_ms);
        self.groups.insert(id, Group::Classic(Box::new(group)));
        Ok(())
    }

    fn sync(
        &mut self,
        request: &sync_group::Request,
        ticket: Ticket,
        now: Now,
        out: &mut Vec<Outcome>,
    ) {
        let before = out.len();
        let found = self.with(&request.group_id, now, out, |group, step| {
            group.sync(request, ticket, step)
        });
        if let Some(Some(response)) = found {
            answer_when_stored(out, before, ticket, GroupReply::Sync(response));
        } else if found.is_none() {
            let response = sync_group::Response {
                error_code: ErrorCode::UNKNOWN_MEMBER_ID,
                ..sync_group::Response::default()
            };
            out.push(Outcome::Reply(ticket, GroupReply::Sync(response)));
        }
    }

    fn heartbeat(
        &mut self,
        request: &heartbeat::Request,
        now: Now,
        out: &mut Vec<Outcome>,
    ) -> Result<(), ErrorCode> {
        let alive = self.with(&request.group_id, now, out, |group, step| {
            group.heartbeat(request, step)
        });
        alive.unwrap_or(Err(ErrorCode::UNKNOWN_MEMBER_ID))
    }

    fn leave(
        &mut self,
        group: &StrBytes,
        members: &[MemberIdentity],
        ticket: Ticket,
        now: Now,
        out: &mut Vec<Outcome>,
    ) {
        let before = out.len();
        let left = self.with(group, now, out, |group, step| group.leave(members, step));
        let reply = GroupReply::Leave(left.unwrap_or(Err(ErrorCode::UNKNOWN_MEMBER_ID)));
        answer_when_stored(out, before, ticket, reply);
    }

    fn commit(&mut self, commit: Commit, ticket: Ticket, now: Now, out: &mut Vec<Outcome>) {
        let before = out.len();
        let result = self.try_commit(commit, now, out);
        answer_when_stored(out, before, ticket, GroupReply::Done(result));
    }

    fn try_commit(
        &mut self,
        commit: Commit,
        now: Now,
        out: &mut Vec<Outcome>,
    ) -> Result<(), ErrorCode> {
        let id = &commit.group;
        if id.len() > STRING_BYTES_MAX {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        if !self.groups.contains_key(id) {
            if commit.generation >= 0 {
                return Err(match commit.version {
                    GROUP_ID_NOT_FOUND_VERSION_MIN.. => ErrorCode::GROUP_ID_NOT_FOUND,
                    _ => ErrorCode::ILLEGAL_GENERATION,
                });
            }
            // From an administrator, or a consumer that takes no part in a group.
            self.make_group(id, now)?;
        }
        let id = id.clone();
        let result = self.with(&id, now, out, |group, step| {
            let by = Committer {
                member_id: &commit.member_id,
                instance_id: commit.instance_id.as_ref(),
                epoch: commit.generation,
                version: commit.version,
            };
            group.commit(by, commit.offsets, step)
        });
        result.unwrap_or(Err(ErrorCode::COORDINATOR_NOT_AVAILABLE))
    }

    fn import(
        &mut self,
        group: &StrBytes,
        offsets: Vec<(TopicPartition, Committed)>,
        ticket: Ticket,
        now: Now,
        out: &mut Vec<Outcome>,
    ) {
        let before = out.len();
        let result = self.try_import(group, offsets, now, out);
        answer_when_stored(out, before, ticket, GroupReply::Import(result));
    }

    fn try_import(
        &mut self,
        group: &StrBytes,
        offsets: Vec<(TopicPartition, Committed)>,
        now: Now,
        out: &mut Vec<Outcome>,
    ) -> Result<Vec<Imported>, ErrorCode> {
        if group.is_empty() || group.len() > STRING_BYTES_MAX {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        self.make_group(group, now)?;
        let imported = self.with(group, now, out, |group, step| group.import(offsets, step));
        imported.unwrap_or(Err(ErrorCode::COORDINATOR_NOT_AVAILABLE))
    }

    fn offsets(&self, group: &StrBytes, topics: Option<Vec<TopicOffsets>>) -> Vec<FoundOffsets> {
        let group = self.groups.get(group);
        let Some(topics) = topics else {
            let all = group.into_iter().flat_map(|g| g.offsets().topics());
            return all
                .map(|(topic, partitions)| FoundOffsets {
                    topic: topic.clone(),
                    partitions: partitions
                        .iter()
                        .map(|(index, committed)| (*index, Some(committed.clone())))
                        .collect(),
                })
                .collect();
        };
        let of_topic = |asked: TopicOffsets| {
            let find = |index: i32| {
                let committed = group?.offsets().get(&asked.topic, index)?;
                let is_its = committed.topic_id.is_zero()
                    || asked.topic_id.is_zero()
                    || committed.topic_id == asked.topic_id;
                is_its.then(|| committed.clone())
            };
            let partitions = asked.partitions.iter().map(|index| (*index, find(*index)));
            FoundOffsets {
                partitions: partitions.collect(),
                topic: asked.topic.clone(),
            }
        };
        topics.into_iter().map(of_topic).collect()
    }

    fn forget(
        &mut self,
        group: &StrBytes,
        offsets: &[TopicPartition],
        ticket: Ticket,
        now: Now,
        out: &mut Vec<Outcome>,
    ) {
        let before = out.len();
        let results = self.with(group, now, out, |group, step| group.forget(offsets, step));
        let reply = GroupReply::Forget(results.unwrap_or(Err(ErrorCode::GROUP_ID_NOT_FOUND)));
        answer_when_stored(out, before, ticket, reply);
    }

    fn delete(&mut self, group: &StrBytes, ticket: Ticket, now: Now, out: &mut Vec<Outcome>) {
        let before = out.len();
        let result = self.with(group, now, out, |group, step| group.delete(step));
        let reply = GroupReply::Done(result.unwrap_or(Err(ErrorCode::GROUP_ID_NOT_FOUND)));
        answer_when_stored(out, before, ticket, reply);
    }

    fn list(&self, states: &[String], types: &[String]) -> Vec<list_groups::ListedGroup> {
        let is_among = |asked: &[String], name: &str| {
            asked.is_empty() || asked.iter().any(|one| name.eq_ignore_ascii_case(one))
        };
        let groups = self.groups.values().map(Group::listed);
        groups
            .filter(|group| is_among(states, &group.group_state))
            .filter(|group| is_among(types, &group.group_type))
            .collect()
    }

    /// A heartbeat of a member of the consumer protocol (KIP-848).
    fn consumer_heartbeat(
        &mut self,
        request: &consumer_group_heartbeat::Request,
        version: i16,
        caller: Caller,
        ticket: Ticket,
        now: Now,
        out: &mut Vec<Outcome>,
    ) {
        let before = out.len();
        let told = match self.check_consumer_heartbeat(request, version, &caller, now) {
            Err(refusal) => Err(refusal),
            Ok(()) => {
                let told = self.with(&request.group_id, now, out, |group, step| {
                    group.consumer_heartbeat(request, caller, step)
                });
                told.unwrap_or_else(|| Err(Refusal::no_group(&request.group_id)))
            }
        };
        let response = told.unwrap_or_else(Refusal::into_response);
        let reply = GroupReply::ConsumerHeartbeat(response);
        answer_when_stored(out, before, ticket, reply);
    }

    fn check_consumer_heartbeat(
        &mut self,
        request: &consumer_group_heartbeat::Request,
        version: i16,
        caller: &Caller,
        now: Now,
    ) -> Result<(), Refusal> {
        consumer::check(request, version, &self.rules.consumer.assignors)?;
        let id = &request.group_id;
        if id.len() > STRING_BYTES_MAX {
            return Err(ErrorCode::INVALID_GROUP_ID.into());
        }
        let text = |text: &Option<StrBytes>| text.as_ref().map_or(0, |text| text.len());
        let topics = request.subscribed_topic_names.iter().flatten();
        let lengths = [
            request.member_id.len(),
            caller.client_id.len(),
            text(&request.instance_id),
            text(&request.rack_id),
            text(&request.server_assignor),
            text(&request.subscribed_topic_regex),
        ];
        let longest = lengths
            .into_iter()
            .chain(topics.clone().map(|t| t.len()))
            .max();
        if longest.unwrap_or(0) > STRING_BYTES_MAX
            || topics.map(|t| t.len() + 1).sum::<usize>() > self.limits.metadata_bytes_max
        {
            // As in a JoinGroup.
            return Err(ErrorCode::UNKNOWN_SERVER_ERROR.into());
        }
        let is_known = match self.groups.get(id) {
            Some(Group::Consumer(group)) => group.has_member(&request.member_id),
            _ => false,
        };
        if request.member_epoch == 0 && !is_known {
            self.make_room(id, now)?;
        }
        Ok(())
    }
}

/// An event's answer waits for the records that the event came to.
fn answer_when_stored(out: &mut Vec<Outcome>, before: usize, ticket: Ticket, reply: GroupReply) {
    let appends = out[before..].iter_mut().rev();
    let mut appends = appends.filter_map(|outcome| match outcome {
        Outcome::Append(queued) => Some(queued),
        Outcome::Reply(..) | Outcome::Noted(_) => None,
    });
    match appends.next() {
        Some(queued) => queued.answer = Some((ticket, reply)),
        None => out.push(Outcome::Reply(ticket, reply)),
    }
}

impl GroupReply {
    /// The same, where the records could not be stored.
    fn failed(self, error: ErrorCode) -> Self {
        match self {
            GroupReply::Leave(_) => GroupReply::Leave(Err(error)),
            GroupReply::Import(_) => GroupReply::Import(Err(error)),
            GroupReply::Forget(_) => GroupReply::Forget(Err(error)),
            GroupReply::Join(response) => GroupReply::Join(join_group::Response {
                error_code: error,
                member_id: response.member_id,
                ..join_group::Response::default()
            }),
            GroupReply::Sync(_) => GroupReply::Sync(sync_group::Response {
                error_code: error,
                ..sync_group::Response::default()
            }),
            GroupReply::ConsumerHeartbeat(_) => {
                GroupReply::ConsumerHeartbeat(consumer_group_heartbeat::Response {
                    error_code: error,
                    ..consumer_group_heartbeat::Response::default()
                })
            }
            _ => GroupReply::Done(Err(error)),
        }
    }
}

impl Queued {
    /// The partition of `__consumer_offsets` that it goes to.
    pub fn partition(&self, partitions: i32) -> i32 {
        partition_of(&self.group, partitions)
    }

    pub fn size(&self) -> usize {
        self.append.records.iter().map(|r| r.size()).sum()
    }

    /// What a client asked to be stored; the rest is the group's own, and has to be.
    pub fn is_a_clients(&self) -> bool {
        matches!(
            self.append.then,
            Then::Assigned { .. } | Then::Replaced(_) | Then::Committed(_)
        )
    }
}
