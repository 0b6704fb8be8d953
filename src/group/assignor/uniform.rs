//! As even as can be, moving as little as can be: who had a partition keeps it unless that is uneven.
//!
//! Where all members subscribe to the same, none has more than one partition more than another, and no
//! partition moves that need not. Where they do not, nobody could give a partition to a subscriber of
//! its topic that has at least two fewer.

use std::collections::BTreeMap;

use super::{PartitionSet, Subscribers};
use crate::store::PartitionId;
use crate::wire::Uuid;

/// Rounds of balancing over all topics. Each round that moves anything makes the group more even, so they
/// end by themselves; this bounds the work if that takes long.
const ROUNDS_MAX: usize = 64;

pub(super) fn assign(group: &Subscribers) -> Vec<PartitionSet> {
    let mut shares = Shares::kept(group);
    if group.are_alike() {
        shares.level(group);
    } else {
        let subscribers = group.subscribers();
        shares.hand_out(group, &subscribers);
        shares.balance(&subscribers);
    }
    shares.of
}

/// What each member gets, by their places.
struct Shares {
    of: Vec<PartitionSet>,
    owners: BTreeMap<PartitionId, usize>,
}

impl Shares {
    /// What members may keep of what they had. Of two that had the same the first keeps it.
    fn kept(group: &Subscribers) -> Self {
        let mut shares = Shares {
            of: vec![PartitionSet::new(); group.members.len()],
            owners: BTreeMap::new(),
        };
        for (place, member) in group.members.iter().enumerate() {
            for id in &member.before {
                let count = group.partitions.get(&id.topic).copied().unwrap_or(0);
                let is_there = (0..count).contains(&id.index);
                if is_there && member.topics.contains(&id.topic) && !shares.owners.contains_key(id)
                {
                    shares.give(*id, place);
                }
            }
        }
        shares
    }

    fn give(&mut self, id: PartitionId, place: usize) {
        if let Some(owner) = self.owners.insert(id, place) {
            self.of[owner].remove(&id);
        }
        self.of[place].insert(id);
    }

    fn take_last(&mut self, place: usize) -> Option<PartitionId> {
        let id = self.of[place].pop_last()?;
        self.owners.remove(&id);
        Some(id)
    }

    /// All members subscribe to the same: each has its quota, and those with most keep one more.
    fn level(&mut self, group: &Subscribers) {
        let Some(first) = group.members.first() else {
            return;
        };
        let all: Vec<_> = first
            .topics
            .iter()
            .flat_map(|t| group.of_topic(*t))
            .collect();
        let members = group.members.len();
        let (each, more) = (all.len() / members, all.len() % members);
        let mut places: Vec<_> = (0..members).collect();
        places.sort_by_key(|place| std::cmp::Reverse(self.of[*place].len()));
        let quota = |n: usize| each + usize::from(n < more);
        for (n, place) in places.iter().enumerate() {
            while self.of[*place].len() > quota(n) {
                self.take_last(*place);
            }
        }
        let mut free = all.into_iter().filter(|id| !self.owners.contains_key(id));
        let mut given = Vec::new();
        for (n, place) in places.iter().enumerate() {
            let missing = quota(n) - self.of[*place].len();
            given.extend(free.by_ref().take(missing).map(|id| (id, *place)));
        }
        given
            .into_iter()
            .for_each(|(id, place)| self.give(id, place));
    }

    /// What nobody has goes to the least loaded subscriber. Topics with few subscribers for their
    /// partitions come first, as there is least choice.
    fn hand_out(&mut self, group: &Subscribers, subscribers: &BTreeMap<Uuid, Vec<usize>>) {
        let mut topics: Vec<_> = subscribers.iter().collect();
        let partitions = |topic: &Uuid| group.partitions.get(topic).copied().unwrap_or(0) as usize;
        topics.sort_by(|(a, of_a), (b, of_b)| {
            let (few_a, few_b) = (partitions(b) * of_a.len(), partitions(a) * of_b.len());
            few_a.cmp(&few_b).then(of_a.len().cmp(&of_b.len()))
        });
        for (topic, places) in topics {
            let mut loads = self.loads(places);
            for id in group.of_topic(*topic) {
                if self.owners.contains_key(&id) {
                    continue;
                }
                if let Some((load, place)) = loads.pop_first() {
                    loads.insert((load + 1, place));
                    self.give(id, place);
                }
            }
        }
    }

    /// Moves partitions from members that have more to subscribers that have at least two fewer.
    fn balance(&mut self, subscribers: &BTreeMap<Uuid, Vec<usize>>) {
        for _ in 0..ROUNDS_MAX {
            let mut moved = false;
            for (topic, places) in subscribers {
                moved |= places.len() > 1 && self.balance_topic(*topic, places);
            }
            if !moved {
                return;
            }
        }
    }

    fn balance_topic(&mut self, topic: Uuid, places: &[usize]) -> bool {
        let mut loads = self.loads(places);
        // Members that still have a partition of this topic, by their loads.
        let mut givers = loads.clone();
        let mut moved = false;
        while let (Some((most, from)), Some((least, to))) =
            (givers.pop_last(), loads.first().copied())
        {
            if most < least + 2 {
                break;
            }
            let Some(id) = self.last_of(topic, from) else {
                continue;
            };
            self.give(id, to);
            moved = true;
            loads.remove(&(most, from));
            loads.remove(&(least, to));
            loads.extend([(most - 1, from), (least + 1, to)]);
            givers.remove(&(least, to));
            givers.extend([(most - 1, from), (least + 1, to)]);
        }
        moved
    }

    fn last_of(&self, topic: Uuid, place: usize) -> Option<PartitionId> {
        let of = |index| PartitionId { topic, index };
        self.of[place]
            .range(of(0)..=of(i32::MAX))
            .next_back()
            .copied()
    }

    fn loads(&self, places: &[usize]) -> std::collections::BTreeSet<(usize, usize)> {
        places.iter().map(|p| (self.of[*p].len(), *p)).collect()
    }
}
