//! DescribeConfigs (32): configs of topics, groups and this broker, with where their values come
//! from. KIP-133, KIP-226 (sources, synonyms), KIP-569 (types, documentation), KIP-848 (groups).
//!
//! Told are the configs that there are here. Loggers and subscriptions to clients' metrics (KIP-714)
//! have none; what is asked of them is checked and answered as Kafka does for configs that it does not
//! know.

use super::config_resource::{Brokers, ResourceType};
use super::error::MALFORMED;
use super::{Answer, Api, Call, Handled};
use crate::catalog::group_config;
use crate::catalog::topic_config::{self, ConfigSource, ConfigType, Row, Synonym};
use crate::catalog::{Catalog, Topic, name};
use crate::config::{Form, KafkaConfig};
use crate::wire::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
    DescribeConfigsSynonym, KEY, Request, Response,
};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "DescribeConfigs",
    versions: 1..=4,
    handle,
};

/// How many more resources a request may name than there are topics. A resource of five bytes can
/// have an answer of kilobytes, and any can be named again and again; Kafka sets no limit.
const SPARE_RESOURCES_MAX: usize = 10_000;
fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let (catalog, config) = (call.gateway.catalog(), call.gateway.config());
    let resources = request.resources.len();
    if resources.saturating_sub(SPARE_RESOURCES_MAX) > catalog.topics().count() {
        let text = format!("DescribeConfigs of {resources} resources, more than there can be");
        return Ok(Answer::Close(text));
    }
    let describer = Describer {
        catalog: &catalog,
        brokers: Brokers::of(&call.gateway),
        options: config.kafka_configs().collect(),
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    call.answer(&Response {
        results: describer.describe_all(&request.resources),
        ..Response::default()
    })
}

/// Why a resource is not described.
type Refusal = (ErrorCode, StrBytes);

fn invalid_request(message: impl Into<StrBytes>) -> Refusal {
    (ErrorCode::INVALID_REQUEST, message.into())
}

/// What resources are described from, and how.
struct Describer<'a> {
    catalog: &'a Catalog,
    brokers: Brokers,
    /// What this broker was started with.
    options: Vec<KafkaConfig>,
    synonyms: bool,
    documentation: bool,
}

/// One config, to be told.
struct Described {
    name: &'static str,
    kind: ConfigType,
    doc: &'static str,
    read_only: bool,
    /// What is in force. The first synonym is where it comes from, as it was given there.
    value: String,
    synonyms: Vec<Synonym>,
}

impl Describer<'_> {
    /// A resource that is named twice is described twice. A type that nobody knows refuses them all.
    fn describe_all(&self, resources: &[DescribeConfigsResource]) -> Vec<DescribeConfigsResult> {
        let known = |r: &DescribeConfigsResource| ResourceType::of(r.resource_type).is_some();
        let malformed = !resources.iter().all(known);
        let describe = |resource| match malformed {
            true => self.result(resource, Err(invalid_request(MALFORMED))),
            false => self.result(resource, self.describe(resource)),
        };
        resources.iter().map(describe).collect()
    }

    fn describe(&self, resource: &DescribeConfigsResource) -> Result<Vec<Described>, Refusal> {
        let name = &resource.resource_name;
        match ResourceType::of(resource.resource_type) {
            Some(ResourceType::Topic) => Ok(self.topic(self.find(name)?, resource)),
            Some(ResourceType::Broker) => match self.which_broker(name)? {
                Some(id) => Ok(self.broker(id, resource)),
                // What all brokers share can only be set while they run.
                None => Ok(self.all_brokers(resource)),
            },
            Some(ResourceType::BrokerLogger) => self.check_logger(name),
            Some(ResourceType::ClientMetrics) if name.is_empty() => Err(invalid_request(
                "Client metrics subscription name must not be empty",
            )),
            Some(ResourceType::Group) if name.is_empty() => {
                Err(invalid_request("Group name must not be empty"))
            }
            Some(ResourceType::ClientMetrics) => Ok(Vec::new()),
            Some(ResourceType::Group) => Ok(self.group(resource)),
            None => Err(invalid_request(MALFORMED)),
        }
    }

    fn find(&self, topic: &str) -> Result<&Topic, Refusal> {
        name::check(topic)
            .map_err(|e| (ErrorCode::INVALID_TOPIC_EXCEPTION, e.to_string().into()))?;
        match self.catalog.by_name(topic) {
            Some(topic) => Ok(topic),
            None => Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "".into())),
        }
    }

    fn topic(&self, topic: &Topic, resource: &DescribeConfigsResource) -> Vec<Described> {
        let rows = topic_config::rows(&topic.config);
        let described = |row: &topic_config::Row| {
            // As the broker read it; CreateTopics answers with the text that was given.
            let value = row.value(&topic.config);
            let set = topic.configs.contains_key(row.name).then(|| value.clone());
            Described {
                name: row.name,
                kind: row.kind,
                doc: row.doc,
                read_only: false,
                value,
                synonyms: row.synonyms(set, self.catalog.broker()).collect(),
            }
        };
        rows.filter(|row| resource.asks_for(row.name))
            .map(described)
            .collect()
    }

    /// The empty name stands for all brokers together.
    fn which_broker(&self, name: &str) -> Result<Option<i32>, Refusal> {
        if name.is_empty() {
            return Ok(None);
        }
        let this = self.brokers.this;
        match broker_id(name)? {
            id if self.brokers.keeper(id).is_some() => Ok(Some(id)),
            id => Err(invalid_request(format!(
                "Unexpected broker id, expected {this} or empty string, but received {id}"
            ))),
        }
    }

    fn broker(&self, id: i32, resource: &DescribeConfigsResource) -> Vec<Described> {
        let fixed = |option: &KafkaConfig| {
            let default = option.default.clone();
            let value = match option.name {
                // Of brokers that share their configs this is all that differs.
                "broker.id" => id.to_string(),
                _ => option.value.clone(),
            };
            Described {
                name: option.name,
                kind: kind(&option.opt.form),
                doc: option.opt.doc,
                read_only: true,
                value: value.clone(),
                synonyms: topic_config::broker_synonyms(option.name, value, default).collect(),
            }
        };
        let broker = self.catalog.broker();
        let defaults = broker.defaults();
        let dynamic = |row: &Row| Described {
            name: row.broker_name,
            kind: row.kind,
            doc: row.doc,
            read_only: false,
            value: row.value(&defaults),
            synonyms: broker.synonyms(row).collect(),
        };
        let options = self.options.iter();
        let fixed = options
            .filter(|option| Row::of_broker(option.name).is_none())
            .map(fixed);
        fixed
            .chain(topic_config::TABLE.iter().map(dynamic))
            .filter(|config| resource.asks_for(config.name))
            .collect()
    }

    /// There need not be such a group. What it sets is told as it was given, not as the broker's bounds
    /// have it.
    fn group(&self, resource: &DescribeConfigsResource) -> Vec<Described> {
        let values = self.catalog.groups().set_for(&resource.resource_name);
        let described = |row: &group_config::Row| {
            let set = values.get(row.name).map(|value| Synonym {
                name: row.name,
                value: value.clone(),
                source: ConfigSource::Group,
            });
            let option = self.options.iter().find(|o| o.name == row.broker_name);
            let of_broker = option.into_iter().flat_map(|option| {
                let (value, default) = (option.value.clone(), option.default.clone());
                topic_config::broker_synonyms(row.broker_name, value, default)
            });
            let synonyms: Vec<_> = set.into_iter().chain(of_broker).collect();
            Described {
                name: row.name,
                kind: ConfigType::Int,
                doc: row.doc,
                read_only: false,
                value: synonyms
                    .first()
                    .map(|s| s.value.clone())
                    .unwrap_or_default(),
                synonyms,
            }
        };
        let rows = group_config::TABLE.iter();
        rows.filter(|row| resource.asks_for(row.name))
            .map(described)
            .collect()
    }

    /// What is set for all brokers together.
    fn all_brokers(&self, resource: &DescribeConfigsResource) -> Vec<Described> {
        let set = self.catalog.broker().set_for(None).iter();
        let described = |(name, value): (&String, &String)| {
            let row = Row::of_broker(name)?;
            Some(Described {
                name: row.broker_name,
                kind: row.kind,
                doc: row.doc,
                read_only: false,
                value: value.clone(),
                synonyms: vec![Synonym {
                    name: row.broker_name,
                    value: value.clone(),
                    source: ConfigSource::DynamicDefaultBroker,
                }],
            })
        };
        set.filter(|(name, _)| resource.asks_for(name))
            .filter_map(described)
            .collect()
    }

    /// There are no loggers whose levels could be told; the broker has to be the right one still.
    fn check_logger(&self, name: &str) -> Result<Vec<Described>, Refusal> {
        if name.is_empty() {
            return Err(invalid_request("Broker id must not be empty"));
        }
        let this = self.brokers.this;
        match broker_id(name)? {
            id if self.brokers.keeper(id).is_some() => Ok(Vec::new()),
            id => Err(invalid_request(format!(
                "Unexpected broker id, expected {this} but received {id}"
            ))),
        }
    }

    fn result(
        &self,
        resource: &DescribeConfigsResource,
        described: Result<Vec<Described>, Refusal>,
    ) -> DescribeConfigsResult {
        let ((error_code, message), configs) = match described {
            Ok(configs) => ((ErrorCode::NONE, StrBytes::default()), configs),
            Err(refusal) => (refusal, Vec::new()),
        };
        let configs = configs.into_iter().map(|config| self.config_result(config));
        DescribeConfigsResult {
            error_code,
            error_message: Some(message),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            configs: configs.collect(),
        }
    }

    fn config_result(&self, config: Described) -> DescribeConfigsResourceResult {
        let mut result = DescribeConfigsResourceResult {
            name: config.name.into(),
            value: Some(config.value.into()),
            read_only: config.read_only,
            config_type: config.kind as i8,
            documentation: self.documentation.then(|| config.doc.into()),
            ..DescribeConfigsResourceResult::default()
        };
        if let Some(in_force) = config.synonyms.first() {
            result.config_source = in_force.source as i8;
        }
        if self.synonyms {
            result.synonyms = config.synonyms.into_iter().map(synonym).collect();
        }
        result
    }
}

impl DescribeConfigsResource {
    /// No key at all asks for all configs, as null does.
    fn asks_for(&self, name: &str) -> bool {
        let keys = self.configuration_keys.as_deref().unwrap_or_default();
        keys.is_empty() || keys.iter().any(|key| *key == *name)
    }
}

fn synonym(of: Synonym) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym {
        name: of.name.into(),
        value: Some(of.value.into()),
        source: of.source as i8,
    }
}

fn broker_id(name: &str) -> Result<i32, Refusal> {
    let integer = || invalid_request(format!("Broker id must be an integer, but it is: {name}"));
    name.parse().map_err(|_| integer())
}

/// Kafka's type of an option.
fn kind(form: &Form) -> ConfigType {
    match form {
        Form::Choice(["true", "false"]) => ConfigType::Boolean,
        Form::Choice(_) | Form::Text(_) => ConfigType::String,
        Form::List(_) => ConfigType::List,
        Form::Level(_) => ConfigType::Int,
        Form::Number { max, .. } if i32::try_from(*max).is_ok() => ConfigType::Int,
        Form::Number { .. } => ConfigType::Long,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Values;
    use crate::catalog::broker_config::BrokerConfigs;
    use crate::catalog::group_config::GroupConfigs;
    use crate::catalog::topic_config::TopicConfig;
    use crate::config::{Config, Host, file_layer, resolve};

    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;
    const LOGGER: i8 = 8;
    const CLIENT_METRICS: i8 = 16;
    const GROUP: i8 = 32;

    fn config() -> Config {
        let file = "broker_id = 1\nnum_partitions = 3\nlog_segment_bytes = '8MiB'";
        let host = Host {
            cpus: 1,
            name: "gate".to_owned(),
        };
        let given = file_layer("tidegate.toml", file).expect("options");
        resolve(&given, &host).expect("a configuration").config
    }

    fn asked(
        resource_type: i8,
        name: &str,
        keys: Option<&[&'static str]>,
    ) -> DescribeConfigsResource {
        DescribeConfigsResource {
            resource_type,
            resource_name: name.to_owned().into(),
            configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
        }
    }

    /// With a topic `t` that sets `segment.bytes`, a group `g` that sets its session, configs that are set for brokers, and all that can
    /// be asked for besides.
    fn describe(resources: &[DescribeConfigsResource]) -> Vec<DescribeConfigsResult> {
        let config = config();
        let mut broker = BrokerConfigs::new(config.broker_id, TopicConfig::from(&config));
        for (of, value) in [(None, "5000"), (Some(1), " 6000")] {
            let values = [("message.max.bytes".to_owned(), value.to_owned())];
            broker.set(of, Values::from(values));
        }
        let mut groups = GroupConfigs::default();
        let session = ("consumer.session.timeout.ms".to_owned(), "50000".to_owned());
        groups.set("g".to_owned(), Values::from([session]));
        let given = [("segment.bytes", Some(" 1048576 "))].into_iter();
        let (configs, own) = topic_config::check(broker.defaults(), given).expect("good configs");
        let topic = Topic::new(&"t".into(), 1, own).expect("an id");
        let describer = Describer {
            catalog: &Catalog::new(broker, [Topic { configs, ..topic }]).with_groups(groups),
            brokers: Brokers {
                ids: vec![config.broker_id],
                this: config.broker_id,
            },
            options: config.kafka_configs().collect(),
            synonyms: true,
            documentation: true,
        };
        describer.describe_all(resources)
    }

    fn described(
        resource_type: i8,
        name: &str,
        keys: Option<&[&'static str]>,
    ) -> Vec<DescribeConfigsResourceResult> {
        let mut results = describe(&[asked(resource_type, name, keys)]);
        let result = results.remove(0);
        assert_eq!(result.error_code, ErrorCode::NONE);
        assert_eq!(result.error_message, Some("".into()));
        result.configs
    }

    type Told<'a> = (&'a str, Option<&'a str>, i8);

    fn synonyms(config: &DescribeConfigsResourceResult) -> Vec<Told<'_>> {
        config
            .synonyms
            .iter()
            .map(|s| (&*s.name, s.value.as_deref(), s.source))
            .collect()
    }

    fn refusal(resource_type: i8, name: &str) -> (ErrorCode, String) {
        let result = describe(&[asked(resource_type, name, None)]).remove(0);
        assert_eq!(
            (result.resource_type, &*result.resource_name),
            (resource_type, name)
        );
        assert!(result.configs.is_empty());
        (
            result.error_code,
            result.error_message.unwrap_or_default().to_string(),
        )
    }

    #[test]
    fn a_topics_config_tells_its_value_and_what_stands_behind_it() {
        let configs = described(
            TOPIC,
            "t",
            Some(&["segment.bytes", "no.such", "segment.bytes"]),
        );
        let [config] = &configs[..] else {
            panic!("{configs:?}");
        };
        assert_eq!(
            (&*config.name, config.value.as_deref()),
            ("segment.bytes", Some("1048576"))
        );
        assert_eq!((config.config_source, config.config_type), (1, 3));
        assert!(!config.read_only && !config.is_sensitive);
        assert!(config.documentation.is_some());
        assert_eq!(
            synonyms(config),
            [
                ("segment.bytes", Some("1048576"), 1),
                ("log.segment.bytes", Some("8388608"), 4),
                ("log.segment.bytes", Some("1073741824"), 5),
            ]
        );
    }

    #[test]
    fn null_and_no_keys_ask_for_all_configs() {
        let all = topic_config::TABLE.len();
        assert_eq!(described(TOPIC, "t", None).len(), all);
        assert_eq!(described(TOPIC, "t", Some(&[])).len(), all);
        assert_eq!(described(TOPIC, "t", Some(&["no.such"])), []);
    }

    #[test]
    fn the_brokers_configs_have_kafkas_names_and_types() {
        let configs = described(BROKER, "1", None);
        let fixed = configs.iter().filter(|config| config.read_only);
        let types: Vec<_> = fixed.map(|c| (&*c.name, c.config_type)).collect();
        assert_eq!(
            types,
            [
                ("broker.id", 3),
                ("log.roll.hours", 3),
                ("log.retention.hours", 3),
                ("log.retention.check.interval.ms", 5),
                ("log.cleaner.enable", 1),
                ("log.cleaner.backoff.ms", 5),
                ("log.cleaner.dedupe.buffer.size", 5),
                ("num.partitions", 3),
                ("auto.create.topics.enable", 1),
                ("producer.id.expiration.ms", 3),
                ("group.initial.rebalance.delay.ms", 3),
                ("group.min.session.timeout.ms", 3),
                ("group.max.session.timeout.ms", 3),
                ("group.max.size", 3),
                ("group.consumer.session.timeout.ms", 3),
                ("group.consumer.min.session.timeout.ms", 3),
                ("group.consumer.max.session.timeout.ms", 3),
                ("group.consumer.heartbeat.interval.ms", 3),
                ("group.consumer.min.heartbeat.interval.ms", 3),
                ("group.consumer.max.heartbeat.interval.ms", 3),
                ("group.consumer.max.size", 3),
                ("group.consumer.assignors", 7),
                ("group.consumer.assignment.interval.ms", 3),
                ("group.consumer.min.assignment.interval.ms", 3),
                ("group.consumer.max.assignment.interval.ms", 3),
                ("group.consumer.regex.refresh.interval.ms", 3),
                ("group.consumer.migration.policy", 2),
                ("offsets.topic.num.partitions", 3),
                ("offset.metadata.max.bytes", 3),
                ("offsets.retention.minutes", 3),
                ("offsets.retention.check.interval.ms", 5),
                ("max.connections", 3),
                ("max.connections.per.ip", 3),
                ("connections.max.idle.ms", 5),
                ("socket.request.max.bytes", 3),
                ("fetch.max.bytes", 3),
                ("max.incremental.fetch.session.cache.slots", 3),
            ]
        );
        assert!(configs.iter().all(|c| c.value.is_some()));
        let dynamic = configs.iter().filter(|config| !config.read_only);
        let names: Vec<_> = dynamic.map(|c| c.name.to_string()).collect();
        assert!(
            topic_config::TABLE
                .iter()
                .map(|row| row.broker_name)
                .eq(names)
        );
        let of = |name: &str| {
            configs
                .iter()
                .find(|c| *c.name == *name)
                .expect("it is there")
        };
        assert_eq!(
            synonyms(of("num.partitions")),
            [
                ("num.partitions", Some("3"), 4),
                ("num.partitions", Some("1"), 5)
            ]
        );
        let segment_bytes = of("log.segment.bytes");
        assert_eq!(
            (segment_bytes.value.as_deref(), segment_bytes.config_source),
            (Some("8388608"), 4)
        );
        let auto_create = of("auto.create.topics.enable");
        assert_eq!(
            synonyms(auto_create),
            [("auto.create.topics.enable", Some("true"), 5)]
        );
    }

    #[test]
    fn what_is_set_while_the_broker_runs_goes_before_what_it_was_started_with() {
        let name = "message.max.bytes";
        let set = [
            (name, Some(" 6000"), 2),
            (name, Some("5000"), 3),
            (name, Some("1048588"), 5),
        ];
        let topics_name = "max.message.bytes";
        for (resource_type, resource, config) in [(BROKER, "1", name), (TOPIC, "t", topics_name)] {
            let configs = described(resource_type, resource, Some(&[config]));
            assert_eq!(synonyms(&configs[0]), set);
            let (value, source) = (configs[0].value.as_deref(), configs[0].config_source);
            assert_eq!((value, source), (Some("6000"), 2));
        }
        let configs = described(BROKER, "", None);
        assert_eq!(configs.len(), 1);
        assert_eq!(synonyms(&configs[0]), [(name, Some("5000"), 3)]);
        assert_eq!(described(BROKER, "", Some(&["no.such"])), []);
    }

    #[test]
    fn a_groups_config_tells_its_value_and_what_stands_behind_it() {
        let configs = described(GROUP, "g", None);
        assert_eq!(configs.len(), group_config::TABLE.len());
        let [set, unset, ..] = &configs[..] else {
            panic!("{configs:?}");
        };
        let (session, of_broker) = (
            "consumer.session.timeout.ms",
            "group.consumer.session.timeout.ms",
        );
        assert_eq!(
            (&*set.name, set.value.as_deref(), set.config_source),
            (session, Some("50000"), 8)
        );
        assert_eq!(
            synonyms(set),
            [(session, Some("50000"), 8), (of_broker, Some("45000"), 5)]
        );
        let of_broker = ("group.consumer.heartbeat.interval.ms", Some("5000"), 5);
        assert_eq!((synonyms(unset), unset.config_source), (vec![of_broker], 5));
        let of_nobody = described(
            GROUP,
            "nobody",
            Some(&[session, "share.session.timeout.ms"]),
        );
        assert_eq!((of_nobody.len(), of_nobody[0].config_source), (1, 5));
    }

    #[test]
    fn what_topics_and_the_broker_share_has_one_default() {
        let defaults = described(BROKER, "1", None);
        for topic in described(TOPIC, "t", None) {
            let Some((name, value, _)) = synonyms(&topic).last().copied() else {
                panic!("{} has no default", topic.name);
            };
            if let Some(broker) = defaults.iter().find(|c| *c.name == *name) {
                assert_eq!(synonyms(broker).last(), Some(&(name, value, 5)));
                assert_eq!(broker.config_type, topic.config_type, "{name}");
            }
        }
    }

    #[test]
    fn what_this_broker_has_none_of_is_described_as_empty() {
        for (resource_type, name) in [(LOGGER, "1"), (LOGGER, "+1"), (CLIENT_METRICS, "c")] {
            assert_eq!(described(resource_type, name, None), []);
        }
    }

    #[test]
    fn wrong_names_are_refused_in_kafkas_words() {
        let characters =
            "contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'";
        let invalid_topic = format!("Topic name is invalid: 'a b' {characters}");
        let empty_topic = "Topic name is invalid: the empty string is not allowed";
        let invalid_request = ErrorCode::INVALID_REQUEST;
        for (resource_type, name, code, message) in [
            (TOPIC, "nope", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ""),
            (
                TOPIC,
                "a b",
                ErrorCode::INVALID_TOPIC_EXCEPTION,
                &*invalid_topic,
            ),
            (TOPIC, "", ErrorCode::INVALID_TOPIC_EXCEPTION, empty_topic),
            (
                BROKER,
                "9",
                invalid_request,
                "Unexpected broker id, expected 1 or empty string, but received 9",
            ),
            (
                BROKER,
                " 1",
                invalid_request,
                "Broker id must be an integer, but it is:  1",
            ),
            (
                BROKER,
                "99999999999",
                invalid_request,
                "Broker id must be an integer, but it is: 99999999999",
            ),
            (LOGGER, "", invalid_request, "Broker id must not be empty"),
            (
                LOGGER,
                "x",
                invalid_request,
                "Broker id must be an integer, but it is: x",
            ),
            (
                LOGGER,
                "-1",
                invalid_request,
                "Unexpected broker id, expected 1 but received -1",
            ),
            (
                CLIENT_METRICS,
                "",
                invalid_request,
                "Client metrics subscription name must not be empty",
            ),
            (GROUP, "", invalid_request, "Group name must not be empty"),
        ] {
            assert_eq!(refusal(resource_type, name), (code, message.to_owned()));
        }
    }

    #[test]
    fn a_type_that_nobody_knows_refuses_the_whole_request() {
        for unknown in [i8::MIN, -1, 0, 1, 3, 6, 64, 99] {
            let results = describe(&[asked(TOPIC, "t", None), asked(unknown, "z", None)]);
            let codes: Vec<_> = results.iter().map(|r| r.error_code).collect();
            assert_eq!(codes, [ErrorCode::INVALID_REQUEST; 2], "{unknown}");
            assert!(
                results
                    .iter()
                    .all(|r| r.error_message.as_deref() == Some(MALFORMED))
            );
        }
    }

    #[test]
    fn a_resource_named_twice_is_described_twice() {
        let twice = [
            asked(TOPIC, "t", Some(&["segment.bytes"])),
            asked(TOPIC, "t", None),
        ];
        let configs: Vec<_> = describe(&twice).iter().map(|r| r.configs.len()).collect();
        assert_eq!(configs, [1, topic_config::TABLE.len()]);
    }
}
