//! What leaders of classic groups share partitions out by: the assignors that come with Java's consumer,
//! under its names, with the guarantees that it documents. Range and the sticky ones are those of the
//! coordinator (see [`crate::group::assignor`]), given what members say they own.
//!
//! All of them are pure functions, whatever the order in which a leader hears of its members.

use std::collections::{BTreeMap, BTreeSet};

use crate::group::assignor::{Assignor, PartitionSet, Subscriber, Subscribers};
use crate::store::PartitionId;
use crate::wire::{StrBytes, Uuid};

/// A member, as a leader sees it.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub id: StrBytes,
    pub instance_id: Option<StrBytes>,
    pub topics: BTreeSet<Uuid>,
    /// What it says it owns, since this generation (KIP-792).
    pub owned: PartitionSet,
    pub generation: i32,
}

/// How many partitions each topic has.
pub(super) type Counts = BTreeMap<Uuid, i32>;

/// What each member is to have, by their places.
pub(super) type Shares = Vec<PartitionSet>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientAssignor {
    Range,
    RoundRobin,
    Sticky,
    CooperativeSticky,
}

impl ClientAssignor {
    pub(super) const ALL: [ClientAssignor; 4] = [
        ClientAssignor::Range,
        ClientAssignor::RoundRobin,
        ClientAssignor::Sticky,
        ClientAssignor::CooperativeSticky,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            ClientAssignor::Range => "range",
            ClientAssignor::RoundRobin => "roundrobin",
            ClientAssignor::Sticky => "sticky",
            ClientAssignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }

    pub(super) fn assign(self, members: &[Member], counts: &Counts) -> Shares {
        // In an order of its own, and back.
        let mut places: Vec<_> = (0..members.len()).collect();
        places.sort_by_key(|place| &members[*place].id);
        let sorted: Vec<_> = places.iter().map(|place| members[*place].clone()).collect();
        let shares = match self {
            ClientAssignor::Range => Assignor::Range.assign(&subscribers(&sorted, counts)),
            ClientAssignor::RoundRobin => round_robin(&sorted, counts),
            ClientAssignor::Sticky => Assignor::Uniform.assign(&subscribers(&sorted, counts)),
            ClientAssignor::CooperativeSticky => {
                let target = Assignor::Uniform.assign(&subscribers(&sorted, counts));
                in_two_steps(&sorted, target)
            }
        };
        let mut back = vec![PartitionSet::new(); members.len()];
        for (place, share) in places.into_iter().zip(shares) {
            back[place] = share;
        }
        back
    }
}

/// Members as the coordinator's assignors see them.
fn subscribers(members: &[Member], counts: &Counts) -> Subscribers {
    let owners = owners(members);
    let is_its = |place, id: &&PartitionId| owners.get(id) == Some(&Some(place));
    let subscriber = |(place, member): (usize, &Member)| Subscriber {
        id: member.id.clone(),
        instance_id: member.instance_id.clone(),
        topics: existing(member, counts).collect(),
        before: member
            .owned
            .iter()
            .filter(|id| is_its(place, id))
            .copied()
            .collect(),
    };
    let subscribed: BTreeSet<_> = members.iter().flat_map(|m| existing(m, counts)).collect();
    let counts = counts
        .iter()
        .filter(|(topic, _)| subscribed.contains(topic));
    Subscribers {
        members: members.iter().enumerate().map(subscriber).collect(),
        partitions: counts.map(|(topic, count)| (*topic, *count)).collect(),
    }
}

fn existing<'a>(member: &'a Member, counts: &'a Counts) -> impl Iterator<Item = Uuid> + 'a {
    let topics = member.topics.iter();
    topics.filter(|topic| counts.contains_key(topic)).copied()
}

/// Who owns what, by their places. Of those who say they own a partition the one of the latest generation
/// does (KIP-792); of two of the same generation neither.
fn owners(members: &[Member]) -> BTreeMap<PartitionId, Option<usize>> {
    let mut latest: BTreeMap<PartitionId, (i32, Option<usize>)> = BTreeMap::new();
    for (place, member) in members.iter().enumerate() {
        for id in &member.owned {
            let new = (member.generation, Some(place));
            let known = latest.entry(*id).or_insert(new);
            match known.0.cmp(&member.generation) {
                std::cmp::Ordering::Less => *known = new,
                std::cmp::Ordering::Equal if known.1 != Some(place) => known.1 = None,
                _ => {}
            }
        }
    }
    latest
        .into_iter()
        .map(|(id, (_, owner))| (id, owner))
        .collect()
}

/// All partitions in order, one to each member in turn that subscribes to its topic: static members by
/// their instance ids, then the others by their ids.
fn round_robin(members: &[Member], counts: &Counts) -> Shares {
    let mut turns: Vec<_> = (0..members.len()).collect();
    let key = |place: &usize| {
        let member = &members[*place];
        let instance_id = member.instance_id.clone();
        (instance_id.is_none(), instance_id, member.id.clone())
    };
    turns.sort_by_key(key);
    let mut shares = vec![PartitionSet::new(); members.len()];
    let mut next = 0;
    for (topic, count) in counts {
        if !members.iter().any(|m| m.topics.contains(topic)) {
            continue;
        }
        for index in 0..*count {
            let place = loop {
                let place = turns[next % turns.len()];
                next += 1;
                if members[place].topics.contains(topic) {
                    break place;
                }
            };
            shares[place].insert(PartitionId {
                topic: *topic,
                index,
            });
        }
    }
    shares
}

/// KIP-429: what another member says it owns goes to nobody in this generation; when it has given it up
/// and joined again it goes to whom it is meant for.
fn in_two_steps(members: &[Member], target: Shares) -> Shares {
    let claims = members.iter().enumerate();
    let claims = claims.flat_map(|(place, m)| m.owned.iter().map(move |id| (*id, place)));
    let claims: BTreeSet<(PartitionId, usize)> = claims.collect();
    let is_free = |id: &PartitionId, place: usize| {
        let mut others = claims.range((*id, 0)..=(*id, usize::MAX));
        claims.contains(&(*id, place)) || others.next().is_none()
    };
    let shares = target.into_iter().enumerate();
    shares
        .map(|(place, share)| share.into_iter().filter(|id| is_free(id, place)).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn topic(n: u8) -> Uuid {
        Uuid([n; 16])
    }

    fn part(n: u8, index: i32) -> PartitionId {
        PartitionId {
            topic: topic(n),
            index,
        }
    }

    fn member(n: usize, topics: BTreeSet<u8>) -> Member {
        Member {
            id: format!("m{n:02}").into(),
            instance_id: n.is_multiple_of(3).then(|| format!("i{}", 9 - n).into()),
            topics: topics.into_iter().map(topic).collect(),
            owned: PartitionSet::new(),
            generation: -1,
        }
    }

    /// Partitions of some topics, and members that subscribe alike or each to its own. Topics may lack.
    fn any_group() -> impl Strategy<Value = (Vec<Member>, Counts)> {
        let counts = vec(0..9_i32, 1..5);
        let own = vec(btree_set(0..5_u8, 0..5), 1..9);
        (counts, own, any::<bool>()).prop_map(|(counts, own, alike)| {
            let counts = counts.into_iter().enumerate();
            let counts: Counts = counts.map(|(n, c)| (topic(n as u8), c)).collect();
            let topics = |n: usize| own[if alike { 0 } else { n }].clone();
            let members = (0..own.len()).map(|n| member(n, topics(n))).collect();
            (members, counts)
        })
    }

    /// What it says it owns next time.
    fn own(members: &mut [Member], shares: &Shares, generation: i32) {
        for (member, share) in members.iter_mut().zip(shares) {
            (member.owned, member.generation) = (share.clone(), generation);
        }
    }

    fn are_alike(members: &[Member]) -> bool {
        members.windows(2).all(|w| w[0].topics == w[1].topics)
    }

    fn spread(shares: &Shares) -> usize {
        let sizes = || shares.iter().map(PartitionSet::len);
        sizes().max().unwrap_or(0) - sizes().min().unwrap_or(0)
    }

    /// All partitions of topics that somebody subscribes to, each once, and each to a subscriber.
    fn check_whole(members: &[Member], counts: &Counts, shares: &Shares) {
        let mut all = PartitionSet::new();
        for (member, share) in members.iter().zip(shares) {
            for id in share {
                assert!(member.topics.contains(&id.topic), "{member:?} gets {id:?}");
                assert!(all.insert(*id), "{id:?} goes to two");
            }
        }
        let wanted = |topic: &Uuid| members.iter().any(|m| m.topics.contains(topic));
        let wanted = counts.iter().filter(|(topic, _)| wanted(topic));
        let wanted = wanted.map(|(_, count)| *count as usize).sum::<usize>();
        assert_eq!(all.len(), wanted);
    }

    /// What is in another's hands by what it said.
    fn check_nothing_is_handed_over(members: &[Member], shares: &Shares) {
        for (place, share) in shares.iter().enumerate() {
            let new = share.difference(&members[place].owned);
            for id in new {
                let owner = members.iter().find(|m| m.owned.contains(id));
                assert!(
                    owner.is_none(),
                    "{id:?} is taken from {owner:?} in one step"
                );
            }
        }
    }

    /// How many partitions are with another member than before.
    fn moved(before: &Shares, after: &Shares) -> usize {
        let pairs = before.iter().zip(after);
        pairs
            .map(|(before, after)| before.difference(after).count())
            .sum()
    }

    /// Cooperative members go on until nothing is withheld. Gives what they have then.
    fn settle(members: &mut [Member], counts: &Counts) -> Shares {
        for generation in 1.. {
            let assignor = ClientAssignor::CooperativeSticky;
            let shares = assignor.assign(members, counts);
            check_nothing_is_handed_over(members, &shares);
            let is_same = members
                .iter()
                .zip(&shares)
                .all(|(m, share)| m.owned == *share);
            own(members, &shares, generation);
            if is_same {
                return shares;
            }
            assert!(generation < 4, "it takes more than giving up and taking");
        }
        unreachable!()
    }

    proptest! {
        #[test]
        fn each_partition_goes_to_one_subscriber((mut members, counts) in any_group()) {
            for assignor in ClientAssignor::ALL {
                own(&mut members, &vec![PartitionSet::new(); 9], -1);
                let shares = assignor.assign(&members, &counts);
                check_whole(&members, &counts, &shares);
                if are_alike(&members) && assignor != ClientAssignor::Range {
                    assert!(spread(&shares) <= 1, "{assignor:?} {shares:?}");
                }
            }
        }

        #[test]
        fn range_is_even_in_each_topic((members, counts) in any_group()) {
            let shares = ClientAssignor::Range.assign(&members, &counts);
            for topic in counts.keys() {
                let takers = members.iter().zip(&shares).filter(|(m, _)| m.topics.contains(topic));
                let of_topic = |share: &PartitionSet| -> PartitionSet {
                    share.iter().filter(|id| id.topic == *topic).copied().collect()
                };
                let of_topic: Shares = takers.map(|(_, share)| of_topic(share)).collect();
                assert!(spread(&of_topic) <= 1);
                let neighbours = |share: &PartitionSet| {
                    let ids: Vec<_> = share.iter().map(|id| id.index).collect();
                    ids.windows(2).all(|w| w[0] + 1 == w[1])
                };
                assert!(of_topic.iter().all(neighbours));
            }
        }

        #[test]
        fn the_order_of_members_is_no_matter(
            (mut members, counts) in any_group(),
            owned in vec((0..9_usize, 0..5_u8, 0..9_i32), 0..20),
            turn in 0..9_usize,
        ) {
            for (n, topic, index) in owned {
                let place = n % members.len();
                members[place].owned.insert(part(topic, index));
                members[place].generation = n as i32 / 3;
            }
            let mut turned = members.clone();
            turned.rotate_left(turn % members.len());
            turned.reverse();
            for assignor in ClientAssignor::ALL {
                let by_id = |members: &[Member]| -> BTreeMap<_, _> {
                    let ids = members.iter().map(|m| m.id.clone());
                    ids.zip(assignor.assign(members, &counts)).collect()
                };
                assert_eq!(by_id(&members), by_id(&turned), "{assignor:?}");
            }
        }

        #[test]
        fn sticky_members_keep_what_they_may((mut members, counts) in any_group(), gone in 0..9_usize) {
            let sticky = ClientAssignor::Sticky;
            let before = sticky.assign(&members, &counts);
            own(&mut members, &before, 1);
            assert_eq!(sticky.assign(&members, &counts), before, "nothing has changed");
            if members.len() == 1 || !are_alike(&members) {
                return Ok(());
            }
            // One goes: nothing moves but what it had.
            let mut rest = members.clone();
            rest.remove(gone % members.len());
            let after = sticky.assign(&rest, &counts);
            check_whole(&rest, &counts, &after);
            assert!(spread(&after) <= 1);
            for (member, share) in rest.iter().zip(&after) {
                assert!(member.owned.is_subset(share), "{member:?} is left {share:?}");
            }
            // And comes back with nothing: no more moves than it gets.
            let had: Shares = after.iter().cloned().chain([PartitionSet::new()]).collect();
            let mut back = members[gone % members.len()].clone();
            (back.owned, back.generation) = (PartitionSet::new(), -1);
            rest.push(back);
            own(&mut rest, &had, 2);
            let again = sticky.assign(&rest, &counts);
            assert!(spread(&again) <= 1);
            assert_eq!(moved(&had, &again), again.last().map_or(0, PartitionSet::len));
        }

        #[test]
        fn cooperative_members_give_up_first_and_end_where_sticky_ones_do(
            (mut members, counts) in any_group(),
            owned in vec((0..9_usize, 0..5_u8, 0..9_i32), 0..30),
        ) {
            for (n, topic, index) in owned {
                let place = n % members.len();
                members[place].owned.insert(part(topic, index));
            }
            let shares = settle(&mut members, &counts);
            check_whole(&members, &counts, &shares);
            if are_alike(&members) {
                assert!(spread(&shares) <= 1);
            }
            // Another joins.
            let mut more = members[0].clone();
            (more.id, more.instance_id) = ("m99".into(), None);
            (more.owned, more.generation) = (PartitionSet::new(), -1);
            members.push(more);
            let shares = settle(&mut members, &counts);
            check_whole(&members, &counts, &shares);
        }
    }

    #[test]
    fn of_two_owners_the_later_counts_and_of_equals_neither() {
        let mut members: Vec<_> = (1..3).map(|n| member(n, BTreeSet::from([0]))).collect();
        let counts = Counts::from([(topic(0), 2)]);
        let shares: Shares = vec![PartitionSet::from([part(0, 0), part(0, 1)]); 2];
        own(&mut members, &shares, 4);
        members[1].generation = 5;
        let sticky = ClientAssignor::Sticky.assign(&members, &counts);
        assert!(sticky.iter().all(|share| share.len() == 1));
        assert_eq!(owners(&members)[&part(0, 0)], Some(1));
        members[0].generation = 5;
        assert_eq!(owners(&members)[&part(0, 0)], None);
    }

    #[test]
    fn round_robin_goes_on_with_the_next_topic_where_it_was() {
        let members: Vec<_> = [1, 2].map(|n| member(n, BTreeSet::from([0, 1]))).into();
        let counts = Counts::from([(topic(0), 3), (topic(1), 3)]);
        let shares = ClientAssignor::RoundRobin.assign(&members, &counts);
        let first = PartitionSet::from([part(0, 0), part(0, 2), part(1, 1)]);
        assert_eq!(shares[0], first);
    }
}
