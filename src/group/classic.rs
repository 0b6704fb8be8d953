//! One group: its members, its generations, and the rules of both. See the [table](super).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use super::assignment::{self, CONSUMER};
use super::member::{Caller, Member, Terms, detached};
use super::offsets::{Committed, Offsets, TopicPartition};
use super::records::Record;
use super::{
    AppendError, ConsumerRules, Note, Reason, Replaced, Step, Support, Then, Ticket, consumer,
};
use crate::wire::group_records::{GroupMetadataValue, MemberMetadata};
use crate::wire::join_group::JoinGroupResponseMember;
use crate::wire::leave_group::{MemberIdentity, MemberResponse};
use crate::wire::{ErrorCode, StrBytes, describe_groups, join_group, list_groups, sync_group};

/// A new member cannot send heartbeats before its JoinGroup is answered; after this time it is taken for
/// dead all the same, as clients ask anew until then.
const NEW_MEMBER_TIMEOUT_MS: i64 = 5 * 60 * 1000;
/// A rebalance that nobody joined is looked at again no sooner than this.
const RETRY_MS_MIN: i64 = 1000;
/// KIP-394: from here on a member first gets its id.
const MEMBER_ID_VERSION_MIN: i16 = 4;
/// KIP-814: from here on a leader may be told to keep the assignment.
const SKIP_VERSION_MIN: i16 = 9;
/// A leader that gives a partition to two members is asked again this often, one after the other.
const REPAIRS_MAX: u32 = 1;
/// To who waits to join, and is to come again. Kafka says REBALANCE_IN_PROGRESS, which ends aiokafka.
const JOIN_AGAIN: ErrorCode = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
const NEVER_MS: i64 = i64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    Dead,
}

impl State {
    /// As Kafka calls it.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

/// A JoinGroup.
pub struct Join {
    pub request: join_group::Request,
    pub version: i16,
    pub caller: Caller,
    pub ticket: Ticket,
    /// For the id of a new member: unique in the world.
    pub unique: String,
}

/// When the members that are there make the next generation.
#[derive(Debug, Clone, Copy)]
enum JoinTimer {
    Off,
    /// Of an empty group: put off while more members come, until nothing `remains`.
    Initial {
        at_ms: i64,
        delay_ms: i64,
        remains_ms: i64,
    },
    Rebalance {
        at_ms: i64,
    },
}

impl JoinTimer {
    fn at_ms(self) -> i64 {
        match self {
            JoinTimer::Off => NEVER_MS,
            JoinTimer::Initial { at_ms, .. } | JoinTimer::Rebalance { at_ms } => at_ms,
        }
    }
}

/// What the leader assigned, until it is durable.
#[derive(Debug)]
struct Proposal {
    generation: i32,
    assignments: HashMap<StrBytes, Bytes>,
}

#[derive(Debug)]
pub struct Group {
    id: StrBytes,
    state: State,
    /// The one before. An initial rebalance is one of a group that was Empty.
    previous: State,
    /// Since when it is in its state, in milliseconds since the epoch; `None` in old records.
    since_ms: Option<i64>,
    generation: i32,
    /// By the steady clock: since when members have waited for the next generation.
    rebalance_began_ms: Option<i64>,
    /// `None`: offsets only (a simple group).
    protocol_type: Option<StrBytes>,
    /// Of the current generation.
    protocol: Option<StrBytes>,
    leader: Option<StrBytes>,
    members: BTreeMap<StrBytes, Member>,
    /// Static members: their ids by instance id.
    instances: HashMap<StrBytes, StrBytes>,
    /// Ids given out whose members have not joined with them yet, and when they lapse.
    pending: BTreeMap<StrBytes, i64>,
    /// Members of this generation that did not ask for their assignment yet.
    unsynced: BTreeSet<StrBytes>,
    /// Members with a JoinGroup that waits.
    joining: usize,
    support: Support,
    /// What members subscribe to, if that is known.
    subscribed: Option<BTreeSet<StrBytes>>,
    /// A member came while the initial rebalance was put off.
    newcomer: bool,
    join_timer: JoinTimer,
    sync_expires_ms: i64,
    /// Nothing is due before.
    wake_ms: i64,
    proposal: Option<Proposal>,
    repairs: u32,
    pub offsets: Offsets,
}

// ---- making one, and looking at it

impl Group {
    pub fn new(id: StrBytes, wall_ms: i64) -> Self {
        Group {
            id,
            state: State::Empty,
            previous: State::Dead,
            since_ms: Some(wall_ms),
            generation: 0,
            rebalance_began_ms: None,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            joining: 0,
            support: Support::new(),
            subscribed: None,
            newcomer: false,
            join_timer: JoinTimer::Off,
            sync_expires_ms: NEVER_MS,
            wake_ms: NEVER_MS,
            proposal: None,
            repairs: 0,
            offsets: Offsets::default(),
        }
    }

    /// A group as it was stored. Its members' sessions begin anew.
    pub fn stored(id: StrBytes, value: &GroupMetadataValue, step: &Step<'_>) -> Self {
        let text = |text: &Option<StrBytes>| text.as_ref().map(StrBytes::detached);
        let mut group = Group::new(id, step.now.wall_ms);
        group.generation = value.generation;
        group.since_ms =
            (value.current_state_timestamp >= 0).then_some(value.current_state_timestamp);
        group.protocol_type =
            (!value.protocol_type.is_empty()).then(|| value.protocol_type.detached());
        group.protocol = text(&value.protocol);
        group.leader = text(&value.leader);
        if !value.members.is_empty() {
            group.state = State::Stable;
        }
        for stored in &value.members {
            let member = Member::stored(stored, group.protocol.as_ref());
            let id = stored.member_id.detached();
            group.enter(id.clone(), member);
            group.keep_alive(&id, step);
        }
        group.subscribed = group.subscriptions();
        group
    }

    pub fn id(&self) -> &StrBytes {
        &self.id
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Members, and those that are to become members.
    pub fn size(&self) -> usize {
        self.members.len() + self.pending.len()
    }

    /// When [`Group::expire`] is to be called next, by the steady clock.
    pub fn wake_ms(&self) -> i64 {
        self.wake_ms
    }

    /// Nothing would be lost with it: it was never stored, and nobody is about to join.
    pub fn is_nothing(&self) -> bool {
        self.state == State::Empty
            && self.size() == 0
            && self.generation == 0
            && self.offsets.is_untouched()
    }

    /// What a group of the consumer protocol was, now that all of its members are classic ones. It
    /// rebalances at once.
    pub fn in_place_of(
        id: StrBytes,
        generation: i32,
        members: Vec<(StrBytes, Member)>,
        offsets: Offsets,
        mut others: Vec<Record>,
        step: &mut Step<'_>,
    ) -> Self {
        let mut group = Group::new(id, step.now.wall_ms);
        group.generation = generation;
        group.protocol_type = Some(CONSUMER.into());
        group.offsets = offsets;
        group.state = State::Stable;
        for (member_id, member) in members {
            group.enter(member_id.clone(), member);
            group.keep_alive(&member_id, step);
        }
        group.protocol = group.elect_protocol();
        group.subscribed = group.subscriptions();
        others.push(group.record(|_, member| member.assignment.clone()));
        step.append(others, Then::Nothing);
        group.prepare_rebalance(Reason::Downgraded, step);
        group
    }

    /// Whether its members speak the protocol of consumers, so that another can share out among them.
    fn check_upgrade(&self, rules: &ConsumerRules) -> Result<(), &'static str> {
        if !rules.upgrades {
            Err("online upgrade is disabled")
        } else if !self.is_consumers() {
            Err("the group does not use the consumer embedded protocol")
        } else if self.members.len() > rules.max_size {
            Err("the group size exceeds the consumer group maximum size")
        } else {
            Ok(())
        }
    }

    /// A member of the consumer protocol joins: the group becomes one of that protocol, and its members
    /// live on in it. Or why it cannot.
    pub fn upgrade(&mut self, step: &mut Step<'_>) -> Result<consumer::Group, &'static str> {
        self.check_upgrade(&step.rules.consumer)?;
        let protocol = self.protocol.clone();
        let members = self.members.iter().map(|(id, member)| {
            let first = || member.terms.protocols.first().map(|p| p.name.clone());
            let metadata = member.metadata(protocol.clone().or_else(first).as_ref());
            (id.clone(), member, metadata)
        });
        let members = consumer::taken_over(members, self.generation, step.catalog);
        let members = members.ok_or("the embedded consumer protocol is malformed")?;
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            if let Some(ticket) = self.take_join(&id) {
                step.joined(ticket, refused_join(id.clone(), JOIN_AGAIN));
            }
            self.answer_waiting(&id, &id, ErrorCode::REBALANCE_IN_PROGRESS, step);
        }
        let offsets = std::mem::take(&mut self.offsets);
        let mut group = consumer::Group::in_place_of(self.id.clone(), offsets, true);
        group.take_over(self.generation, members, step);
        Ok(group)
    }

    /// A group of the consumer protocol, which takes its place while it has no members.
    pub fn become_consumer(&mut self) -> consumer::Group {
        let offsets = std::mem::take(&mut self.offsets);
        consumer::Group::in_place_of(self.id.clone(), offsets, self.generation > 0)
    }

    fn is_consumers(&self) -> bool {
        self.protocol_type
            .as_ref()
            .is_some_and(|t| **t == *CONSUMER)
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_ref().is_some_and(|l| **l == *member_id)
    }

    /// Whether its members read a topic, as far as that is known.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_consumers(),
        }
    }

    pub fn listed(&self) -> list_groups::ListedGroup {
        list_groups::ListedGroup {
            group_id: self.id.clone(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            group_state: self.state.name().into(),
            group_type: "classic".into(),
        }
    }

    pub fn described(&self) -> describe_groups::DescribedGroup {
        let is_stable = self.state == State::Stable;
        let member = |(id, member): (&StrBytes, &Member)| describe_groups::DescribedGroupMember {
            member_id: id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.caller.client_id.clone(),
            client_host: member.caller.host.clone(),
            member_metadata: match is_stable {
                true => member.metadata(self.protocol.as_ref()),
                false => Bytes::new(),
            },
            member_assignment: member.assignment.clone(),
        };
        describe_groups::DescribedGroup {
            group_id: self.id.clone(),
            group_state: self.state.name().into(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_data: match is_stable {
                true => self.protocol.clone().unwrap_or_default(),
                false => StrBytes::default(),
            },
            members: self.members.iter().map(member).collect(),
            ..describe_groups::DescribedGroup::default()
        }
    }
}

// ---- members come and go

impl Group {
    /// Takes a JoinGroup. It is answered by an effect, now or later.
    pub fn join(&mut self, join: Join, step: &mut Step<'_>) {
        let member_id = &join.request.member_id;
        if !self.accepts(member_id, step) {
            let member_id = member_id.clone();
            self.remove(&member_id, step);
            let full = ErrorCode::GROUP_MAX_SIZE_REACHED;
            return step.joined(join.ticket, refused_join(StrBytes::default(), full));
        }
        let refusal = match self.state {
            State::Dead => Some(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            _ if !self.supports(&join.request) => Some(ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
            _ => None,
        };
        match refusal {
            Some(error) => step.joined(join.ticket, refused_join(member_id.clone(), error)),
            None if member_id.is_empty() => self.join_new(join, step),
            None => self.join_known(join, step),
        }
    }

    /// Whether there is room for it. While a rebalance is prepared those who wait count, so that a group
    /// that is too large loses whoever comes last.
    fn accepts(&self, member_id: &str, step: &Step<'_>) -> bool {
        let max = step.rules.group_max_size;
        let member = self.members.get(member_id);
        match self.state {
            State::Empty | State::Dead => true,
            State::PreparingRebalance => {
                member.is_some_and(|m| m.joining.is_some()) || self.joining < max
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || self.members.len() < max
            }
        }
    }

    /// All members have to have a protocol in common.
    fn supports(&self, request: &join_group::Request) -> bool {
        if self.state == State::Empty {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let all = self.members.len();
        let by_all = |name: &StrBytes| self.support.get(name).copied().unwrap_or(0) == all;
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|p| by_all(&p.name))
    }

    fn join_new(&mut self, join: Join, step: &mut Step<'_>) {
        let prefix = match &join.request.group_instance_id {
            Some(instance_id) => instance_id,
            None => &join.caller.client_id,
        };
        let member_id = StrBytes::from(format!("{prefix}-{}", join.unique));
        let instance_id = join.request.group_instance_id.as_ref();
        let known = instance_id.and_then(|i| self.instances.get(i)).cloned();
        match (known, instance_id) {
            (Some(old), _) => self.replace(join, old, member_id, step),
            (None, None) if join.version >= MEMBER_ID_VERSION_MIN => {
                // KIP-394: a client that never got its answer leaves no member behind.
                let lapses_ms = step.in_ms(join.request.session_timeout_ms.into());
                self.pending.insert(member_id.clone(), lapses_ms);
                self.wake_at(lapses_ms);
                let required = ErrorCode::MEMBER_ID_REQUIRED;
                step.joined(join.ticket, refused_join(member_id, required));
            }
            (None, _) => self.add(join, member_id, step),
        }
    }

    fn join_known(&mut self, join: Join, step: &mut Step<'_>) {
        let (request, ticket) = (&join.request, join.ticket);
        let member_id = request.member_id.detached();
        // An id that was given out belongs to a dynamic member.
        if self.pending.contains_key(&member_id) && request.group_instance_id.is_none() {
            return self.add(join, member_id, step);
        }
        let valid = self.validate(&member_id, request.group_instance_id.as_ref());
        if let Err(error) = valid {
            return step.joined(ticket, refused_join(member_id, error));
        }
        let terms = Terms::of(request);
        let same = self
            .members
            .get(&member_id)
            .is_some_and(|m| m.terms.protocols == terms.protocols);
        match self.state {
            // It may not have got its answer, or nothing has changed for it.
            State::CompletingRebalance if same => {
                step.joined(ticket, self.generation_for(&member_id, false))
            }
            State::Stable if same && !self.is_leader(&member_id) => {
                step.joined(ticket, self.generation_for(&member_id, false))
            }
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update(&member_id, terms, ticket, step);
                self.rebalance_or_complete(Reason::JoinedAgain, step);
            }
            State::Empty | State::Dead => {
                let unknown = ErrorCode::UNKNOWN_MEMBER_ID;
                step.joined(ticket, refused_join(member_id, unknown));
            }
        }
    }

    fn add(&mut self, join: Join, member_id: StrBytes, step: &mut Step<'_>) {
        let caller = Caller {
            client_id: join.caller.client_id.detached(),
            host: join.caller.host,
        };
        if self.state == State::PreparingRebalance && self.previous == State::Empty {
            self.newcomer = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.request.protocol_type.detached());
        }
        self.enter(member_id.clone(), Member::new(&join.request, caller));
        self.wait_to_join(&member_id, join.ticket, step);
        self.expire_at(&member_id, step.in_ms(NEW_MEMBER_TIMEOUT_MS));
        self.rebalance_or_complete(Reason::Joined, step);
    }

    fn enter(&mut self, member_id: StrBytes, member: Member) {
        self.count_support(&member.terms, true);
        if let Some(instance_id) = &member.instance_id {
            self.instances
                .insert(instance_id.clone(), member_id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        self.pending.remove(&member_id);
        self.members.insert(member_id, member);
    }

    /// KIP-345: a static member came back without its id. The old id is fenced.
    fn replace(&mut self, join: Join, old_id: StrBytes, member_id: StrBytes, step: &mut Step<'_>) {
        let fenced = ErrorCode::FENCED_INSTANCE_ID;
        self.answer_waiting(&old_id, &old_id, fenced, step);
        let old_leader = self.leader.clone();
        let Some(old_terms) = self.rename(&old_id, &member_id) else {
            return;
        };
        self.keep_alive(&member_id, step);
        self.update(&member_id, Terms::of(&join.request), join.ticket, step);
        match self.state {
            // It comes back as the one who has what it is assigned, so it does not give up the rest and
            // join again, as its old self was to.
            State::Stable if step.rules.check_assignments && self.is_withheld(&old_terms) => {
                self.prepare_rebalance(Reason::StaticBack, step);
            }
            State::Stable if self.protocol == self.elect_protocol() => {
                let instance_id = join.request.group_instance_id.unwrap_or_default();
                let replaced = Replaced {
                    instance_id: instance_id.detached(),
                    member_id,
                    old_member_id: old_id,
                    old_terms,
                    skips_assignment: join.version >= SKIP_VERSION_MIN,
                    old_leader,
                };
                let record = self.record(|_, member| member.assignment.clone());
                step.append(vec![record], Then::Replaced(Box::new(replaced)));
            }
            State::Stable => self.rebalance_or_complete(Reason::StaticChanged, step),
            // The leader may have got the old id to assign to.
            State::CompletingRebalance => self.prepare_rebalance(Reason::StaticBack, step),
            _ => self.complete_if_all_joined(step),
        }
    }

    /// Whether this generation has a partition for nobody, as who had these terms was to give it up.
    fn is_withheld(&self, terms: &Terms) -> bool {
        let metadata = terms.metadata(self.protocol.as_ref());
        let assignments = self.members.values().map(|member| &member.assignment);
        self.is_consumers() && assignment::is_withheld(metadata, assignments)
    }

    /// Gives a member another id, with all that it has. What it said before comes back.
    fn rename(&mut self, old_id: &StrBytes, member_id: &StrBytes) -> Option<Terms> {
        let mut member = self.members.remove(old_id)?;
        member.is_new = false;
        let terms = member.terms.clone();
        if let Some(instance_id) = &member.instance_id {
            self.instances
                .insert(instance_id.clone(), member_id.clone());
        }
        if self.is_leader(old_id) {
            self.leader = Some(member_id.clone());
        }
        if self.unsynced.remove(old_id) {
            self.unsynced.insert(member_id.clone());
        }
        self.members.insert(member_id.clone(), member);
        Some(terms)
    }

    fn update(&mut self, member_id: &StrBytes, terms: Terms, ticket: Ticket, step: &mut Step<'_>) {
        if let Some(member) = self.members.get_mut(member_id) {
            let old = std::mem::replace(&mut member.terms, terms.clone());
            self.count_support(&old, false);
            self.count_support(&terms, true);
            self.wait_to_join(member_id, ticket, step);
        }
    }

    fn count_support(&mut self, terms: &Terms, more: bool) {
        for protocol in &terms.protocols {
            let count = self.support.entry(protocol.name.clone()).or_default();
            match more {
                true => *count += 1,
                false => *count -= 1,
            }
            if *count == 0 {
                self.support.remove(&protocol.name);
            }
        }
    }

    /// Takes a member out. Requests of it that wait are answered.
    fn remove(&mut self, member_id: &StrBytes, step: &mut Step<'_>) {
        let unknown = ErrorCode::UNKNOWN_MEMBER_ID;
        self.answer_waiting(member_id, &StrBytes::default(), unknown, step);
        self.pending.remove(member_id);
        self.unsynced.remove(member_id);
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        self.count_support(&member.terms, false);
        if let Some(instance_id) = &member.instance_id {
            self.instances.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// A member that left or is dead.
    fn member_is_gone(&mut self, reason: Reason, step: &mut Step<'_>) {
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(reason, step),
            State::PreparingRebalance if self.all_joined() => self.complete_join(step),
            _ => {}
        }
    }

    /// Takes a LeaveGroup.
    pub fn leave(
        &mut self,
        members: &[MemberIdentity],
        step: &mut Step<'_>,
    ) -> Result<Vec<MemberResponse>, ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let leave = |one: &MemberIdentity| MemberResponse {
            member_id: one.member_id.clone(),
            group_instance_id: one.group_instance_id.clone(),
            error_code: self.leave_one(one, step).err().unwrap_or_default(),
        };
        let responses: Vec<_> = members.iter().map(leave).collect();
        if responses.iter().any(|r| r.error_code.is_ok()) {
            match self.state {
                State::PreparingRebalance => self.complete_if_all_joined(step),
                _ => self.member_is_gone(Reason::Left, step),
            }
        }
        Ok(responses)
    }

    fn leave_one(&mut self, one: &MemberIdentity, step: &mut Step<'_>) -> Result<(), ErrorCode> {
        let instance_id = one.group_instance_id.as_ref();
        let member_id = if one.member_id.is_empty() {
            // An administrator removes a static member.
            let found = instance_id.and_then(|i| self.instances.get(i)).cloned();
            found.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?
        } else {
            if !self.pending.contains_key(&one.member_id) {
                self.validate(&one.member_id, instance_id)?;
            }
            one.member_id.clone()
        };
        tracing::info!(group = %self.id, member = %member_id,
            reason = one.reason.as_deref().unwrap_or("not provided"), "a member leaves its group");
        self.remove(&member_id, step);
        Ok(())
    }

    /// Takes a Heartbeat.
    pub fn heartbeat(
        &mut self,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
        generation: i32,
        step: &mut Step<'_>,
    ) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        self.validate(member_id, instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        self.keep_alive(member_id, step);
        match self.state {
            State::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            _ => Ok(()),
        }
    }

    /// Checks that a member is who it says.
    fn validate(&self, member_id: &str, instance_id: Option<&StrBytes>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            let current = self.instances.get(instance_id);
            let current = current.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            if **current != *member_id {
                return Err(ErrorCode::FENCED_INSTANCE_ID);
            }
        }
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    /// Its session begins anew.
    fn keep_alive(&mut self, member_id: &StrBytes, step: &Step<'_>) {
        if let Some(member) = self.members.get(member_id) {
            let at_ms = step.in_ms(member.terms.session_timeout_ms.into());
            self.expire_at(member_id, at_ms);
        }
    }

    fn expire_at(&mut self, member_id: &StrBytes, at_ms: i64) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.expires_ms = Some(at_ms);
            self.wake_at(at_ms);
        }
    }

    fn wake_at(&mut self, at_ms: i64) {
        self.wake_ms = self.wake_ms.min(at_ms);
    }
}

// ---- requests that wait

impl Group {
    fn wait_to_join(&mut self, member_id: &StrBytes, ticket: Ticket, step: &mut Step<'_>) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        match member.joining.replace(ticket) {
            // Its client asked again; nobody is left waiting for the first answer.
            Some(old) => {
                step.joined(old, refused_join(member_id.clone(), JOIN_AGAIN));
            }
            None => self.joining += 1,
        }
    }

    fn wait_to_sync(&mut self, member_id: &StrBytes, ticket: Ticket, step: &mut Step<'_>) {
        let member = self.members.get_mut(member_id);
        if let Some(old) = member.and_then(|m| m.syncing.replace(ticket)) {
            step.synced(old, refused_sync(ErrorCode::REBALANCE_IN_PROGRESS));
        }
    }

    fn take_join(&mut self, member_id: &StrBytes) -> Option<Ticket> {
        let ticket = self.members.get_mut(member_id)?.joining.take()?;
        self.joining -= 1;
        Some(ticket)
    }

    fn answer_waiting(
        &mut self,
        member_id: &StrBytes,
        told_id: &StrBytes,
        error: ErrorCode,
        step: &mut Step<'_>,
    ) {
        if let Some(ticket) = self.take_join(member_id) {
            step.joined(ticket, refused_join(told_id.clone(), error));
        }
        let member = self.members.get_mut(member_id);
        if let Some(ticket) = member.and_then(|m| m.syncing.take()) {
            step.synced(ticket, refused_sync(error));
        }
    }

    /// The coordinator of this group is another one now, or none: all who wait are told.
    pub fn unload(&mut self, step: &mut Step<'_>) {
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            self.answer_waiting(&id, &id, ErrorCode::NOT_COORDINATOR, step);
        }
    }

    /// The answer to a JoinGroup in the current generation.
    fn generation_for(&self, member_id: &StrBytes, skip: bool) -> join_group::Response {
        join_group::Response {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: skip,
            member_id: member_id.clone(),
            members: match self.is_leader(member_id) {
                true => self.told_to_leader(),
                false => Vec::new(),
            },
            ..join_group::Response::default()
        }
    }

    fn told_to_leader(&self) -> Vec<JoinGroupResponseMember> {
        let member = |(id, member): (&StrBytes, &Member)| JoinGroupResponseMember {
            member_id: id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(self.protocol.as_ref()),
        };
        self.members.iter().map(member).collect()
    }
}

fn refused_join(member_id: StrBytes, error_code: ErrorCode) -> join_group::Response {
    join_group::Response {
        error_code,
        member_id,
        ..join_group::Response::default()
    }
}

fn refused_sync(error_code: ErrorCode) -> sync_group::Response {
    sync_group::Response {
        error_code,
        ..sync_group::Response::default()
    }
}

// ---- generations

impl Group {
    fn enter_state(&mut self, state: State, step: &Step<'_>) {
        self.previous = std::mem::replace(&mut self.state, state);
        self.since_ms = Some(step.now.wall_ms);
    }

    fn all_joined(&self) -> bool {
        self.members.len() == self.joining && self.pending.is_empty()
    }

    /// The longest of all members.
    fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts = self
            .members
            .values()
            .map(|m| i64::from(m.terms.rebalance_timeout_ms));
        timeouts.max().unwrap_or(0)
    }

    fn rebalance_or_complete(&mut self, reason: Reason, step: &mut Step<'_>) {
        match self.state {
            State::Empty | State::CompletingRebalance | State::Stable => {
                self.prepare_rebalance(reason, step)
            }
            State::PreparingRebalance | State::Dead => self.complete_if_all_joined(step),
        }
    }

    /// An initial rebalance waits for its time: more members may come.
    fn complete_if_all_joined(&mut self, step: &mut Step<'_>) {
        let is_initial = self.previous == State::Empty;
        if self.state == State::PreparingRebalance && !is_initial && self.all_joined() {
            self.complete_join(step);
        }
    }

    fn prepare_rebalance(&mut self, reason: Reason, step: &mut Step<'_>) {
        if self.state == State::CompletingRebalance {
            self.take_back_assignments(ErrorCode::REBALANCE_IN_PROGRESS, step);
        }
        self.unsynced.clear();
        self.sync_expires_ms = NEVER_MS;
        let is_initial = self.state == State::Empty;
        tracing::info!(group = %self.id, generation = self.generation, state = self.state.name(),
            members = self.members.len(), reason = reason.text(), "a group rebalances");
        step.note(Note::Rebalance(reason));
        self.rebalance_began_ms.get_or_insert(step.now.steady_ms);
        self.enter_state(State::PreparingRebalance, step);
        if is_initial {
            let delay_ms = step.rules.initial_rebalance_delay_ms;
            let remains_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.put_off_initial(delay_ms, remains_ms, step);
        } else if self.all_joined() {
            self.complete_join(step);
        } else {
            self.complete_in(self.rebalance_timeout_ms(), step);
        }
    }

    fn put_off_initial(&mut self, delay_ms: i64, remains_ms: i64, step: &Step<'_>) {
        self.newcomer = false;
        let at_ms = step.in_ms(delay_ms);
        self.join_timer = JoinTimer::Initial {
            at_ms,
            delay_ms,
            remains_ms,
        };
        self.wake_at(at_ms);
    }

    fn complete_in(&mut self, ms: i64, step: &Step<'_>) {
        let at_ms = step.in_ms(ms);
        self.join_timer = JoinTimer::Rebalance { at_ms };
        self.wake_at(at_ms);
    }

    /// The next generation is of those who have joined, and of static members.
    fn complete_join(&mut self, step: &mut Step<'_>) {
        self.join_timer = JoinTimer::Off;
        let missing = |(id, member): (&StrBytes, &Member)| {
            (member.joining.is_none() && member.instance_id.is_none()).then(|| id.clone())
        };
        let missing: Vec<_> = self.members.iter().filter_map(missing).collect();
        for id in missing {
            tracing::info!(group = %self.id, member = %id, "a member did not join in time and is out of its group");
            self.remove(&id, step);
        }
        if self.members.is_empty() {
            self.become_empty(step);
        } else if self.elect_leader() {
            self.begin_generation(step);
        } else {
            // Static members only, and none came: their sessions end, or they come.
            self.complete_in(self.rebalance_timeout_ms().max(RETRY_MS_MIN), step);
        }
    }

    fn become_empty(&mut self, step: &mut Step<'_>) {
        self.generation += 1;
        self.protocol = None;
        self.subscribed = self.subscriptions();
        self.enter_state(State::Empty, step);
        self.rebalance_began_ms = None;
        tracing::info!(group = %self.id, generation = self.generation, "a group is empty");
        let record = self.record(|_, member| member.assignment.clone());
        step.append(vec![record], Then::Nothing);
    }

    fn begin_generation(&mut self, step: &mut Step<'_>) {
        self.generation += 1;
        self.protocol = self.elect_protocol();
        self.subscribed = self.subscriptions();
        self.proposal = None;
        self.enter_state(State::CompletingRebalance, step);
        tracing::info!(group = %self.id, generation = self.generation, members = self.members.len(),
            protocol = self.protocol.as_deref().unwrap_or_default(), "a group has a new generation");
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            if let Some(ticket) = self.take_join(&id) {
                step.joined(ticket, self.generation_for(&id, false));
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            self.keep_alive(&id, step);
            self.unsynced.insert(id);
        }
        self.sync_expires_ms = step.in_ms(self.rebalance_timeout_ms());
        self.wake_at(self.sync_expires_ms);
    }

    /// The leader stays if it joined. False if nobody did.
    fn elect_leader(&mut self) -> bool {
        let has_joined = |id: &StrBytes| self.members.get(id).is_some_and(|m| m.joining.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let first = self.members.keys().find(|id| has_joined(id)).cloned();
        if first.is_some() {
            self.leader = first;
        }
        self.joining > 0
    }

    /// Each member votes for the first of its protocols that all support. What the leader prefers goes
    /// first among equals.
    fn elect_protocol(&self) -> Option<StrBytes> {
        let all = self.members.len();
        let by_all = |name: &StrBytes| self.support.get(name) == Some(&all);
        let choice = |member: &Member| {
            let mut names = member.terms.protocols.iter().map(|p| &p.name);
            names.find(|name| by_all(name)).cloned()
        };
        let mut votes: HashMap<StrBytes, usize> = HashMap::new();
        for voted in self.members.values().filter_map(choice) {
            *votes.entry(voted).or_default() += 1;
        }
        let most = votes.values().max()?;
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id))?;
        let mut preferred = leader.terms.protocols.iter().map(|p| &p.name);
        preferred
            .find(|name| votes.get(*name) == Some(most))
            .cloned()
    }

    /// What all members together subscribe to; `None` where that cannot be known.
    fn subscriptions(&self) -> Option<BTreeSet<StrBytes>> {
        if !self.is_consumers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_ref()?;
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            all.extend(assignment::topics(member.metadata(Some(protocol)))?);
        }
        Some(all)
    }

    /// The record of the current generation.
    fn record(&self, assignment: impl Fn(&StrBytes, &Member) -> Bytes) -> Record {
        let member = |(id, member): (&StrBytes, &Member)| MemberMetadata {
            member_id: id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.caller.client_id.clone(),
            client_host: member.caller.host.clone(),
            rebalance_timeout: member.terms.rebalance_timeout_ms,
            session_timeout: member.terms.session_timeout_ms,
            subscription: member.metadata(self.protocol.as_ref()),
            assignment: assignment(id, member),
        };
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.since_ms.unwrap_or(-1),
            members: self.members.iter().map(member).collect(),
        };
        Record::group(&self.id, Some(&value))
    }
}

// ---- assignments

impl Group {
    /// Takes a SyncGroup. It is answered by an effect, now or later.
    pub fn sync(&mut self, request: &sync_group::Request, ticket: Ticket, step: &mut Step<'_>) {
        if let Err(error) = self.check_sync(request) {
            return step.synced(ticket, refused_sync(error));
        }
        let member_id = &request.member_id;
        self.has_synced(member_id);
        if self.state == State::Stable {
            let assignment = self.members.get(member_id).map(|m| m.assignment.clone());
            return step.synced(ticket, self.assigned(assignment.unwrap_or_default()));
        }
        self.wait_to_sync(&member_id.detached(), ticket, step);
        let proposed = self.proposal.as_ref().map(|p| p.generation);
        // A leader that asks again waits for what it said first.
        if self.is_leader(member_id) && proposed != Some(self.generation) {
            self.propose(request, step);
        }
    }

    fn check_sync(&self, request: &sync_group::Request) -> Result<(), ErrorCode> {
        match self.state {
            State::Dead => return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            State::Empty => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            _ => {}
        }
        self.validate(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        // KIP-559
        let differs = |told: &Option<StrBytes>, own: &Option<StrBytes>| {
            told.is_some() && own.is_some() && told != own
        };
        let inconsistent = Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        match self.state {
            _ if differs(&request.protocol_type, &self.protocol_type) => inconsistent,
            // Whoever joins again is told the protocol anew. In a group that was one of the consumer
            // protocol a moment ago each member was told one of its own.
            State::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            _ if differs(&request.protocol_name, &self.protocol) => inconsistent,
            _ => Ok(()),
        }
    }

    fn has_synced(&mut self, member_id: &StrBytes) {
        self.unsynced.remove(member_id);
        if self.unsynced.is_empty() {
            self.sync_expires_ms = NEVER_MS;
        }
    }

    fn propose(&mut self, request: &sync_group::Request, step: &mut Step<'_>) {
        let of_member = |a: &sync_group::SyncGroupRequestAssignment| {
            let (id, _) = self.members.get_key_value(&a.member_id)?;
            Some((id.clone(), detached(&a.assignment)))
        };
        let assignments: HashMap<_, _> = request.assignments.iter().filter_map(of_member).collect();
        if step.rules.check_assignments
            && self.is_consumers()
            && !self.check_assignments(&assignments)
        {
            self.take_back_assignments(ErrorCode::REBALANCE_IN_PROGRESS, step);
            return self.prepare_rebalance(Reason::AssignedTwice, step);
        }
        let record = self.record(|id, _| assignments.get(id).cloned().unwrap_or_default());
        let generation = self.generation;
        self.proposal = Some(Proposal {
            generation,
            assignments,
        });
        step.append(vec![record], Then::Assigned { generation });
    }

    /// A partition is never handed to two members silently: the leader has to assign anew. If it then
    /// says the same, that is what it wants.
    fn check_assignments(&mut self, assignments: &HashMap<StrBytes, Bytes>) -> bool {
        let Some(twice) = assignment::find_twice(assignments) else {
            self.repairs = 0;
            return true;
        };
        let again = self.repairs >= REPAIRS_MAX;
        self.repairs = if again { 0 } else { self.repairs + 1 };
        let does = match again {
            true => "again, so it is handed out",
            false => "so the group rebalances once more",
        };
        tracing::error!(group = %self.id, generation = self.generation, topic = %twice.topic,
            partition = twice.partition, members = ?twice.members,
            "the leader of a group gave a partition to two members, {does}: look at its assignor");
        again
    }

    fn assigned(&self, assignment: Bytes) -> sync_group::Response {
        sync_group::Response {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment,
            ..sync_group::Response::default()
        }
    }

    fn take_back_assignments(&mut self, error: ErrorCode, step: &mut Step<'_>) {
        self.proposal = None;
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        self.answer_syncs(step, |_| refused_sync(error));
    }

    fn answer_syncs(
        &mut self,
        step: &mut Step<'_>,
        answer: impl Fn(&Member) -> sync_group::Response,
    ) {
        let mut answered = Vec::new();
        for (id, member) in &mut self.members {
            if let Some(ticket) = member.syncing.take() {
                step.synced(ticket, answer(member));
                answered.push(id.clone());
            }
        }
        // Sessions may have ended while the group owed an answer.
        for id in answered {
            self.keep_alive(&id, step);
        }
    }

    fn hand_out(&mut self, proposal: Proposal, step: &mut Step<'_>) {
        let mut assignments = proposal.assignments;
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        let (protocol_type, protocol_name) = (self.protocol_type.clone(), self.protocol.clone());
        self.answer_syncs(step, |member| sync_group::Response {
            protocol_type: protocol_type.clone(),
            protocol_name: protocol_name.clone(),
            assignment: member.assignment.clone(),
            ..sync_group::Response::default()
        });
        self.enter_state(State::Stable, step);
        if let Some(began_ms) = self.rebalance_began_ms.take() {
            let after_ms = step.now.steady_ms - began_ms;
            step.note(Note::Settled { after_ms });
        }
    }
}

// ---- what the log says, and what the clock says

impl Group {
    /// What became of records.
    pub fn appended(&mut self, then: Then, result: Result<(), AppendError>, step: &mut Step<'_>) {
        match then {
            Then::Nothing => {}
            Then::Assigned { generation } => self.assignments_stored(generation, result, step),
            Then::Replaced(replaced) => self.replacement_stored(*replaced, result, step),
            // What a group of either kind has, and what one of the other kind began.
            Then::Committed(_) | Then::Forgotten(_) | Then::Deleted | Then::Kept { .. } => {}
        }
    }

    /// The deletion could not be stored.
    pub fn undelete(&mut self) {
        if self.state == State::Dead {
            self.state = State::Empty;
        }
    }

    fn assignments_stored(
        &mut self,
        generation: i32,
        result: Result<(), AppendError>,
        step: &mut Step<'_>,
    ) {
        // The group may have gone on meanwhile.
        let is_current = self.state == State::CompletingRebalance && self.generation == generation;
        let Some(proposal) = self
            .proposal
            .take_if(|p| is_current && p.generation == generation)
        else {
            return;
        };
        match result {
            Ok(()) => self.hand_out(proposal, step),
            Err(error) => {
                self.take_back_assignments(error.into(), step);
                self.prepare_rebalance(Reason::NotStored, step);
            }
        }
    }

    fn replacement_stored(
        &mut self,
        replaced: Replaced,
        result: Result<(), AppendError>,
        step: &mut Step<'_>,
    ) {
        let member_id = &replaced.member_id;
        if self.instances.get(&replaced.instance_id) != Some(member_id) {
            return;
        }
        match result {
            // A rebalance that began meanwhile answers it.
            Ok(()) if self.state != State::Stable => {}
            Ok(()) => {
                if let Some(ticket) = self.take_join(member_id) {
                    step.joined(ticket, self.answer_to_replaced(&replaced));
                }
            }
            Err(error) => {
                if let Some(ticket) = self.take_join(member_id) {
                    let refusal = refused_join(StrBytes::default(), error.into());
                    step.joined(ticket, refusal);
                }
                if self.rename(member_id, &replaced.old_member_id).is_some() {
                    self.take_terms(&replaced.old_member_id, replaced.old_terms);
                    self.keep_alive(&replaced.old_member_id, step);
                }
            }
        }
    }

    fn take_terms(&mut self, member_id: &StrBytes, terms: Terms) {
        if let Some(member) = self.members.get_mut(member_id) {
            let new = std::mem::replace(&mut member.terms, terms.clone());
            self.count_support(&new, false);
            self.count_support(&terms, true);
        }
    }

    /// A leader that cannot be told to skip the assignment is told that another leads, as it must not
    /// assign anew.
    fn answer_to_replaced(&self, replaced: &Replaced) -> join_group::Response {
        let member_id = &replaced.member_id;
        if replaced.skips_assignment {
            return self.generation_for(member_id, self.is_leader(member_id));
        }
        join_group::Response {
            leader: replaced.old_leader.clone().unwrap_or_default(),
            members: Vec::new(),
            ..self.generation_for(member_id, false)
        }
    }

    /// Does what is due.
    pub fn expire(&mut self, step: &mut Step<'_>) {
        let now_ms = step.now.steady_ms;
        if now_ms < self.wake_ms {
            return;
        }
        self.expire_members(step);
        self.expire_join(step);
        if self.sync_expires_ms <= now_ms {
            self.expire_sync(step);
        }
        let sessions = self.members.values().filter_map(|m| m.expires_ms);
        let wakes = sessions
            .chain(self.pending.values().copied())
            .chain([self.join_timer.at_ms(), self.sync_expires_ms]);
        self.wake_ms = wakes.min().unwrap_or(NEVER_MS);
    }

    fn expire_members(&mut self, step: &mut Step<'_>) {
        let now_ms = step.now.steady_ms;
        let lapsed = |(id, at): (&StrBytes, &i64)| (*at <= now_ms).then(|| id.clone());
        let lapsed: Vec<_> = self.pending.iter().filter_map(lapsed).collect();
        for id in lapsed {
            self.remove(&id, step);
            self.pending_is_gone(step);
        }
        let over = |(id, member): (&StrBytes, &Member)| {
            member
                .expires_ms
                .is_some_and(|at| at <= now_ms)
                .then(|| id.clone())
        };
        let over: Vec<_> = self.members.iter().filter_map(over).collect();
        for id in over {
            // What was done for another member may have answered this one.
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            if member.expires_ms.is_none_or(|at| at > now_ms) {
                continue;
            }
            member.expires_ms = None;
            if !member.is_waiting() {
                tracing::info!(group = %self.id, member = %id, "a member gave no sign of life and is out of its group");
                step.note(Note::Silent);
                self.remove(&id, step);
                self.member_is_gone(Reason::Silent, step);
            }
        }
    }

    fn pending_is_gone(&mut self, step: &mut Step<'_>) {
        if self.state == State::PreparingRebalance && self.all_joined() {
            self.complete_join(step);
        }
    }

    fn expire_join(&mut self, step: &mut Step<'_>) {
        if self.join_timer.at_ms() > step.now.steady_ms {
            return;
        }
        match self.join_timer {
            JoinTimer::Off => {}
            JoinTimer::Initial {
                delay_ms,
                remains_ms,
                ..
            } if self.newcomer && remains_ms > 0 => {
                let next_ms = step.rules.initial_rebalance_delay_ms.min(remains_ms);
                self.put_off_initial(next_ms, (remains_ms - delay_ms).max(0), step);
            }
            JoinTimer::Initial { .. } | JoinTimer::Rebalance { .. } => self.complete_join(step),
        }
    }

    /// Members that joined and never asked for their assignment are out, the leader too.
    fn expire_sync(&mut self, step: &mut Step<'_>) {
        self.sync_expires_ms = NEVER_MS;
        let unsynced = std::mem::take(&mut self.unsynced);
        if unsynced.is_empty() {
            return;
        }
        for id in unsynced {
            tracing::info!(group = %self.id, member = %id, "a member joined and did not sync in time, it is out of its group");
            self.remove(&id, step);
        }
        self.prepare_rebalance(Reason::NotSynced, step);
    }
}

// ---- offsets

impl Group {
    /// Takes offsets from a member, or from outside of the group (generation -1). They count when they
    /// are durable.
    pub fn commit(
        &mut self,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
        generation: i32,
        offsets: Vec<(TopicPartition, Committed)>,
        step: &mut Step<'_>,
    ) -> Result<(), ErrorCode> {
        self.check_commit(member_id, instance_id, generation)?;
        if matches!(self.state, State::Stable | State::PreparingRebalance) {
            self.keep_alive(member_id, step);
        }
        if offsets.is_empty() {
            return Ok(());
        }
        let records = self.offsets.begin_all(&self.id, &offsets);
        step.append(records, Then::Committed(offsets));
        Ok(())
    }

    fn check_commit(
        &self,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        match self.state {
            State::Dead => return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            // From an administrator, or a consumer that takes no part in the group.
            State::Empty if generation < 0 => return Ok(()),
            _ => {}
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.validate(member_id, instance_id)?;
            if generation != self.generation {
                return Err(ErrorCode::ILLEGAL_GENERATION);
            }
        } else if self.state != State::Empty {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        match self.state {
            // It knows the generation, so it has joined: what it had before is others' to read now.
            State::CompletingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            _ => Ok(()),
        }
    }

    /// OffsetDelete (KIP-496): which of these cannot go, in their order. Those that can are on their way.
    pub fn forget(
        &mut self,
        asked: &[TopicPartition],
        step: &mut Step<'_>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        match self.state {
            State::Dead => return Err(ErrorCode::GROUP_ID_NOT_FOUND),
            State::Empty => {}
            _ if self.is_consumers() => {}
            _ => return Err(ErrorCode::NON_EMPTY_GROUP),
        }
        let is_subscribed = |topic: &str| self.is_subscribed(topic);
        Ok(self
            .offsets
            .forget_unread(&self.id, asked, is_subscribed, step))
    }

    /// DeleteGroups: it is gone when the records are durable.
    pub fn delete(&mut self, step: &mut Step<'_>) -> Result<(), ErrorCode> {
        match self.state {
            State::Dead => Err(ErrorCode::GROUP_ID_NOT_FOUND),
            State::Empty => {
                self.begin_deletion(step);
                Ok(())
            }
            _ => Err(ErrorCode::NON_EMPTY_GROUP),
        }
    }

    fn begin_deletion(&mut self, step: &mut Step<'_>) {
        // Commits on their way are before these records in the log: they do not come back.
        let mut records = self.offsets.tombstones(&self.id, &self.offsets.all());
        records.push(Record::group(&self.id, None));
        step.append(records, Then::Deleted);
        self.state = State::Dead;
    }

    /// KIP-211: offsets go when they were not used for long enough, and then the group, if it is empty.
    pub fn expire_offsets(&mut self, retention_ms: i64, step: &mut Step<'_>) {
        let now_ms = step.now.wall_ms;
        let since = |committed: &Committed| match (&self.protocol_type, self.state) {
            (Some(_), State::Empty) => Some(self.since_ms.unwrap_or(committed.committed_ms)),
            (Some(_), State::Stable) if self.is_consumers() && self.subscribed.is_some() => {
                Some(committed.committed_ms)
            }
            (Some(_), _) => None,
            (None, _) => Some(committed.committed_ms),
        };
        let is_expired = |(of, committed): &(TopicPartition, &Committed)| {
            !self.is_subscribed(&of.topic)
                && !self.offsets.is_under_way(of)
                && since(committed)
                    .is_some_and(|since_ms| committed.is_expired(now_ms, since_ms, retention_ms))
        };
        let expired: Vec<_> = self
            .offsets
            .iter()
            .filter(is_expired)
            .map(|(of, _)| of)
            .collect();
        let has_more = self.offsets.len() > expired.len();
        let is_unused = self.state == State::Empty && self.size() == 0;
        if is_unused && !has_more && self.offsets.is_settled() {
            self.begin_deletion(step);
        } else {
            self.offsets.forget(&self.id, expired, step);
        }
    }
}
