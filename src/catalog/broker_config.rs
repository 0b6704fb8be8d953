//! Configs of brokers that are changed while they run (KIP-226): those that stand in for what topics
//! do not set. What is set for one broker goes before what is set for all, and that before what the
//! broker was started with.

use std::collections::BTreeMap;

use super::Values;
use super::topic_config::{ConfigSource, Row, Synonym, TopicConfig, broker_synonyms};

static NONE: Values = Values::new();

/// What brokers' configs come to on this broker. By default that of Kafka.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerConfigs {
    broker_id: i32,
    /// What this broker was started with.
    started: TopicConfig,
    /// By what they are set for: a broker, or all of them.
    set: BTreeMap<Option<i32>, Values>,
    defaults: TopicConfig,
}

impl BrokerConfigs {
    /// Those of a broker that was started with `started`; nothing is set yet.
    pub fn new(broker_id: i32, started: TopicConfig) -> Self {
        BrokerConfigs {
            broker_id,
            started,
            set: BTreeMap::new(),
            defaults: started,
        }
    }

    /// For topics that set nothing.
    pub fn defaults(&self) -> TopicConfig {
        self.defaults
    }

    /// What this broker was started with.
    pub fn started(&self) -> &TopicConfig {
        &self.started
    }

    /// What is set for a broker, or for all of them, by names of broker configs.
    pub fn set_for(&self, broker: Option<i32>) -> &Values {
        self.set.get(&broker).unwrap_or(&NONE)
    }

    /// Replaces what is set for a broker, or for all of them.
    pub fn set(&mut self, broker: Option<i32>, values: Values) {
        match values.is_empty() {
            true => self.set.remove(&broker),
            false => self.set.insert(broker, values),
        };
        let mut defaults = self.started;
        for values in [None, Some(self.broker_id)].map(|broker| self.set_for(broker)) {
            for (name, value) in values {
                let row = Row::of_broker(name);
                let taken = row.map(|row| row.take_of_broker(&mut defaults, value));
                if !matches!(taken, Some(Ok(()))) {
                    tracing::warn!(
                        name,
                        value,
                        "a broker config is kept that this version does not take; it has no effect"
                    );
                }
            }
        }
        self.defaults = defaults;
    }

    /// The values of one config on this broker; what is in force comes first.
    pub fn synonyms(&self, row: &Row) -> impl Iterator<Item = Synonym> {
        let scopes = [
            (Some(self.broker_id), ConfigSource::DynamicBroker),
            (None, ConfigSource::DynamicDefaultBroker),
        ];
        let name = row.broker_name;
        let set = scopes.map(|(broker, source)| {
            let value = self.set_for(broker).get(name).cloned()?;
            Some(Synonym {
                name,
                value,
                source,
            })
        });
        let kafka = row.value(&TopicConfig::default());
        let fixed = broker_synonyms(name, row.value(&self.started), Some(kafka));
        set.into_iter().flatten().chain(fixed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_own_value_goes_before_that_of_all_and_that_before_the_static_one() {
        let started = TopicConfig {
            segment_bytes: 2 << 20,
            ..TopicConfig::default()
        };
        let mut configs = BrokerConfigs::new(7, started);
        let row = Row::of_broker("log.segment.bytes").expect("a row");
        let told = |configs: &BrokerConfigs| -> Vec<_> {
            let synonym = |s: Synonym| (s.value, s.source as i8);
            configs.synonyms(row).map(synonym).collect()
        };
        let fixed = [("2097152".to_owned(), 4), ("1073741824".to_owned(), 5)];
        assert_eq!(told(&configs), fixed);
        let value = |text: &str| Values::from([(row.broker_name.to_owned(), text.to_owned())]);
        for (broker, text, expected) in [
            (Some(8), "4194304", 2 << 20),
            (None, "5242880", 5 << 20),
            (Some(7), " 6291456", 6 << 20),
        ] {
            configs.set(broker, value(text));
            assert_eq!(configs.defaults().segment_bytes, expected);
        }
        let dynamic = [(" 6291456".to_owned(), 2), ("5242880".to_owned(), 3)];
        assert_eq!(told(&configs), [dynamic, fixed.clone()].concat());
        configs.set(Some(7), Values::new());
        assert_eq!(configs.defaults().segment_bytes, 5 << 20);
        configs.set(None, Values::new());
        assert_eq!(
            (told(&configs), configs.defaults()),
            (fixed.to_vec(), started)
        );
    }
}
