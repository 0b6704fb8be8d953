//! Fetch sessions (KIP-227): what a client fetches, remembered, so that it need not say all of it again
//! and is told only what has changed.
//!
//! Pure and synchronous; time and randomness come as arguments. Each shard keeps the sessions that
//! were opened on it, and a session's id says which shard that is, so that it is found from every
//! connection. As in Kafka, a fetch takes its partitions from the session when it begins
//! ([`Sessions::resume`]) and decides by it what to tell when it ends ([`Sessions::settle`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::wire::{StrBytes, Uuid};

/// The id that names no session.
pub const NO_SESSION: i32 = 0;
/// The epoch of a fetch that opens a session, and of one that has none.
pub const INITIAL_EPOCH: i32 = 0;
pub const FINAL_EPOCH: i32 = -1;

/// A session that was not used for this long may be closed for another, and so may one that is this old
/// for a larger one.
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);
/// Memory that the sessions of a shard may take together, for each that it may keep.
const BYTES_PER_SESSION: usize = 64 << 10;
/// What one partition of a session takes, about, but for its topic's name.
const BYTES_PER_PARTITION: usize = 256;

/// Why a fetch cannot go on with its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("the session does not exist")]
    Unknown,
    #[error("the session is at another epoch")]
    WrongEpoch,
    #[error("the session names topics in the other way")]
    OtherTopicNaming,
}

/// A partition that is asked for, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Empty if it is not known: no topic has this id. Keeps no frame alive.
    pub topic: StrBytes,
    /// Zero if the topic was named, not identified.
    pub topic_id: Uuid,
    pub partition: i32,
    pub want: Want,
}

impl Asked {
    /// What makes it the same partition in another request.
    pub fn key(&self) -> Key {
        key(&self.topic, self.topic_id, self.partition)
    }

    fn bytes(&self) -> usize {
        BYTES_PER_PARTITION + self.topic.len()
    }
}

/// What is wanted of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    pub offset: i64,
    pub max_bytes: i32,
    pub leader_epoch: i32,
    pub last_fetched_epoch: i32,
}

/// Tells partitions apart as requests name them.
pub type Key = (TopicKey, i32);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicKey {
    Name(StrBytes),
    Id(Uuid),
}

fn key(topic: &StrBytes, topic_id: Uuid, partition: i32) -> Key {
    match topic_id.is_zero() {
        true => (TopicKey::Name(topic.clone()), partition),
        false => (TopicKey::Id(topic_id), partition),
    }
}

/// A partition that leaves a session.
#[derive(Debug, Clone)]
pub struct Forgotten {
    pub topic: StrBytes,
    pub topic_id: Uuid,
    pub partition: i32,
}

/// What a client was told of a partition last; -1 where nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub high_watermark: i64,
    pub log_start_offset: i64,
}

/// The partitions that a fetch reads, in that order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub asked: Vec<Asked>,
    /// Of each in its session, if there is one: names it to [`Sessions::settle`].
    pub places: Vec<u64>,
}

/// What a fetch found of a partition.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    pub place: u64,
    pub now: Told,
    pub has_records: bool,
    pub failed: bool,
    /// There is something to be told that the session does not remember.
    pub urgent: bool,
}

/// A fetch that goes on with a session.
#[derive(Debug)]
pub struct Resume {
    pub id: i32,
    pub epoch: i32,
    /// The request identifies its topics, rather than to name them.
    pub by_id: bool,
    pub asked: Vec<Asked>,
    pub forgotten: Vec<Forgotten>,
}

/// What is asked of the shard that keeps a session.
#[derive(Debug)]
pub enum Call {
    Resume(Resume),
    Settle {
        id: i32,
        epoch: i32,
        found: Vec<Found>,
    },
    Close(i32),
}

/// What a [`Call`] is answered with.
#[derive(Debug)]
pub enum Outcome {
    Resumed(Result<Resumed, SessionError>),
    Settled(Result<Vec<bool>, SessionError>),
    Closed,
}

/// What a fetch goes on with.
#[derive(Debug, PartialEq, Eq)]
pub enum Resumed {
    /// All partitions of the session.
    Session(Listed),
    /// The session had nothing left and is closed: just what the request asked for.
    Closed(Vec<Asked>),
}

/// How much a shard keeps.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub sessions: usize,
    pub bytes: usize,
    pub shard: usize,
    pub shards: usize,
}

impl Limits {
    /// A shard's part of `sessions` sessions.
    pub fn of_shard(sessions: usize, shard: usize, shards: usize) -> Self {
        let sessions = sessions / shards + usize::from(shard < sessions % shards);
        Limits {
            sessions,
            bytes: sessions * BYTES_PER_SESSION,
            shard,
            shards,
        }
    }
}

/// The shard that has a session, if there is a session of this id at all.
pub fn home(id: i32, shards: usize) -> Option<usize> {
    let shard = (usize::try_from(id).ok()?).checked_sub(1)? / ids_per_shard(shards);
    (shard < shards).then_some(shard)
}

fn ids_per_shard(shards: usize) -> usize {
    i32::MAX as usize / shards
}

/// The sessions of one shard.
pub struct Sessions {
    limits: Limits,
    sessions: FxHashMap<i32, Session>,
    by_use: BTreeSet<(Instant, i32)>,
    /// Those that a larger one may push out.
    by_size: BTreeSet<(usize, i32)>,
    bytes: usize,
}

struct Session {
    by_id: bool,
    /// Of the next request.
    epoch: i32,
    opened: Instant,
    used: Instant,
    /// In the order in which they are read. Those that gave records go to the end, so that each comes
    /// first in its turn.
    partitions: BTreeMap<u64, Cached>,
    places: FxHashMap<Key, u64>,
    next_place: u64,
    bytes: usize,
    /// Under which it stands in `by_size`.
    listed_size: Option<usize>,
}

struct Cached {
    asked: Asked,
    told: Told,
}

impl Sessions {
    pub fn new(limits: Limits) -> Self {
        Sessions {
            limits,
            sessions: FxHashMap::default(),
            by_use: BTreeSet::new(),
            by_size: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    pub fn handle(
        &mut self,
        call: Call,
        name: impl Fn(&Uuid) -> Option<StrBytes>,
        now: Instant,
    ) -> Outcome {
        match call {
            Call::Resume(request) => Outcome::Resumed(self.resume(request, name, now)),
            Call::Settle { id, epoch, found } => Outcome::Settled(self.settle(id, epoch, &found)),
            Call::Close(id) => {
                self.close(id);
                Outcome::Closed
            }
        }
    }

    /// Opens a session that has told its client this; gives its id, or [`NO_SESSION`] if there is no
    /// room. No partition is named twice.
    pub fn open(
        &mut self,
        by_id: bool,
        told: impl ExactSizeIterator<Item = (Asked, Told)>,
        now: Instant,
        random: impl FnMut() -> Option<u32>,
    ) -> i32 {
        if self.limits.sessions == 0 || !self.make_room(told.len(), now) {
            return NO_SESSION;
        }
        let mut session = Session::new(by_id, now);
        for (asked, told) in told {
            session.add(asked, told);
        }
        if session.bytes > self.limits.bytes {
            return NO_SESSION;
        }
        while self.bytes + session.bytes > self.limits.bytes {
            if !self.evict(session.partitions.len(), now) {
                return NO_SESSION;
            }
        }
        let Some(id) = self.free_id(random) else {
            return NO_SESSION;
        };
        self.bytes += session.bytes;
        self.sessions.insert(id, session);
        self.touch(id, now);
        id
    }

    pub fn close(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.bytes -= session.bytes;
            self.by_use.remove(&(session.used, id));
            if let Some(size) = session.listed_size {
                self.by_size.remove(&(size, id));
            }
        }
    }

    /// Takes what a request says of its session. `name` knows the topics' names by their ids.
    pub fn resume(
        &mut self,
        request: Resume,
        name: impl Fn(&Uuid) -> Option<StrBytes>,
        now: Instant,
    ) -> Result<Resumed, SessionError> {
        let id = request.id;
        let session = self.sessions.get_mut(&id).ok_or(SessionError::Unknown)?;
        if session.epoch != request.epoch {
            return Err(SessionError::WrongEpoch);
        }
        if session.by_id != request.by_id {
            return Err(SessionError::OtherTopicNaming);
        }
        self.bytes -= session.bytes;
        for asked in &request.asked {
            session.ask(asked);
        }
        for forgotten in &request.forgotten {
            session.forget(forgotten);
        }
        session.epoch = next_epoch(session.epoch);
        let listed = session.list(name);
        self.bytes += session.bytes;
        if listed.asked.is_empty() {
            self.close(id);
            return Ok(Resumed::Closed(request.asked));
        }
        self.touch(id, now);
        if self.bytes > self.limits.bytes {
            // Its client will open another, which has to fit.
            self.close(id);
            return Err(SessionError::Unknown);
        }
        Ok(Resumed::Session(listed))
    }

    /// Which of the partitions, in their order, the client is to be told of. `epoch` is the request's.
    pub fn settle(
        &mut self,
        id: i32,
        epoch: i32,
        found: &[Found],
    ) -> Result<Vec<bool>, SessionError> {
        match self.sessions.get_mut(&id) {
            // It was closed meanwhile. The next request will learn of it.
            None => Ok(vec![true; found.len()]),
            Some(session) if session.epoch != next_epoch(epoch) => Err(SessionError::WrongEpoch),
            Some(session) => Ok(found.iter().map(|found| session.settle(found)).collect()),
        }
    }

    /// Whether one more session may be kept, that of another being closed if need be.
    fn make_room(&mut self, size: usize, now: Instant) -> bool {
        self.sessions.len() < self.limits.sessions || self.evict(size, now)
    }

    /// Closes the session that was not used for longest, if that is long, or the smallest one that is
    /// old and smaller than the one to come.
    fn evict(&mut self, size: usize, now: Instant) -> bool {
        let stale = self
            .by_use
            .first()
            .filter(|(used, _)| now.saturating_duration_since(*used) > EVICTABLE_AFTER);
        let smallest = || self.by_size.first().filter(|(listed, _)| *listed < size);
        let id = match (stale, smallest()) {
            (Some((_, id)), _) | (None, Some((_, id))) => *id,
            (None, None) => return false,
        };
        self.close(id);
        true
    }

    /// Notes that a session is used, and how large it is now.
    fn touch(&mut self, id: i32, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        self.by_use.remove(&(session.used, id));
        session.used = now;
        self.by_use.insert((now, id));
        if let Some(size) = session.listed_size.take() {
            self.by_size.remove(&(size, id));
        }
        if now.saturating_duration_since(session.opened) > EVICTABLE_AFTER {
            let size = session.partitions.len();
            session.listed_size = Some(size);
            self.by_size.insert((size, id));
        }
    }

    /// An id of this shard that no session has.
    fn free_id(&self, mut random: impl FnMut() -> Option<u32>) -> Option<i32> {
        let count = ids_per_shard(self.limits.shards);
        loop {
            let id = 1 + self.limits.shard * count + random()? as usize % count;
            let id = i32::try_from(id).ok()?;
            if !self.sessions.contains_key(&id) {
                return Some(id);
            }
        }
    }
}

/// Epochs come round to 1 again: 0 opens a session.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

impl Session {
    fn new(by_id: bool, now: Instant) -> Self {
        Session {
            by_id,
            epoch: next_epoch(INITIAL_EPOCH),
            opened: now,
            used: now,
            partitions: BTreeMap::new(),
            places: FxHashMap::default(),
            next_place: 0,
            bytes: 0,
            listed_size: None,
        }
    }

    fn add(&mut self, asked: Asked, told: Told) {
        self.bytes += asked.bytes();
        self.places.insert(asked.key(), self.next_place);
        self.partitions
            .insert(self.next_place, Cached { asked, told });
        self.next_place += 1;
    }

    fn ask(&mut self, asked: &Asked) {
        let known = self.places.get(&asked.key());
        match known.and_then(|place| self.partitions.get_mut(place)) {
            Some(cached) => cached.asked.want = asked.want,
            None => {
                let nothing = Told {
                    high_watermark: -1,
                    log_start_offset: -1,
                };
                self.add(asked.clone(), nothing);
            }
        }
    }

    fn forget(&mut self, forgotten: &Forgotten) {
        let key = key(&forgotten.topic, forgotten.topic_id, forgotten.partition);
        let place = self.places.remove(&key);
        if let Some(cached) = place.and_then(|place| self.partitions.remove(&place)) {
            self.bytes -= cached.asked.bytes();
        }
    }

    fn list(&mut self, name: impl Fn(&Uuid) -> Option<StrBytes>) -> Listed {
        let mut listed = Listed {
            asked: Vec::with_capacity(self.partitions.len()),
            places: Vec::with_capacity(self.partitions.len()),
        };
        for (place, cached) in &mut self.partitions {
            let asked = &mut cached.asked;
            // A topic that was not known may be there by now. One that was keeps its name.
            if asked.topic.is_empty() && self.by_id {
                asked.topic = name(&asked.topic_id).unwrap_or_default();
                self.bytes += asked.topic.len();
            }
            listed.asked.push(asked.clone());
            listed.places.push(*place);
        }
        listed
    }

    /// Whether the client is to be told of it. KIP-227 as Kafka does it: the last stable offset does not
    /// count.
    fn settle(&mut self, found: &Found) -> bool {
        let Some(cached) = self.partitions.get_mut(&found.place) else {
            return false;
        };
        let changed = cached.told != found.now;
        cached.told = found.now;
        if found.failed {
            // So that it is told when the error is gone.
            cached.told.high_watermark = -1;
        }
        if found.has_records {
            self.move_to_end(found.place);
        }
        found.has_records || changed || found.failed || found.urgent
    }

    fn move_to_end(&mut self, place: u64) {
        if let Some(cached) = self.partitions.remove(&place) {
            self.places.insert(cached.asked.key(), self.next_place);
            self.partitions.insert(self.next_place, cached);
            self.next_place += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SLOTS: usize = 3;

    fn sessions() -> Sessions {
        Sessions::new(Limits::of_shard(SLOTS, 0, 1))
    }

    fn asked(topic: &'static str, partition: i32, offset: i64) -> Asked {
        let want = Want {
            offset,
            max_bytes: 1000,
            leader_epoch: -1,
            last_fetched_epoch: -1,
        };
        Asked {
            topic: topic.into(),
            topic_id: Uuid::ZERO,
            partition,
            want,
        }
    }

    fn forget(topic: &'static str, partition: i32) -> Forgotten {
        Forgotten {
            topic: topic.into(),
            topic_id: Uuid::ZERO,
            partition,
        }
    }

    fn told(high_watermark: i64) -> Told {
        Told {
            high_watermark,
            log_start_offset: 0,
        }
    }

    fn resume(id: i32, epoch: i32) -> Resume {
        Resume {
            id,
            epoch,
            by_id: false,
            asked: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    fn no_name(_: &Uuid) -> Option<StrBytes> {
        None
    }

    /// Opens a session of this many partitions. The same number always gives the same id.
    fn open(sessions: &mut Sessions, partitions: i32, now: Instant, random: u32) -> i32 {
        let all: Vec<_> = (0..partitions)
            .map(|p| (asked("t", p, 0), told(0)))
            .collect();
        let mut next = random;
        sessions.open(false, all.into_iter(), now, || {
            next += 1;
            Some(next - 1)
        })
    }

    fn partitions(resumed: Result<Resumed, SessionError>) -> Vec<i32> {
        match resumed {
            Ok(Resumed::Session(listed)) => listed.asked.iter().map(|a| a.partition).collect(),
            other => panic!("no session: {other:?}"),
        }
    }

    #[test]
    fn a_session_is_found_by_its_id_and_epoch_only() {
        let (mut sessions, now) = (sessions(), Instant::now());
        let id = open(&mut sessions, 1, now, 7);
        let unknown = sessions.resume(resume(id + 1, 1), no_name, now);
        assert_eq!(unknown, Err(SessionError::Unknown));
        for epoch in [2, i32::MAX, -7] {
            let wrong = sessions.resume(resume(id, epoch), no_name, now);
            assert_eq!(wrong, Err(SessionError::WrongEpoch));
        }
        let by_id = Resume {
            by_id: true,
            ..resume(id, 1)
        };
        let other = sessions.resume(by_id, no_name, now);
        assert_eq!(other, Err(SessionError::OtherTopicNaming));
        for epoch in 1..4 {
            assert_eq!(
                partitions(sessions.resume(resume(id, epoch), no_name, now)),
                [0]
            );
        }
        sessions.close(id);
        let closed = sessions.resume(resume(id, 4), no_name, now);
        assert_eq!(closed, Err(SessionError::Unknown));
        assert_eq!(sessions.bytes, 0);
    }

    #[test]
    fn epochs_come_round_to_one() {
        assert_eq!(next_epoch(i32::MAX), 1);
        assert_eq!(next_epoch(1), 2);
    }

    #[test]
    fn a_session_without_partitions_ends() {
        let (mut sessions, now) = (sessions(), Instant::now());
        let id = open(&mut sessions, 2, now, 7);
        let all = Resume {
            asked: vec![asked("u", 5, 0)],
            forgotten: vec![
                forget("t", 0),
                forget("t", 1),
                forget("u", 5),
                forget("v", 0),
            ],
            ..resume(id, 1)
        };
        let ended = sessions.resume(all, no_name, now);
        assert_eq!(ended, Ok(Resumed::Closed(vec![asked("u", 5, 0)])));
        assert_eq!((sessions.sessions.len(), sessions.bytes), (0, 0));
    }

    #[test]
    fn ids_say_which_shard_has_the_session() {
        for shards in [1, 2, 3, 64] {
            for shard in 0..shards {
                let mut sessions = Sessions::new(Limits::of_shard(1000, shard, shards));
                for random in [0, 1, 77_777, u32::MAX] {
                    let id = open(&mut sessions, 1, Instant::now(), random.saturating_sub(9));
                    assert_eq!(home(id, shards), Some(shard), "{id}");
                }
            }
            for id in [0, -1, i32::MIN] {
                assert_eq!(home(id, shards), None);
            }
        }
        assert_eq!(
            home(i32::MAX, 2),
            None,
            "what is left over belongs to nobody"
        );
    }

    #[test]
    fn the_shards_have_all_slots_together() {
        let slots = |shards| (0..shards).map(move |s| Limits::of_shard(10, s, shards).sessions);
        assert!(slots(4).eq([3, 3, 2, 2]));
        assert_eq!(slots(16).sum::<usize>(), 10);
    }

    #[test]
    fn a_full_cache_gives_way_to_none_but_the_stale_and_the_smaller_of_the_old() {
        let (mut sessions, start) = (sessions(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let ids: Vec<_> = (0..3)
            .map(|n| open(&mut sessions, 2 + n, at(0), n as u32))
            .collect();
        assert_eq!(
            open(&mut sessions, 100, at(100), 50),
            NO_SESSION,
            "all are young"
        );
        // All are in use, and old by now.
        for id in &ids {
            partitions(sessions.resume(resume(*id, 1), no_name, at(121)));
        }
        assert_eq!(
            open(&mut sessions, 2, at(122), 50),
            NO_SESSION,
            "none is smaller"
        );
        let larger = open(&mut sessions, 3, at(122), 50);
        assert_ne!(larger, NO_SESSION);
        assert!(
            !sessions.sessions.contains_key(&ids[0]),
            "the smallest went"
        );
        partitions(sessions.resume(resume(ids[1], 2), no_name, at(200)));
        partitions(sessions.resume(resume(larger, 1), no_name, at(200)));
        assert_ne!(open(&mut sessions, 1, at(242), 60), NO_SESSION);
        assert!(
            !sessions.sessions.contains_key(&ids[2]),
            "the one that is not used went"
        );
    }

    #[test]
    fn memory_is_bounded_however_large_sessions_grow() {
        let (mut sessions, now) = (sessions(), Instant::now());
        let most = (SLOTS * BYTES_PER_SESSION / BYTES_PER_PARTITION) as i32;
        assert_eq!(open(&mut sessions, most + 1, now, 0), NO_SESSION);
        let id = open(&mut sessions, most / 2, now, 0);
        assert_eq!(open(&mut sessions, most, now, 1), NO_SESSION);
        let more = Resume {
            asked: (0..most).map(|p| asked("u", p, 0)).collect(),
            ..resume(id, 1)
        };
        let refused = sessions.resume(more, no_name, now);
        assert_eq!(refused, Err(SessionError::Unknown));
        assert_eq!((sessions.sessions.len(), sessions.bytes), (0, 0));
    }

    #[test]
    fn a_topic_id_that_was_unknown_is_looked_up_until_it_is_known_and_then_keeps_its_name() {
        let (mut sessions, now) = (sessions(), Instant::now());
        let unnamed = Asked {
            topic_id: Uuid([7; 16]),
            ..asked("", 0, 0)
        };
        let id = sessions.open(true, [(unnamed, told(-1))].into_iter(), now, || Some(1));
        let mut name_at = |epoch, name: Option<&'static str>| {
            let request = Resume {
                by_id: true,
                ..resume(id, epoch)
            };
            match sessions.resume(request, |_| name.map(StrBytes::from), now) {
                Ok(Resumed::Session(listed)) => listed.asked[0].topic.to_string(),
                other => panic!("no session: {other:?}"),
            }
        };
        assert_eq!(name_at(1, None), "");
        assert_eq!(name_at(2, Some("t")), "t");
        assert_eq!(name_at(3, None), "t");
        sessions.close(id);
        assert_eq!(sessions.bytes, 0);
    }

    /// One step of a client and of the partitions.
    #[derive(Debug, Clone)]
    struct Step {
        asked: Vec<(i32, i64)>,
        forgotten: Vec<i32>,
        /// Of each partition: what was found of it.
        found: Vec<(i64, bool, bool)>,
    }

    fn step() -> impl Strategy<Value = Step> {
        let found = (
            -1..3_i64,
            proptest::bool::weighted(0.2),
            proptest::bool::weighted(0.2),
        );
        (
            proptest::collection::vec((0..6, 0..9_i64), 0..4),
            proptest::collection::vec(0..6, 0..2),
            proptest::collection::vec(found, 6),
        )
            .prop_map(|(asked, forgotten, found)| Step {
                asked,
                forgotten,
                found,
            })
    }

    /// A session as a list in the order in which its partitions are read.
    #[derive(Default)]
    struct Model(Vec<(i32, i64, i64)>);

    impl Model {
        fn take(&mut self, step: &Step) {
            for (partition, offset) in &step.asked {
                match self.0.iter_mut().find(|(p, ..)| p == partition) {
                    Some(known) => known.1 = *offset,
                    None => self.0.push((*partition, *offset, -1)),
                }
            }
            self.0.retain(|(p, ..)| !step.forgotten.contains(p));
        }

        /// The partitions that the client is told of.
        fn settle(&mut self, step: &Step) -> Vec<i32> {
            let (mut stay, mut moved, mut tell) = (Vec::new(), Vec::new(), Vec::new());
            for (partition, offset, seen) in self.0.drain(..) {
                let (high_watermark, records, failed) = step.found[partition as usize];
                if records || failed || seen != high_watermark {
                    tell.push(partition);
                }
                let next = (partition, offset, if failed { -1 } else { high_watermark });
                if records { &mut moved } else { &mut stay }.push(next);
            }
            stay.extend(moved);
            self.0 = stay;
            tell
        }
    }

    proptest! {
        #[test]
        fn a_session_does_as_a_list_does(steps in proptest::collection::vec(step(), 1..30)) {
            let (mut sessions, now) = (sessions(), Instant::now());
            let id = open(&mut sessions, 0, now, 3);
            let mut model = Model::default();
            for (epoch, step) in (1..).zip(steps) {
                model.take(&step);
                let request = Resume {
                    asked: step.asked.iter().map(|(p, offset)| asked("t", *p, *offset)).collect(),
                    forgotten: step.forgotten.iter().map(|p| forget("t", *p)).collect(),
                    ..resume(id, epoch)
                };
                let listed = match sessions.resume(request, no_name, now).expect("it is there") {
                    Resumed::Session(listed) => listed,
                    Resumed::Closed(_) => {
                        prop_assert!(model.0.is_empty());
                        prop_assert_eq!(sessions.bytes, 0);
                        return Ok(());
                    }
                };
                let read = listed.asked.iter().map(|a| (a.partition, a.want.offset));
                prop_assert!(read.eq(model.0.iter().map(|(p, offset, _)| (*p, *offset))));
                let found: Vec<_> = listed.asked.iter().zip(&listed.places).map(|(asked, place)| {
                    let (high_watermark, has_records, failed) = step.found[asked.partition as usize];
                    let now = Told { high_watermark, log_start_offset: -1 };
                    Found { place: *place, now, has_records, failed, urgent: false }
                }).collect();
                let tell = sessions.settle(id, epoch, &found).expect("nobody was faster");
                let told = listed.asked.iter().zip(tell).filter(|(_, tell)| *tell);
                let told: Vec<_> = told.map(|(asked, _)| asked.partition).collect();
                prop_assert_eq!(told, model.settle(&step));
                let bytes = model.0.len() * (BYTES_PER_PARTITION + 1);
                prop_assert_eq!(sessions.bytes, bytes);
            }
        }
    }
}
