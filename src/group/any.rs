//! A group of either kind, and what is the same for both.

use super::classic::Join;
use super::consumer::Refusal;
use super::messages::Imported;
use super::offsets::{Committed, Offsets, TopicPartition};
use super::{AppendError, Caller, Note, Step, Then, Ticket, classic, consumer};
use crate::wire::leave_group::{MemberIdentity, MemberResponse};
use crate::wire::{
    ErrorCode, StrBytes, consumer_group_heartbeat, heartbeat, join_group, list_groups,
    offset_commit, sync_group,
};

/// A group. While it has no members it becomes one of the kind that the first who joins speaks; one with
/// members goes over when a member of the consumer protocol joins, and back when the last one is gone.
#[derive(Debug)]
pub enum Group {
    Classic(Box<classic::Group>),
    Consumer(Box<consumer::Group>),
}

/// Does the same with both kinds.
macro_rules! either {
    ($group:expr, $one:ident => $what:expr) => {
        match $group {
            Group::Classic($one) => $what,
            Group::Consumer($one) => $what,
        }
    };
}

impl Group {
    pub fn id(&self) -> &StrBytes {
        either!(self, group => group.id())
    }

    /// Members, and those that are to become members.
    pub fn size(&self) -> usize {
        either!(self, group => group.size())
    }

    /// When [`Group::expire`] is to be called next, by the steady clock.
    pub fn wake_ms(&self) -> i64 {
        either!(self, group => group.wake_ms())
    }

    /// Nothing would be lost with it.
    pub fn is_nothing(&self) -> bool {
        either!(self, group => group.is_nothing())
    }

    pub fn offsets(&self) -> &Offsets {
        either!(self, group => &group.offsets)
    }

    pub fn offsets_mut(&mut self) -> &mut Offsets {
        either!(self, group => &mut group.offsets)
    }

    pub fn state_name(&self) -> &'static str {
        either!(self, group => group.state().name())
    }

    pub fn listed(&self) -> list_groups::ListedGroup {
        either!(self, group => group.listed())
    }

    pub fn expire(&mut self, step: &mut Step<'_>) {
        either!(self, group => group.expire(step));
        self.downgrade(step);
    }

    pub fn delete(&mut self, step: &mut Step<'_>) -> Result<(), ErrorCode> {
        either!(self, group => group.delete(step))
    }

    pub fn expire_offsets(&mut self, retention_ms: i64, step: &mut Step<'_>) {
        either!(self, group => group.expire_offsets(retention_ms, step));
    }

    fn is_dead(&self) -> bool {
        match self {
            Group::Classic(group) => group.state() == classic::State::Dead,
            Group::Consumer(group) => group.is_dead(),
        }
    }

    /// Those of the classic protocol who wait are told that its coordinator is another one now, or none.
    pub fn unload(&mut self, step: &mut Step<'_>) {
        match self {
            Group::Classic(group) => group.unload(step),
            Group::Consumer(_) => {}
        }
    }

    pub fn forget_topics(&mut self, is_gone: impl Fn(&str) -> bool, step: &mut Step<'_>) {
        if !self.is_dead() {
            self.offsets().forget_topics(self.id(), is_gone, step);
        }
    }

    pub fn forget(
        &mut self,
        asked: &[TopicPartition],
        step: &mut Step<'_>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        match self {
            Group::Classic(group) => group.forget(asked, step),
            Group::Consumer(group) if group.is_dead() => Err(ErrorCode::GROUP_ID_NOT_FOUND),
            Group::Consumer(group) => {
                let is_subscribed = |topic: &str| group.is_subscribed(topic);
                let offsets = &group.offsets;
                Ok(offsets.forget_unread(group.id(), asked, is_subscribed, step))
            }
        }
    }

    pub fn commit(
        &mut self,
        by: Committer<'_>,
        offsets: Vec<(TopicPartition, Committed)>,
        step: &mut Step<'_>,
    ) -> Result<(), ErrorCode> {
        let Committer {
            member_id, epoch, ..
        } = by;
        match self {
            Group::Classic(group) => group.commit(member_id, by.instance_id, epoch, offsets, step),
            Group::Consumer(group) => group.commit(member_id, epoch, by.version, offsets, step),
        }
    }

    /// Takes offsets over where nothing is committed, as if somebody from outside committed them: a group
    /// that has members refuses them.
    pub fn import(
        &mut self,
        offsets: Vec<(TopicPartition, Committed)>,
        step: &mut Step<'_>,
    ) -> Result<Vec<Imported>, ErrorCode> {
        let result = |(of, _): &(TopicPartition, Committed)| {
            let topic = step.catalog.by_name(&of.topic);
            match topic.and_then(|topic| topic.partition(of.partition)) {
                None => Imported::Unknown,
                Some(_) if self.offsets().has(of) => Imported::Kept,
                Some(_) => Imported::Taken,
            }
        };
        let results: Vec<_> = offsets.iter().map(result).collect();
        let taken = offsets.into_iter().zip(&results);
        let taken = taken.filter(|(_, result)| **result == Imported::Taken);
        let taken: Vec<_> = taken.map(|(offset, _)| offset).collect();
        if !taken.is_empty() {
            let nobody = StrBytes::default();
            let by = Committer {
                member_id: &nobody,
                instance_id: None,
                epoch: -1,
                version: *offset_commit::VERSIONS.end(),
            };
            self.commit(by, taken, step)?;
        }
        Ok(results)
    }

    /// Checks who reads offsets.
    pub fn check_fetch(&self, member_id: Option<&StrBytes>, epoch: i32) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(_) => Ok(()),
            Group::Consumer(group) => group.check_fetch(member_id, epoch),
        }
    }

    /// What became of records. Whether the group is gone, and what to tell who waits for them.
    pub fn appended(
        &mut self,
        then: Then,
        result: Result<(), AppendError>,
        step: &mut Step<'_>,
    ) -> (bool, Result<(), AppendError>) {
        match then {
            Then::Committed(commits) => {
                if result.is_ok() {
                    step.note(Note::Committed(commits.len()));
                }
                self.offsets_mut().end_all(commits, result.is_ok());
            }
            Then::Forgotten(gone) => {
                let gone = if result.is_ok() { gone } else { Vec::new() };
                gone.iter().for_each(|of| self.offsets_mut().remove(of));
            }
            Then::Deleted if result.is_ok() => return (true, result),
            Then::Deleted => either!(self, group => group.undelete()),
            then => match self {
                Group::Classic(group) => group.appended(then, result, step),
                Group::Consumer(group) => {
                    if let Then::Kept { number, parts } = then {
                        return (false, group.kept(number, parts, result));
                    }
                }
            },
        }
        (false, result)
    }

    /// Takes a ConsumerGroupHeartbeat.
    pub fn consumer_heartbeat(
        &mut self,
        request: &consumer_group_heartbeat::Request,
        caller: Caller,
        step: &mut Step<'_>,
    ) -> Result<consumer_group_heartbeat::Response, Refusal> {
        if let Group::Classic(group) = self
            && request.member_epoch == 0
        {
            let upgraded = match group.state() {
                classic::State::Dead => return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE.into()),
                classic::State::Empty => group.become_consumer(),
                _ => {
                    // A member that is refused later must not change anything.
                    consumer::check_newcomer(request, group.size(), step.rules)?;
                    let upgraded = group.upgrade(step);
                    upgraded.map_err(|why| Refusal::no_upgrade(group.id(), why))?
                }
            };
            *self = Group::Consumer(Box::new(upgraded));
        }
        let result = match self {
            Group::Consumer(group) => group.heartbeat(request, caller, step),
            Group::Classic(group) => Err(Refusal::not_a_consumer_group(group.id())),
        };
        self.downgrade(step);
        result
    }

    /// Takes a JoinGroup. It is answered by an effect, or by what this gives.
    pub fn join(&mut self, join: Join, step: &mut Step<'_>) -> Option<join_group::Response> {
        if let Group::Consumer(group) = self
            && group.state() == consumer::State::Empty
        {
            *self = Group::Classic(Box::new(group.become_classic(step)));
        }
        let response = match self {
            Group::Classic(group) => {
                group.join(join, step);
                None
            }
            Group::Consumer(group) => Some(group.join(join, step)),
        };
        self.downgrade(step);
        response
    }

    /// Takes a SyncGroup. It is answered by an effect, or by what this gives.
    pub fn sync(
        &mut self,
        request: &sync_group::Request,
        ticket: Ticket,
        step: &mut Step<'_>,
    ) -> Option<sync_group::Response> {
        match self {
            Group::Classic(group) => {
                group.sync(request, ticket, step);
                None
            }
            Group::Consumer(group) => {
                let synced = group.sync(request, step);
                Some(synced.unwrap_or_else(|error_code| sync_group::Response {
                    error_code,
                    ..sync_group::Response::default()
                }))
            }
        }
    }

    /// Takes a Heartbeat.
    pub fn heartbeat(
        &mut self,
        request: &heartbeat::Request,
        step: &mut Step<'_>,
    ) -> Result<(), ErrorCode> {
        let alive = match self {
            Group::Consumer(group) => group.classic_heartbeat(request, step),
            Group::Classic(group) => {
                let instance_id = request.group_instance_id.as_ref();
                group.heartbeat(&request.member_id, instance_id, request.generation_id, step)
            }
        };
        // A stop may have come between the leaving of the last other member and this.
        self.downgrade(step);
        alive
    }

    /// Takes a LeaveGroup.
    pub fn leave(
        &mut self,
        members: &[MemberIdentity],
        step: &mut Step<'_>,
    ) -> Result<Vec<MemberResponse>, ErrorCode> {
        let responses = match self {
            Group::Classic(group) => group.leave(members, step),
            Group::Consumer(group) => group.classic_leave(members, step),
        };
        self.downgrade(step);
        responses
    }

    fn downgrade(&mut self, step: &mut Step<'_>) {
        if let Group::Consumer(group) = self
            && group.is_downgraded(step)
        {
            *self = Group::Classic(Box::new(group.downgrade(step)));
        }
    }
}

/// Who commits.
#[derive(Clone, Copy)]
pub struct Committer<'a> {
    pub member_id: &'a StrBytes,
    pub instance_id: Option<&'a StrBytes>,
    /// Or generation.
    pub epoch: i32,
    /// Of the request.
    pub version: i16,
}
