//! Members of the classic protocol in a group of the consumer protocol, and the ways from one kind of group
//! to the other.
//!
//! A classic member is led to its share as any other. JoinGroup says what it owns and brings it on its way,
//! its epoch is the generation that it is told, SyncGroup tells what it has, and Heartbeat tells whether it
//! has to join again.

use std::cmp::Reverse;

use bytes::Bytes;

use super::heartbeat::Place;
use super::member::{ClassicTerms, Current, Member, MemberState, NEVER_MS, Terms};
use super::{Group, PROTOCOL_TYPE, Step, by_topic};
use crate::catalog::Catalog;
use crate::group::assignor::PartitionSet;
use crate::group::classic::{self, Join};
use crate::group::{assignment, member};
use crate::store::PartitionId;
use crate::wire::consumer_protocol::{self, Subscription, TopicPartition};
use crate::wire::leave_group::{MemberIdentity, MemberResponse};
use crate::wire::{ErrorCode, StrBytes, heartbeat, join_group, sync_group};

/// KIP-394: from here on a member first gets its id.
const MEMBER_ID_VERSION_MIN: i16 = 4;

/// Members as they come over from a classic group of this generation; each with its metadata. `None` if
/// what one says, or what it was assigned, cannot be read.
///
/// What one says that it owns and nobody is assigned, it may be reading from still: in a cooperative
/// rebalance that has not come to its end, or whose assignment could not be stored. It has to give that up
/// before another gets it. (Kafka takes over what is assigned, and nothing else.)
pub fn taken_over<'a>(
    members: impl Iterator<Item = (StrBytes, &'a member::Member, Bytes)>,
    generation: i32,
    catalog: &Catalog,
) -> Option<Vec<(StrBytes, Member)>> {
    let (mut converted, mut claims) = (Vec::new(), Vec::new());
    for (id, member, metadata) in members {
        let subscription = consumer_protocol::decode::<Subscription>(metadata).ok()?;
        let owned = partitions(&subscription.owned_partitions, catalog);
        claims.push((subscription.generation_id, converted.len(), owned));
        converted.push((
            id,
            classic_member(member, &subscription, generation, catalog)?,
        ));
    }
    let targets = converted.iter().flat_map(|(_, member)| &member.target);
    let mut owned: PartitionSet = targets.copied().collect();
    // Of two claims the older one is not true any more.
    claims.sort_by_key(|(generation, ..)| Reverse(*generation));
    for (_, index, claimed) in claims {
        let current = &mut converted[index].1.current;
        let kept = claimed.into_iter().filter(|id| owned.insert(*id));
        current.revoking.extend(kept.map(|id| (id, generation)));
        if !current.revoking.is_empty() {
            current.state = MemberState::Unrevoked;
        }
    }
    Some(converted)
}

fn classic_member(
    member: &member::Member,
    subscription: &Subscription,
    generation: i32,
    catalog: &Catalog,
) -> Option<Member> {
    let target = partitions(&assignment::assigned(&member.assignment)?, catalog);
    let terms = Terms {
        caller: member.caller.clone(),
        instance_id: member.instance_id.clone(),
        rack_id: subscription.rack_id.as_ref().map(StrBytes::detached),
        rebalance_timeout_ms: member.terms.rebalance_timeout_ms,
        topics: subscription.topics.iter().map(StrBytes::detached).collect(),
        classic: Some(ClassicTerms {
            session_timeout_ms: member.terms.session_timeout_ms,
            protocols: member.terms.protocols.clone(),
        }),
        ..Terms::default()
    };
    let mut converted = Member::new(terms);
    converted.current = Current {
        epoch: generation,
        previous_epoch: generation,
        assigned: target.iter().map(|id| (*id, generation)).collect(),
        ..Current::default()
    };
    converted.target = target;
    Some(converted)
}

fn partitions(topics: &[TopicPartition], catalog: &Catalog) -> PartitionSet {
    let of_topic = |of: &TopicPartition| {
        let topic = catalog.by_name(&of.topic)?.id;
        let indexes = of.partitions.clone().into_iter();
        Some(indexes.map(move |index| PartitionId { topic, index }))
    };
    topics.iter().filter_map(of_topic).flatten().collect()
}

// ---- from one kind of group to the other

impl Group {
    /// Takes the members of a classic group over.
    pub fn take_over(
        &mut self,
        generation: i32,
        members: Vec<(StrBytes, Member)>,
        step: &Step<'_>,
    ) {
        (self.epoch, self.target_epoch) = (generation, generation);
        for (id, member) in members {
            self.enter(&id, member);
            self.keep_alive(&id, step);
        }
        self.settle_owners();
        let parts: Vec<_> = self.parts().collect();
        self.unstored.extend(parts);
        tracing::info!(group = %self.id, epoch = self.epoch, members = self.members.len(), "a classic group becomes one of the consumer protocol");
    }

    /// All of its members are classic ones by now, so it is to become a classic group.
    pub fn is_downgraded(&self, step: &Step<'_>) -> bool {
        !self.is_dead
            && !self.members.is_empty()
            && step.rules.consumer.downgrades
            && self.members.len() <= step.rules.group_max_size
            && self.members.values().all(Member::is_classic)
    }

    pub fn downgrade(&mut self, step: &mut Step<'_>) -> classic::Group {
        tracing::info!(group = %self.id, epoch = self.epoch, members = self.members.len(), "a group of the consumer protocol becomes a classic one");
        let records = self.tombstones();
        let catalog = step.catalog;
        // That of its members, so that they are told to join again, and not that they are strangers.
        let epochs = self.members.values().map(|m| m.current.epoch);
        let generation = epochs.max().unwrap_or(self.epoch);
        let members = std::mem::take(&mut self.members).into_iter();
        let convert = |(id, member): (StrBytes, Member)| Some((id, member.into_classic(catalog)?));
        let members = members.filter_map(convert).collect();
        let offsets = std::mem::take(&mut self.offsets);
        classic::Group::in_place_of(self.id.clone(), generation, members, offsets, records, step)
    }
}

impl Member {
    fn into_classic(self, catalog: &Catalog) -> Option<member::Member> {
        let classic = self.terms.classic?;
        let metadata = classic.protocols.first().map(|p| p.metadata.clone());
        // What it has, not what it was to have: the group may go back before it has joined again.
        let held: PartitionSet = self.current.held().copied().collect();
        Some(member::Member {
            caller: self.terms.caller,
            instance_id: self.terms.instance_id,
            assignment: told(held.iter(), &metadata.unwrap_or_default(), catalog),
            terms: member::Terms {
                session_timeout_ms: classic.session_timeout_ms,
                rebalance_timeout_ms: self.terms.rebalance_timeout_ms,
                protocols: classic.protocols,
            },
            is_new: false,
            joining: None,
            syncing: None,
            expires_ms: None,
        })
    }
}

/// Partitions in the words of the classic protocol.
fn told<'a>(
    ids: impl Iterator<Item = &'a PartitionId>,
    metadata: &Bytes,
    catalog: &Catalog,
) -> Bytes {
    let topics = by_topic(ids, |topic, partitions| {
        let topic = catalog.by_id(&topic)?.name.clone();
        Some(TopicPartition { topic, partitions })
    });
    assignment::encode(topics.into_iter().flatten().collect(), metadata)
}

// ---- requests

impl Group {
    /// Takes a JoinGroup. The answer waits for the records of the group.
    pub fn join(&mut self, join: Join, step: &mut Step<'_>) -> join_group::Response {
        let told_id = join.request.member_id.clone();
        self.try_join(join, step)
            .unwrap_or_else(|error| refused(told_id, error))
    }

    fn try_join(
        &mut self,
        join: Join,
        step: &mut Step<'_>,
    ) -> Result<join_group::Response, ErrorCode> {
        if self.is_dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let request = &join.request;
        if !step.rules.consumer.mixes || !self.supports(request) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let is_new = request.member_id.is_empty();
        let instance_id = request.group_instance_id.as_ref();
        let member_id = match is_new {
            true => {
                let prefix = instance_id.unwrap_or(&join.caller.client_id);
                StrBytes::from(format!("{prefix}-{}", join.unique))
            }
            false => request.member_id.detached(),
        };
        self.check_room(&member_id, step)
            .map_err(|refusal| refusal.error)?;
        if is_new && instance_id.is_none() && join.version >= MEMBER_ID_VERSION_MIN {
            return Ok(refused(member_id, ErrorCode::MEMBER_ID_REQUIRED));
        }
        let place = self.find_classic(&member_id, instance_id, is_new)?;
        let metadata = request.protocols.first().map(|p| p.metadata.clone());
        let said = consumer_protocol::decode::<Subscription>(metadata.unwrap_or_default());
        // Kafka finds that out when it looks at the subscription.
        let said = said.map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
        let owned = partitions(&said.owned_partitions, step.catalog);
        if matches!(place, Place::New) && !is_new && !owned.is_empty() {
            // It was taken for dead, and others may have what it has. (Kafka takes it for a new one.)
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        match &place {
            Place::New => self.enter(&member_id, Member::new(Terms::default())),
            Place::InPlaceOf(old_id) => self.replace(old_id, &member_id),
            Place::Known => {}
        }
        let terms = self.classic_terms(&member_id, &join, &said);
        let has_resubscribed = self.take_terms(&member_id, terms);
        self.advance(&member_id, has_resubscribed, Some(&owned), step);
        self.keep_alive(&member_id, step);
        self.expect_sync(&member_id, step);
        self.wait_for_records(&member_id);
        self.flush(step);
        Ok(self.generation_for(&member_id))
    }

    /// All classic members have to have a protocol in common.
    fn supports(&self, request: &join_group::Request) -> bool {
        let has = |member: &Member, name: &StrBytes| {
            let classic = member.terms.classic.as_ref();
            classic.is_none_or(|c| c.protocols.iter().any(|p| p.name == *name))
        };
        let by_all = |name: &StrBytes| self.members.values().all(|m| has(m, name));
        &*request.protocol_type == PROTOCOL_TYPE
            && request.protocols.iter().any(|p| by_all(&p.name))
    }

    fn find_classic(
        &self,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
        is_new: bool,
    ) -> Result<Place, ErrorCode> {
        let current = instance_id.map(|instance_id| self.instances.get(instance_id));
        match current {
            None if self.members.contains_key(member_id) => Ok(Place::Known),
            None | Some(None) if is_new || instance_id.is_none() => Ok(Place::New),
            Some(Some(current)) if is_new => Ok(Place::InPlaceOf(current.clone())),
            Some(Some(current)) if current == member_id => Ok(Place::Known),
            Some(Some(_)) => Err(ErrorCode::FENCED_INSTANCE_ID),
            None | Some(None) => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    fn classic_terms(&self, member_id: &StrBytes, join: &Join, said: &Subscription) -> Terms {
        let terms = member::Terms::of(&join.request);
        let before = self.members.get(member_id).map(|m| m.terms.clone());
        let before = before.unwrap_or_default();
        let text = |text: &Option<StrBytes>| text.as_ref().map(StrBytes::detached);
        Terms {
            caller: member::Caller {
                client_id: join.caller.client_id.detached(),
                host: join.caller.host.clone(),
            },
            instance_id: text(&join.request.group_instance_id).or(before.instance_id),
            rack_id: text(&said.rack_id).or(before.rack_id),
            rebalance_timeout_ms: terms.rebalance_timeout_ms,
            topics: said.topics.iter().map(StrBytes::detached).collect(),
            regex: StrBytes::default(),
            assignor: before.assignor,
            classic: Some(ClassicTerms {
                session_timeout_ms: terms.session_timeout_ms,
                protocols: terms.protocols,
            }),
        }
    }

    fn expect_sync(&mut self, member_id: &StrBytes, step: &Step<'_>) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.joins_by_ms = NEVER_MS;
            member.syncs_by_ms = step.in_ms(member.terms.rebalance_timeout_ms.into());
            self.wake_ms = self.wake_ms.min(member.syncs_by_ms);
        }
    }

    fn expect_join(&mut self, member_id: &StrBytes, step: &Step<'_>) {
        if let Some(member) = self.members.get_mut(member_id) {
            let by_ms = step.in_ms(member.terms.rebalance_timeout_ms.into());
            member.joins_by_ms = member.joins_by_ms.min(by_ms);
            self.wake_ms = self.wake_ms.min(by_ms);
        }
    }

    fn generation_for(&self, member_id: &StrBytes) -> join_group::Response {
        let member = self.members.get(member_id);
        let classic = member.and_then(|m| m.terms.classic.as_ref());
        join_group::Response {
            generation_id: member.map_or(0, |m| m.current.epoch),
            protocol_type: Some(PROTOCOL_TYPE.into()),
            protocol_name: classic.and_then(|c| Some(c.protocols.first()?.name.clone())),
            member_id: member_id.clone(),
            ..join_group::Response::default()
        }
    }

    /// A classic member that is who it says, in its generation.
    fn classic(
        &self,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
        generation: i32,
    ) -> Result<(&Member, &ClassicTerms), ErrorCode> {
        if self.is_dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        if let Some(instance_id) = instance_id {
            let current = self.instances.get(instance_id);
            if current.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)? != member_id {
                return Err(ErrorCode::FENCED_INSTANCE_ID);
            }
        }
        let member = self
            .members
            .get(member_id)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let classic = member
            .terms
            .classic
            .as_ref()
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        match member.current.epoch == generation {
            true => Ok((member, classic)),
            false => Err(ErrorCode::ILLEGAL_GENERATION),
        }
    }

    /// Takes a SyncGroup. The answer waits for the records of the group.
    pub fn sync(
        &mut self,
        request: &sync_group::Request,
        step: &mut Step<'_>,
    ) -> Result<sync_group::Response, ErrorCode> {
        let (member_id, instance_id) = (&request.member_id, request.group_instance_id.as_ref());
        let (member, classic) = self.classic(member_id, instance_id, request.generation_id)?;
        let first = classic.protocols.first();
        let differs =
            |told: &Option<StrBytes>, own: &str| told.as_ref().is_some_and(|t| **t != *own);
        if differs(&request.protocol_type, PROTOCOL_TYPE)
            || differs(&request.protocol_name, first.map_or("", |p| &p.name))
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        // Who gives partitions up has joined, and is told what it keeps.
        if self.epoch > member.current.epoch && member.current.state != MemberState::Unrevoked {
            self.expect_join(member_id, step);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        let metadata = first.map(|p| p.metadata.clone()).unwrap_or_default();
        let assignment = told(member.current.assigned.keys(), &metadata, step.catalog);
        self.keep_alive(member_id, step);
        if let Some(member) = self.members.get_mut(member_id) {
            member.syncs_by_ms = NEVER_MS;
        }
        self.wait_for_records(member_id);
        self.flush(step);
        Ok(sync_group::Response {
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment,
            ..sync_group::Response::default()
        })
    }

    /// Takes a Heartbeat: a classic member has to join again to come on its way.
    pub fn classic_heartbeat(
        &mut self,
        request: &heartbeat::Request,
        step: &mut Step<'_>,
    ) -> Result<(), ErrorCode> {
        let (member_id, instance_id) = (&request.member_id, request.group_instance_id.as_ref());
        let (member, _) = self.classic(member_id, instance_id, request.generation_id)?;
        let rejoins = match member.current.state {
            _ if member.current.epoch < self.epoch => true,
            MemberState::Stable => false,
            MemberState::Unrevoked => true,
            MemberState::Unreleased => !self.waits_for_others(member_id, member),
        };
        self.keep_alive(member_id, step);
        if rejoins {
            self.expect_join(member_id, step);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// Takes a LeaveGroup.
    pub fn classic_leave(
        &mut self,
        members: &[MemberIdentity],
        step: &mut Step<'_>,
    ) -> Result<Vec<MemberResponse>, ErrorCode> {
        if self.is_dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let mut gone = Vec::new();
        let mut leave = |one: &MemberIdentity| {
            let found = self.leaving(one);
            let error_code = found.as_ref().err().copied().unwrap_or_default();
            gone.extend(found.ok());
            MemberResponse {
                member_id: one.member_id.clone(),
                group_instance_id: one.group_instance_id.clone(),
                error_code,
            }
        };
        let responses = members.iter().map(&mut leave).collect();
        if !gone.is_empty() {
            tracing::info!(group = %self.id, members = ?gone, "classic members leave their group");
            self.remove(&gone, step);
            self.flush(step);
        }
        Ok(responses)
    }

    fn leaving(&self, one: &MemberIdentity) -> Result<StrBytes, ErrorCode> {
        let unknown = ErrorCode::UNKNOWN_MEMBER_ID;
        let member_id = match &one.group_instance_id {
            Some(instance_id) => {
                let current = self.instances.get(instance_id).ok_or(unknown)?;
                // An administrator removes a static member.
                if !one.member_id.is_empty() && one.member_id != *current {
                    return Err(ErrorCode::FENCED_INSTANCE_ID);
                }
                current.clone()
            }
            None => one.member_id.detached(),
        };
        match self.members.get(&member_id) {
            Some(member) if member.is_classic() => Ok(member_id),
            _ => Err(unknown),
        }
    }
}

fn refused(member_id: StrBytes, error_code: ErrorCode) -> join_group::Response {
    join_group::Response {
        error_code,
        member_id,
        ..join_group::Response::default()
    }
}
