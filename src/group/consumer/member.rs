//! A member of a group of the consumer protocol.

use std::collections::{BTreeMap, BTreeSet};

use crate::group::assignor::PartitionSet;
use crate::group::member::{Caller, Protocol};
use crate::store::PartitionId;
use crate::wire::StrBytes;

/// Partitions that a member has, and the epoch at which it got each (KIP-1251).
pub type Assigned = BTreeMap<PartitionId, i32>;

/// The epoch of a static member that left for a while.
pub const LEFT_FOR_A_WHILE: i32 = -2;

/// How far a member is on its way to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i8)]
pub enum MemberState {
    /// It has what it is to have.
    #[default]
    Stable = 0,
    /// It has to give partitions up first.
    Unrevoked = 1,
    /// It waits for partitions that others have not given up yet.
    Unreleased = 2,
}

impl MemberState {
    /// Of a record. One that is not known here is looked at as one who waits.
    pub fn of(code: i8) -> Self {
        match code {
            0 => MemberState::Stable,
            1 => MemberState::Unrevoked,
            _ => MemberState::Unreleased,
        }
    }
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    pub caller: Caller,
    /// Of a static member (KIP-345).
    pub instance_id: Option<StrBytes>,
    pub rack_id: Option<StrBytes>,
    pub rebalance_timeout_ms: i32,
    /// Topics by name.
    pub topics: BTreeSet<StrBytes>,
    /// Topics by regular expression; empty: none.
    pub regex: StrBytes,
    /// The assignor that it would like.
    pub assignor: Option<StrBytes>,
    /// Of a member that uses the classic protocol.
    pub classic: Option<ClassicTerms>,
}

/// What a member says that uses the classic protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicTerms {
    pub session_timeout_ms: i32,
    /// In the order of its preference.
    pub protocols: Vec<Protocol>,
}

/// What a member has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Current {
    /// 0 before it got its first; [`LEFT_FOR_A_WHILE`].
    pub epoch: i32,
    /// The one before, which counts once more if the answer with the new one is lost.
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Assigned,
    /// It has to give these up, and nobody else gets them before.
    pub revoking: Assigned,
}

impl Current {
    /// The same at another epoch.
    pub fn at(&self, epoch: i32) -> Self {
        Current {
            previous_epoch: if epoch == self.epoch {
                self.previous_epoch
            } else {
                self.epoch
            },
            epoch,
            ..self.clone()
        }
    }

    /// All that nobody else may have.
    pub fn held(&self) -> impl Iterator<Item = &PartitionId> {
        self.assigned.keys().chain(self.revoking.keys())
    }

    /// The epoch at which it got a partition, if it has it.
    pub fn epoch_of(&self, id: &PartitionId) -> Option<i32> {
        let epoch = self.assigned.get(id).or_else(|| self.revoking.get(id));
        epoch.copied()
    }

    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }
}

#[derive(Debug, Clone)]
pub struct Member {
    pub terms: Terms,
    pub current: Current,
    /// What it is to have.
    pub target: PartitionSet,
    /// When it is taken for dead.
    pub expires_ms: i64,
    /// When it is out if it has not given up what it has to.
    pub revokes_by_ms: i64,
    /// When a member of the classic protocol is out if it does not join, or sync.
    pub joins_by_ms: i64,
    pub syncs_by_ms: i64,
}

pub const NEVER_MS: i64 = i64::MAX;

impl Member {
    pub fn new(terms: Terms) -> Self {
        Member {
            terms,
            current: Current::default(),
            target: PartitionSet::new(),
            expires_ms: NEVER_MS,
            revokes_by_ms: NEVER_MS,
            joins_by_ms: NEVER_MS,
            syncs_by_ms: NEVER_MS,
        }
    }

    /// When it is out of its group if nothing happens.
    pub fn out_ms(&self) -> i64 {
        let others = self.revokes_by_ms.min(self.joins_by_ms);
        self.expires_ms.min(self.syncs_by_ms).min(others)
    }

    pub fn is_classic(&self) -> bool {
        self.terms.classic.is_some()
    }
}
