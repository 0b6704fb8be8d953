//! The rules of a group of the consumer protocol that no wire test waits for: time, and a log that fails.

use bytes::Bytes;

use super::member::{Assigned, MemberState};
use super::*;
use crate::catalog::group_config::{GroupBounds, GroupConfigs};
use crate::catalog::topic_config::TopicConfig;
use crate::catalog::{Topic, Values};
use crate::group::{Caller, Effect, Now, Rules, assignment};
use crate::wire::consumer_group_heartbeat::{Request, Response, TopicPartitions};
use crate::wire::consumer_protocol::{self, Subscription};
use crate::wire::join_group;

const T: Uuid = Uuid([1; 16]);

struct Room {
    group: Group,
    rules: Rules,
    catalog: Catalog,
    now_ms: i64,
    out: Vec<Effect>,
}

/// All groups share partitions out no more often than this.
fn groups(assignment_interval_ms: i32) -> GroupConfigs {
    let mut bounds = GroupBounds::default();
    bounds.defaults.assignment_interval_ms = assignment_interval_ms;
    GroupConfigs::new(bounds)
}

impl Room {
    fn new(partitions: i32) -> Room {
        let topic = Topic {
            name: "t".into(),
            id: T,
            partitions,
            configs: Default::default(),
            config: TopicConfig::default(),
            adopted: false,
        };
        Room {
            group: Group::new("g".into()),
            rules: Rules {
                initial_rebalance_delay_ms: 0,
                group_max_size: 10,
                check_assignments: true,
                consumer: crate::group::ConsumerRules::default(),
            },
            catalog: [topic]
                .into_iter()
                .collect::<Catalog>()
                .with_groups(groups(0)),
            now_ms: 1000,
            out: Vec::new(),
        }
    }

    fn step<R>(&mut self, event: impl FnOnce(&mut Group, &mut Step<'_>) -> R) -> R {
        let mut step = Step {
            now: Now {
                steady_ms: self.now_ms,
                wall_ms: self.now_ms,
            },
            rules: &self.rules,
            catalog: &self.catalog,
            out: &mut self.out,
        };
        let result = event(&mut self.group, &mut step);
        // What is only counted is no matter here.
        self.out
            .retain(|effect| !matches!(effect, Effect::Noted(_)));
        result
    }

    fn heartbeat(&mut self, request: &Request) -> Result<Response, Refusal> {
        self.step(|group, step| group.heartbeat(request, Caller::default(), step))
    }

    /// All appends that are on their way end so. Whether who waits is told what was to be told.
    fn appended(&mut self, result: Result<(), AppendError>) -> Vec<bool> {
        let appends: Vec<_> = self.out.drain(..).collect();
        let mut told = Vec::new();
        for effect in appends {
            if let Effect::Append(append) = effect
                && let Then::Kept { number, parts } = append.then
            {
                told.push(self.group.kept(number, parts, result).is_ok());
            }
        }
        told
    }

    fn wait_until(&mut self, end_ms: i64) {
        self.now_ms = end_ms;
        self.step(|group, step| group.expire(step));
    }
}

fn join(id: &'static str) -> Request {
    Request {
        group_id: "g".into(),
        member_id: id.into(),
        rebalance_timeout_ms: 20_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Request::default()
    }
}

fn stay(id: &'static str, epoch: i32, owned: Option<&[i32]>) -> Request {
    let topic = |partitions: &[i32]| TopicPartitions {
        topic_id: T,
        partitions: partitions.to_vec(),
    };
    Request {
        group_id: "g".into(),
        member_id: id.into(),
        member_epoch: epoch,
        topic_partitions: owned.map(|owned| vec![topic(owned)]),
        ..Request::default()
    }
}

fn told(response: &Response) -> Option<Vec<i32>> {
    let topics = &response.assignment.as_ref()?.topic_partitions;
    Some(topics.iter().flat_map(|t| t.partitions.clone()).collect())
}

#[test]
fn who_gives_no_sign_of_life_is_out_and_what_it_had_is_free() {
    let mut room = Room::new(2);
    room.heartbeat(&join("a")).unwrap();
    room.heartbeat(&join("b")).unwrap();
    room.wait_until(40_000);
    let response = room.heartbeat(&stay("b", 3, Some(&[]))).unwrap();
    assert_eq!(told(&response), None, "the other one has all");
    room.wait_until(46_000);
    assert_eq!((room.group.size(), room.group.epoch()), (1, 4));
    let response = room.heartbeat(&stay("b", 3, Some(&[]))).unwrap();
    assert_eq!(told(&response), Some(vec![0, 1]));
    let late = room.heartbeat(&stay("a", 2, None)).unwrap_err();
    assert_eq!(late.error, ErrorCode::UNKNOWN_MEMBER_ID);
    room.wait_until(200_000);
    assert_eq!(room.group.state(), State::Empty);
}

#[test]
fn who_does_not_give_up_in_time_is_out_though_it_is_alive() {
    let mut room = Room::new(2);
    room.heartbeat(&join("a")).unwrap();
    room.heartbeat(&join("b")).unwrap();
    let response = room.heartbeat(&stay("a", 2, None)).unwrap();
    assert_eq!(told(&response), Some(vec![0]));
    for ms in [5000, 10_000, 15_000, 20_000] {
        room.wait_until(1000 + ms - 1);
        let response = room.heartbeat(&stay("a", 2, Some(&[0, 1]))).unwrap();
        assert_eq!((response.member_epoch, told(&response)), (2, None));
    }
    room.wait_until(21_000);
    assert!(!room.group.has_member("a"));
    let response = room.heartbeat(&stay("b", 3, Some(&[]))).unwrap();
    assert_eq!(told(&response), Some(vec![0, 1]));
}

#[test]
fn nothing_is_told_that_is_not_durable_and_what_failed_is_written_again() {
    let mut room = Room::new(1);
    room.heartbeat(&join("a")).unwrap();
    // Asked once more, though the first records are still on their way: one more is to be waited for.
    room.heartbeat(&join("a")).unwrap();
    assert_eq!(room.out.len(), 2);
    assert_eq!(room.appended(Err(AppendError::NotStored)), [false, false]);
    let again = room.heartbeat(&join("a")).unwrap();
    assert_eq!((again.member_epoch, told(&again)), (2, Some(vec![0])));
    let records = match &room.out[..] {
        [Effect::Append(append)] => append.records.len(),
        other => panic!("one append, not {other:?}"),
    };
    assert_eq!(records, 5, "the group, its target, and the member's three");
    assert_eq!(room.appended(Ok(())), [true]);
    room.heartbeat(&stay("a", 2, None)).unwrap();
    assert!(room.out.is_empty(), "nothing has changed");
}

#[test]
fn an_answer_is_an_error_if_records_before_it_failed() {
    let mut room = Room::new(1);
    room.heartbeat(&join("a")).unwrap();
    room.heartbeat(&join("a")).unwrap();
    let second = room.out.pop();
    assert_eq!(room.appended(Err(AppendError::NotStored)), [false]);
    room.out.extend(second);
    assert_eq!(
        room.appended(Ok(())),
        [false],
        "the group is not in the log"
    );
}

#[test]
fn partitions_are_shared_out_no_more_often_than_they_may() {
    let mut room = Room::new(2);
    room.catalog = std::mem::take(&mut room.catalog).with_groups(groups(5000));
    room.heartbeat(&join("a")).unwrap();
    let response = room.heartbeat(&join("b")).unwrap();
    assert_eq!((response.member_epoch, told(&response)), (2, Some(vec![])));
    assert_eq!(room.group.state(), State::Assigning);
    room.now_ms = 5999;
    room.heartbeat(&stay("b", 2, None)).unwrap();
    assert_eq!(room.group.state(), State::Assigning);
    room.now_ms = 6000;
    room.heartbeat(&stay("b", 2, None)).unwrap();
    assert_eq!(room.group.state(), State::Reconciling);
}

#[test]
fn a_session_that_is_set_anew_holds_from_the_next_heartbeat_on() {
    let mut room = Room::new(1);
    room.heartbeat(&join("a")).unwrap();
    let told_until = room.group.wake_ms();
    assert_eq!(told_until, room.now_ms + 45_000);
    let mut configs = groups(0);
    let session = ("consumer.session.timeout.ms".to_owned(), "50000".to_owned());
    configs.set("g".to_owned(), Values::from([session]));
    room.catalog = std::mem::take(&mut room.catalog).with_groups(configs);
    room.now_ms += 5000;
    room.heartbeat(&stay("a", 2, None)).unwrap();
    room.now_ms = told_until + 5000 + 4999;
    room.step(|group, step| group.expire(step));
    assert_eq!(room.group.size(), 1);
    room.now_ms += 1;
    room.step(|group, step| group.expire(step));
    assert_eq!(room.group.size(), 0);
}

#[test]
fn a_regular_expression_is_looked_up_again_when_it_is_old() {
    let mut room = Room::new(1);
    let request = Request {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some("t|u".into()),
        ..join("a")
    };
    room.heartbeat(&request).unwrap();
    let began_ms = room.now_ms;
    let resolved = |room: &Room| {
        let regex = &room.group.regexes["t|u"];
        (regex.topics.len(), regex.resolved_ms)
    };
    for (after_ms, resolved_ms) in [(599_999, 0), (600_000, 600_000)] {
        // It is not taken for dead meanwhile.
        room.group.wake_ms = NEVER_MS;
        room.now_ms = began_ms + after_ms;
        room.appended(Ok(()));
        let epoch = room.heartbeat(&stay("a", 2, None)).unwrap().member_epoch;
        assert_eq!((epoch, resolved(&room)), (2, (1, began_ms + resolved_ms)));
        assert_eq!(
            room.out.is_empty(),
            resolved_ms == 0,
            "its record says when"
        );
    }
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut room = Room::new(1);
    room.rules.consumer.max_size = 1;
    room.heartbeat(&join("a")).unwrap();
    let refused = room.heartbeat(&join("b")).unwrap_err();
    assert_eq!(refused.error, ErrorCode::GROUP_MAX_SIZE_REACHED);
    room.heartbeat(&join("a")).unwrap();
}

#[test]
fn the_assignor_that_most_would_like_is_taken() {
    let mut room = Room::new(1);
    let like = |id: &'static str, assignor: &'static str| Request {
        server_assignor: Some(assignor.into()),
        ..join(id)
    };
    let preferred = |room: &Room| room.group.preferred(&Assignor::ALL);
    assert_eq!(preferred(&room), Assignor::Uniform);
    room.heartbeat(&like("a", "range")).unwrap();
    assert_eq!(preferred(&room), Assignor::Range);
    room.heartbeat(&like("b", "uniform")).unwrap();
    assert_eq!(preferred(&room), Assignor::Uniform, "the first of equals");
    room.heartbeat(&like("c", "range")).unwrap();
    assert_eq!(preferred(&room), Assignor::Range);
}

/// Members of a cooperative group that becomes one of the consumer protocol in the middle of a rebalance.
#[test]
fn what_classic_members_may_still_read_is_given_up_before_another_gets_it() {
    let room = Room::new(5);
    let part = |partitions: &[i32]| consumer_protocol::TopicPartition {
        topic: "t".into(),
        partitions: partitions.to_vec(),
    };
    let member = |assigned: &[i32]| {
        let mut member =
            crate::group::member::Member::new(&join_group::Request::default(), Caller::default());
        member.assignment = assignment::encode(vec![part(assigned)], &Bytes::new());
        member
    };
    let says = |owned: &[i32], generation_id| {
        let subscription = Subscription {
            topics: vec!["t".into()],
            owned_partitions: vec![part(owned)],
            generation_id,
            ..Subscription::default()
        };
        consumer_protocol::encode(&subscription, 2)
    };
    let members = [member(&[0]), member(&[1]), member(&[])];
    let said = [says(&[2, 3], 6), says(&[0, 1, 2], 7), says(&[], 7)];
    let ids = ["a", "b", "c"].map(StrBytes::from);
    let members = ids.into_iter().zip(&members).zip(said);
    let members = members.map(|((id, member), said)| (id, member, said));
    let taken = taken_over(members, 7, &room.catalog).expect("it is read");
    let indexes =
        |partitions: &Assigned| -> Vec<_> { partitions.keys().map(|id| id.index).collect() };
    let has: Vec<_> = taken
        .iter()
        .map(|(_, m)| (indexes(&m.current.assigned), indexes(&m.current.revoking)))
        .collect();
    // The older claim to 2 does not hold, and 0 is another's by now.
    assert_eq!(
        has,
        [(vec![0], vec![3]), (vec![1], vec![2]), (vec![], vec![])]
    );
    let states = taken
        .iter()
        .map(|(_, m)| m.current.state == MemberState::Unrevoked);
    assert_eq!(states.collect::<Vec<_>>(), [true, true, false]);
}
