//! Configs of single groups (KIP-848, KIP-1263): one table of those that can be set, and what they
//! come to.
//!
//! A group that sets a config goes before what the broker was started with, and stays within the bounds
//! that the broker was started with. They are those of groups of the consumer protocol: there are no
//! share groups and no Streams groups here, and their configs are refused as unknown.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Values;
use super::topic_config::{ConfigError, Given};
use crate::config::Config;

/// Groups that set configs. As many as a snapshot can hold without a thought of copying them.
const GROUPS_MAX: usize = 10_000;
/// What a group's name may have.
const NAME_BYTES_MAX: usize = i16::MAX as usize;

static NONE: Values = Values::new();

/// What a group's configs come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupConfig {
    /// `consumer.session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `consumer.heartbeat.interval.ms`: what members are told.
    pub heartbeat_interval_ms: i32,
    /// `consumer.assignment.interval.ms`: between two times that partitions are shared out.
    pub assignment_interval_ms: i32,
}

/// What brokers say of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBounds {
    /// For groups that set nothing.
    pub defaults: GroupConfig,
    pub min: GroupConfig,
    pub max: GroupConfig,
}

/// Kafka's.
impl Default for GroupBounds {
    fn default() -> Self {
        let config =
            |session_timeout_ms, heartbeat_interval_ms, assignment_interval_ms| GroupConfig {
                session_timeout_ms,
                heartbeat_interval_ms,
                assignment_interval_ms,
            };
        GroupBounds {
            defaults: config(45_000, 5000, 1000),
            min: config(45_000, 5000, 0),
            max: config(60_000, 15_000, 15_000),
        }
    }
}

impl From<&Config> for GroupBounds {
    fn from(config: &Config) -> Self {
        let millis = |d: std::time::Duration| i32::try_from(d.as_millis()).unwrap_or(i32::MAX);
        GroupBounds {
            defaults: GroupConfig {
                session_timeout_ms: millis(config.group_consumer_session_timeout),
                heartbeat_interval_ms: millis(config.group_consumer_heartbeat_interval),
                assignment_interval_ms: millis(config.group_consumer_assignment_interval),
            },
            min: GroupConfig {
                session_timeout_ms: millis(config.group_consumer_min_session_timeout),
                heartbeat_interval_ms: millis(config.group_consumer_min_heartbeat_interval),
                assignment_interval_ms: millis(config.group_consumer_min_assignment_interval),
            },
            max: GroupConfig {
                session_timeout_ms: millis(config.group_consumer_max_session_timeout),
                heartbeat_interval_ms: millis(config.group_consumer_max_heartbeat_interval),
                assignment_interval_ms: millis(config.group_consumer_max_assignment_interval),
            },
        }
    }
}

/// One config: a row of the table.
pub struct Row {
    pub name: &'static str,
    /// The broker config that stands in for it, and those that bound it.
    pub broker_name: &'static str,
    min_name: &'static str,
    max_name: &'static str,
    /// What it is for, in one line.
    pub doc: &'static str,
    /// The least value that there can be.
    least: i32,
    field: fn(&mut GroupConfig) -> &mut i32,
}

/// Configs that can be set.
pub const TABLE: &[Row] = &[
    Row {
        name: "consumer.session.timeout.ms",
        broker_name: "group.consumer.session.timeout.ms",
        min_name: "group.consumer.min.session.timeout.ms",
        max_name: "group.consumer.max.session.timeout.ms",
        doc: "Session of a member of the consumer protocol: the time after which it is taken for dead if it gives no sign of life.",
        least: 1,
        field: |config| &mut config.session_timeout_ms,
    },
    Row {
        name: "consumer.heartbeat.interval.ms",
        broker_name: "group.consumer.heartbeat.interval.ms",
        min_name: "group.consumer.min.heartbeat.interval.ms",
        max_name: "group.consumer.max.heartbeat.interval.ms",
        doc: "Time between two heartbeats, as members of the consumer protocol are told.",
        least: 1,
        field: |config| &mut config.heartbeat_interval_ms,
    },
    Row {
        name: "consumer.assignment.interval.ms",
        broker_name: "group.consumer.assignment.interval.ms",
        min_name: "group.consumer.min.assignment.interval.ms",
        max_name: "group.consumer.max.assignment.interval.ms",
        doc: "Shortest time between two times that the group's partitions are shared out.",
        least: 0,
        field: |config| &mut config.assignment_interval_ms,
    },
];

impl Row {
    fn get(&self, mut config: GroupConfig) -> i32 {
        *(self.field)(&mut config)
    }

    /// The value that a group is set to, if it is.
    fn of(&self, values: &Values) -> Result<Option<i32>, ConfigError> {
        let Some(value) = values.get(self.name) else {
            return Ok(None);
        };
        let given = Given {
            name: self.name,
            value,
        };
        given.int(self.least).map(Some)
    }
}

/// Why configs of groups are refused. The texts are Kafka's, but for the limits, which it does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupConfigError {
    #[error("Default group resources are not allowed.")]
    NoName,
    #[error("A group's name has no more than {NAME_BYTES_MAX} bytes.")]
    LongName,
    #[error("No more than {GROUPS_MAX} groups may have configs.")]
    TooMany,
    #[error("Unknown group config name: {0}")]
    UnknownName(String),
    #[error(transparent)]
    Value(#[from] ConfigError),
    #[error("{0} must be greater than or equal to {1}")]
    BelowMin(&'static str, &'static str),
    #[error("{0} must be less than or equal to {1}")]
    AboveMax(&'static str, &'static str),
    #[error("consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms")]
    ShortSession,
}

/// Configs of all groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupConfigs {
    bounds: GroupBounds,
    set: Arc<BTreeMap<String, Set>>,
}

/// What a group sets.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Set {
    values: Values,
    comes_to: GroupConfig,
}

impl GroupConfigs {
    /// On a broker with these bounds; nothing is set yet.
    pub fn new(bounds: GroupBounds) -> Self {
        GroupConfigs {
            bounds,
            set: Arc::default(),
        }
    }

    /// What holds for a group.
    pub fn of(&self, group: &str) -> GroupConfig {
        let set = self.set.get(group);
        set.map_or(self.bounds.defaults, |set| set.comes_to)
    }

    /// What a group sets, by Kafka's names.
    pub fn set_for(&self, group: &str) -> &Values {
        self.set.get(group).map_or(&NONE, |set| &set.values)
    }

    /// Groups that set something, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.set.keys().map(|name| &**name)
    }

    /// Checks what a group is to set. Gives the values to keep: numbers, however they were written.
    pub fn check(&self, group: &str, values: &Values) -> Result<Values, GroupConfigError> {
        let is_new = !values.is_empty() && !self.set.contains_key(group);
        if group.is_empty() {
            return Err(GroupConfigError::NoName);
        } else if group.len() > NAME_BYTES_MAX {
            return Err(GroupConfigError::LongName);
        } else if is_new && self.set.len() >= GROUPS_MAX {
            return Err(GroupConfigError::TooMany);
        }
        let is_known = |name: &&String| TABLE.iter().any(|row| row.name == **name);
        if let Some(unknown) = values.keys().find(|name| !is_known(name)) {
            return Err(GroupConfigError::UnknownName(unknown.clone()));
        }
        let (mut kept, mut config) = (Values::new(), self.bounds.defaults);
        for row in TABLE {
            if let Some(value) = row.of(values)? {
                kept.insert(row.name.to_owned(), value.to_string());
                *(row.field)(&mut config) = value;
            }
        }
        // In the order in which Kafka looks at them.
        for row in [&TABLE[1], &TABLE[0], &TABLE[2]] {
            self.check_bounds(row, config)?;
        }
        match config.session_timeout_ms > config.heartbeat_interval_ms {
            true => Ok(kept),
            false => Err(GroupConfigError::ShortSession),
        }
    }

    fn check_bounds(&self, row: &Row, config: GroupConfig) -> Result<(), GroupConfigError> {
        match row.get(config) {
            value if value < row.get(self.bounds.min) => {
                Err(GroupConfigError::BelowMin(row.name, row.min_name))
            }
            value if value > row.get(self.bounds.max) => {
                Err(GroupConfigError::AboveMax(row.name, row.max_name))
            }
            _ => Ok(()),
        }
    }

    /// Replaces what a group sets. A broker that was started with other bounds keeps to these.
    pub fn set(&mut self, group: String, values: Values) {
        let mut comes_to = self.bounds.defaults;
        for row in TABLE {
            let Ok(Some(value)) = row.of(&values) else {
                continue;
            };
            let (min, max) = (row.get(self.bounds.min), row.get(self.bounds.max));
            let bounded = value.min(max).max(min);
            if bounded != value {
                tracing::warn!(
                    group,
                    name = row.name,
                    value,
                    bounded,
                    "a group's config is beyond the bounds that this broker was started with"
                );
            }
            *(row.field)(&mut comes_to) = bounded;
        }
        let set = Arc::make_mut(&mut self.set);
        match values.is_empty() {
            true => set.remove(&group),
            false => set.insert(group, Set { values, comes_to }),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(pair).collect()
    }

    const SESSION: &str = "consumer.session.timeout.ms";
    const HEARTBEAT: &str = "consumer.heartbeat.interval.ms";
    const ASSIGNMENT: &str = "consumer.assignment.interval.ms";

    fn refusal(configs: &GroupConfigs, group: &str, pairs: &[(&str, &str)]) -> String {
        let checked = configs.check(group, &values(pairs));
        checked.expect_err("refused").to_string()
    }

    #[test]
    fn what_a_group_sets_goes_before_the_brokers_value_and_numbers_are_kept() {
        let mut configs = GroupConfigs::default();
        let given = values(&[(SESSION, "+50000"), (HEARTBEAT, " 6000 ")]);
        let kept = configs.check("g", &given).expect("good values");
        assert_eq!(kept, values(&[(SESSION, "50000"), (HEARTBEAT, "6000")]));
        configs.set("g".to_owned(), kept.clone());
        let expected = GroupConfig {
            session_timeout_ms: 50_000,
            heartbeat_interval_ms: 6000,
            assignment_interval_ms: 1000,
        };
        assert_eq!((configs.of("g"), configs.set_for("g")), (expected, &kept));
        assert_eq!(configs.of("h"), GroupBounds::default().defaults);
        assert_eq!(configs.names().collect::<Vec<_>>(), ["g"]);
        configs.set("g".to_owned(), Values::new());
        assert_eq!(configs, GroupConfigs::default());
    }

    #[test]
    fn wrong_values_are_refused_in_kafkas_order_and_words() {
        let configs = GroupConfigs::default();
        for (pairs, text) in [
            (
                &[(SESSION, "x"), ("no.such", "1"), (HEARTBEAT, "1")][..],
                "Unknown group config name: no.such",
            ),
            (
                &[("share.session.timeout.ms", "50000")],
                "Unknown group config name: share.session.timeout.ms",
            ),
            (
                &[(HEARTBEAT, "x"), (SESSION, "")],
                "Invalid value  for configuration consumer.session.timeout.ms: Not a number of type INT",
            ),
            (
                &[(SESSION, "0"), (HEARTBEAT, "1")],
                "Invalid value 0 for configuration consumer.session.timeout.ms: Value must be at least 1",
            ),
            (
                &[(ASSIGNMENT, "-1")],
                "Invalid value -1 for configuration consumer.assignment.interval.ms: Value must be at least 0",
            ),
            (
                &[(SESSION, "1"), (HEARTBEAT, "1")],
                "consumer.heartbeat.interval.ms must be greater than or equal to group.consumer.min.heartbeat.interval.ms",
            ),
            (
                &[(SESSION, "60001"), (ASSIGNMENT, "15001")],
                "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms",
            ),
            (
                &[(ASSIGNMENT, "15001")],
                "consumer.assignment.interval.ms must be less than or equal to group.consumer.max.assignment.interval.ms",
            ),
        ] {
            assert_eq!(refusal(&configs, "g", pairs), text);
        }
        let no_name = "Default group resources are not allowed.";
        assert_eq!(refusal(&configs, "", &[("no.such", "1")]), no_name);
        let long = refusal(&configs, &"g".repeat(NAME_BYTES_MAX + 1), &[]);
        assert_eq!(long, "A group's name has no more than 32767 bytes.");
    }

    #[test]
    fn a_session_is_longer_than_the_time_between_heartbeats() {
        let mut bounds = GroupBounds::default();
        bounds.min.session_timeout_ms = 1000;
        let configs = GroupConfigs::new(bounds);
        let text =
            "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms";
        let equal = [(SESSION, "6000"), (HEARTBEAT, "6000")];
        assert_eq!(refusal(&configs, "g", &equal), text);
        assert_eq!(refusal(&configs, "g", &[(SESSION, "5000")]), text);
        let longer = values(&[(SESSION, "6000"), (HEARTBEAT, "5999")]);
        assert_eq!(configs.check("g", &longer), Ok(longer));
    }

    #[test]
    fn what_was_set_under_other_bounds_is_kept_and_bounded() {
        let mut configs = GroupConfigs::default();
        let set = values(&[
            (SESSION, "6000"),
            (HEARTBEAT, "20000"),
            ("of.another.version", ""),
        ]);
        configs.set("g".to_owned(), set.clone());
        let config = configs.of("g");
        let told = (config.session_timeout_ms, config.heartbeat_interval_ms);
        assert_eq!((told, configs.set_for("g")), ((45_000, 15_000), &set));
    }

    #[test]
    fn groups_with_configs_have_a_limit() {
        let mut configs = GroupConfigs::default();
        let set = values(&[(SESSION, "50000")]);
        for n in 0..GROUPS_MAX {
            configs.set(n.to_string(), set.clone());
        }
        let one_more = configs.check("one more", &set);
        assert_eq!(one_more, Err(GroupConfigError::TooMany));
        assert_eq!(configs.check("0", &set), Ok(set));
        assert_eq!(configs.check("one more", &NONE), Ok(Values::new()));
    }
}
