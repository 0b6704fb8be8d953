//! The rules of a group, one by one.

use bytes::Bytes;

use super::classic::{Group, Join, State};
use super::load::Replay;
use super::offsets::Committed;
use super::*;
use crate::record::Builder;
use crate::wire::consumer_protocol::{self, Assignment, Subscription};
use crate::wire::join_group::JoinGroupRequestProtocol;
use crate::wire::leave_group::MemberIdentity;
use crate::wire::sync_group::SyncGroupRequestAssignment;
use crate::wire::{ErrorCode, Uuid};

const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 20_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A group, its time, and what came out of it.
struct Room {
    group: Group,
    rules: Rules,
    now_ms: i64,
    out: Vec<Effect>,
    notes: Vec<Note>,
    log: Vec<Record>,
    tickets: Ticket,
}

/// How a member joins.
#[derive(Clone)]
struct As {
    member_id: StrBytes,
    instance_id: Option<StrBytes>,
    protocols: Vec<(&'static str, &'static [u8])>,
    version: i16,
}

fn new_member() -> As {
    As {
        member_id: StrBytes::default(),
        instance_id: None,
        protocols: vec![("range", b"")],
        version: 3,
    }
}

fn instance(id: &'static str, version: i16) -> As {
    As {
        instance_id: Some(id.into()),
        version,
        ..new_member()
    }
}

impl Room {
    fn new() -> Room {
        Room {
            group: Group::new("g".into(), 0),
            rules: Rules {
                initial_rebalance_delay_ms: 3000,
                group_max_size: 3,
                check_assignments: true,
                consumer: ConsumerRules::default(),
            },
            now_ms: 0,
            out: Vec::new(),
            notes: Vec::new(),
            log: Vec::new(),
            tickets: 0,
        }
    }

    fn step<R>(&mut self, event: impl FnOnce(&mut Group, &mut Step<'_>) -> R) -> R {
        let now = Now {
            steady_ms: self.now_ms,
            wall_ms: self.now_ms,
        };
        let mut step = Step {
            now,
            rules: &self.rules,
            catalog: &Catalog::default(),
            out: &mut self.out,
        };
        let result = event(&mut self.group, &mut step);
        for noted in self.out.extract_if(.., |e| matches!(e, Effect::Noted(_))) {
            if let Effect::Noted(note) = noted {
                self.notes.push(note);
            }
        }
        result
    }

    fn join(&mut self, as_: &As) -> Ticket {
        self.tickets += 1;
        let ticket = self.tickets;
        let protocol =
            |(name, metadata): &(&'static str, &'static [u8])| JoinGroupRequestProtocol {
                name: (*name).into(),
                metadata: Bytes::from_static(metadata),
            };
        let request = join_group::Request {
            group_id: "g".into(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            member_id: as_.member_id.clone(),
            group_instance_id: as_.instance_id.clone(),
            protocol_type: "consumer".into(),
            protocols: as_.protocols.iter().map(protocol).collect(),
            ..join_group::Request::default()
        };
        let join = Join {
            request,
            version: as_.version,
            caller: Caller {
                client_id: "c".into(),
                host: "/h".into(),
            },
            ticket,
            unique: ticket.to_string(),
        };
        self.step(|group, step| group.join(join, step));
        ticket
    }

    fn sync(&mut self, member_id: &StrBytes, assignments: &[(&StrBytes, Bytes)]) -> Ticket {
        self.tickets += 1;
        let ticket = self.tickets;
        let assignment = |(id, bytes): &(&StrBytes, Bytes)| SyncGroupRequestAssignment {
            member_id: (*id).clone(),
            assignment: bytes.clone(),
        };
        let request = sync_group::Request {
            group_id: "g".into(),
            generation_id: self.group.generation(),
            member_id: member_id.clone(),
            assignments: assignments.iter().map(assignment).collect(),
            ..sync_group::Request::default()
        };
        self.step(|group, step| group.sync(&request, ticket, step));
        ticket
    }

    /// The time goes by, and what is due happens.
    fn pass(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        while self.group.wake_ms() <= end_ms {
            self.now_ms = self.now_ms.max(self.group.wake_ms());
            self.step(|group, step| group.expire(step));
        }
        self.now_ms = end_ms;
    }

    fn joined(&mut self, ticket: Ticket) -> Option<join_group::Response> {
        let place = self
            .out
            .iter()
            .position(|e| matches!(e, Effect::Joined(t, _) if *t == ticket))?;
        match self.out.remove(place) {
            Effect::Joined(_, response) => Some(response),
            _ => None,
        }
    }

    fn synced(&mut self, ticket: Ticket) -> Option<sync_group::Response> {
        let place = self
            .out
            .iter()
            .position(|e| matches!(e, Effect::Synced(t, _) if *t == ticket))?;
        match self.out.remove(place) {
            Effect::Synced(_, response) => Some(response),
            _ => None,
        }
    }

    /// What was to be appended is durable, or failed.
    fn appended(&mut self, result: Result<(), AppendError>) -> bool {
        let is_append = |e: &mut Effect| matches!(e, Effect::Append(_));
        let appends: Vec<_> = self.out.extract_if(.., is_append).collect();
        let mut is_gone = false;
        for effect in appends {
            if let Effect::Append(append) = effect {
                if result.is_ok() {
                    self.log.extend(append.records);
                }
                is_gone |= self.step(|group, step| {
                    let own = std::mem::replace(group, Group::new("g".into(), 0));
                    let mut any = any::Group::Classic(Box::new(own));
                    let (is_gone, _) = any.appended(append.then, result, step);
                    if let any::Group::Classic(own) = any {
                        *group = *own;
                    }
                    is_gone
                });
            }
        }
        is_gone
    }

    /// A stable group of new members; their ids, the leader's first.
    fn stable(members: &[As]) -> (Room, Vec<StrBytes>) {
        let mut room = Room::new();
        let tickets: Vec<_> = members.iter().map(|m| room.join(m)).collect();
        room.pass(6000);
        let ids: Vec<_> = tickets
            .iter()
            .map(|t| room.joined(*t).expect("an answer").member_id)
            .collect();
        room.settle(&ids);
        let leads = room.group.described().members;
        assert_eq!(leads.len(), members.len());
        (room, ids)
    }

    /// All members ask for their assignment, and get one.
    fn settle(&mut self, ids: &[StrBytes]) {
        let part = |(n, id)| (id, assignment(&[n as i32]));
        let parts: Vec<_> = ids.iter().enumerate().map(part).collect();
        let tickets: Vec<_> = ids.iter().map(|id| self.sync(id, &parts)).collect();
        self.appended(Ok(()));
        for ticket in tickets {
            assert_eq!(
                self.synced(ticket).expect("an answer").error_code,
                ErrorCode::NONE
            );
        }
        assert_eq!(self.group.state(), State::Stable);
    }

    fn heartbeat(&mut self, id: &StrBytes) -> Result<(), ErrorCode> {
        let generation = self.group.generation();
        self.step(|group, step| group.heartbeat(id, None, generation, step))
    }

    fn commit(&mut self, generation: i32, id: &StrBytes, offset: i64) -> Result<(), ErrorCode> {
        let committed_ms = self.now_ms;
        let offsets = vec![(of(0), committed(offset, committed_ms))];
        self.step(|group, step| group.commit(id, None, generation, offsets, step))
    }

    /// As it is after a restart.
    fn reloaded(&self) -> Option<Group> {
        let mut builder = Builder::new();
        for record in &self.log {
            builder.append(0, Some(&record.key), record.value.as_deref(), &[]);
        }
        let mut replay = Replay::default();
        replay.take(vec![builder.build()], 0);
        let step = Step {
            now: Now::default(),
            rules: &self.rules,
            catalog: &Catalog::default(),
            out: &mut Vec::new(),
        };
        match replay.into_groups(&step).pop()? {
            any::Group::Classic(group) => Some(*group),
            any::Group::Consumer(_) => None,
        }
    }
}

fn of(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: "t".into(),
        partition,
    }
}

fn committed(offset: i64, committed_ms: i64) -> Committed {
    Committed {
        offset,
        leader_epoch: -1,
        metadata: StrBytes::default(),
        committed_ms,
        expires_ms: None,
        topic_id: Uuid::ZERO,
    }
}

fn assignment(partitions: &[i32]) -> Bytes {
    let part = consumer_protocol::TopicPartition {
        topic: "t".into(),
        partitions: partitions.to_vec(),
    };
    let assignment = Assignment {
        assigned_partitions: vec![part],
        user_data: None,
    };
    consumer_protocol::encode(&assignment, 0)
}

#[test]
fn the_first_rebalance_waits_for_more_members_while_they_come() {
    let mut room = Room::new();
    let first = room.join(&new_member());
    room.pass(2000);
    let second = room.join(&new_member());
    room.pass(1500);
    assert_eq!(room.joined(first), None, "the second put it off");
    room.pass(3000);
    let (first, second) = (room.joined(first), room.joined(second));
    let (first, second) = (first.expect("answered"), second.expect("answered"));
    assert_eq!((first.generation_id, second.generation_id), (1, 1));
    assert_eq!(first.leader, second.leader);
    let leads = |r: &join_group::Response| r.leader == r.member_id;
    let told = if leads(&first) { &first } else { &second };
    assert_eq!(told.members.len(), 2);
}

#[test]
fn an_id_that_nobody_joins_with_lapses() {
    let mut room = Room::new();
    let ticket = room.join(&As {
        version: 4,
        ..new_member()
    });
    let required = room.joined(ticket).expect("at once");
    assert_eq!(required.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    assert_eq!(room.group.size(), 1);
    room.pass(i64::from(SESSION_MS));
    assert!(room.group.is_nothing());
    let late = room.join(&As {
        member_id: required.member_id,
        version: 4,
        ..new_member()
    });
    let late = room.joined(late).expect("at once");
    assert_eq!(late.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let (mut room, ids) = Room::stable(&[new_member(), new_member()]);
    let newcomer = room.join(&new_member());
    assert_eq!(
        room.heartbeat(&ids[0]),
        Err(ErrorCode::REBALANCE_IN_PROGRESS)
    );
    let again = room.join(&As {
        member_id: ids[0].clone(),
        ..new_member()
    });
    for _ in 0..4 {
        assert_eq!(room.joined(again), None);
        // It lives, but it does not join.
        let _ = room.heartbeat(&ids[1]);
        room.pass(i64::from(REBALANCE_MS) / 4);
    }
    assert_eq!(room.joined(again).expect("answered").generation_id, 2);
    assert!(room.joined(newcomer).is_some());
    assert_eq!(room.heartbeat(&ids[1]), Err(ErrorCode::UNKNOWN_MEMBER_ID));
}

#[test]
fn a_member_that_is_silent_is_out_after_its_session() {
    let (mut room, ids) = Room::stable(&[new_member(), new_member()]);
    room.pass(i64::from(SESSION_MS) - 1);
    assert_eq!(room.heartbeat(&ids[0]), Ok(()));
    room.pass(1);
    assert_eq!(
        room.heartbeat(&ids[0]),
        Err(ErrorCode::REBALANCE_IN_PROGRESS)
    );
    let again = room.join(&As {
        member_id: ids[0].clone(),
        ..new_member()
    });
    let again = room.joined(again).expect("it is the only one");
    assert_eq!((again.generation_id, again.members.len()), (2, 1));
}

#[test]
fn a_leader_that_never_syncs_is_out_and_nobody_waits_for_ever() {
    let mut room = Room::new();
    let tickets = [room.join(&new_member()), room.join(&new_member())];
    room.pass(6000);
    let [a, b] = tickets.map(|t| room.joined(t).expect("answered"));
    let follower = if a.leader == a.member_id {
        b.member_id
    } else {
        a.member_id
    };
    let waiting = room.sync(&follower, &[]);
    for _ in 0..4 {
        assert_eq!(room.synced(waiting), None);
        let leader = a.leader.clone();
        let _ = room.heartbeat(&leader);
        room.pass(i64::from(REBALANCE_MS) / 4);
    }
    let told = room.synced(waiting).expect("answered");
    assert_eq!(told.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
    let again = room.join(&As {
        member_id: follower.clone(),
        ..new_member()
    });
    let again = room.joined(again).expect("answered");
    assert_eq!((again.leader, again.generation_id), (follower, 2));
}

#[test]
fn assignments_are_handed_out_when_they_are_durable() {
    let mut room = Room::new();
    let ticket = room.join(&new_member());
    room.pass(3000);
    let id = room.joined(ticket).expect("answered").member_id;
    let first = room.sync(&id, &[(&id, assignment(&[1]))]);
    assert_eq!(
        (room.synced(first), room.group.state()),
        (None, State::CompletingRebalance)
    );
    room.appended(Err(AppendError::NotStored));
    let told = room.synced(first).expect("answered");
    assert_eq!(told.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    let again = room.join(&As {
        member_id: id.clone(),
        ..new_member()
    });
    assert_eq!(room.joined(again).expect("answered").generation_id, 2);
    let second = room.sync(&id, &[(&id, assignment(&[1]))]);
    room.appended(Ok(()));
    assert_eq!(
        room.synced(second).expect("answered").assignment,
        assignment(&[1])
    );
    let group = room.reloaded().expect("stored");
    assert_eq!((group.state(), group.generation()), (State::Stable, 2));
    let described = group.described().members.remove(0);
    assert_eq!(
        (described.member_id, described.member_assignment),
        (id, assignment(&[1]))
    );
}

#[test]
fn a_partition_given_to_two_members_costs_one_more_rebalance() {
    let (mut room, ids) = Room::stable(&[new_member(), new_member()]);
    let twice = [(&ids[0], assignment(&[1])), (&ids[1], assignment(&[1, 2]))];
    let expected = [ErrorCode::REBALANCE_IN_PROGRESS, ErrorCode::NONE];
    // A leader that says the same twice means it.
    for error in expected {
        let joins: Vec<_> = ids
            .iter()
            .map(|id| {
                room.join(&As {
                    member_id: id.clone(),
                    protocols: vec![("range", b"n")],
                    ..new_member()
                })
            })
            .collect();
        for join in joins {
            assert!(room.joined(join).is_some());
        }
        let syncs: Vec<_> = ids.iter().map(|id| room.sync(id, &twice)).collect();
        room.appended(Ok(()));
        let leader = room.synced(syncs[0]).expect("answered");
        assert_eq!(leader.error_code, error);
        if error.is_ok() {
            let follower = room.synced(syncs[1]).expect("answered");
            assert_eq!(follower.assignment, assignment(&[1, 2]));
        }
        room.out.clear();
    }
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_its_old_self() {
    let (mut room, ids) = Room::stable(&[instance("i", 9), new_member()]);
    let before = room.group.generation();
    let back = room.join(&instance("i", 9));
    assert_eq!(room.joined(back), None, "its new id is not durable yet");
    room.appended(Ok(()));
    let told = room.joined(back).expect("answered");
    assert_eq!(told.generation_id, before);
    assert_eq!(told.skip_assignment, told.leader == told.member_id);
    let old = ids[0].clone();
    let instance_id = StrBytes::from("i");
    let fenced = room.step(|g, s| g.heartbeat(&old, Some(&instance_id), before, s));
    assert_eq!(fenced, Err(ErrorCode::FENCED_INSTANCE_ID));
    assert_eq!(room.heartbeat(&told.member_id), Ok(()));
    let sync = room.sync(&told.member_id, &[]);
    assert_eq!(
        room.synced(sync).expect("at once").assignment,
        assignment(&[0])
    );
    let reloaded = room.reloaded().expect("stored").described();
    assert!(
        reloaded
            .members
            .iter()
            .any(|m| m.member_id == told.member_id)
    );
}

/// KIP-429: what it was to give up goes to nobody else in this generation, and it does not know that any
/// more.
#[test]
fn a_static_member_that_was_to_give_something_up_comes_back_with_a_rebalance() {
    let owner_of = |partitions: &[i32]| {
        let owned = consumer_protocol::TopicPartition {
            topic: "t".into(),
            partitions: partitions.to_vec(),
        };
        let subscription = Subscription {
            topics: vec!["t".into()],
            owned_partitions: vec![owned],
            ..Subscription::default()
        };
        let metadata = consumer_protocol::encode(&subscription, 1);
        As {
            protocols: vec![("range", metadata.to_vec().leak())],
            ..instance("i", 9)
        }
    };
    // It is assigned 0, and the other one 1.
    for (owned, state) in [
        (&[0][..], State::Stable),
        (&[0, 1], State::Stable),
        (&[0, 7], State::PreparingRebalance),
    ] {
        let (mut room, _) = Room::stable(&[owner_of(owned), new_member()]);
        room.join(&owner_of(&[]));
        room.appended(Ok(()));
        assert_eq!(room.group.state(), state, "{owned:?}");
    }
}

#[test]
fn a_replacement_that_cannot_be_stored_is_taken_back() {
    let (mut room, ids) = Room::stable(&[instance("i", 7)]);
    let back = room.join(&instance("i", 7));
    room.appended(Err(AppendError::NotStored));
    let told = room.joined(back).expect("answered");
    assert_eq!(told.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(room.heartbeat(&ids[0]), Ok(()));
    assert_eq!(room.group.size(), 1);
}

#[test]
fn the_protocol_is_the_one_that_most_prefer_and_all_have() {
    let both = |first, second| As {
        protocols: vec![(first, b""), (second, b"")],
        ..new_member()
    };
    let mut room = Room::new();
    let tickets = [both("a", "b"), both("b", "a"), both("b", "c")].map(|m| room.join(&m));
    room.pass(9000);
    for ticket in tickets {
        let told = room.joined(ticket).expect("answered");
        assert_eq!(told.protocol_name.as_deref(), Some("b"));
    }
    let other = room.join(&As {
        protocols: vec![("a", b"")],
        ..new_member()
    });
    assert_eq!(
        room.joined(other).expect("at once").error_code,
        ErrorCode::GROUP_MAX_SIZE_REACHED
    );
    room.rules.group_max_size = 9;
    let other = room.join(&As {
        protocols: vec![("a", b"")],
        ..new_member()
    });
    assert_eq!(
        room.joined(other).expect("at once").error_code,
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL
    );
}

#[test]
fn a_request_that_is_repeated_leaves_nobody_waiting() {
    let mut room = Room::new();
    let first = room.join(&new_member());
    room.pass(3000);
    let id = room.joined(first).expect("answered").member_id;
    // An id that was given out keeps the rebalance open.
    let pending = room.join(&As {
        version: 4,
        ..new_member()
    });
    assert!(room.joined(pending).is_some());
    let again = As {
        member_id: id,
        protocols: vec![("range", b"n")],
        ..new_member()
    };
    let (once, twice) = (room.join(&again), room.join(&again));
    let told = room.joined(once).expect("answered");
    assert_eq!(told.error_code, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    room.pass(i64::from(SESSION_MS));
    assert!(room.joined(twice).is_some());
}

#[test]
fn commits_are_shown_when_they_are_durable() {
    let (mut room, ids) = Room::stable(&[new_member()]);
    assert_eq!(room.commit(1, &ids[0], 5), Ok(()));
    assert_eq!(room.group.offsets.get("t", 0), None);
    room.appended(Err(AppendError::NotStored));
    assert_eq!(room.group.offsets.get("t", 0), None);
    assert_eq!(room.commit(1, &ids[0], 6), Ok(()));
    room.appended(Ok(()));
    assert_eq!(room.group.offsets.get("t", 0).map(|c| c.offset), Some(6));
    assert_eq!(
        room.reloaded()
            .expect("stored")
            .offsets
            .get("t", 0)
            .map(|c| c.offset),
        Some(6)
    );

    let nobody = StrBytes::default();
    assert_eq!(
        room.commit(-1, &nobody, 7),
        Err(ErrorCode::UNKNOWN_MEMBER_ID)
    );
    assert_eq!(
        room.commit(0, &ids[0], 7),
        Err(ErrorCode::ILLEGAL_GENERATION)
    );
    let newcomer = room.join(&new_member());
    assert_eq!(
        room.commit(1, &ids[0], 8),
        Ok(()),
        "what it read before it joins again"
    );
    let again = room.join(&As {
        member_id: ids[0].clone(),
        ..new_member()
    });
    assert!(room.joined(newcomer).is_some() && room.joined(again).is_some());
    assert_eq!(
        room.commit(2, &ids[0], 9),
        Err(ErrorCode::REBALANCE_IN_PROGRESS)
    );
}

#[test]
fn a_deletion_knows_of_commits_under_way_and_lets_nobody_in() {
    let mut room = Room::new();
    let nobody = StrBytes::default();
    assert_eq!(room.commit(-1, &nobody, 5), Ok(()));
    assert_eq!(room.step(|group, step| group.delete(step)), Ok(()));
    assert_eq!(
        room.commit(-1, &nobody, 6),
        Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)
    );
    let join = room.join(&new_member());
    let told = room.joined(join).expect("at once");
    assert_eq!(told.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert!(room.appended(Ok(())), "it is gone");
    assert!(room.reloaded().is_none());
}

#[test]
fn a_deletion_that_fails_leaves_the_group() {
    let mut room = Room::new();
    assert_eq!(room.commit(-1, &StrBytes::default(), 5), Ok(()));
    room.appended(Ok(()));
    assert_eq!(room.step(|group, step| group.delete(step)), Ok(()));
    assert!(!room.appended(Err(AppendError::NotStored)));
    assert_eq!(room.group.state(), State::Empty);
    assert_eq!(room.group.offsets.get("t", 0).map(|c| c.offset), Some(5));
}

#[test]
fn offsets_expire_when_nobody_uses_them() {
    let (mut room, ids) = Room::stable(&[new_member()]);
    assert_eq!(room.commit(1, &ids[0], 5), Ok(()));
    room.appended(Ok(()));
    // KIP-211: not while the group has members whose subscriptions are not known.
    room.now_ms += 8 * DAY_MS;
    room.step(|group, step| group.expire_offsets(7 * DAY_MS, step));
    assert!(room.out.is_empty());
    let leaves = MemberIdentity {
        member_id: ids[0].clone(),
        ..MemberIdentity::default()
    };
    assert!(
        room.step(|group, step| group.leave(&[leaves], step))
            .is_ok()
    );
    room.appended(Ok(()));
    assert_eq!(room.group.state(), State::Empty);
    // The time counts from when it became empty.
    room.now_ms += 6 * DAY_MS;
    room.step(|group, step| group.expire_offsets(7 * DAY_MS, step));
    assert!(room.out.is_empty());
    room.now_ms += 2 * DAY_MS;
    room.step(|group, step| group.expire_offsets(7 * DAY_MS, step));
    assert!(room.appended(Ok(())), "the group goes with its last offset");
    assert!(room.reloaded().is_none());
}

#[test]
fn offsets_of_a_simple_group_expire_by_their_age() {
    let mut room = Room::new();
    assert_eq!(room.commit(-1, &StrBytes::default(), 5), Ok(()));
    room.appended(Ok(()));
    room.now_ms += 7 * DAY_MS;
    assert_eq!(room.commit(-1, &StrBytes::default(), 6), Ok(()));
    room.step(|group, step| group.expire_offsets(7 * DAY_MS, step));
    room.appended(Ok(()));
    assert_eq!(
        room.group.offsets.get("t", 0).map(|c| c.offset),
        Some(6),
        "it was used meanwhile"
    );
}

#[test]
fn what_is_counted_is_noted_once() {
    let (mut room, ids) = Room::stable(&[new_member()]);
    let notes = |room: &mut Room| std::mem::take(&mut room.notes);
    let settled = [
        Note::Rebalance(Reason::Joined),
        Note::Settled { after_ms: 6000 },
    ];
    assert_eq!(notes(&mut room), settled);
    room.commit(1, &ids[0], 7).expect("a member");
    room.appended(Ok(()));
    assert_eq!(notes(&mut room), [Note::Committed(1)]);
    room.pass(i64::from(SESSION_MS));
    let silent = [Note::Silent, Note::Rebalance(Reason::Silent)];
    assert_eq!(notes(&mut room), silent, "nobody is left to settle");
}
