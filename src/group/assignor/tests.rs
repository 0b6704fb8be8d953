//! What assignors warrant, for groups of any kind.

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

fn member(n: usize, topics: impl IntoIterator<Item = u8>) -> Subscriber {
    Subscriber {
        id: format!("m{n:02}").into(),
        instance_id: None,
        topics: topics.into_iter().map(topic).collect(),
        before: PartitionSet::new(),
    }
}

fn group(counts: &[i32], members: Vec<Subscriber>) -> Subscribers {
    let counts = counts.iter().enumerate();
    let mut group = Subscribers {
        members,
        partitions: counts.map(|(n, c)| (topic(n as u8), *c)).collect(),
    };
    let subscribed = group.subscribers();
    group.partitions.retain(|t, _| subscribed.contains_key(t));
    group
}

/// Partitions of each topic, and what each member subscribes to.
fn any_group() -> impl Strategy<Value = Subscribers> {
    (1..6_usize).prop_flat_map(|topics| {
        let subscription = btree_set(0..topics as u8, 0..=topics);
        let statics = any::<bool>();
        (vec(0..12_i32, topics), vec((subscription, statics), 1..9)).prop_map(
            |(counts, members)| {
                let members = members
                    .into_iter()
                    .enumerate()
                    .map(|(n, (topics, is_static))| {
                        let one = member(n, topics);
                        Subscriber {
                            instance_id: is_static.then(|| format!("i{}", n % 7).into()),
                            ..one
                        }
                    });
                group(&counts, members.collect())
            },
        )
    })
}

/// A group where all subscribe to the same.
fn alike() -> impl Strategy<Value = Subscribers> {
    (vec(0..12_i32, 1..6), 1..9_usize).prop_map(|(counts, members)| {
        let topics = 0..counts.len() as u8;
        let members = (0..members).map(|n| member(n, topics.clone())).collect();
        group(&counts, members)
    })
}

fn check(group: &Subscribers, assigned: &[PartitionSet]) {
    assert_eq!(assigned.len(), group.members.len());
    let mut seen = PartitionSet::new();
    for (member, parts) in group.members.iter().zip(assigned) {
        for id in parts {
            assert!(member.topics.contains(&id.topic), "not subscribed");
            assert!(seen.insert(*id), "{id} twice");
        }
    }
    let all = group.partitions.keys().flat_map(|t| group.of_topic(*t));
    assert_eq!(seen, all.collect::<PartitionSet>(), "every partition once");
}

/// The group with what was assigned as what it had.
fn after(mut group: Subscribers, assigned: &[PartitionSet]) -> Subscribers {
    for (member, parts) in group.members.iter_mut().zip(assigned) {
        member.before = parts.clone();
    }
    group
}

fn moved(group: &Subscribers, assigned: &[PartitionSet]) -> usize {
    let pairs = group.members.iter().zip(assigned);
    pairs
        .map(|(m, parts)| m.before.difference(parts).count())
        .sum()
}

/// What could be moved to make it more even.
fn uneven(group: &Subscribers, assigned: &[PartitionSet]) -> Option<PartitionId> {
    let fewest = |topic: &Uuid| {
        let takers = group.members.iter().zip(assigned);
        let takers = takers.filter(|(m, _)| m.topics.contains(topic));
        takers.map(|(_, parts)| parts.len()).min().unwrap_or(0)
    };
    let gives = |parts: &PartitionSet| {
        let has = parts.len();
        parts
            .iter()
            .find(|id| fewest(&id.topic) + 2 <= has)
            .copied()
    };
    assigned.iter().find_map(gives)
}

proptest! {
    #[test]
    fn every_partition_goes_to_one_subscriber(group in any_group()) {
        for assignor in Assignor::ALL {
            let assigned = assignor.assign(&group);
            check(&group, &assigned);
            assert_eq!(assigned, assignor.assign(&group), "the same again");
        }
    }

    #[test]
    fn uniform_is_even_and_what_is_even_stays(group in any_group()) {
        let assigned = Assignor::Uniform.assign(&group);
        assert_eq!(uneven(&group, &assigned), None);
        let again = after(group, &assigned);
        assert_eq!(Assignor::Uniform.assign(&again), assigned);
    }

    #[test]
    fn uniform_is_even_also_after_changes(one in any_group(), other in any_group()) {
        let assigned = Assignor::Uniform.assign(&one);
        let parts = assigned.into_iter().chain(std::iter::repeat(PartitionSet::new()));
        let parts: Vec<_> = parts.take(other.members.len()).collect();
        let other = after(other, &parts);
        let assigned = Assignor::Uniform.assign(&other);
        check(&other, &assigned);
        assert_eq!(uneven(&other, &assigned), None);
    }

    #[test]
    fn uniform_moves_no_more_than_it_must(group in alike(), gone in 0..9_usize, new in 0..4_usize) {
        let assigned = Assignor::Uniform.assign(&group);
        let mut next = after(group, &assigned);
        let all: usize = assigned.iter().map(PartitionSet::len).sum();
        if next.members.len() > 1 {
            next.members.remove(gone % next.members.len());
        }
        let topics = next.members[0].topics.clone();
        for n in 0..new {
            let one = member(50 + n, []);
            next.members.push(Subscriber { topics: topics.clone(), ..one });
        }
        let assigned = Assignor::Uniform.assign(&next);
        check(&next, &assigned);
        let sizes: Vec<_> = assigned.iter().map(PartitionSet::len).collect();
        assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        // Each keeps all but what is above the quotas, of which as many are one higher as can be.
        let (each, mut more) = (all / sizes.len(), all % sizes.len());
        let must = |has: usize| {
            let keeps_one_more = has > each && more > 0;
            more -= usize::from(keeps_one_more);
            has.saturating_sub(each + usize::from(keeps_one_more))
        };
        let must: usize = next.members.iter().map(|m| m.before.len()).map(must).sum();
        assert_eq!(moved(&next, &assigned), must);
    }

    #[test]
    fn range_gives_neighbours_and_the_same_of_each_topic(members in 1..9_usize, count in 0..12, topics in 1..5_u8) {
        let group = group(
            &vec![count; topics.into()],
            (0..members).map(|n| member(n, 0..topics)).collect(),
        );
        for parts in Assignor::Range.assign(&group) {
            let of = |n: u8| -> Vec<i32> {
                parts.iter().filter(|id| id.topic == topic(n)).map(|id| id.index).collect()
            };
            let first = of(0);
            assert!(first.windows(2).all(|w| w[1] == w[0] + 1), "{first:?}");
            assert!((1..topics).all(|n| of(n) == first));
            assert!((count as usize / members..=count as usize / members + 1).contains(&first.len()));
        }
    }
}

#[test]
fn range_knows_static_members_by_their_instances() {
    let named = |id: usize, instance: &'static str| Subscriber {
        instance_id: Some(instance.into()),
        ..member(id, [0])
    };
    let before = group(&[4], vec![named(1, "a"), named(2, "b"), member(0, [0])]);
    let expected = vec![
        PartitionSet::from([part(0, 0), part(0, 1)]),
        PartitionSet::from([part(0, 2)]),
        PartitionSet::from([part(0, 3)]),
    ];
    assert_eq!(Assignor::Range.assign(&before), expected);
    let renamed = group(&[4], vec![named(9, "a"), named(3, "b"), member(0, [0])]);
    assert_eq!(Assignor::Range.assign(&renamed), expected);
}

#[test]
fn names_are_kafkas() {
    assert_eq!(Assignor::of("uniform"), Some(Assignor::Uniform));
    assert_eq!(Assignor::of("range"), Some(Assignor::Range));
    assert_eq!(Assignor::of("Range"), None);
}
