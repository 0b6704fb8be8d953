//! Members of the consumer protocol (KIP-848), as Java's consumer is one: one request at a time, a full
//! heartbeat after every error, and partitions that take a while to be given up.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::test_runner::TestRng;
use rand::RngExt;

use super::{Client, Doing, HEARTBEAT_MS, REQUEST_TIMEOUT_MS, TOPIC, World};
use crate::catalog::topic_config::TopicConfig;
use crate::catalog::{Catalog, Topic, Values};
use crate::group::consumer::State;
use crate::group::messages::GroupRequest;
use crate::group::{Caller, Group};
use crate::wire::consumer_group_heartbeat::{Assignment, Request, Response, TopicPartitions};
use crate::wire::consumer_protocol::{self, Subscription};
use crate::wire::{ErrorCode, StrBytes, Uuid, join_group};

use super::BACKOFF_MS;

/// A topic that comes, grows and goes. Each time that it comes it has another id.
const OTHER: &str = "u";
/// Partitions of the other topic are this much apart from those of its next life.
const LIFE: i32 = 1000;
const PARTITIONS_MAX: i32 = 16;

/// The other topic.
#[derive(Default)]
pub(super) struct Topics {
    life: u8,
    partitions: Option<i32>,
    changes: i64,
}

pub(super) struct Consumer {
    by_regex: bool,
    assignor: Option<&'static str>,
    /// What it was told to have.
    told: BTreeSet<i32>,
    /// What it said last that it has, if that is known to have arrived.
    said: Option<BTreeSet<i32>>,
    /// It says everything with its next heartbeat.
    says_all: bool,
}

impl Consumer {
    pub(super) fn new(rng: &mut TestRng) -> Self {
        Consumer {
            by_regex: rng.random_ratio(1, 3),
            assignor: [None, Some("uniform"), Some("range")][rng.random_range(0..3_usize)],
            told: BTreeSet::new(),
            said: None,
            says_all: true,
        }
    }

    /// An answer did not come: it says everything once more, and is told everything.
    pub(super) fn asks_anew(&mut self) {
        self.says_all = true;
    }

    pub(super) fn forget(&mut self) {
        self.told.clear();
        self.said = None;
        self.says_all = true;
    }
}

pub(super) fn is_first_topic(partition: i32) -> bool {
    partition < LIFE
}

fn partition(topic: Uuid, index: i32) -> i32 {
    i32::from(topic.0[0] - 1) * LIFE + index
}

fn partitions(topics: &[TopicPartitions]) -> BTreeSet<i32> {
    let of = |t: &TopicPartitions| {
        let topic = t.topic_id;
        t.partitions
            .clone()
            .into_iter()
            .map(move |index| partition(topic, index))
    };
    topics.iter().flat_map(of).collect()
}

fn said(owned: &BTreeSet<i32>) -> Vec<TopicPartitions> {
    let lives: BTreeSet<_> = owned.iter().map(|p| p / LIFE).collect();
    let of = |life: i32| TopicPartitions {
        topic_id: Uuid([life as u8 + 1; 16]),
        partitions: owned
            .iter()
            .filter(|p| *p / LIFE == life)
            .map(|p| p % LIFE)
            .collect(),
    };
    lives.into_iter().map(of).collect()
}

impl World {
    pub(super) fn catalog(&self) -> Arc<Catalog> {
        let topic = |name: &'static str, life: u8, partitions| Topic {
            name: name.into(),
            id: Uuid([life + 1; 16]),
            partitions,
            configs: Values::new(),
            config: TopicConfig::default(),
            adopted: false,
        };
        let other = self
            .topics
            .partitions
            .map(|p| topic(OTHER, self.topics.life, p));
        let all = [topic(TOPIC, 0, self.partitions)].into_iter().chain(other);
        let catalog = all.collect::<Catalog>().with_groups(self.configs.clone());
        Arc::new(catalog.after(self.topics.changes))
    }

    /// A group of the consumer protocol gets another config, or loses what it had.
    pub(super) fn change_configs(&mut self) {
        let group = self.rng.random_range(0..self.names.len());
        let (name, ms) = match self.rng.random_range(0..3) {
            0 => (
                "consumer.session.timeout.ms",
                self.rng.random_range(6000..=20_000),
            ),
            1 => (
                "consumer.heartbeat.interval.ms",
                self.rng.random_range(1000..=4000),
            ),
            _ => (
                "consumer.assignment.interval.ms",
                self.rng.random_range(0..=5000),
            ),
        };
        let group = self.names[group].to_string();
        let mut values = self.configs.set_for(&group).clone();
        if values.remove(name).is_none() {
            values.insert(name.to_owned(), i32::to_string(&ms));
        }
        self.note(format_args!("configs of {group}: {values:?}"));
        let values = self.configs.check(&group, &values).expect("good values");
        self.configs.set(group, values);
        self.topics.changes += 1;
        self.take_catalog();
    }

    fn take_catalog(&mut self) {
        let catalog = self.catalog();
        if let Some(groups) = &mut self.groups {
            groups.take_catalog(catalog);
        }
    }

    /// The other topic comes, grows or goes.
    pub(super) fn change_topics(&mut self) {
        let grows = self.rng.random_ratio(2, 3);
        let topics = &mut self.topics;
        match topics.partitions {
            None => {
                topics.life += 1;
                topics.partitions = Some(self.rng.random_range(1..5));
            }
            Some(now) if grows && now < PARTITIONS_MAX => {
                topics.partitions = Some(self.rng.random_range(now + 1..=PARTITIONS_MAX));
            }
            Some(_) => topics.partitions = None,
        }
        self.topics.changes += 1;
        let told = (self.topics.life, self.topics.partitions);
        self.note(format_args!("the other topic: {told:?}"));
        self.take_catalog();
    }

    /// A new member makes up its id.
    pub(super) fn name_consumer(&mut self, client: usize) {
        let one = &mut self.clients[client];
        if one.consumer.is_some() {
            one.member_id = format!("m{client}-{}", one.life).into();
            one.generation = 0;
        }
    }

    pub(super) fn tick_consumer(&mut self, client: usize) {
        let doing = self.clients[client].doing;
        match doing {
            Doing::Revoking => self.take_told(client),
            Doing::Fetching => self.fetch(client),
            Doing::Reading if self.commits_now(client) => {
                let owned = self.clients[client].owned.clone();
                self.commit(client, owned);
            }
            Doing::Idle | Doing::Joining | Doing::Syncing | Doing::Reading => {
                self.send_heartbeat(client)
            }
        }
    }

    fn commits_now(&mut self, client: usize) -> bool {
        let one = &self.clients[client];
        let has_news = one
            .consumer
            .as_ref()
            .is_some_and(|c| c.said.as_ref() != Some(&one.owned));
        let owns = one.owned.iter().any(|p| is_first_topic(*p));
        owns && !has_news && self.rng.random_ratio(1, 3)
    }

    fn send_heartbeat(&mut self, client: usize) {
        let group_id = self.names[self.clients[client].group].clone();
        let one = &mut self.clients[client];
        let Some(consumer) = &mut one.consumer else {
            return;
        };
        let mut request = Request {
            group_id,
            member_id: one.member_id.clone(),
            member_epoch: one.generation,
            instance_id: one.instance_id.clone(),
            ..Request::default()
        };
        if std::mem::take(&mut consumer.says_all) || one.generation == 0 {
            request.rebalance_timeout_ms = one.rebalance_ms;
            request.server_assignor = consumer.assignor.map(StrBytes::from);
            match consumer.by_regex {
                true => request.subscribed_topic_regex = Some("[tu]".into()),
                false => request.subscribed_topic_names = Some(vec![TOPIC.into(), OTHER.into()]),
            }
            consumer.said = None;
        }
        if consumer.said.as_ref() != Some(&one.owned) {
            request.topic_partitions = Some(said(&one.owned));
            consumer.said = Some(one.owned.clone());
        }
        let caller = Caller {
            client_id: format!("client-{client}").into(),
            host: "/1".into(),
        };
        self.send(client, REQUEST_TIMEOUT_MS, move || {
            GroupRequest::ConsumerHeartbeat {
                request: request.clone(),
                version: 1,
                caller: caller.clone(),
            }
        });
    }

    /// A heartbeat arrives: it says what its member has given up.
    pub(super) fn has_said(&mut self, request: &Request) {
        let may_own = self.may_own.entry(request.member_id.clone()).or_default();
        if request.member_epoch < 0 {
            may_own.clear();
        }
        if let Some(topics) = &request.topic_partitions {
            *may_own = partitions(topics);
        }
    }

    /// A JoinGroup arrives: it says the same.
    pub(super) fn has_joined(&mut self, request: &join_group::Request) {
        let metadata = request.protocols[0].metadata.clone();
        let Ok(said) = consumer_protocol::decode::<Subscription>(metadata) else {
            self.fail("a subscription cannot be read");
        };
        let owned = said.owned_partitions.into_iter();
        let owned = owned.flat_map(|p| p.partitions).collect();
        self.may_own.insert(request.member_id.clone(), owned);
    }

    pub(super) fn check_heard(&mut self, client: usize, response: &Response) {
        if let Some(Assignment { topic_partitions }) = &response.assignment {
            let told = partitions(topic_partitions);
            let member_id = response.member_id.clone().unwrap_or_default();
            self.check_told(client, member_id, told);
        }
    }

    /// The oracle: what a member is told to have no other member of its group may have.
    pub(super) fn check_told(&mut self, client: usize, member_id: StrBytes, told: BTreeSet<i32>) {
        let name = &self.names[self.clients[client].group];
        if let Some(Group::Consumer(group)) = self.groups.as_ref().and_then(|g| g.get(name)) {
            for (other, may_own) in &self.may_own {
                let both = told.intersection(may_own).next();
                if let Some(both) = both
                    && *other != member_id
                    && group.has_member(other)
                {
                    self.fail(&format!(
                        "{member_id} is told to have {both} of {name}, and {other} has it"
                    ));
                }
            }
        }
        self.may_own.entry(member_id).or_default().extend(told);
    }

    pub(super) fn heard(&mut self, client: usize, response: Response) {
        if !response.error_code.is_ok() {
            return self.refused_consumer(client, response.error_code);
        }
        let one = &mut self.clients[client];
        one.generation = response.member_epoch;
        let Some(consumer) = &mut one.consumer else {
            return;
        };
        let Some(assignment) = response.assignment else {
            one.doing = Doing::Reading;
            return self.wake(client, HEARTBEAT_MS);
        };
        consumer.told = partitions(&assignment.topic_partitions);
        match one.owned.is_subset(&consumer.told) {
            true => self.take_told(client),
            false => {
                one.doing = Doing::Revoking;
                let ms = self.rng.random_range(0..3000);
                self.wake(client, ms);
            }
        }
    }

    /// It has what it was told, and tells so when it knows where to read.
    fn take_told(&mut self, client: usize) {
        let one = &mut self.clients[client];
        let told = one
            .consumer
            .as_ref()
            .map(|c| c.told.clone())
            .unwrap_or_default();
        let owned = std::mem::replace(&mut one.owned, told);
        one.positions
            .retain(|p, _| owned.contains(p) && one.owned.contains(p));
        one.doing = Doing::Fetching;
        self.wake(client, 0);
    }

    pub(super) fn refused_consumer(&mut self, client: usize, error: ErrorCode) {
        let one = &mut self.clients[client];
        if let Some(consumer) = &mut one.consumer {
            consumer.says_all = true;
        }
        match error {
            ErrorCode::FENCED_MEMBER_EPOCH
            | ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::GROUP_ID_NOT_FOUND => {
                let id = one.member_id.clone();
                self.forget_membership(client);
                let one = &mut self.clients[client];
                one.member_id = id;
                one.generation = 0;
            }
            // A heartbeat tells it what has changed.
            ErrorCode::STALE_MEMBER_EPOCH => one.doing = Doing::Reading,
            ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::UNRELEASED_INSTANCE_ID => {}
            ErrorCode::FENCED_INSTANCE_ID | ErrorCode::GROUP_MAX_SIZE_REACHED => {
                return self.stop_client(client);
            }
            other => self.fail(&format!("member {client} is refused with {other:?}")),
        }
        self.wake(client, BACKOFF_MS);
    }

    /// For good, or for a while if it is static.
    pub(super) fn leave_as_consumer(&mut self, client: usize) {
        let one = &self.clients[client];
        let request = Request {
            group_id: self.names[one.group].clone(),
            member_id: one.member_id.clone(),
            member_epoch: if one.instance_id.is_some() { -2 } else { -1 },
            instance_id: one.instance_id.clone(),
            ..Request::default()
        };
        if one.generation > 0 {
            self.has_said(&request);
            let request = GroupRequest::ConsumerHeartbeat {
                request,
                version: 1,
                caller: Caller::default(),
            };
            self.with_groups(|groups, now, out| {
                groups.handle(request, u64::MAX, String::new(), now, out)
            });
        }
        self.stop_client(client);
    }

    pub(super) fn check_settled_consumers(
        &self,
        name: &str,
        group: Option<&Group>,
        up: &[&Client],
    ) {
        let Some(Group::Consumer(group)) = group else {
            self.fail(&format!("{name} is no group of the consumer protocol"));
        };
        let state = group.state();
        if state != State::Stable {
            self.fail(&format!("{name} has {} members and is {state:?}", up.len()));
        }
        let mut all = BTreeSet::new();
        for client in up {
            let (id, epoch) = (&client.member_id, group.epoch());
            if client.doing != Doing::Reading || client.generation != epoch {
                self.fail(&format!(
                    "{id} of {name} is {:?} at epoch {}, not {epoch}",
                    client.doing, client.generation
                ));
            }
            for partition in &client.owned {
                if !all.insert(*partition) {
                    self.fail(&format!("partition {partition} of {name} has two owners"));
                }
            }
        }
        let life = i32::from(self.topics.life) * LIFE;
        let other = self
            .topics
            .partitions
            .map_or(life..life, |p| life..life + p);
        if all != (0..self.partitions).chain(other).collect() {
            self.fail(&format!("of {name} only {all:?} are read"));
        }
    }
}
