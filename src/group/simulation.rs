//! Seeded runs of groups with clients that come and go, against an oracle, on a clock of their own.
//!
//! Clients join, leave, crash, pause, come back, lose replies and repeat requests; topics come, grow and go;
//! the log is slow and fails at times; the coordinator ends between any two steps and begins again from its
//! records. At the end all of that stops, and every group has to settle.
//!
//! What must hold: no partition has two owners, in one generation of a classic group, or by what members
//! of the consumer protocol were told and have not given up; an acknowledged commit is never lost and
//! never goes back; when nothing changes any more, every group settles within a bound, and nobody waits.
//! The same seed gives the same run.
//!
//! `GROUP_SIMULATION_SEEDS=100000` runs more of them, `GROUP_SIMULATION_SEED=7` one,
//! `GROUP_SIMULATION_LARGE_SEEDS=1000` more runs with hundreds of clients.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hasher;

use bytes::Bytes;
use proptest::test_runner::{RngAlgorithm, TestRng};
use rand::RngExt;
use rustc_hash::FxHasher;

use ClientAssignor::{CooperativeSticky, Range, RoundRobin, Sticky};
use assignors::{ClientAssignor, Counts};

use super::groups::{Groups, Limits, Outcome, Queued};
use super::load::Replay;
use super::messages::{Commit, GroupReply, GroupRequest, TopicOffsets};
use super::offsets::{Committed, TopicPartition};
use super::{AppendError, Caller, ConsumerRules, Group, Now, Rules, State, Step, Ticket, classic};
use crate::catalog::group_config::{GroupBounds, GroupConfig, GroupConfigs};
use crate::record::Builder;
use crate::store::PartitionId;
use crate::wire::consumer_protocol::{self, Assignment, Subscription};
use crate::wire::join_group::{JoinGroupRequestProtocol, JoinGroupResponseMember};
use crate::wire::leave_group::MemberIdentity;
use crate::wire::sync_group::SyncGroupRequestAssignment;
use crate::wire::{ErrorCode, StrBytes, Uuid, heartbeat, join_group, sync_group};

mod assignors;
mod consumers;

const TOPIC: &str = "t";
/// How long things go wrong.
const CHURN_MS: i64 = 6 * 60_000;
/// How long a group may take to settle then: some sessions and rebalances after another.
const SETTLE_MS: i64 = 3 * 60_000;
const REQUEST_TIMEOUT_MS: i64 = 10_000;
const BACKOFF_MS: i64 = 100;
const HEARTBEAT_MS: i64 = 2000;

/// What goes wrong, in percent.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    lost_replies: u32,
    repeated_requests: u32,
    failed_appends: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Idle,
    Joining,
    Syncing,
    Fetching,
    Reading,
    /// It gives up what it is not to have.
    Revoking,
}

/// What sets clients' libraries apart in how they go through rebalances.
#[derive(Debug)]
struct Library {
    /// After ILLEGAL_GENERATION it joins again under its id.
    keeps_id: bool,
    /// It commits what it is about to give up, before it joins again.
    commits_what_it_gives_up: bool,
    /// It heartbeats from the answer to its JoinGroup on, while it waits for that to its SyncGroup.
    heartbeats_in_sync: bool,
    /// A thread of its own heartbeats while the application is stuck with records, and leaves when that is
    /// so for too long (`max.poll.interval.ms`, which is the rebalance timeout).
    heartbeats_when_stuck: bool,
}

const JAVA: Library = Library {
    keeps_id: true,
    commits_what_it_gives_up: true,
    heartbeats_in_sync: true,
    heartbeats_when_stuck: true,
};
const LIBRDKAFKA: Library = Library {
    heartbeats_in_sync: false,
    ..JAVA
};
/// One loop does all, and the application commits when it likes.
const PLAIN: Library = Library {
    keeps_id: false,
    commits_what_it_gives_up: false,
    heartbeats_in_sync: false,
    heartbeats_when_stuck: false,
};

/// A consumer: one request at a time, but for heartbeats.
struct Client {
    group: usize,
    library: &'static Library,
    instance_id: Option<StrBytes>,
    /// What it can share partitions out by, in the order of its preference.
    protocols: Vec<ClientAssignor>,
    session_ms: i32,
    rebalance_ms: i32,
    version: i16,
    is_up: bool,
    /// It does nothing before.
    paused_until: i64,
    /// Since when only its application does nothing.
    stuck_since: Option<i64>,
    /// Events for an earlier life mean nothing.
    life: u64,
    member_id: StrBytes,
    generation: i32,
    doing: Doing,
    /// The request it waits for, and until when.
    waits: Option<(Ticket, i64)>,
    owned: BTreeSet<i32>,
    positions: BTreeMap<i32, i64>,
    /// Partitions were taken from it: it has to join again so that others get them (KIP-429).
    rejoins: bool,
    /// What a member of the consumer protocol has beside.
    consumer: Option<consumers::Consumer>,
}

impl Client {
    /// As Java's: only if all that it knows is cooperative. Else it gives everything up before it joins.
    fn is_cooperative(&self) -> bool {
        self.protocols == [CooperativeSticky]
    }
}

#[derive(Debug)]
enum Event {
    Tick {
        client: usize,
        life: u64,
    },
    Arrive {
        client: usize,
        life: u64,
        ticket: Ticket,
    },
    Reply {
        client: usize,
        life: u64,
        ticket: Ticket,
        reply: GroupReply,
    },
    Appended,
    Churn,
    /// The coordinator is back, with what its records say.
    Up,
}

/// What a request was, to be sent once more if it is repeated.
type Send = Box<dyn Fn() -> GroupRequest>;

struct World {
    seed: u64,
    rng: TestRng,
    trouble: Trouble,
    now_ms: i64,
    ends_ms: i64,
    events: BTreeMap<(i64, u64), Event>,
    sequence: u64,
    rules: Rules,
    /// `None` while the coordinator is down.
    groups: Option<Groups>,
    names: Vec<StrBytes>,
    partitions: i32,
    topics: consumers::Topics,
    configs: GroupConfigs,
    /// What members of the consumer protocol were told and have not given up, by their ids.
    may_own: HashMap<StrBytes, BTreeSet<i32>>,
    clients: Vec<Client>,
    /// Requests on their way, and who waits for the answers to those that arrived.
    sent: HashMap<Ticket, Send>,
    asked: HashMap<Ticket, (usize, u64)>,
    next_ticket: Ticket,
    next_id: u64,
    in_flight: VecDeque<Queued>,
    log: Vec<(Bytes, Option<Bytes>)>,
    /// The oracle: who had what in which generation, and what was acknowledged.
    owners: HashMap<(usize, i32, i32), StrBytes>,
    acknowledged: HashMap<(usize, i32), i64>,
    /// What a commit says, until it is answered.
    commits: HashMap<Ticket, Vec<(usize, i32, i64)>>,
    /// The last assignment gave a partition twice.
    faulty: bool,
    has_crashed: bool,
    trace: FxHasher,
    steps: u64,
    prints: bool,
}

/// What holds for groups of the consumer protocol that set nothing, and what they may be set to.
fn bounds(assignment_interval_ms: i32) -> GroupBounds {
    let config = |session_timeout_ms, heartbeat_interval_ms, assignment_interval_ms| GroupConfig {
        session_timeout_ms,
        heartbeat_interval_ms,
        assignment_interval_ms,
    };
    GroupBounds {
        defaults: config(10_000, HEARTBEAT_MS as i32, assignment_interval_ms),
        min: config(1000, 500, 0),
        max: config(30_000, 5000, 5000),
    }
}

impl World {
    fn new(seed: u64, clients: usize) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let groups = rng.random_range(1..=3_usize);
        let group_max_size = if rng.random_ratio(1, 8) { 3 } else { 1000 };
        let rules = Rules {
            initial_rebalance_delay_ms: [0, 500, 3000][rng.random_range(0..3_usize)],
            group_max_size,
            check_assignments: true,
            consumer: ConsumerRules {
                max_size: group_max_size,
                ..ConsumerRules::default()
            },
        };
        let bounds = bounds([0, 1000, 5000][rng.random_range(0..3_usize)]);
        let trouble = match rng.random_range(0..3) {
            0 => Trouble {
                lost_replies: 0,
                repeated_requests: 0,
                failed_appends: 0,
            },
            1 => Trouble {
                lost_replies: 2,
                repeated_requests: 2,
                failed_appends: 1,
            },
            _ => Trouble {
                lost_replies: 10,
                repeated_requests: 10,
                failed_appends: 10,
            },
        };
        let mut world = World {
            seed,
            trouble,
            now_ms: 0,
            ends_ms: CHURN_MS,
            events: BTreeMap::new(),
            sequence: 0,
            groups: None,
            names: (0..groups)
                .map(|n| StrBytes::from(format!("group-{n}")))
                .collect(),
            partitions: rng.random_range(1..=12),
            topics: consumers::Topics::default(),
            configs: GroupConfigs::new(bounds),
            may_own: HashMap::new(),
            clients: Vec::new(),
            sent: HashMap::new(),
            asked: HashMap::new(),
            next_ticket: 0,
            next_id: 0,
            in_flight: VecDeque::new(),
            log: Vec::new(),
            owners: HashMap::new(),
            acknowledged: HashMap::new(),
            commits: HashMap::new(),
            faulty: false,
            has_crashed: false,
            trace: FxHasher::default(),
            steps: 0,
            prints: std::env::var_os("GROUP_SIMULATION_TRACE").is_some(),
            rng,
            rules,
        };
        // Groups of classic clients, of those of the consumer protocol, and of both.
        let kinds: Vec<_> = (0..groups).map(|_| world.rng.random_range(0..3)).collect();
        let late: Vec<_> = (0..groups).map(|_| world.rng.random_ratio(1, 2)).collect();
        world.clients = (0..clients)
            .map(|n| {
                let is_consumer = match kinds[n % groups] {
                    0 => false,
                    1 => true,
                    _ => world.rng.random_ratio(1, 2),
                };
                world.new_client(n, is_consumer, late[n % groups])
            })
            .collect();
        world.load();
        world.after(0, Event::Churn);
        world
    }

    /// In groups that are on their way from an eager protocol to the cooperative one, some know both;
    /// either nobody has let the eager one go yet, or all have the cooperative one (KIP-429).
    fn new_client(&mut self, n: usize, is_consumer: bool, is_late: bool) -> Client {
        let rng = &mut self.rng;
        let eager = [Range, RoundRobin, Sticky][n % self.names.len()];
        let protocols = match rng.random_ratio(1, 2) {
            true => vec![CooperativeSticky, eager],
            false if is_late => vec![CooperativeSticky],
            false => vec![eager],
        };
        let is_static = rng.random_ratio(1, 4);
        Client {
            group: n % self.names.len(),
            instance_id: is_static.then(|| format!("instance-{n}").into()),
            protocols,
            library: [&JAVA, &LIBRDKAFKA, &PLAIN][rng.random_range(0..3_usize)],
            session_ms: rng.random_range(6000..=10_000),
            rebalance_ms: rng.random_range(8000..=30_000),
            version: if is_static {
                rng.random_range(5..=9)
            } else {
                rng.random_range(0..=9)
            },
            is_up: false,
            paused_until: 0,
            stuck_since: None,
            life: 0,
            member_id: StrBytes::default(),
            generation: -1,
            doing: Doing::Idle,
            waits: None,
            owned: BTreeSet::new(),
            positions: BTreeMap::new(),
            rejoins: false,
            consumer: is_consumer.then(|| consumers::Consumer::new(rng)),
        }
    }

    fn percent(&mut self, percent: u32) -> bool {
        self.is_troubled() && self.rng.random_ratio(percent, 100)
    }

    fn is_troubled(&self) -> bool {
        self.now_ms < self.ends_ms
    }

    fn now(&self) -> Now {
        Now {
            steady_ms: self.now_ms,
            wall_ms: 1_700_000_000_000 + self.now_ms,
        }
    }

    fn after(&mut self, ms: i64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now_ms + ms, self.sequence), event);
    }

    /// `GROUP_SIMULATION_TRACE=1` prints it.
    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        if self.prints {
            #[expect(clippy::print_stderr, reason = "it was asked for")]
            {
                eprintln!("{} {what}", self.now_ms);
            }
        }
    }

    fn fail(&self, what: &str) -> ! {
        panic!("seed {}, at {} ms: {what}", self.seed, self.now_ms);
    }

    // ---- the coordinator

    fn load(&mut self) {
        let mut replay = Replay::default();
        let mut builder = Builder::new();
        for (key, value) in &self.log {
            builder.append(0, Some(key), value.as_deref(), &[]);
        }
        if !self.log.is_empty() {
            replay.take(vec![builder.build()], 0);
        }
        let limits = Limits {
            groups_max: 100,
            members_max: 10_000,
            metadata_bytes_max: 1 << 20,
        };
        let catalog = self.catalog();
        let mut groups = Groups::new(self.rules.clone(), limits, catalog.clone());
        let step = Step {
            now: self.now(),
            rules: &self.rules,
            catalog: &catalog,
            out: &mut Vec::new(),
        };
        groups.load(replay.into_groups(&step));
        self.groups = Some(groups);
    }

    /// It ends, and what was on its way to the log is there in part.
    fn crash_coordinator(&mut self) {
        self.note(format_args!("coordinator down"));
        self.has_crashed = true;
        self.groups = None;
        let kept = self.rng.random_range(0..=self.in_flight.len());
        for queued in self.in_flight.drain(..).take(kept) {
            let records = queued.append.records.into_iter();
            self.log.extend(records.map(|r| (r.key, r.value)));
        }
        self.events
            .retain(|_, event| !matches!(event, Event::Appended));
        // Its connections are closed.
        let mut asked: Vec<_> = self
            .asked
            .drain()
            .map(|(ticket, (client, _))| (ticket, client))
            .collect();
        asked.sort_unstable();
        for (ticket, client) in asked {
            if self.clients[client].waits.is_some_and(|(t, _)| t == ticket) {
                self.clients[client].waits = None;
                self.asks_anew(client);
                self.wake(client, BACKOFF_MS);
            }
        }
        let down = self.rng.random_range(100..5000);
        self.after(down, Event::Up);
    }

    fn with_groups(&mut self, event: impl FnOnce(&mut Groups, Now, &mut Vec<Outcome>)) {
        let now = self.now();
        let Some(groups) = &mut self.groups else {
            return;
        };
        let mut out = Vec::new();
        event(groups, now, &mut out);
        for outcome in out {
            match outcome {
                Outcome::Reply(ticket, reply) => self.replied(ticket, reply),
                Outcome::Noted(_) => {}
                Outcome::Append(queued) => {
                    if self.in_flight.is_empty() {
                        let ms = self.rng.random_range(0..40);
                        self.after(ms, Event::Appended);
                    }
                    self.in_flight.push_back(queued);
                }
            }
        }
    }

    /// All that was on its way is durable, or none of it.
    fn appended(&mut self) {
        let fails = self.percent(self.trouble.failed_appends);
        let queued: Vec<_> = self.in_flight.drain(..).collect();
        if !fails {
            for queued in &queued {
                let records = queued.append.records.iter();
                self.log
                    .extend(records.map(|r| (r.key.clone(), r.value.clone())));
            }
        }
        let result = if fails {
            Err(AppendError::NotStored)
        } else {
            Ok(())
        };
        self.note(format_args!("append fails: {fails}"));
        self.with_groups(|groups, now, out| {
            for queued in queued {
                groups.appended(queued, result, now, out);
            }
        });
    }

    fn replied(&mut self, ticket: Ticket, reply: GroupReply) {
        if let Some(commits) = self.commits.remove(&ticket)
            && matches!(reply, GroupReply::Done(Ok(())))
        {
            for (group, partition, offset) in commits {
                let before = self.acknowledged.insert((group, partition), offset);
                if before.is_some_and(|before| before > offset) {
                    self.fail(&format!(
                        "a commit went back: {before:?} to {offset} of partition {partition}"
                    ));
                }
            }
        }
        if let GroupReply::Offsets(Ok(found)) = &reply
            && let Some((client, _)) = self.asked.get(&ticket)
        {
            let group = self.clients[*client].group;
            for (partition, committed) in found.iter().flat_map(|f| &f.partitions) {
                let acknowledged = self.acknowledged.get(&(group, *partition)).copied();
                let found = committed.as_ref().map(|c| c.offset);
                if acknowledged > found {
                    self.fail(&format!(
                        "an acknowledged commit is lost: {acknowledged:?}, found {found:?}"
                    ));
                }
            }
        }
        let Some((client, life)) = self.asked.remove(&ticket) else {
            return;
        };
        match &reply {
            GroupReply::ConsumerHeartbeat(response) => self.check_heard(client, response),
            GroupReply::Sync(response) if response.error_code.is_ok() => {
                let told = self.assigned(response.assignment.clone());
                self.check_told(client, self.clients[client].member_id.clone(), told);
            }
            _ => {}
        }
        if self.percent(self.trouble.lost_replies) {
            return;
        }
        let ms = self.rng.random_range(0..20);
        self.after(
            ms,
            Event::Reply {
                client,
                life,
                ticket,
                reply,
            },
        );
    }

    // ---- clients

    fn asks_anew(&mut self, client: usize) {
        if let Some(consumer) = &mut self.clients[client].consumer {
            consumer.asks_anew();
        }
    }

    fn wake(&mut self, client: usize, ms: i64) {
        let life = self.clients[client].life;
        self.after(ms, Event::Tick { client, life });
    }

    fn send(
        &mut self,
        client: usize,
        timeout_ms: i64,
        request: impl Fn() -> GroupRequest + 'static,
    ) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let life = self.clients[client].life;
        self.clients[client].waits = Some((ticket, self.now_ms + timeout_ms));
        self.sent.insert(ticket, Box::new(request));
        let ms = self.rng.random_range(0..20);
        self.after(
            ms,
            Event::Arrive {
                client,
                life,
                ticket,
            },
        );
        self.wake(client, timeout_ms + 1);
        ticket
    }

    fn arrive(&mut self, client: usize, life: u64, ticket: Ticket) {
        let Some(request) = self.sent.remove(&ticket) else {
            return;
        };
        let Some(groups) = &self.groups else {
            // Nobody listens.
            self.clients[client].waits.take_if(|(t, _)| *t == ticket);
            self.asks_anew(client);
            return self.wake(client, BACKOFF_MS);
        };
        assert!(groups.len() <= self.names.len());
        self.asked.insert(ticket, (client, life));
        let repeats = self.percent(self.trouble.repeated_requests);
        for repeat in 0..1 + i32::from(repeats) {
            self.next_id += 1;
            let unique = self.next_id.to_string();
            // A repeated request has a ticket that nobody waits for.
            let ticket = if repeat == 0 {
                ticket
            } else {
                u64::MAX - ticket
            };
            let request = request();
            self.note(format_args!("{client} asks {request:?}"));
            match &request {
                GroupRequest::ConsumerHeartbeat { request, .. } => self.has_said(request),
                GroupRequest::Join { request, .. } => self.has_joined(request),
                _ => {}
            }
            self.with_groups(|groups, now, out| groups.handle(request, ticket, unique, now, out));
        }
    }

    fn tick(&mut self, client: usize) {
        let now_ms = self.now_ms;
        let one = &mut self.clients[client];
        if !one.is_up {
            return;
        }
        if one.paused_until > now_ms {
            return self.tick_paused(client);
        }
        match one.waits {
            Some((_, until)) if until > now_ms => return self.tick_waiting(client),
            Some(_) => {
                // No answer: it asks again.
                one.waits = None;
                if let Some(consumer) = &mut one.consumer {
                    consumer.asks_anew();
                }
                if one.doing == Doing::Syncing {
                    one.doing = Doing::Idle;
                }
            }
            None => {}
        }
        if one.consumer.is_some() {
            return self.tick_consumer(client);
        }
        match one.doing {
            Doing::Idle | Doing::Joining => self.join(client),
            Doing::Syncing | Doing::Revoking => {
                self.clients[client].doing = Doing::Idle;
                self.join(client);
            }
            Doing::Fetching => self.fetch(client),
            Doing::Reading => self.read(client),
        }
    }

    /// It waits for an answer.
    fn tick_waiting(&mut self, client: usize) {
        let one = &self.clients[client];
        if one.doing == Doing::Syncing && one.library.heartbeats_in_sync {
            self.heartbeat_beside(client);
            self.wake(client, HEARTBEAT_MS);
        }
    }

    fn tick_paused(&mut self, client: usize) {
        let one = &self.clients[client];
        let ms = one.paused_until - self.now_ms;
        let is_member = one.doing == Doing::Reading && one.consumer.is_none();
        match one.stuck_since {
            Some(since) if is_member && one.library.heartbeats_when_stuck => {
                if self.now_ms - since > i64::from(one.rebalance_ms) {
                    self.give_membership_up(client);
                    return self.wake(client, ms);
                }
                self.heartbeat_beside(client);
                self.wake(client, ms.min(HEARTBEAT_MS));
            }
            _ => self.wake(client, ms),
        }
    }

    /// A heartbeat beside another request, for whose answer the client does not wait.
    fn heartbeat_beside(&mut self, client: usize) {
        let waits = self.clients[client].waits;
        self.heartbeat(client);
        self.clients[client].waits = waits;
    }

    fn forget_membership(&mut self, client: usize) {
        let one = &mut self.clients[client];
        if let Some(consumer) = &mut one.consumer {
            consumer.forget();
        }
        one.member_id = StrBytes::default();
        one.generation = -1;
        one.doing = Doing::Idle;
        one.owned.clear();
        one.positions.clear();
        one.rejoins = false;
    }

    fn join(&mut self, client: usize) {
        let group_id = self.names[self.clients[client].group].clone();
        let one = &mut self.clients[client];
        one.doing = Doing::Joining;
        one.rejoins = false;
        if !one.is_cooperative() {
            one.owned.clear();
            one.positions.clear();
        }
        let owned = consumer_protocol::TopicPartition {
            topic: TOPIC.into(),
            partitions: one.owned.iter().copied().collect(),
        };
        let subscription = Subscription {
            topics: vec![TOPIC.into()],
            owned_partitions: vec![owned],
            generation_id: one.generation,
            ..Subscription::default()
        };
        let protocol = |assignor: &ClientAssignor| JoinGroupRequestProtocol {
            name: assignor.name().into(),
            metadata: consumer_protocol::encode(&subscription, 2),
        };
        let protocols = one.protocols.iter().map(protocol).collect();
        let request = join_group::Request {
            group_id,
            session_timeout_ms: one.session_ms,
            rebalance_timeout_ms: one.rebalance_ms,
            member_id: one.member_id.clone(),
            group_instance_id: one.instance_id.clone(),
            protocol_type: "consumer".into(),
            protocols,
            reason: None,
        };
        let version = one.version;
        let timeout_ms = i64::from(one.rebalance_ms) + 5000;
        let caller = Caller {
            client_id: format!("client-{client}").into(),
            host: "/1".into(),
        };
        self.send(client, timeout_ms, move || GroupRequest::Join {
            request: request.clone(),
            version,
            caller: caller.clone(),
        });
    }

    fn sync(&mut self, client: usize, response: &join_group::Response) {
        let group_id = self.names[self.clients[client].group].clone();
        let leads = response.leader == response.member_id && !response.skip_assignment;
        let assignments = match leads && !response.members.is_empty() {
            true => self.assign(&response.members, response.protocol_name.as_deref()),
            false => Vec::new(),
        };
        let one = &mut self.clients[client];
        one.doing = Doing::Syncing;
        let request = sync_group::Request {
            group_id,
            generation_id: one.generation,
            member_id: one.member_id.clone(),
            group_instance_id: one.instance_id.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: response.protocol_name.clone(),
            assignments,
        };
        if one.library.heartbeats_in_sync {
            self.wake(client, HEARTBEAT_MS);
        }
        self.send(client, REQUEST_TIMEOUT_MS, move || {
            GroupRequest::Sync(request.clone())
        });
    }

    /// A leader's work, by the assignor that was chosen. At times a leader is faulty, and gives a partition
    /// twice.
    fn assign(
        &mut self,
        members: &[JoinGroupResponseMember],
        protocol: Option<&str>,
    ) -> Vec<SyncGroupRequestAssignment> {
        let topic = Uuid::ZERO;
        let seen = |member: &JoinGroupResponseMember| {
            let metadata = member.metadata.clone();
            let Ok(told) = consumer_protocol::decode::<Subscription>(metadata) else {
                self.fail("a leader cannot read a member's subscription");
            };
            let owned = told.owned_partitions.iter().flat_map(|p| &p.partitions);
            assignors::Member {
                id: member.member_id.clone(),
                instance_id: member.group_instance_id.clone(),
                topics: BTreeSet::from([topic]),
                owned: owned
                    .map(|index| PartitionId {
                        topic,
                        index: *index,
                    })
                    .collect(),
                generation: told.generation_id,
            }
        };
        let seen: Vec<_> = members.iter().map(seen).collect();
        // The first versions of JoinGroup have the name too.
        let Some(assignor) = protocol.and_then(ClientAssignor::of) else {
            self.fail(&format!("nobody offered the protocol {protocol:?}"));
        };
        let shares = assignor.assign(&seen, &Counts::from([(topic, self.partitions)]));
        let indexes = shares
            .into_iter()
            .map(|share| share.iter().map(|id| id.index).collect());
        let mut parts: Vec<Vec<i32>> = indexes.collect();
        let is_faulty = !self.faulty && members.len() > 1 && self.percent(2);
        self.faulty = is_faulty;
        if is_faulty && let Some(first) = parts[0].first().copied() {
            parts[1].push(first);
        }
        let encode = |partitions: Vec<i32>| {
            let part = consumer_protocol::TopicPartition {
                topic: TOPIC.into(),
                partitions,
            };
            let assignment = Assignment {
                assigned_partitions: vec![part],
                user_data: None,
            };
            consumer_protocol::encode(&assignment, 1)
        };
        let members = members.iter().zip(parts);
        members
            .map(|(member, partitions)| SyncGroupRequestAssignment {
                member_id: member.member_id.clone(),
                assignment: encode(partitions),
            })
            .collect()
    }

    fn fetch(&mut self, client: usize) {
        let one = &self.clients[client];
        let group = self.names[one.group].clone();
        let mut partitions: Vec<_> = one.owned.iter().copied().collect();
        partitions.retain(|p| consumers::is_first_topic(*p));
        self.send(client, REQUEST_TIMEOUT_MS, move || GroupRequest::Offsets {
            group: group.clone(),
            member_id: None,
            member_epoch: -1,
            topics: Some(vec![TopicOffsets {
                topic: TOPIC.into(),
                topic_id: Uuid::ZERO,
                partitions: partitions.clone(),
            }]),
        });
    }

    /// A consumer at work: it heartbeats and commits.
    fn read(&mut self, client: usize) {
        if self.clients[client].rejoins {
            return self.join(client);
        }
        let owned = &self.clients[client].owned;
        if !owned.is_empty() && self.rng.random_ratio(1, 3) {
            let owned = owned.clone();
            return self.commit(client, owned);
        }
        self.heartbeat(client);
    }

    fn heartbeat(&mut self, client: usize) {
        let one = &self.clients[client];
        let request = heartbeat::Request {
            group_id: self.names[one.group].clone(),
            generation_id: one.generation,
            member_id: one.member_id.clone(),
            group_instance_id: one.instance_id.clone(),
        };
        self.send(client, REQUEST_TIMEOUT_MS, move || {
            GroupRequest::Heartbeat(request.clone())
        });
    }

    fn commit(&mut self, client: usize, partitions: BTreeSet<i32>) {
        let group = self.clients[client].group;
        let mut offsets = Vec::new();
        let mut said = Vec::new();
        for partition in partitions {
            if !consumers::is_first_topic(partition) {
                continue;
            }
            let step = self.rng.random_range(0..10);
            // Where it has not read from yet there is nothing to be committed.
            let Some(position) = self.clients[client].positions.get_mut(&partition) else {
                continue;
            };
            *position += step;
            said.push((group, partition, *position));
            offsets.push((of(partition), committed(*position)));
        }
        let one = &self.clients[client];
        let (name, member_id, instance_id, generation) = (
            self.names[group].clone(),
            one.member_id.clone(),
            one.instance_id.clone(),
            one.generation,
        );
        let ticket = self.send(client, REQUEST_TIMEOUT_MS, move || {
            GroupRequest::Commit(Commit {
                group: name.clone(),
                member_id: member_id.clone(),
                instance_id: instance_id.clone(),
                generation,
                version: 9,
                offsets: offsets.clone(),
            })
        });
        self.commits.insert(ticket, said);
    }

    fn reply(&mut self, client: usize, ticket: Ticket, reply: GroupReply) {
        self.note(format_args!("{client} hears {reply:?}"));
        let one = &mut self.clients[client];
        if one.waits.take_if(|(t, _)| *t == ticket).is_none() {
            return;
        }
        match reply {
            GroupReply::Join(response) => self.joined(client, &response),
            GroupReply::ConsumerHeartbeat(response) => self.heard(client, response),
            GroupReply::Sync(response) => self.synced(client, response),
            GroupReply::Offsets(Ok(found)) => {
                for (partition, committed) in found.into_iter().flat_map(|f| f.partitions) {
                    let offset = committed.map_or(0, |c| c.offset);
                    let position = one.positions.entry(partition).or_insert(offset);
                    *position = offset.max(*position);
                }
                one.doing = Doing::Reading;
                self.wake(client, HEARTBEAT_MS);
            }
            GroupReply::Done(Ok(())) if one.consumer.is_none() && one.doing == Doing::Revoking => {
                self.join(client);
            }
            GroupReply::Done(Ok(())) => self.wake(client, HEARTBEAT_MS),
            GroupReply::Done(Err(error)) | GroupReply::Offsets(Err(error)) => {
                self.refused(client, error);
            }
            other => self.fail(&format!("nobody asked for {other:?}")),
        }
    }

    fn joined(&mut self, client: usize, response: &join_group::Response) {
        let one = &mut self.clients[client];
        match response.error_code {
            ErrorCode::NONE => {
                one.member_id = response.member_id.clone();
                one.generation = response.generation_id;
                self.sync(client, response);
            }
            ErrorCode::MEMBER_ID_REQUIRED => {
                one.member_id = response.member_id.clone();
                self.join(client);
            }
            error => self.refused(client, error),
        }
    }

    fn synced(&mut self, client: usize, response: sync_group::Response) {
        if !response.error_code.is_ok() {
            return self.refused(client, response.error_code);
        }
        let assigned = self.assigned(response.assignment);
        self.may_own
            .insert(self.clients[client].member_id.clone(), assigned.clone());
        let one = &self.clients[client];
        // Generations begin anew when a group goes from one protocol to the other by way of none.
        let is_mixed = |c: &Client| c.group == one.group && c.consumer.is_some();
        let is_mixed = self.clients.iter().any(is_mixed);
        // A static member stays the same under its new id.
        let who = one.instance_id.clone().unwrap_or(one.member_id.clone());
        for partition in &assigned {
            let place = (one.group, one.generation, *partition);
            let owner = self.owners.entry(place).or_insert_with(|| who.clone());
            if *owner != who && !is_mixed {
                let owner = owner.clone();
                self.fail(&format!(
                    "partition {partition} belongs to {owner} and to {who}, in generation {}",
                    place.1
                ));
            }
        }
        let one = &mut self.clients[client];
        let is_cooperative = one.is_cooperative();
        one.rejoins = is_cooperative && !one.owned.is_subset(&assigned);
        let revoked: BTreeSet<_> = one.owned.difference(&assigned).copied().collect();
        one.positions
            .retain(|partition, _| is_cooperative && one.owned.contains(partition));
        one.owned = assigned;
        if one.rejoins && one.library.commits_what_it_gives_up {
            return self.give_up(client, revoked);
        }
        one.positions
            .retain(|partition, _| !revoked.contains(partition));
        one.doing = Doing::Fetching;
        self.fetch(client);
    }

    /// Commits what is given up; then it joins again.
    fn give_up(&mut self, client: usize, partitions: BTreeSet<i32>) {
        self.clients[client].doing = Doing::Revoking;
        self.commit(client, partitions);
        let Client {
            positions, owned, ..
        } = &mut self.clients[client];
        positions.retain(|partition, _| owned.contains(partition));
    }

    fn assigned(&self, bytes: Bytes) -> BTreeSet<i32> {
        if bytes.is_empty() {
            return BTreeSet::new();
        }
        let assignment = consumer_protocol::decode::<Assignment>(bytes);
        let assignment = assignment.unwrap_or_else(|_| self.fail("an assignment cannot be read"));
        let topics = assignment.assigned_partitions.into_iter();
        topics.flat_map(|p| p.partitions).collect()
    }

    fn refused(&mut self, client: usize, error: ErrorCode) {
        if self.clients[client].consumer.is_some() {
            return self.refused_consumer(client, error);
        }
        match error {
            // Java's consumer and librdkafka are the same member still; others begin anew.
            ErrorCode::ILLEGAL_GENERATION if self.clients[client].library.keeps_id => {
                let id = self.clients[client].member_id.clone();
                self.forget_membership(client);
                self.clients[client].member_id = id;
            }
            ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::GROUP_ID_NOT_FOUND => {
                self.forget_membership(client);
            }
            // It ends aiokafka.
            ErrorCode::REBALANCE_IN_PROGRESS if self.clients[client].doing == Doing::Joining => {
                self.fail(&format!("the join of client {client} is refused with it"));
            }
            ErrorCode::REBALANCE_IN_PROGRESS => {
                let one = &self.clients[client];
                let gives_up = one.doing == Doing::Reading && !one.is_cooperative();
                if gives_up && one.library.commits_what_it_gives_up && !one.owned.is_empty() {
                    let owned = one.owned.clone();
                    return self.give_up(client, owned);
                }
                self.clients[client].doing = Doing::Idle;
            }
            ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::NOT_COORDINATOR => {
                let one = &mut self.clients[client];
                if one.doing == Doing::Syncing {
                    one.doing = Doing::Idle;
                }
            }
            // What a client cannot go on after.
            ErrorCode::FENCED_INSTANCE_ID | ErrorCode::GROUP_MAX_SIZE_REACHED => {
                return self.stop_client(client);
            }
            // A group's record has only the protocol that was chosen, as with Kafka.
            ErrorCode::INCONSISTENT_GROUP_PROTOCOL if self.has_crashed => {
                return self.stop_client(client);
            }
            other => self.fail(&format!("client {client} is refused with {other:?}")),
        }
        self.wake(client, BACKOFF_MS);
    }

    // ---- churn

    fn start_client(&mut self, client: usize) {
        self.note(format_args!("{client} starts"));
        self.clients[client].life += 1;
        self.clients[client].is_up = true;
        self.clients[client].paused_until = 0;
        self.clients[client].stuck_since = None;
        self.clients[client].waits = None;
        self.forget_membership(client);
        self.name_consumer(client);
        self.wake(client, 0);
    }

    fn stop_client(&mut self, client: usize) {
        self.note(format_args!("{client} is down"));
        self.clients[client].life += 1;
        self.clients[client].is_up = false;
        self.clients[client].waits = None;
        self.forget_membership(client);
    }

    /// Its application is stuck for too long: it is no member until that takes records again.
    fn give_membership_up(&mut self, client: usize) {
        self.note(format_args!("{client} is stuck for too long"));
        self.say_that_it_leaves(client);
        self.clients[client].waits = None;
        self.forget_membership(client);
    }

    fn leave(&mut self, client: usize) {
        let one = &self.clients[client];
        if one.consumer.is_some() {
            return self.leave_as_consumer(client);
        }
        self.say_that_it_leaves(client);
        self.stop_client(client);
    }

    /// Static members do not.
    fn say_that_it_leaves(&mut self, client: usize) {
        let one = &self.clients[client];
        if !one.member_id.is_empty() && one.instance_id.is_none() {
            let request = GroupRequest::Leave {
                group: self.names[one.group].clone(),
                members: vec![MemberIdentity {
                    member_id: one.member_id.clone(),
                    ..MemberIdentity::default()
                }],
            };
            self.with_groups(|groups, now, out| {
                groups.handle(request, u64::MAX, String::new(), now, out)
            });
        }
    }

    fn churn(&mut self) {
        if !self.is_troubled() {
            return self.calm();
        }
        let client = self.rng.random_range(0..self.clients.len());
        match self.rng.random_range(0..100) {
            0..50 if !self.clients[client].is_up => self.start_client(client),
            0..20 => self.leave(client),
            20..40 => self.stop_client(client),
            40..60 => {
                let ms = self.rng.random_range(1000..30_000);
                let is_stuck = self.rng.random_ratio(1, 2);
                self.note(format_args!(
                    "{client} pauses for {ms} ms, stuck: {is_stuck}"
                ));
                self.clients[client].paused_until = self.now_ms + ms;
                self.clients[client].stuck_since = is_stuck.then_some(self.now_ms);
                // Who heartbeats beside goes on with it.
                self.wake(client, HEARTBEAT_MS);
            }
            60..64 if self.groups.is_some() => self.crash_coordinator(),
            64..68 => self.delete_or_commit(),
            68..74 => self.change_topics(),
            74..78 => self.change_configs(),
            _ => {}
        }
        let ms = self.rng.random_range(0..8000);
        self.after(ms, Event::Churn);
    }

    /// An administrator at work on a group that has no members.
    fn delete_or_commit(&mut self) {
        let group = self.rng.random_range(0..self.names.len());
        let name = self.names[group].clone();
        let is_empty = self
            .groups
            .as_ref()
            .and_then(|g| g.get(&name))
            .is_some_and(|g| g.state_name() == "Empty");
        if !is_empty || !self.in_flight.is_empty() {
            return;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let request = match self.rng.random_ratio(1, 2) {
            true => {
                // Its offsets and generations begin anew, whatever becomes of the deletion.
                self.owners.retain(|(g, ..), _| *g != group);
                self.acknowledged.retain(|(g, _), _| *g != group);
                GroupRequest::Delete(name)
            }
            false => {
                let partition = self.rng.random_range(0..self.partitions);
                let offset = self.rng.random_range(0..100);
                self.acknowledged.remove(&(group, partition));
                self.commits
                    .insert(ticket, vec![(group, partition, offset)]);
                GroupRequest::Commit(Commit {
                    group: name,
                    member_id: StrBytes::default(),
                    instance_id: None,
                    generation: -1,
                    version: 9,
                    offsets: vec![(of(partition), committed(offset))],
                })
            }
        };
        self.note(format_args!("an administrator asks {request:?}"));
        self.with_groups(|groups, now, out| {
            groups.handle(request, ticket, String::new(), now, out)
        });
    }

    /// The last changes: nobody is paused, and some are up in the end.
    fn calm(&mut self) {
        self.note(format_args!("calm"));
        for client in 0..self.clients.len() {
            if self.clients[client].paused_until > self.now_ms {
                self.clients[client].paused_until = 0;
                self.wake(client, 0);
            }
            if !self.clients[client].is_up && self.rng.random_ratio(1, 2) {
                self.start_client(client);
            }
        }
        if self.groups.is_none() {
            self.after(0, Event::Up);
        }
    }

    // ---- the run

    fn run(mut self) -> (u64, u64) {
        let end_ms = CHURN_MS + SETTLE_MS;
        loop {
            let next_ms = self
                .events
                .first_key_value()
                .map_or(i64::MAX, |((ms, _), _)| *ms);
            let wake_ms = self
                .groups
                .as_ref()
                .and_then(Groups::wake_ms)
                .unwrap_or(i64::MAX);
            if next_ms.min(wake_ms) > end_ms {
                break;
            }
            if wake_ms <= next_ms {
                self.now_ms = self.now_ms.max(wake_ms);
                self.with_groups(|groups, now, out| groups.expire(now, out));
                continue;
            }
            let Some(((ms, _), event)) = self.events.pop_first() else {
                break;
            };
            self.now_ms = ms;
            self.steps += 1;
            self.trace.write_i64(ms);
            self.trace.write_usize(self.log.len());
            if let Event::Reply { client, ticket, .. } = &event {
                self.trace.write_usize(*client);
                self.trace.write_u64(*ticket);
            }
            self.happen(event);
        }
        self.now_ms = end_ms;
        self.check_settled();
        (self.trace.finish(), self.steps)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { client, life } if life == self.clients[client].life => self.tick(client),
            // What was sent arrives though its sender is gone.
            Event::Arrive {
                client,
                life,
                ticket,
            } => self.arrive(client, life, ticket),
            Event::Reply {
                client,
                life,
                ticket,
                reply,
            } if life == self.clients[client].life => {
                if self.clients[client].paused_until > self.now_ms {
                    let ms = self.clients[client].paused_until - self.now_ms;
                    self.after(
                        ms,
                        Event::Reply {
                            client,
                            life,
                            ticket,
                            reply,
                        },
                    );
                } else {
                    self.reply(client, ticket, reply);
                }
            }
            Event::Tick { .. } | Event::Reply { .. } => {}
            Event::Appended => self.appended(),
            Event::Churn => self.churn(),
            Event::Up if self.groups.is_none() => {
                self.note(format_args!("coordinator up"));
                self.load();
            }
            Event::Up => {}
        }
    }

    fn classic<'a>(&self, group: &'a Group) -> &'a classic::Group {
        match group {
            Group::Classic(group) => group,
            Group::Consumer(_) => self.fail("nobody asked for a group of the consumer protocol"),
        }
    }

    fn check_settled(&self) {
        let Some(groups) = &self.groups else {
            self.fail("the coordinator is down");
        };
        for (n, name) in self.names.iter().enumerate() {
            let up: Vec<_> = self
                .clients
                .iter()
                .filter(|c| c.group == n && c.is_up)
                .collect();
            if up.iter().any(|client| client.consumer.is_some()) {
                self.check_settled_consumers(name, groups.get(name), &up);
                continue;
            }
            if up.is_empty() {
                let state = groups.get(name).map_or("Empty", Group::state_name);
                if state != "Empty" {
                    self.fail(&format!("{name} has no members and is {state}"));
                }
                continue;
            }
            let group = groups.get(name).map(|group| self.classic(group));
            let state = group.map_or(State::Empty, |g| g.state());
            let generation = group.map_or(0, |g| g.generation());
            if state != State::Stable {
                self.fail(&format!("{name} has {} members and is {state:?}", up.len()));
            }
            let mut owned = BTreeSet::new();
            for client in up {
                if client.doing != Doing::Reading || client.generation != generation {
                    self.fail(&format!(
                        "a member of {name} is {:?} in generation {}, not {generation}",
                        client.doing, client.generation
                    ));
                }
                owned.extend(client.owned.iter().copied());
            }
            if owned != (0..self.partitions).collect() {
                self.fail(&format!("of {name} only {owned:?} are read"));
            }
        }
    }
}

fn of(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TOPIC.into(),
        partition,
    }
}

fn committed(offset: i64) -> Committed {
    Committed {
        offset,
        leader_epoch: -1,
        metadata: StrBytes::default(),
        committed_ms: 0,
        expires_ms: None,
        topic_id: Uuid::ZERO,
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn groups_settle_and_lose_nothing_whatever_clients_do() {
    if let Some(seed) = number("GROUP_SIMULATION_SEED") {
        World::new(seed, 2 + (seed % 24) as usize).run();
        return;
    }
    for seed in 0..number("GROUP_SIMULATION_SEEDS").unwrap_or(16) {
        World::new(seed, 2 + (seed % 24) as usize).run();
    }
}

#[test]
fn groups_of_hundreds_settle() {
    for seed in 0..number("GROUP_SIMULATION_LARGE_SEEDS").unwrap_or(3) {
        World::new(1_000_001 + seed, 200 + 50 * (seed % 5) as usize).run();
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || World::new(5, 12).run();
    assert_eq!(run(), run());
}
