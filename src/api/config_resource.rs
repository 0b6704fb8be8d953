//! What has configs, as the protocol numbers it.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_numbered() {
        let known = (i8::MIN..=i8::MAX).filter_map(ResourceType::of);
        let numbers: Vec<_> = known.map(|known| known as i8).collect();
        assert_eq!(numbers, [2, 4, 8, 16, 32]);
    }
}
