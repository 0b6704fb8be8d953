//! Who may write: each commit proves it, and a late one of somebody else's is refused.
//!
//! A gateway that starts takes the store over: it raises the epoch in the entry `owner`, then sets that
//! epoch in an entry for each shard (`owners/<shard>`), also for shards that only the one before had.
//! Every transaction names the state of its entry as it must be, and leaves another one: the epoch and
//! a sequence number that no other transaction has. So a gateway that was taken over from can change
//! nothing, and a transaction of one's own that was thought lost and arrives late is known for what it is.
//!
//! Not a matter of leases: whoever starts last owns the store. (SeaweedFS's locks live in memory.)

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;
use serde::{Deserialize, Serialize};
use shards::lock;

use super::layout::ROOT;
use crate::bridge::{
    Bridge, BridgeError, Condition, Entry, FuseAttributes, Mutation, Transaction, etag,
};

const FORMAT_VERSION: u32 = 1;
/// Between two attempts to learn what became of a transaction.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, thiserror::Error)]
pub enum FenceError {
    /// Another gateway owns the store now. Nothing was changed.
    #[error("another gateway has taken the store over")]
    Fenced,
    /// Not done; a part of it may be, which doing it again mends.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// Nothing was changed, and nothing can be before a start.
    #[error(
        "the filer has lost changes that it had confirmed (it has an older {path}), as after a power loss or when a backup was restored; restart the gateway, which goes on from what is there"
    )]
    Rewound { path: String },
    #[error("the entry {path} cannot be read: {reason}")]
    Unreadable { path: String, reason: String },
}

/// What the entry of a fence says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    format_version: u32,
    epoch: u64,
    sequence: u64,
    /// Of the entry `owner`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<StoreFacts>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct StoreFacts {
    cluster_id: String,
    /// Fences of shards that there are.
    shards: usize,
}

impl State {
    /// The entry, whose ETag no other state has.
    fn entry(&self, name: &str) -> Entry {
        let md5 = [self.epoch.to_be_bytes(), self.sequence.to_be_bytes()].concat();
        // Cannot fail: there are only numbers and strings in it.
        let content = serde_json::to_vec(self).unwrap_or_default();
        let now = super::now_s();
        Entry {
            name: name.to_owned(),
            attributes: Some(FuseAttributes {
                md5: Bytes::from(md5),
                file_size: content.len() as u64,
                file_mode: super::FILE_MODE,
                mtime: now,
                crtime: now,
                ..FuseAttributes::default()
            }),
            content: content.into(),
            extended: HashMap::new(),
            ..Entry::default()
        }
    }
}

/// One entry that fences transactions, made one after the other.
pub struct Fence {
    bridge: Bridge,
    directory: String,
    name: String,
    epoch: u64,
    known: Mutex<Known>,
}

/// What this gateway knows of a fence's entry.
struct Known {
    state: State,
    /// The last sequence number that was taken. A transaction that failed may still be done some time, if
    /// it is on its way; no other takes its number, so that nobody takes one for the other.
    taken: u64,
}

impl Known {
    /// The state that the next transaction is to leave.
    fn next(&mut self) -> State {
        self.taken += 1;
        State {
            sequence: self.taken,
            ..self.state.clone()
        }
    }

    /// What it means that the entry has this state, when another was to be the next.
    fn compare(&self, next: &State, found: State) -> Found {
        let at = |state: &State| (state.epoch, state.sequence);
        if at(&found) == at(next) {
            Found::Next
        } else if at(&found) == at(&self.state) {
            Found::Before
        } else if at(&found) < at(&self.state) {
            Found::Rewound
        } else if at(&found) < at(next) {
            Found::Earlier(found)
        } else {
            Found::Other
        }
    }
}

/// A store that was taken over.
pub struct Taken {
    /// For what no shard owns.
    pub owner: Fence,
    pub shards: Vec<Fence>,
    pub cluster_id: String,
}

/// Takes the store over, or makes it; `cluster_id` is for a new one. Blocking.
///
/// # Errors
/// [`FenceError::Fenced`] if another gateway does the same and comes later.
pub fn take_over(bridge: &Bridge, shards: usize, cluster_id: &str) -> Result<Taken, FenceError> {
    let (owner, facts) = loop {
        let (found, condition) = read(bridge, ROOT, "owner")?;
        let mut facts = found.store.clone().unwrap_or_else(|| StoreFacts {
            cluster_id: cluster_id.to_owned(),
            shards: 0,
        });
        facts.shards = facts.shards.max(shards);
        let state = State {
            format_version: FORMAT_VERSION,
            epoch: found.epoch + 1,
            sequence: 0,
            store: Some(facts.clone()),
        };
        if let Some(owner) = set(bridge, ROOT, "owner", state, condition)? {
            break (owner, facts);
        }
    };
    let epoch = owner.epoch;
    let directory = format!("{ROOT}/owners");
    let fence = |shard: usize| loop {
        let name = shard.to_string();
        let (found, condition) = read(bridge, &directory, &name)?;
        if found.epoch >= epoch {
            return Err(FenceError::Fenced);
        }
        let state = State {
            format_version: FORMAT_VERSION,
            epoch,
            ..State::default()
        };
        if let Some(fence) = set(bridge, &directory, &name, state, condition)? {
            return Ok(fence);
        }
    };
    let mut fences = (0..facts.shards)
        .map(fence)
        .collect::<Result<Vec<_>, _>>()?;
    fences.truncate(shards);
    Ok(Taken {
        owner,
        shards: fences,
        cluster_id: facts.cluster_id,
    })
}

/// The state of an entry, and the condition that it is still so.
fn read(bridge: &Bridge, directory: &str, name: &str) -> Result<(State, Condition), FenceError> {
    let unreadable = |reason: String| FenceError::Unreadable {
        path: format!("{directory}/{name}"),
        reason,
    };
    let Some(entry) = block_on(bridge.lookup(directory, name))? else {
        return Ok((State::default(), Condition::Absent));
    };
    let state: State =
        serde_json::from_slice(&entry.content).map_err(|error| unreadable(error.to_string()))?;
    if state.format_version != FORMAT_VERSION {
        let found = state.format_version;
        return Err(unreadable(format!(
            "it has format version {found}, this program understands {FORMAT_VERSION}"
        )));
    }
    let etag = etag(&entry).ok_or_else(|| unreadable("it has no ETag".to_owned()))?;
    Ok((state, Condition::Etag(etag)))
}

/// Sets the state of an entry. `None` if the condition does not hold any more.
fn set(
    bridge: &Bridge,
    directory: &str,
    name: &str,
    state: State,
    condition: Condition,
) -> Result<Option<Fence>, FenceError> {
    let transaction = Transaction {
        lock: format!("{directory}/{name}"),
        condition: Some(condition),
        mutations: vec![Mutation::Put {
            directory: directory.to_owned(),
            entry: state.entry(name),
        }],
    };
    match block_on(bridge.transact(transaction)) {
        Ok(()) => Ok(Some(Fence {
            bridge: bridge.clone(),
            directory: directory.to_owned(),
            name: name.to_owned(),
            epoch: state.epoch,
            known: Mutex::new(Known {
                taken: state.sequence,
                state,
            }),
        })),
        // If it was done all the same, the next attempt sees it, and raises the epoch once more.
        Err(BridgeError::Conflict(_) | BridgeError::Unknown { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Fence {
    fn locked(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Looks whether somebody else has taken over, also while a transaction is under way. Blocking.
    ///
    /// # Errors
    /// [`FenceError::Fenced`], or that it cannot be told now.
    pub fn check(&self) -> Result<(), FenceError> {
        let (found, _) = read(&self.bridge, &self.directory, &self.name)?;
        match found.epoch > self.epoch {
            true => Err(FenceError::Fenced),
            false => Ok(()),
        }
    }

    /// Makes changes, if the store still is this gateway's. They are to be such that each prefix of
    /// them is harmless, and repeating them is. Blocking, until it is known what became of them.
    ///
    /// # Errors
    /// [`FenceError::Fenced`], or that SeaweedFS refused or could not be asked.
    pub fn transact(&self, mut mutations: Vec<Mutation>) -> Result<(), FenceError> {
        let mut known = self.locked();
        let next = known.next();
        // The last one: who finds it knows that all is done.
        mutations.push(Mutation::Put {
            directory: self.directory.clone(),
            entry: next.entry(&self.name),
        });
        let mut transaction = Transaction {
            lock: format!("{}/{}", self.directory, self.name),
            condition: Some(self.condition(&known.state)),
            mutations,
        };
        let mut pause = PAUSE_MIN;
        let mut sent = false;
        loop {
            match block_on(self.bridge.transact(transaction.clone())) {
                Ok(()) => break,
                Err(error @ (BridgeError::Conflict(_) | BridgeError::Unknown { .. })) => {
                    sent = true;
                    if let BridgeError::Unknown { reason, .. } = error {
                        shards::log_limited!(warn, fence = %transaction.lock, reason, "it is not known yet whether SeaweedFS made a change; asking again");
                    }
                    match self.find(&known, &next) {
                        Ok(Found::Next) => break,
                        Ok(Found::Other) => return Err(FenceError::Fenced),
                        Ok(Found::Rewound) => return Err(self.rewound()),
                        Ok(Found::Earlier(found)) => {
                            transaction.condition = Some(self.condition(&found));
                            known.state = found;
                        }
                        Ok(Found::Before) | Err(_) => {}
                    }
                }
                Err(error) if sent && error.is_retriable() => {}
                Err(error) => return Err(error.into()),
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
        known.state = next;
        Ok(())
    }

    /// That the entry still has this state.
    fn condition(&self, state: &State) -> Condition {
        match etag(&state.entry(&self.name)) {
            Some(etag) => Condition::Etag(etag),
            None => unreachable!("the entry has an MD5"),
        }
    }

    fn rewound(&self) -> FenceError {
        FenceError::Rewound {
            path: format!("{}/{}", self.directory, self.name),
        }
    }

    fn find(&self, known: &Known, next: &State) -> Result<Found, FenceError> {
        let (found, _) = read(&self.bridge, &self.directory, &self.name)?;
        Ok(known.compare(next, found))
    }
}

/// What the entry is found to say.
#[derive(Debug, PartialEq)]
enum Found {
    Before,
    Next,
    /// A transaction that failed before was done after all, and left this.
    Earlier(State),
    Other,
    /// The filer has forgotten what it had confirmed.
    Rewound,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_failed_and_is_done_later_is_not_taken_for_the_next() {
        let state = |epoch, sequence| State {
            epoch,
            sequence,
            ..State::default()
        };
        let mut known = Known {
            state: state(3, 7),
            taken: 7,
        };
        let failed = known.next();
        let next = known.next();
        assert_eq!((failed.sequence, next.sequence), (8, 9));
        let found = |known: &Known, epoch, sequence| known.compare(&next, state(epoch, sequence));
        assert_eq!(found(&known, 3, 9), Found::Next);
        assert_eq!(found(&known, 3, 8), Found::Earlier(failed.clone()));
        assert_eq!(found(&known, 3, 7), Found::Before);
        assert_eq!(found(&known, 3, 6), Found::Rewound);
        assert_eq!(found(&known, 4, 0), Found::Other);
        // It goes on from there.
        known.state = failed;
        assert_eq!(found(&known, 3, 8), Found::Before);
        assert_eq!(found(&known, 3, 7), Found::Rewound);
    }
}
