//! Files of segments that logs let go of, on their way out.
//!
//! A start takes what it finds for the log. One that finds an old segment, and not those after it, has a
//! hole behind it; one that finds a segment in whose place another was, and not that other one, has old
//! records again. So the files of a log go in the order in which it let go of them. File systems keep
//! the order in which names of a folder change, also over a power loss.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use super::{PartitionId, Removal};

/// Removals of many logs, in the order in which they came. What fails is tried again, and what came later
/// of the same log waits for it.
#[derive(Default)]
pub struct Removals {
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    id: PartitionId,
    removal: Removal,
    /// Nobody reads the files any more from then on.
    due: Instant,
    is_retired: bool,
}

impl Removals {
    /// What failed is tried again after this time.
    pub const AGAIN_AFTER: Duration = Duration::from_secs(30);

    pub fn push(&mut self, id: PartitionId, removal: Removal, due: Instant) {
        self.waiting.push_back(Waiting {
            id,
            removal,
            due,
            is_retired: false,
        });
    }

    /// Does what can be done by now. Tells when there is more to do. Blocking.
    pub fn run(&mut self, now: Instant) -> Option<Instant> {
        let mut not_retired = FxHashSet::default();
        let mut not_removed = FxHashSet::default();
        self.waiting.retain_mut(|one| {
            one.is_retired =
                one.is_retired || !not_retired.contains(&one.id) && one.removal.retire();
            if !one.is_retired {
                not_retired.insert(one.id);
            }
            let may_go = one.is_retired && one.due <= now && !not_removed.contains(&one.id);
            let is_gone = may_go && one.removal.remove();
            if !is_gone {
                not_removed.insert(one.id);
            }
            !is_gone
        });
        let next = |one: &Waiting| match one.is_retired && one.due > now {
            true => one.due,
            false => now + Self::AGAIN_AFTER,
        };
        self.waiting.iter().map(next).min()
    }
}
