//! A member of a group.

use bytes::Bytes;

use super::Ticket;
use crate::wire::StrBytes;
use crate::wire::group_records::MemberMetadata;
use crate::wire::join_group::Request;

/// Who asks, as DescribeGroups tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    pub client_id: StrBytes,
    pub host: StrBytes,
}

/// A protocol that a member supports, with what it tells the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    pub name: StrBytes,
    pub metadata: Bytes,
}

/// What a member says of itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    /// In the order of its preference.
    pub protocols: Vec<Protocol>,
}

#[derive(Debug, Clone)]
pub struct Member {
    pub caller: Caller,
    /// Of a static member (KIP-345).
    pub instance_id: Option<StrBytes>,
    pub terms: Terms,
    /// In the current generation; empty before the leader gave one.
    pub assignment: Bytes,
    /// Since it was added it had no answer, so it cannot send heartbeats yet.
    pub is_new: bool,
    /// Its JoinGroup that waits for the next generation.
    pub joining: Option<Ticket>,
    /// Its SyncGroup that waits for the assignment.
    pub syncing: Option<Ticket>,
    /// When it is taken for dead. `None` when that came while the group owed it an answer: the answer sets
    /// it again.
    pub expires_ms: Option<i64>,
}

impl Terms {
    /// What the leader is told with this protocol.
    pub fn metadata(&self, protocol: Option<&StrBytes>) -> Bytes {
        let chosen = self.protocols.iter().find(|p| Some(&p.name) == protocol);
        chosen.map(|p| p.metadata.clone()).unwrap_or_default()
    }

    /// Copies them out of the request's frame.
    pub fn of(request: &Request) -> Self {
        let mut protocols: Vec<Protocol> = Vec::with_capacity(request.protocols.len());
        for offered in &request.protocols {
            if protocols.iter().all(|p| p.name != offered.name) {
                protocols.push(Protocol {
                    name: offered.name.detached(),
                    metadata: detached(&offered.metadata),
                });
            }
        }
        Terms {
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: rebalance_timeout(
                request.rebalance_timeout_ms,
                request.session_timeout_ms,
            ),
            protocols,
        }
    }
}

impl Member {
    pub fn new(request: &Request, caller: Caller) -> Self {
        Member {
            caller,
            instance_id: request.group_instance_id.as_ref().map(StrBytes::detached),
            terms: Terms::of(request),
            assignment: Bytes::new(),
            is_new: true,
            joining: None,
            syncing: None,
            expires_ms: None,
        }
    }

    /// As it was stored with its group, whose protocol is the only one that is kept of it.
    pub fn stored(stored: &MemberMetadata, protocol: Option<&StrBytes>) -> Self {
        let session_timeout_ms = stored.session_timeout;
        let protocol = protocol.map(|name| Protocol {
            name: name.clone(),
            metadata: detached(&stored.subscription),
        });
        Member {
            caller: Caller {
                client_id: stored.client_id.detached(),
                host: stored.client_host.detached(),
            },
            instance_id: stored.group_instance_id.as_ref().map(StrBytes::detached),
            terms: Terms {
                session_timeout_ms,
                rebalance_timeout_ms: rebalance_timeout(
                    stored.rebalance_timeout,
                    session_timeout_ms,
                ),
                protocols: protocol.into_iter().collect(),
            },
            assignment: detached(&stored.assignment),
            is_new: false,
            joining: None,
            syncing: None,
            expires_ms: None,
        }
    }

    /// What it tells the leader with this protocol.
    pub fn metadata(&self, protocol: Option<&StrBytes>) -> Bytes {
        self.terms.metadata(protocol)
    }

    /// Nothing to expect of it for now: the group owes it an answer.
    pub fn is_waiting(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }
}

/// Version 0 of requests and of stored members has none: the session timeout counts for both.
fn rebalance_timeout(own: i32, session_timeout: i32) -> i32 {
    if own < 0 { session_timeout } else { own }
}

/// With memory of its own, which keeps no frame alive.
pub(super) fn detached(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
