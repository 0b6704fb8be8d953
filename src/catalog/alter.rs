//! Changing configs: what a resource's configs become. KIP-133 (all at once), KIP-339 (one by one),
//! KIP-226 (of brokers that run).
//!
//! Pure: [`Catalog::check_alteration`] tells what would happen, the catalog's writer makes it happen.
//! Checks come in Kafka's order, and their texts are Kafka's, but for configs that are not known or
//! have no effect here: those are refused, for topics and for brokers.

use super::group_config::GroupConfigError;
use super::keeper::NotStored;
use super::log::Entry;
use super::name::{self, NameError};
use super::topic_config::{self, ConfigError, ConfigType, Row, TopicConfig};
use super::{Catalog, Values};
use crate::config::OPTIONS;

/// What has configs that can be changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    Topic(String),
    /// One broker, or all of them together.
    Broker(Option<i32>),
    Group(String),
}

/// How configs are changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alteration {
    /// To these and no others.
    Replace(Values),
    /// Each as its operation says.
    Each(Vec<(String, Operation)>),
}

/// What becomes of one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Set(String),
    Delete,
    /// Adds those elements to a list that are not in it.
    Append(String),
    /// Takes elements out of a list.
    Subtract(String),
}

/// Why configs are not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlterError {
    #[error("Default topic resources are not allowed.")]
    DefaultTopic,
    #[error(transparent)]
    TopicName(#[from] NameError),
    #[error("The topic '{0}' does not exist.")]
    UnknownTopic(String),
    #[error("Can't {} to key {name} because its type is not LIST.", .operation.to_uppercase())]
    NotAList {
        operation: &'static str,
        name: String,
    },
    #[error("Config value {operation} is not allowed for config key: {name}")]
    BrokerNotAList {
        operation: &'static str,
        name: String,
    },
    #[error("Unknown config name: {0}")]
    UnknownBrokerConfig(String),
    #[error("Cannot update these configs dynamically: [{}]", .0.join(", "))]
    NotDynamic(Vec<String>),
    #[error(transparent)]
    Topic(ConfigError),
    #[error(transparent)]
    Broker(ConfigError),
    #[error(transparent)]
    Group(#[from] GroupConfigError),
    #[error(transparent)]
    NotStored(#[from] NotStored),
}

impl Catalog {
    /// Says whether configs could be changed in this way.
    pub fn check_alteration(&self, of: &Resource, by: &Alteration) -> Result<(), AlterError> {
        self.alter(of, by).map(drop)
    }

    /// The change to make; `None` if everything is so already.
    pub(super) fn alter(
        &self,
        of: &Resource,
        by: &Alteration,
    ) -> Result<Option<Entry>, AlterError> {
        match of {
            Resource::Topic(name) => self.alter_topic(name, by),
            Resource::Broker(broker) => self.alter_broker(*broker, by),
            Resource::Group(name) => self.alter_group(name, by),
        }
    }

    fn alter_topic(&self, name: &str, by: &Alteration) -> Result<Option<Entry>, AlterError> {
        let none = Values::new();
        let topic = self.by_name(name);
        let before = topic.map_or(&none, |topic| &topic.configs);
        let mut configs = by.of(before, |operation, name| self.topic_list(operation, name))?;
        if matches!(by, Alteration::Replace(_)) {
            topic_config::keep_fixed(before, &mut configs);
        }
        if name.is_empty() {
            return Err(AlterError::DefaultTopic);
        }
        name::check(name)?;
        let given = configs
            .iter()
            .map(|(name, value)| (&**name, Some(&**value)));
        let (_, config) =
            topic_config::check(self.broker().defaults(), given).map_err(AlterError::Topic)?;
        let topic = topic.ok_or_else(|| AlterError::UnknownTopic(name.to_owned()))?;
        topic_config::check_fixed(&topic.config, &config).map_err(AlterError::Topic)?;
        Ok((configs != topic.configs).then(|| Entry::TopicConfigs {
            id: topic.id.to_string(),
            configs,
        }))
    }

    /// What a list that a topic does not set begins with.
    fn topic_list(&self, operation: &'static str, name: &str) -> Result<String, AlterError> {
        match topic_config::row(name) {
            Ok(row) if row.kind == ConfigType::List => Ok(row.value(self.broker().started())),
            Err(error @ ConfigError::NotSupported(_)) => Err(AlterError::Topic(error)),
            _ => Err(AlterError::NotAList {
                operation,
                name: name.to_owned(),
            }),
        }
    }

    fn alter_broker(
        &self,
        broker: Option<i32>,
        by: &Alteration,
    ) -> Result<Option<Entry>, AlterError> {
        let before = self.broker().set_for(broker);
        let configs = by.of(before, |operation, name| self.broker_list(operation, name))?;
        let fixed = by.names_set().filter(|name| Row::of_broker(name).is_none());
        let fixed: Vec<_> = fixed.map(str::to_owned).collect();
        if !fixed.is_empty() {
            return Err(AlterError::NotDynamic(fixed));
        }
        for (name, value) in &configs {
            if let Some(row) = Row::of_broker(name) {
                row.take_of_broker(&mut TopicConfig::default(), value)
                    .map_err(AlterError::Broker)?;
            }
        }
        Ok((configs != *before).then_some(Entry::BrokerConfigs { broker, configs }))
    }

    /// What a list that is not set for brokers begins with.
    fn broker_list(&self, operation: &'static str, name: &str) -> Result<String, AlterError> {
        let row = Row::of_broker(name);
        if let Some(row) = row.filter(|row| row.kind == ConfigType::List) {
            return Ok(row.value(self.broker().started()));
        }
        let name = name.to_owned();
        match row.is_some() || OPTIONS.iter().any(|opt| opt.kafka == Some(&name)) {
            true => Err(AlterError::BrokerNotAList { operation, name }),
            false => Err(AlterError::UnknownBrokerConfig(name)),
        }
    }

    fn alter_group(&self, name: &str, by: &Alteration) -> Result<Option<Entry>, AlterError> {
        let before = self.groups().set_for(name);
        let asked = by.of(before, |operation, name| {
            let name = name.to_owned();
            Err(AlterError::NotAList { operation, name })
        })?;
        let configs = self.groups().check(name, &asked)?;
        Ok((configs != *before).then(|| Entry::GroupConfigs {
            group: name.to_owned(),
            configs,
        }))
    }
}

impl Alteration {
    /// The configs afterwards. `list` gives what a list is when it is not set, for an operation of
    /// this name.
    fn of(
        &self,
        before: &Values,
        list: impl Fn(&'static str, &str) -> Result<String, AlterError>,
    ) -> Result<Values, AlterError> {
        let operations = match self {
            Alteration::Replace(values) => return Ok(values.clone()),
            Alteration::Each(operations) => operations,
        };
        let mut values = before.clone();
        for (name, operation) in operations {
            let value = match operation {
                Operation::Set(value) => value.clone(),
                Operation::Delete => {
                    values.remove(name);
                    continue;
                }
                Operation::Append(elements) => {
                    let unset = list("append", name)?;
                    append(values.get(name).unwrap_or(&unset), elements)
                }
                Operation::Subtract(elements) => {
                    let unset = list("subtract", name)?;
                    subtract(values.get(name).unwrap_or(&unset), elements)
                }
            };
            values.insert(name.clone(), value);
        }
        Ok(values)
    }

    /// The configs that get a value.
    pub fn names_set(&self) -> impl Iterator<Item = &str> {
        let (all, each) = match self {
            Alteration::Replace(values) => (Some(values), None),
            Alteration::Each(operations) => (None, Some(operations)),
        };
        let all = all.into_iter().flatten().map(|(name, _)| &**name);
        let each = each.into_iter().flatten();
        let set = each.filter(|(_, operation)| *operation != Operation::Delete);
        all.chain(set.map(|(name, _)| &**name))
    }
}

/// Elements stay as they were written, with their spaces.
fn elements(list: &str) -> Vec<&str> {
    match list {
        "" => Vec::new(),
        list => list.split(',').collect(),
    }
}

fn append(list: &str, more: &str) -> String {
    let mut all = elements(list);
    for element in more.split(',') {
        if !all.contains(&element) {
            all.push(element);
        }
    }
    all.join(",")
}

fn subtract(list: &str, less: &str) -> String {
    let mut all = elements(list);
    for element in less.split(',') {
        if let Some(at) = all.iter().position(|one| *one == element) {
            all.remove(at);
        }
    }
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Topic;
    use crate::catalog::broker_config::BrokerConfigs;

    fn values(pairs: &[(&str, &str)]) -> Values {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(pair).collect()
    }

    /// Broker 1 with a topic `t` that sets `segment.bytes`.
    fn catalog() -> Catalog {
        let topic = Topic::new(&"t".into(), 1, TopicConfig::default()).expect("an id");
        let configs = values(&[("segment.bytes", "2097152")]);
        let broker = BrokerConfigs::new(1, TopicConfig::default());
        Catalog::new(broker, [Topic { configs, ..topic }])
    }

    fn each(operations: &[(&str, Operation)]) -> Alteration {
        let owned = |(name, operation): &(&str, Operation)| ((*name).to_owned(), operation.clone());
        Alteration::Each(operations.iter().map(owned).collect())
    }

    fn set(value: &str) -> Operation {
        Operation::Set(value.to_owned())
    }

    fn topic(name: &str) -> Resource {
        Resource::Topic(name.to_owned())
    }

    /// The configs that are to be stored.
    fn altered(of: &Resource, by: &Alteration) -> Option<Values> {
        match catalog().alter(of, by).expect("a good alteration") {
            Some(Entry::TopicConfigs { configs, .. } | Entry::BrokerConfigs { configs, .. }) => {
                Some(configs)
            }
            None => None,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(of: &Resource, by: &Alteration) -> String {
        let catalog = catalog();
        let error = catalog.check_alteration(of, by).expect_err("refused");
        error.to_string()
    }

    #[test]
    fn single_configs_are_changed_and_all_are_replaced() {
        let operations = [
            ("max.message.bytes", set("9")),
            ("segment.bytes", Operation::Delete),
            ("no.such", Operation::Delete),
        ];
        let max = values(&[("max.message.bytes", "9")]);
        assert_eq!(altered(&topic("t"), &each(&operations)), Some(max.clone()));
        let replaced = altered(&topic("t"), &Alteration::Replace(max.clone()));
        assert_eq!(replaced, Some(max));
        let added = altered(&topic("t"), &each(&operations[..1]));
        assert_eq!(added.map(|values| values.len()), Some(2));
    }

    #[test]
    fn what_is_so_already_is_not_stored_again() {
        let again = values(&[("segment.bytes", "2097152")]);
        assert_eq!(altered(&topic("t"), &Alteration::Replace(again)), None);
        assert_eq!(altered(&topic("t"), &each(&[])), None);
        assert_eq!(altered(&Resource::Broker(None), &each(&[])), None);
    }

    #[test]
    fn lists_are_appended_to_and_subtracted_from_by_their_elements() {
        assert_eq!(append("delete", "compact"), "delete,compact");
        assert_eq!(append("", "compact,compact"), "compact");
        assert_eq!(append("delete,compact", "delete"), "delete,compact");
        assert_eq!(append("delete", ""), "delete,");
        assert_eq!(subtract("delete,compact", "delete"), "compact");
        assert_eq!(subtract("delete", "delete,foo"), "");
        let spaced = " delete , compact ";
        assert_eq!(subtract(spaced, "compact"), spaced);
        assert_eq!(subtract(spaced, " delete "), " compact ");
        let delete = Operation::Append("delete".to_owned());
        let unset = each(&[("cleanup.policy", delete.clone())]);
        let configs = altered(&topic("t"), &unset).expect("it is set now");
        assert_eq!(
            configs["cleanup.policy"], "delete",
            "the default is the beginning"
        );
        let unset = each(&[("log.cleanup.policy", delete)]);
        let configs = altered(&Resource::Broker(Some(1)), &unset);
        assert_eq!(configs, Some(values(&[("log.cleanup.policy", "delete")])));
    }

    #[test]
    fn wrong_alterations_of_topics_are_refused_in_kafkas_order_and_words() {
        let bad = each(&[("segment.bytes", set("x"))]);
        let not_a_list = each(&[("segment.bytes", Operation::Subtract("1".to_owned()))]);
        let no_list = "Can't SUBTRACT to key segment.bytes because its type is not LIST.";
        let characters =
            "contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'";
        let name = format!("Topic name is invalid: 'a b' {characters}");
        let value = "Invalid value x for configuration segment.bytes: Not a number of type INT";
        for (of, by, text) in [
            ("a b", &not_a_list, no_list),
            ("", &bad, "Default topic resources are not allowed."),
            ("a b", &bad, &name),
            ("nope", &bad, value),
            ("nope", &each(&[]), "The topic 'nope' does not exist."),
            (
                "t",
                &each(&[("no.such", Operation::Append("1".to_owned()))]),
                "Can't APPEND to key no.such because its type is not LIST.",
            ),
            (
                "t",
                &each(&[("segment.bytes", set("x")), ("no.such", set("x"))]),
                "Unknown topic config name: no.such",
            ),
            (
                "t",
                &each(&[("cleanup.policy", Operation::Append(String::new()))]),
                "Configuration 'cleanup.policy' values must not be empty.",
            ),
        ] {
            assert_eq!(refusal(&topic(of), by), text);
        }
    }

    #[test]
    fn wrong_alterations_of_brokers_are_refused_in_kafkas_words() {
        let append = |name| each(&[(name, Operation::Append("1".to_owned()))]);
        let subtract = each(&[("num.partitions", Operation::Subtract("1".to_owned()))]);
        let fixed = [
            ("num.partitions", set("3")),
            ("log.segment.bytes", set("x")),
            ("broker.id", set("4")),
            ("auto.create.topics.enable", Operation::Delete),
        ];
        for (by, text) in [
            (
                each(&fixed),
                "Cannot update these configs dynamically: [num.partitions, broker.id]",
            ),
            (
                Alteration::Replace(values(&[("no.such", "1")])),
                "Cannot update these configs dynamically: [no.such]",
            ),
            (append("no.such"), "Unknown config name: no.such"),
            (
                append("message.max.bytes"),
                "Config value append is not allowed for config key: message.max.bytes",
            ),
            (
                subtract,
                "Config value subtract is not allowed for config key: num.partitions",
            ),
            (
                each(&[("log.segment.bytes", set("1000000"))]),
                "Invalid value 1000000 for configuration log.segment.bytes: Value must be at least 1048576",
            ),
        ] {
            for broker in [None, Some(1)] {
                assert_eq!(refusal(&Resource::Broker(broker), &by), text);
            }
        }
    }
}
