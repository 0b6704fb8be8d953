//! ConsumerGroupHeartbeat: a member joins, stays, and leaves.

use std::fmt;

use super::member::{Current, LEFT_FOR_A_WHILE, Member, MemberState, NEVER_MS, Terms};
use super::reconcile::Way;
use super::stored::partitions;
use super::{Group, Step, by_topic, subscription};
use crate::group::Rules;
use crate::group::assignor::PartitionSet;
use crate::group::member::Caller;
use crate::store::PartitionId;
use crate::wire::consumer_group_heartbeat::{Assignment, Request, Response, TopicPartitions};
use crate::wire::group_records::ConsumerRecord;
use crate::wire::{ErrorCode, StrBytes};

/// The epoch of a member that leaves.
const LEAVES: i32 = -1;
/// KIP-1082: from here on members make up their ids.
const MEMBER_ID_VERSION_MIN: i16 = 1;

/// Why a heartbeat is refused, and the same in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub error: ErrorCode,
    pub message: String,
}

impl Refusal {
    pub(super) fn new(error: ErrorCode, message: fmt::Arguments<'_>) -> Self {
        Refusal {
            error,
            message: message.to_string(),
        }
    }

    pub fn not_a_consumer_group(id: &str) -> Self {
        let message = format_args!("Group {id} is not a consumer group.");
        Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message)
    }

    pub fn no_upgrade(id: &str, why: &str) -> Self {
        let message =
            format_args!("Cannot upgrade classic group {id} to consumer group because {why}.");
        Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message)
    }

    pub fn no_group(id: &str) -> Self {
        let message = format_args!("Consumer group {id} not found.");
        Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message)
    }

    pub fn into_response(self) -> Response {
        Response {
            error_code: self.error,
            error_message: Some(self.message.into()),
            ..Response::default()
        }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Self {
        Refusal::new(error, format_args!("{}", error.message()))
    }
}

/// What the words of a request come to, whatever the group. Names have the lengths that records allow.
pub fn check(
    request: &Request,
    version: i16,
    assignors: &[super::Assignor],
) -> Result<(), Refusal> {
    let is_blank = |text: &str| text.trim().is_empty();
    let invalid = |message| {
        Err(Refusal::new(
            ErrorCode::INVALID_REQUEST,
            format_args!("{message}"),
        ))
    };
    let epoch = request.member_epoch;
    let has_id = version >= MEMBER_ID_VERSION_MIN || epoch > 0 || epoch == LEAVES;
    if has_id && is_blank(&request.member_id) {
        return invalid("MemberId can't be empty.");
    }
    if is_blank(&request.group_id) {
        return invalid("GroupId can't be empty.");
    }
    if request.instance_id.as_deref().is_some_and(is_blank) {
        return invalid("InstanceId can't be empty.");
    }
    if request.rack_id.as_deref().is_some_and(is_blank) {
        return invalid("RackId can't be empty.");
    }
    if epoch == 0 {
        if request.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if request
            .topic_partitions
            .as_ref()
            .is_none_or(|t| !t.is_empty())
        {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
            );
        }
    } else if epoch == LEFT_FOR_A_WHILE && request.instance_id.is_none() {
        return invalid("InstanceId can't be null.");
    } else if epoch < LEFT_FOR_A_WHILE {
        return invalid("MemberEpoch is invalid.");
    }
    let asked = request.server_assignor.as_deref();
    if let Some(asked) = asked.filter(|asked| assignors.iter().all(|a| a.name() != *asked)) {
        let known: Vec<_> = assignors.iter().map(|a| a.name()).collect();
        let known = known.join(", ");
        return Err(Refusal::new(
            ErrorCode::UNSUPPORTED_ASSIGNOR,
            format_args!("ServerAssignor {asked} is not supported. Supported assignors: {known}."),
        ));
    }
    Ok(())
}

/// Whether a group with this many members of another protocol would take a new one.
pub fn check_newcomer(request: &Request, members: usize, rules: &Rules) -> Result<(), Refusal> {
    has_room(members, rules)?;
    match request.subscribed_topic_regex.as_deref() {
        Some("") | None => Ok(()),
        Some(regex) => is_regex(regex),
    }
}

fn has_room(members: usize, rules: &Rules) -> Result<(), Refusal> {
    let max = rules.consumer.max_size;
    match members < max {
        true => Ok(()),
        false => Err(Refusal::new(
            ErrorCode::GROUP_MAX_SIZE_REACHED,
            format_args!("The consumer group has reached its maximum capacity of {max} members."),
        )),
    }
}

fn is_regex(regex: &str) -> Result<(), Refusal> {
    let invalid = |error| {
        let error = reason_of(&error);
        Refusal::new(
            ErrorCode::INVALID_REGULAR_EXPRESSION,
            format_args!(
                "SubscribedTopicRegex `{regex}` is not a valid regular expression: {error}."
            ),
        )
    };
    subscription::compile(regex).map(drop).map_err(invalid)
}

/// Who a request is from.
pub(super) enum Place {
    New,
    Known,
    /// A static member under a new id, in the place of this one.
    InPlaceOf(StrBytes),
}

impl Group {
    /// Takes a heartbeat of a member of the consumer protocol. Its answer counts when all records of the
    /// group that are on their way are durable.
    pub fn heartbeat(
        &mut self,
        request: &Request,
        caller: Caller,
        step: &mut Step<'_>,
    ) -> Result<Response, Refusal> {
        if self.is_dead {
            let gone = ErrorCode::COORDINATOR_NOT_AVAILABLE;
            return Err(Refusal::new(
                gone,
                format_args!("The group is being deleted."),
            ));
        }
        let response = match request.member_epoch {
            LEAVES | LEFT_FOR_A_WHILE => self.leave(request, step)?,
            _ => self.stay(request, caller, step)?,
        };
        self.wait_for_records(&request.member_id);
        self.flush(step);
        Ok(response)
    }

    /// So that an answer comes after all records that are on their way, one is written once more if it
    /// comes to none itself.
    pub(super) fn wait_for_records(&mut self, member_id: &StrBytes) {
        if self.in_flight > 0 && self.unstored.is_empty() {
            self.mark(ConsumerRecord::MemberCurrent, &member_id.detached());
        }
    }

    fn stay(
        &mut self,
        request: &Request,
        caller: Caller,
        step: &mut Step<'_>,
    ) -> Result<Response, Refusal> {
        self.check_room(&request.member_id, step)?;
        let member_id = request.member_id.detached();
        let owned = request.topic_partitions.as_ref().map(|topics| {
            let topics = topics.iter();
            partitions(topics.map(|of| (of.topic_id, &of.partitions[..])))
        });
        let from = self.find(request, &member_id, owned.as_ref())?;
        let place = match &from {
            Place::InPlaceOf(old_id) => old_id,
            Place::New | Place::Known => &member_id,
        };
        let before = self.members.get(place).map(|m| m.terms.clone());
        let terms = updated(before.clone().unwrap_or_default(), request, caller);
        self.check_regex(before.as_ref(), &terms)?;
        match from {
            Place::New => {
                tracing::info!(group = %self.id, member = %member_id, "a member joins its group");
                self.enter(&member_id, Member::new(Terms::default()));
            }
            Place::InPlaceOf(old_id) => self.replace(&old_id, &member_id),
            Place::Known => {}
        }
        let has_resubscribed = self.take_terms(&member_id, terms);
        let assigned = self.advance(&member_id, has_resubscribed, owned.as_ref(), step);
        self.keep_alive(&member_id, step);
        let is_full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some()
                || request.subscribed_topic_regex.is_some())
            && request.topic_partitions.is_some();
        let is_told = request.member_epoch == 0 || is_full || assigned;
        Ok(self.told(member_id, is_told, step))
    }

    /// Brings the group up to date, and a member on its way. True if it has other partitions now.
    pub(super) fn advance(
        &mut self,
        member_id: &StrBytes,
        has_resubscribed: bool,
        owned: Option<&PartitionSet>,
        step: &mut Step<'_>,
    ) -> bool {
        self.refresh(has_resubscribed, step);
        self.assign(step);
        let Some(member) = self.members.get(member_id) else {
            return false;
        };
        let way = Way {
            target: &member.target,
            target_epoch: self.target_epoch,
            subscribed: &self.topics_of(&member.terms, step.catalog),
            has_resubscribed,
            owned,
            is_free: &|id| self.owners.get(id).is_none_or(|owner| owner == member_id),
        };
        let next = way.next(&member.current);
        if next == member.current {
            return false;
        }
        let has_changed = next.assigned != member.current.assigned;
        self.set_current(member_id, next, step);
        has_changed
    }

    fn told(&self, member_id: StrBytes, is_told: bool, step: &Step<'_>) -> Response {
        let current = self.members.get(&member_id).map(|m| &m.current);
        let assignment = |current: &Current| Assignment {
            topic_partitions: by_topic(current.assigned.keys(), |topic_id, partitions| {
                TopicPartitions {
                    topic_id,
                    partitions,
                }
            }),
        };
        Response {
            member_epoch: current.map_or(0, |c| c.epoch),
            assignment: current.filter(|_| is_told).map(assignment),
            member_id: Some(member_id),
            heartbeat_interval_ms: step.config_of(&self.id).heartbeat_interval_ms,
            ..Response::default()
        }
    }

    pub(super) fn check_room(&self, member_id: &str, step: &Step<'_>) -> Result<(), Refusal> {
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => has_room(self.members.len(), step.rules),
        }
    }

    fn find(
        &self,
        request: &Request,
        member_id: &StrBytes,
        owned: Option<&PartitionSet>,
    ) -> Result<Place, Refusal> {
        let joins = request.member_epoch == 0;
        if let Some(instance_id) = &request.instance_id {
            return self.find_static(request, member_id, instance_id, owned);
        }
        match self.members.get(member_id) {
            Some(member) => {
                check_epoch(member, request.member_epoch, owned)?;
                Ok(Place::Known)
            }
            None if joins => Ok(Place::New),
            None => Err(self.unknown(member_id)),
        }
    }

    fn find_static(
        &self,
        request: &Request,
        member_id: &StrBytes,
        instance_id: &StrBytes,
        owned: Option<&PartitionSet>,
    ) -> Result<Place, Refusal> {
        let current = self.instances.get(instance_id);
        let current = current.and_then(|id| Some((id, self.members.get(id)?)));
        if request.member_epoch != 0 {
            let (id, member) = current.ok_or_else(|| unknown_instance(instance_id))?;
            check_fenced(id, member_id, instance_id)?;
            check_epoch(member, request.member_epoch, owned)?;
            return Ok(Place::Known);
        }
        match current {
            Some((id, member))
                if member.current.epoch != LEFT_FOR_A_WHILE && !member.is_classic() =>
            {
                Err(Refusal::new(
                    ErrorCode::UNRELEASED_INSTANCE_ID,
                    format_args!(
                        "Static member {member_id} with instance id {instance_id} cannot join the group because the instance id is owned by {id} member."
                    ),
                ))
            }
            Some((id, _)) => Ok(Place::InPlaceOf(id.clone())),
            None if self.members.contains_key(member_id) => Ok(Place::Known),
            None => Ok(Place::New),
        }
    }

    fn unknown(&self, member_id: &str) -> Refusal {
        let id = &self.id;
        Refusal::new(
            ErrorCode::UNKNOWN_MEMBER_ID,
            format_args!("Member {member_id} is not a member of group {id}."),
        )
    }

    fn check_regex(&self, before: Option<&Terms>, terms: &Terms) -> Result<(), Refusal> {
        let is_new = before.is_none_or(|before| before.regex != terms.regex);
        if terms.regex.is_empty() || !is_new || self.regexes.contains_key(&terms.regex) {
            return Ok(());
        }
        is_regex(&terms.regex)
    }

    pub(super) fn enter(&mut self, member_id: &StrBytes, member: Member) {
        if let Some(instance_id) = &member.terms.instance_id {
            self.instances
                .insert(instance_id.clone(), member_id.clone());
        }
        self.members.insert(member_id.clone(), member);
    }

    /// A static member is back under a new id: it has what the old one had, and the old one is out.
    pub(super) fn replace(&mut self, old_id: &StrBytes, member_id: &StrBytes) {
        let Some(mut member) = self.members.remove(old_id) else {
            return;
        };
        tracing::info!(group = %self.id, member = %member_id, old = %old_id, "a static member is back under a new id");
        for held in member.current.held() {
            self.owners.insert(*held, member_id.clone());
        }
        (member.current.epoch, member.current.previous_epoch) = (0, 0);
        (member.revokes_by_ms, member.joins_by_ms, member.syncs_by_ms) =
            (NEVER_MS, NEVER_MS, NEVER_MS);
        self.enter(member_id, member);
        self.unstored.extend(super::member_parts(old_id));
        self.unstored.extend(super::member_parts(member_id));
    }

    /// True if it subscribes to something else now.
    pub(super) fn take_terms(&mut self, member_id: &StrBytes, terms: Terms) -> bool {
        let Some(member) = self.members.get_mut(member_id) else {
            return false;
        };
        if member.terms == terms {
            return false;
        }
        let before = std::mem::replace(&mut member.terms, terms);
        if before.instance_id != member.terms.instance_id {
            if let Some(instance_id) = &before.instance_id {
                self.instances.remove(instance_id);
            }
            if let Some(instance_id) = &member.terms.instance_id {
                self.instances
                    .insert(instance_id.clone(), member_id.clone());
            }
        }
        let has_resubscribed =
            before.topics != member.terms.topics || before.regex != member.terms.regex;
        self.mark(ConsumerRecord::Member, member_id);
        has_resubscribed
    }

    fn leave(&mut self, request: &Request, step: &mut Step<'_>) -> Result<Response, Refusal> {
        let member_id = &request.member_id;
        match &request.instance_id {
            Some(instance_id) => {
                let id = self.instances.get(instance_id);
                let id = id.ok_or_else(|| unknown_instance(instance_id))?;
                check_fenced(id, member_id, instance_id)?;
            }
            None if !self.members.contains_key(member_id) => return Err(self.unknown(member_id)),
            None => {}
        }
        tracing::info!(group = %self.id, member = %member_id, epoch = request.member_epoch, "a member leaves its group");
        match self.members.get(member_id) {
            Some(member) if request.member_epoch == LEFT_FOR_A_WHILE => {
                // What it had is its own until its session ends.
                let mut current = member.current.clone();
                current.epoch = LEFT_FOR_A_WHILE;
                current.revoking.clear();
                current.assigned.values_mut().for_each(|since| *since = 0);
                self.set_current(&member_id.detached(), current, step);
                if let Some(member) = self.members.get_mut(member_id) {
                    member.revokes_by_ms = NEVER_MS;
                }
            }
            _ => self.remove(&[member_id.detached()], step),
        }
        Ok(Response {
            member_id: Some(member_id.clone()),
            member_epoch: request.member_epoch,
            ..Response::default()
        })
    }
}

/// What a member says of itself now; what it leaves out is as before.
fn updated(mut terms: Terms, request: &Request, caller: Caller) -> Terms {
    let text = |text: &Option<StrBytes>| text.as_ref().map(StrBytes::detached);
    terms.caller = Caller {
        client_id: caller.client_id.detached(),
        host: caller.host,
    };
    terms.instance_id = text(&request.instance_id).or(terms.instance_id);
    terms.rack_id = text(&request.rack_id).or(terms.rack_id);
    terms.assignor = text(&request.server_assignor).or(terms.assignor);
    if request.rebalance_timeout_ms != -1 {
        terms.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }
    if let Some(names) = &request.subscribed_topic_names {
        terms.topics = names.iter().map(StrBytes::detached).collect();
    }
    if let Some(regex) = text(&request.subscribed_topic_regex) {
        terms.regex = regex;
    }
    terms.classic = None;
    terms
}

fn check_epoch(member: &Member, epoch: i32, owned: Option<&PartitionSet>) -> Result<(), Refusal> {
    let current = &member.current;
    // The answer with its new epoch may be lost. It must not have what it is not to have by now.
    let has_no_more =
        || owned.is_some_and(|o| o.iter().all(|id| current.assigned.contains_key(id)));
    let is_late = epoch < current.epoch && epoch == current.previous_epoch && has_no_more();
    if epoch == 0 || epoch == current.epoch || is_late {
        return Ok(());
    }
    let known = current.epoch;
    let than = if epoch > known { "greater" } else { "smaller" };
    Err(Refusal::new(
        ErrorCode::FENCED_MEMBER_EPOCH,
        format_args!(
            "The consumer group member has a {than} member epoch ({epoch}) than the one known by the group coordinator ({known}). The member must abandon all its partitions and rejoin."
        ),
    ))
}

fn check_fenced(current: &str, member_id: &str, instance_id: &str) -> Result<(), Refusal> {
    match current == member_id {
        true => Ok(()),
        false => Err(Refusal::new(
            ErrorCode::FENCED_INSTANCE_ID,
            format_args!(
                "Static member {member_id} with instance id {instance_id} was fenced by member {current}."
            ),
        )),
    }
}

fn unknown_instance(instance_id: &str) -> Refusal {
    Refusal::new(
        ErrorCode::UNKNOWN_MEMBER_ID,
        format_args!("Instance id {instance_id} is unknown."),
    )
}

/// Errors of regular expressions draw the place below the text.
fn reason_of(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

impl Group {
    /// Whether a member waits for partitions that others hold.
    pub(super) fn waits_for_others(&self, member_id: &StrBytes, member: &Member) -> bool {
        let is_held = |id: &&PartitionId| {
            !member.current.assigned.contains_key(id)
                && self.owners.get(id).is_some_and(|owner| owner != member_id)
        };
        member.current.state == MemberState::Unreleased
            && member.target.iter().any(|id| is_held(&id))
    }
}
