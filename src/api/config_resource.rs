//! What has configs, as the protocol numbers it, and which brokers' configs those are.

use crate::gateway::Gateway;

/// A type of resource (KIP-133, KIP-226, KIP-412, KIP-714, KIP-848).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(super) enum ResourceType {
    Topic = 2,
    Broker = 4,
    BrokerLogger = 8,
    ClientMetrics = 16,
    Group = 32,
}

impl ResourceType {
    pub(super) fn of(number: i8) -> Option<Self> {
        Some(match number {
            2 => ResourceType::Topic,
            4 => ResourceType::Broker,
            8 => ResourceType::BrokerLogger,
            16 => ResourceType::ClientMetrics,
            32 => ResourceType::Group,
            _ => return None,
        })
    }
}

/// The brokers that this process is to clients. They share their configs: what is asked of one, or
/// set for one, is so for all of them, whichever of them gets the request.
#[derive(Debug, Clone)]
pub(super) struct Brokers {
    /// The first is the one whose configs the catalog keeps.
    pub ids: Vec<i32>,
    /// The one that is asked.
    pub this: i32,
}

impl Brokers {
    pub(super) fn of(gateway: &Gateway) -> Self {
        let facts = gateway.facts();
        Brokers {
            ids: facts.brokers.iter().map(|broker| broker.id).collect(),
            this: gateway.broker_id(),
        }
    }

    /// The broker whose configs the catalog keeps for this one.
    pub(super) fn keeper(&self, id: i32) -> Option<i32> {
        let first = self.ids.first().copied();
        first.filter(|_| self.ids.contains(&id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_numbered() {
        let known = (i8::MIN..=i8::MAX).filter_map(ResourceType::of);
        let numbers: Vec<_> = known.map(|known| known as i8).collect();
        assert_eq!(numbers, [2, 4, 8, 16, 32]);
    }

    #[test]
    fn brokers_of_one_process_share_their_configs() {
        let brokers = Brokers {
            ids: vec![3, 4],
            this: 4,
        };
        let keepers = [2, 3, 4, 5].map(|id| brokers.keeper(id));
        assert_eq!(keepers, [None, Some(3), Some(3), None]);
    }
}
