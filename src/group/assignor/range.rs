//! Each topic is cut into as many pieces of neighbouring partitions as it has subscribers, and the
//! subscribers take them in an order that stays: static members by their instance ids, then the others
//! by their member ids. So members that subscribe alike get the same partitions of topics of the same
//! size (they are co-partitioned), and who comes back under its instance id gets what it had.

use std::cmp::Ordering;

use super::{PartitionSet, Subscriber, Subscribers};
use crate::store::PartitionId;

pub(super) fn assign(group: &Subscribers) -> Vec<PartitionSet> {
    let mut assigned = vec![PartitionSet::new(); group.members.len()];
    for (topic, mut takers) in group.subscribers() {
        takers.sort_by(|a, b| order(&group.members[*a], &group.members[*b]));
        let partitions = group.partitions.get(&topic).copied().unwrap_or(0);
        let count = takers.len() as i32;
        let (each, more) = (partitions / count, partitions % count);
        let mut next = 0;
        for (n, place) in takers.into_iter().enumerate() {
            let end = next + each + i32::from((n as i32) < more);
            assigned[place].extend((next..end).map(|index| PartitionId { topic, index }));
            next = end;
        }
    }
    assigned
}

fn order(a: &Subscriber, b: &Subscriber) -> Ordering {
    match (&a.instance_id, &b.instance_id) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.id.cmp(&b.id),
    }
}
