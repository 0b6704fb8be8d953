//! A group as it is kept in `__consumer_offsets`: a record for each of its parts.
//!
//! What changes only names its part; the record is made of what the part is when it goes to the log, and
//! is a tombstone where the part is no more. So a part whose record could not be stored is simply named
//! again.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::member::{Assigned, ClassicTerms, Current, Member, MemberState, Terms};
use super::subscription::Resolved;
use super::{Group, Step};
use crate::group::assignor::PartitionSet;
use crate::group::member::{Caller, Protocol, detached};
use crate::group::records::Record;
use crate::store::PartitionId;
use crate::wire::codec::{DecodeError, Message};
use crate::wire::consumer_group_records::{
    AssignedPartitions, ClassicMemberMetadata, ClassicProtocol, GroupValue, MemberCurrentValue,
    MemberTargetValue, MemberValue, RegularExpressionValue, TargetValue, TopicPartitions,
    decode_value, encode_value,
};
use crate::wire::group_records::{ConsumerPartKey, ConsumerRecord, encode_consumer_key};
use crate::wire::{StrBytes, Uuid};

/// What a record is of: what kind, and of which member or regular expression.
pub type Part = (ConsumerRecord, StrBytes);

/// Values by what they are of, as they were read.
pub type Parts = BTreeMap<Part, Bytes>;

impl Group {
    /// The records of these parts: first of what is gone, from the inside out, then of what there is, from
    /// the outside in.
    pub(super) fn records<'a>(&self, parts: impl Iterator<Item = &'a Part>) -> Vec<Record> {
        let record = |(of, part): &Part| Record {
            key: encode_consumer_key(
                *of,
                &ConsumerPartKey {
                    group: self.id.clone(),
                    part: part.clone(),
                },
            ),
            value: self.value(*of, part),
        };
        let (mut there, mut gone): (Vec<_>, Vec<_>) = parts
            .map(|part| (part, record(part)))
            .partition(|(_, record)| record.value.is_some());
        gone.sort_by_key(|(part, _)| std::cmp::Reverse(*part));
        there.sort_by_key(|(part, _)| *part);
        gone.into_iter()
            .chain(there)
            .map(|(_, record)| record)
            .collect()
    }

    fn value(&self, of: ConsumerRecord, part: &StrBytes) -> Option<Bytes> {
        if self.is_dead {
            return None;
        }
        let member = || self.members.get(part);
        Some(match of {
            ConsumerRecord::Group => encode_value(&GroupValue {
                epoch: self.epoch,
                metadata_hash: self.metadata_hash,
            }),
            ConsumerRecord::ClassicGroup | ConsumerRecord::PartitionMetadata => return None,
            ConsumerRecord::Target => encode_value(&TargetValue {
                assignment_epoch: self.target_epoch,
                assignment_timestamp: self.target_ms,
            }),
            ConsumerRecord::Member => encode_value(&member_value(&member()?.terms)),
            ConsumerRecord::MemberTarget => encode_value(&MemberTargetValue {
                topic_partitions: by_topic(member()?.target.iter(), |topic_id, partitions| {
                    TopicPartitions {
                        topic_id,
                        partitions,
                    }
                }),
            }),
            ConsumerRecord::MemberCurrent => encode_value(&current_value(&member()?.current)),
            ConsumerRecord::RegularExpression => {
                encode_value(&regex_value(self.regexes.get(part)?))
            }
        })
    }

    /// All parts that there are.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        let group =
            [ConsumerRecord::Group, ConsumerRecord::Target].map(|of| (of, StrBytes::default()));
        let of_member = |id: &StrBytes| member_parts(id);
        let members = self.members.keys().flat_map(of_member);
        let regexes = self
            .regexes
            .keys()
            .map(|r| (ConsumerRecord::RegularExpression, r.clone()));
        group.into_iter().chain(members).chain(regexes)
    }

    /// A group as it was stored. Its members' sessions begin anew.
    pub fn stored(id: StrBytes, parts: Parts, step: &Step<'_>) -> Self {
        let mut group = Group::new(id);
        group.was_stored = true;
        for ((of, part), value) in &parts {
            if let Err(error) = group.take(*of, part, value.clone()) {
                tracing::error!(group = %group.id, part = %part, ?of, %error, "a part of a group's record cannot be read; what it says is left out");
            }
        }
        group.settle_owners();
        let epochs = group.members.values().map(|m| m.current.epoch);
        let latest = epochs.chain([group.target_epoch]).max().unwrap_or(0);
        if latest > group.epoch {
            // What came before these records is missing. The next target is of a new epoch.
            group.epoch = latest + 1;
        }
        let ids: Vec<_> = group.members.keys().cloned().collect();
        for id in ids {
            group.keep_alive(&id, step);
            group.set_revocation_timer(&id, step);
        }
        group
    }

    fn take(
        &mut self,
        of: ConsumerRecord,
        part: &StrBytes,
        value: Bytes,
    ) -> Result<(), DecodeError> {
        match of {
            ConsumerRecord::Group => {
                let value: GroupValue = decode_value(value)?;
                (self.epoch, self.metadata_hash) = (value.epoch, value.metadata_hash);
            }
            ConsumerRecord::ClassicGroup | ConsumerRecord::PartitionMetadata => {}
            ConsumerRecord::Target => {
                let value: TargetValue = decode_value(value)?;
                self.target_epoch = value.assignment_epoch;
                self.target_ms = value.assignment_timestamp;
            }
            // In the order of their keys: the member first.
            ConsumerRecord::Member => {
                let member = Member::new(terms(decode(value)?));
                if let Some(instance_id) = &member.terms.instance_id {
                    self.instances.insert(instance_id.clone(), part.clone());
                }
                self.members.insert(part.clone(), member);
            }
            ConsumerRecord::MemberTarget => {
                let value: MemberTargetValue = decode_value(value)?;
                if let Some(member) = self.members.get_mut(part) {
                    let topics = value.topic_partitions.iter();
                    member.target = partitions(topics.map(|of| (of.topic_id, &of.partitions[..])));
                }
            }
            ConsumerRecord::MemberCurrent => {
                let value: MemberCurrentValue = decode_value(value)?;
                if let Some(member) = self.members.get_mut(part) {
                    member.current = current(&value);
                }
            }
            ConsumerRecord::RegularExpression => {
                let value: RegularExpressionValue = decode_value(value)?;
                self.regexes.insert(part.clone(), resolved(value));
            }
        }
        Ok(())
    }

    /// No partition has two owners, whatever the records say: the later epoch counts.
    pub(super) fn settle_owners(&mut self) {
        let mut by_epoch: Vec<_> = self.members.iter().collect();
        by_epoch.sort_by_key(|(_, member)| std::cmp::Reverse(member.current.epoch));
        let mut lost = Vec::new();
        for (id, member) in by_epoch {
            for held in member.current.held() {
                match self.owners.get(held) {
                    Some(_) => lost.push((id.clone(), *held)),
                    None => drop(self.owners.insert(*held, id.clone())),
                }
            }
        }
        for (id, held) in lost {
            tracing::error!(group = %self.id, member = %id, partition = %held, "a partition had two owners by the records; the later one keeps it");
            if let Some(member) = self.members.get_mut(&id) {
                member.current.assigned.remove(&held);
                member.current.revoking.remove(&held);
            }
        }
    }
}

/// The parts of a member.
pub(super) fn member_parts(id: &StrBytes) -> [Part; 3] {
    [
        ConsumerRecord::Member,
        ConsumerRecord::MemberTarget,
        ConsumerRecord::MemberCurrent,
    ]
    .map(|of| (of, id.clone()))
}

/// With memory of its own: the batch that it was read from is not kept for it.
fn decode<M: Message>(value: Bytes) -> Result<M, DecodeError> {
    decode_value(detached(&value))
}

fn member_value(terms: &Terms) -> MemberValue {
    let classic = |classic: &ClassicTerms| ClassicMemberMetadata {
        session_timeout_ms: classic.session_timeout_ms,
        supported_protocols: {
            let protocols = classic.protocols.iter();
            let protocol = |p: &Protocol| ClassicProtocol {
                name: p.name.clone(),
                metadata: p.metadata.clone(),
            };
            protocols.map(protocol).collect()
        },
    };
    MemberValue {
        instance_id: terms.instance_id.clone(),
        rack_id: terms.rack_id.clone(),
        client_id: terms.caller.client_id.clone(),
        client_host: terms.caller.host.clone(),
        subscribed_topic_names: terms.topics.iter().cloned().collect(),
        subscribed_topic_regex: Some(terms.regex.clone()),
        rebalance_timeout_ms: terms.rebalance_timeout_ms,
        server_assignor: terms.assignor.clone(),
        classic_member_metadata: terms.classic.as_ref().map(classic),
    }
}

fn terms(value: MemberValue) -> Terms {
    let protocol = |p: ClassicProtocol| Protocol {
        name: p.name,
        metadata: p.metadata,
    };
    let classic = |classic: ClassicMemberMetadata| ClassicTerms {
        session_timeout_ms: classic.session_timeout_ms,
        protocols: classic
            .supported_protocols
            .into_iter()
            .map(protocol)
            .collect(),
    };
    Terms {
        caller: Caller {
            client_id: value.client_id,
            host: value.client_host,
        },
        instance_id: value.instance_id,
        rack_id: value.rack_id,
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        topics: value.subscribed_topic_names.into_iter().collect(),
        regex: value.subscribed_topic_regex.unwrap_or_default(),
        assignor: value.server_assignor,
        classic: value.classic_member_metadata.map(classic),
    }
}

fn current_value(current: &Current) -> MemberCurrentValue {
    let assigned = |assigned: &Assigned| {
        by_topic(assigned.keys(), |topic_id, partitions| {
            let epoch = |index: &i32| {
                let index = *index;
                let topic = topic_id;
                assigned
                    .get(&PartitionId { topic, index })
                    .copied()
                    .unwrap_or(0)
            };
            AssignedPartitions {
                topic_id,
                assignment_epochs: Some(partitions.iter().map(epoch).collect()),
                partitions,
            }
        })
    };
    MemberCurrentValue {
        member_epoch: current.epoch,
        previous_member_epoch: current.previous_epoch,
        state: current.state as i8,
        assigned_partitions: assigned(&current.assigned),
        partitions_pending_revocation: assigned(&current.revoking),
    }
}

fn current(value: &MemberCurrentValue) -> Current {
    let assigned = |topics: &[AssignedPartitions]| -> Assigned {
        let of_topic = |of: &AssignedPartitions| {
            let topic = of.topic_id;
            // Before KIP-1251 there were none.
            let epochs = of.assignment_epochs.clone().unwrap_or_default();
            let epochs = epochs
                .into_iter()
                .chain(std::iter::repeat(value.member_epoch));
            let ids = of.partitions.clone().into_iter();
            ids.map(move |index| PartitionId { topic, index })
                .zip(epochs)
        };
        topics.iter().flat_map(of_topic).collect()
    };
    Current {
        epoch: value.member_epoch,
        previous_epoch: value.previous_member_epoch,
        state: MemberState::of(value.state),
        assigned: assigned(&value.assigned_partitions),
        revoking: assigned(&value.partitions_pending_revocation),
    }
}

fn regex_value(resolved: &Resolved) -> RegularExpressionValue {
    RegularExpressionValue {
        topics: resolved.topics.iter().cloned().collect(),
        version: resolved.version,
        timestamp: resolved.resolved_ms,
    }
}

fn resolved(value: RegularExpressionValue) -> Resolved {
    Resolved {
        topics: value.topics.iter().map(StrBytes::detached).collect(),
        version: value.version,
        resolved_ms: value.timestamp,
    }
}

/// All partitions that are named by their topics; the other way is [`by_topic`].
pub(super) fn partitions<'a>(topics: impl Iterator<Item = (Uuid, &'a [i32])>) -> PartitionSet {
    let of_topic = |(topic, indexes): (Uuid, &'a [i32])| {
        indexes
            .iter()
            .map(move |&index| PartitionId { topic, index })
    };
    topics.flat_map(of_topic).collect()
}

/// Partitions, which are in order, by their topics.
pub(super) fn by_topic<'a, T>(
    ids: impl Iterator<Item = &'a PartitionId>,
    make: impl Fn(Uuid, Vec<i32>) -> T,
) -> Vec<T> {
    let mut topics: Vec<(Uuid, Vec<i32>)> = Vec::new();
    for id in ids {
        match topics.last_mut() {
            Some((topic, indexes)) if *topic == id.topic => indexes.push(id.index),
            _ => topics.push((id.topic, vec![id.index])),
        }
    }
    topics
        .into_iter()
        .map(|(topic, indexes)| make(topic, indexes))
        .collect()
}
