//! The next step of a member on its way to its target (KIP-848).
//!
//! First it gives up what it is not to have. When it says that it has, its epoch becomes that of the
//! target and it gets what nobody else holds; what others still hold it gets when they have given it up.

use std::collections::BTreeSet;

use super::member::{Assigned, Current, MemberState};
use crate::group::assignor::PartitionSet;
use crate::store::PartitionId;
use crate::wire::Uuid;

/// What a member is led to, and what it says.
pub struct Way<'a> {
    pub target: &'a PartitionSet,
    pub target_epoch: i32,
    /// Topics that it subscribes to now. The target may be older.
    pub subscribed: &'a BTreeSet<Uuid>,
    pub has_resubscribed: bool,
    /// What it says that it has; `None`: the same as before.
    pub owned: Option<&'a PartitionSet>,
    /// Nobody else holds a partition.
    pub is_free: &'a dyn Fn(&PartitionId) -> bool,
}

impl Way<'_> {
    /// What the member has next.
    pub fn next(&self, from: &Current) -> Current {
        match from.state {
            _ if from.is_reconciled_to(self.target_epoch) && !self.has_resubscribed => from.clone(),
            MemberState::Stable if from.epoch == self.target_epoch => self.unsubscribed(from),
            MemberState::Unrevoked if self.owns(&from.revoking) => match self.has_resubscribed {
                true => self.unsubscribed(from),
                false => from.clone(),
            },
            _ => self.step(from),
        }
    }

    /// What it has been told to give up it may have until it says otherwise.
    fn owns(&self, revoking: &Assigned) -> bool {
        match self.owned {
            Some(owned) => revoking.keys().any(|id| owned.contains(id)),
            None => true,
        }
    }

    /// Without the topics that it does not subscribe to any more; the target follows.
    fn unsubscribed(&self, from: &Current) -> Current {
        let is_kept = |id: &PartitionId, _: &mut i32| self.subscribed.contains(&id.topic);
        let mut next = from.clone();
        let gone: Assigned = next
            .assigned
            .extract_if(.., |id, e| !is_kept(id, e))
            .collect();
        if gone.is_empty() {
            return next;
        }
        next.revoking.extend(gone);
        if self.owns(&next.revoking) {
            next.state = MemberState::Unrevoked;
        } else {
            next.revoking.clear();
        }
        next
    }

    fn step(&self, from: &Current) -> Current {
        let is_wanted =
            |id: &PartitionId| self.target.contains(id) && self.subscribed.contains(&id.topic);
        let (assigned, revoking): (Assigned, Assigned) =
            from.assigned.iter().partition(|(id, _)| is_wanted(id));
        if !revoking.is_empty() && self.owns(&revoking) {
            return Current {
                state: MemberState::Unrevoked,
                assigned,
                revoking,
                ..from.clone()
            };
        }
        let mut next = Current {
            state: MemberState::Stable,
            assigned,
            revoking: Assigned::new(),
            ..from.at(self.target_epoch)
        };
        for id in self.target.iter().filter(|id| is_wanted(id)) {
            if next.assigned.contains_key(id) {
                continue;
            }
            if (self.is_free)(id) {
                next.assigned.insert(*id, self.target_epoch);
            } else {
                next.state = MemberState::Unreleased;
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Uuid = Uuid([1; 16]);

    fn set(indexes: &[i32]) -> PartitionSet {
        let of = |index: &i32| PartitionId {
            topic: T,
            index: *index,
        };
        indexes.iter().map(of).collect()
    }

    fn at(indexes: &[i32], epoch: i32) -> Assigned {
        set(indexes).into_iter().map(|id| (id, epoch)).collect()
    }

    fn current(epoch: i32, state: MemberState, assigned: &[i32], revoking: &[i32]) -> Current {
        Current {
            epoch,
            previous_epoch: epoch - 1,
            state,
            assigned: at(assigned, 1),
            revoking: at(revoking, 1),
        }
    }

    /// The next step towards partitions at epoch 5, of which others hold some.
    fn step(from: &Current, target: &[i32], owned: Option<&[i32]>, held: &[i32]) -> Current {
        let owned = owned.map(set);
        let held = set(held);
        let way = Way {
            target: &set(target),
            target_epoch: 5,
            subscribed: &BTreeSet::from([T]),
            has_resubscribed: false,
            owned: owned.as_ref(),
            is_free: &|id| !held.contains(id),
        };
        way.next(from)
    }

    #[test]
    fn what_is_not_to_be_kept_is_given_up_before_anything_is_got() {
        let from = current(3, MemberState::Stable, &[1, 2], &[]);
        let told = step(&from, &[2, 3], None, &[]);
        assert_eq!(told.state, MemberState::Unrevoked);
        assert_eq!((told.epoch, told.previous_epoch), (3, 2));
        assert_eq!(
            (&told.assigned, &told.revoking),
            (&at(&[2], 1), &at(&[1], 1))
        );
        assert_eq!(
            step(&told, &[2, 3], Some(&[1, 2]), &[]),
            told,
            "it still has it"
        );
        assert_eq!(step(&told, &[2, 3], None, &[]), told, "it says nothing");
        let done = step(&told, &[2, 3], Some(&[2]), &[]);
        assert_eq!((done.epoch, done.previous_epoch), (5, 3));
        assert_eq!(done.state, MemberState::Stable);
        let mut expected = at(&[2], 1);
        expected.extend(at(&[3], 5));
        assert_eq!((done.assigned, done.revoking.len()), (expected, 0));
    }

    #[test]
    fn what_others_hold_is_got_when_they_have_given_it_up() {
        let from = current(3, MemberState::Stable, &[1], &[]);
        let waits = step(&from, &[1, 2, 3], None, &[3]);
        assert_eq!(waits.state, MemberState::Unreleased);
        assert_eq!(waits.epoch, 5);
        assert_eq!(waits.assigned.len(), 2);
        assert_eq!(step(&waits, &[1, 2, 3], None, &[3]), waits);
        let done = step(&waits, &[1, 2, 3], None, &[]);
        assert_eq!((done.state, done.assigned.len()), (MemberState::Stable, 3));
        assert_eq!(
            done.previous_epoch, 3,
            "the answer may be lost more than once"
        );
    }

    #[test]
    fn who_owns_nothing_need_not_give_anything_up() {
        let from = current(0, MemberState::Stable, &[1, 2], &[]);
        let joined = step(&from, &[2], Some(&[]), &[]);
        assert_eq!((joined.epoch, joined.state), (5, MemberState::Stable));
        assert_eq!(joined.assigned, at(&[2], 1));
    }

    #[test]
    fn topics_without_a_subscription_go_at_once() {
        let mut way = Way {
            target: &set(&[1]),
            target_epoch: 5,
            subscribed: &BTreeSet::new(),
            has_resubscribed: true,
            owned: None,
            is_free: &|_| true,
        };
        let from = current(5, MemberState::Stable, &[1], &[]);
        let told = way.next(&from);
        assert_eq!(told.state, MemberState::Unrevoked);
        assert_eq!((told.assigned.len(), told.revoking.len()), (0, 1));
        let nothing = PartitionSet::new();
        way.owned = Some(&nothing);
        let done = way.next(&from);
        assert_eq!((done.assigned.len(), done.revoking.len()), (0, 0));
        assert_eq!(way.next(&done).epoch, 5);
    }
}
