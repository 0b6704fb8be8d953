//! IncrementalAlterConfigs (44): changes single configs of topics, brokers and groups. KIP-339,
//! KIP-226 (brokers), KIP-412 (loggers), KIP-848 (groups).
//!
//! Loggers and subscriptions to clients' metrics (KIP-714) have no configs here; what is asked of them
//! is refused as Kafka does for configs that it does not know.

use std::collections::{HashMap, HashSet};

use super::config_resource::{Brokers, ResourceType};
use super::{Api, Call, Handled};
use crate::catalog::alter::{AlterError, Alteration, Operation, Resource};
use crate::catalog::keeper::{Change, Changed};
use crate::gateway::Gateway;
use crate::wire::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig, KEY, Request, Response,
};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "IncrementalAlterConfigs",
    versions: 0..=1,
    handle,
};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn handle(mut call: Call) -> Handled {
    let Request {
        resources,
        validate_only,
    } = call.decode()?;
    call.later(async move |call| Response {
        responses: alter(&call.gateway, resources, Way::Each, validate_only).await,
        ..Response::default()
    })
}

/// What becomes of configs that a request does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// They are deleted: AlterConfigs. There are no loggers in it.
    Replace,
    /// They stay.
    Each,
}

/// Why a resource is not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    code: ErrorCode,
    message: Option<StrBytes>,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<StrBytes>) -> Self {
        Refusal {
            code,
            message: Some(message.into()),
        }
    }

    fn invalid_request(message: impl Into<StrBytes>) -> Self {
        Self::new(ErrorCode::INVALID_REQUEST, message)
    }

    fn silent(code: ErrorCode) -> Self {
        Refusal {
            code,
            message: None,
        }
    }
}

impl From<&AlterError> for Refusal {
    fn from(error: &AlterError) -> Self {
        Self::new(error.into(), error.to_string())
    }
}

/// Changes what is good; the answers stand in the order of the resources.
pub(super) async fn alter(
    gateway: &Gateway,
    resources: Vec<AlterConfigsResource>,
    way: Way,
    validate_only: bool,
) -> Vec<AlterConfigsResourceResponse> {
    let mut checked = check_all(&resources, way, &Brokers::of(gateway));
    let good: Vec<_> = checked
        .iter()
        .filter_map(|change| change.as_ref().ok().cloned().flatten())
        .collect();
    let mut outcomes = match validate_only {
        true => {
            let catalog = gateway.catalog();
            let check = |(of, by)| catalog.check_alteration(&of, &by);
            good.into_iter().map(check).collect()
        }
        false => store(gateway, good).await,
    }
    .into_iter();
    for change in checked
        .iter_mut()
        .filter(|change| matches!(change, Ok(Some(_))))
    {
        match outcomes.next() {
            Some(Ok(())) => {}
            Some(Err(error)) => *change = Err(Refusal::from(&error)),
            // Shard 0 did not answer: the change may be made or not.
            None => *change = Err(Refusal::silent(ErrorCode::REQUEST_TIMED_OUT)),
        }
    }
    resources.into_iter().zip(checked).map(response).collect()
}

async fn store(
    gateway: &Gateway,
    changes: Vec<(Resource, Alteration)>,
) -> Vec<Result<(), AlterError>> {
    if changes.is_empty() {
        return Vec::new();
    }
    match gateway.change_catalog(Change::AlterConfigs(changes)).await {
        Ok(Changed::Configs(outcomes)) => outcomes,
        _ => Vec::new(),
    }
}

fn response((resource, checked): (AlterConfigsResource, Checked)) -> AlterConfigsResourceResponse {
    let (error_code, error_message) = match checked {
        Ok(_) => (ErrorCode::NONE, None),
        Err(refusal) => (refusal.code, refusal.message),
    };
    AlterConfigsResourceResponse {
        error_code,
        error_message,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
    }
}

/// The change that a resource asks of the catalog, if any.
type Checked = Result<Option<(Resource, Alteration)>, Refusal>;

/// All that can be checked without the catalog.
fn check_all(resources: &[AlterConfigsResource], way: Way, brokers: &Brokers) -> Vec<Checked> {
    let mut times: HashMap<_, usize> = HashMap::new();
    for resource in resources {
        *times.entry(identity(resource)).or_default() += 1;
    }
    let check = |resource: &AlterConfigsResource| match times.get(&identity(resource)) {
        Some(1) => check(resource, way, brokers),
        _ => {
            let message = "Each resource must appear at most once.";
            Err(Unusable::Refused(Refusal::invalid_request(message)))
        }
    };
    let checked: Vec<_> = resources.iter().map(check).collect();
    // Kafka's controller refuses all of a request that it cannot read.
    let spoiled = checked.contains(&Err(Unusable::UnknownOperation));
    let unknown = Refusal::silent(ErrorCode::UNKNOWN_SERVER_ERROR);
    let outcome = |checked| match checked {
        Err(Unusable::Refused(refusal)) => Err(refusal),
        Err(Unusable::UnknownOperation) => Err(unknown.clone()),
        Ok(_) if spoiled => Err(unknown.clone()),
        Ok(change) => Ok(change),
    };
    checked.into_iter().map(outcome).collect()
}

/// What two resources must not share. A broker's id can be written in several ways.
fn identity(resource: &AlterConfigsResource) -> (i8, String) {
    let name = &resource.resource_name;
    let broker = match ResourceType::of(resource.resource_type) {
        Some(ResourceType::Broker) => name.parse::<i32>().ok(),
        _ => None,
    };
    let name = broker.map_or_else(|| name.to_string(), |id| id.to_string());
    (resource.resource_type, name)
}

#[derive(Debug, PartialEq, Eq)]
enum Unusable {
    Refused(Refusal),
    /// Nobody knows what is to be done.
    UnknownOperation,
}

impl From<Refusal> for Unusable {
    fn from(refusal: Refusal) -> Self {
        Unusable::Refused(refusal)
    }
}

fn check(
    resource: &AlterConfigsResource,
    way: Way,
    brokers: &Brokers,
) -> Result<Option<(Resource, Alteration)>, Unusable> {
    let mut names = HashSet::new();
    if !resource.configs.iter().all(|c| names.insert(&c.name)) {
        Err(Refusal::invalid_request(
            "Error due to duplicate config keys",
        ))?;
    }
    let nulls = resource.configs.iter();
    let nulls = nulls.filter(|config| config.value.is_none() && config.config_operation != DELETE);
    let nulls: Vec<&str> = nulls.map(|config| &*config.name).collect();
    if !nulls.is_empty() {
        let text = format!("Null value not supported for : {}", nulls.join(", "));
        Err(Refusal::invalid_request(text))?;
    }
    let name = &resource.resource_name;
    let unknown_type = || {
        let text = format!("Unknown resource type {}", resource.resource_type);
        Refusal::invalid_request(text)
    };
    match ResourceType::of(resource.resource_type).ok_or_else(unknown_type)? {
        ResourceType::Topic => {
            let by = alteration(resource, way).map_err(|_| Unusable::UnknownOperation)?;
            Ok(Some((Resource::Topic(name.to_string()), by)))
        }
        ResourceType::Broker => {
            let broker = which_broker(name, brokers)?;
            let unknown = |operation| format!("Unknown operations type {operation}");
            let by = alteration(resource, way)
                .map_err(|operation| Refusal::invalid_request(unknown(operation)))?;
            Ok(Some((Resource::Broker(broker), by)))
        }
        ResourceType::BrokerLogger if way == Way::Replace => Err(unknown_type().into()),
        ResourceType::BrokerLogger => {
            check_loggers(resource, brokers)?;
            Ok(None)
        }
        ResourceType::Group => {
            let by = alteration(resource, way).map_err(|_| Unusable::UnknownOperation)?;
            Ok(Some((Resource::Group(name.to_string()), by)))
        }
        ResourceType::ClientMetrics => {
            let by = alteration(resource, way).map_err(|_| Unusable::UnknownOperation)?;
            check_metrics(name, &by)?;
            Ok(None)
        }
    }
}

/// An operation that nobody knows is given back.
fn alteration(resource: &AlterConfigsResource, way: Way) -> Result<Alteration, i8> {
    let configs = resource.configs.iter();
    let value = |config: &AlterableConfig| config.value.as_deref().unwrap_or_default().to_owned();
    if way == Way::Replace {
        let pair = |config: &AlterableConfig| (config.name.to_string(), value(config));
        return Ok(Alteration::Replace(configs.map(pair).collect()));
    }
    let operation = |config: &AlterableConfig| {
        let operation = match config.config_operation {
            SET => Operation::Set(value(config)),
            DELETE => Operation::Delete,
            APPEND => Operation::Append(value(config)),
            SUBTRACT => Operation::Subtract(value(config)),
            unknown => return Err(unknown),
        };
        Ok((config.name.to_string(), operation))
    };
    Ok(Alteration::Each(
        configs.map(operation).collect::<Result<_, _>>()?,
    ))
}

/// The empty name stands for all brokers together.
fn which_broker(name: &str, brokers: &Brokers) -> Result<Option<i32>, Refusal> {
    if name.is_empty() {
        return Ok(None);
    }
    let (id, this) = (node_id(name)?, brokers.this);
    let text = format!("Unexpected broker id, expected {this}, but received {id}");
    let keeper = brokers.keeper(id);
    keeper.map(Some).ok_or(Refusal::invalid_request(text))
}

fn node_id(name: &str) -> Result<i32, Refusal> {
    let integer = || format!("Node id must be an integer, but it is: {name}");
    name.parse()
        .map_err(|_| Refusal::invalid_request(integer()))
}

/// There are no loggers whose levels could be set.
fn check_loggers(resource: &AlterConfigsResource, brokers: &Brokers) -> Result<(), Refusal> {
    let id = node_id(&resource.resource_name)?;
    if brokers.keeper(id).is_none() {
        let this = brokers.this;
        let text = format!("Unexpected node id. Expected {this}, but received {id}");
        return Err(Refusal::invalid_request(text));
    }
    let Some(config) = resource.configs.first() else {
        return Ok(());
    };
    let operation = match config.config_operation {
        SET | DELETE => {
            let text = format!("Logger {} does not exist!", config.name);
            return Err(Refusal::new(ErrorCode::INVALID_CONFIG, text));
        }
        APPEND => "APPEND",
        SUBTRACT => "SUBTRACT",
        _ => return Err(Refusal::silent(ErrorCode::UNKNOWN_SERVER_ERROR)),
    };
    let text = format!("{operation} operation is not allowed for the BROKER_LOGGER resource");
    Err(Refusal::invalid_request(text))
}

/// No config of subscriptions to clients' metrics is known.
fn check_metrics(name: &str, by: &Alteration) -> Result<(), Refusal> {
    match by.names_set().next() {
        _ if name.is_empty() => Err(Refusal::invalid_request("Subscription name can't be empty")),
        Some(name) => Err(Refusal::invalid_request(format!(
            "Unknown client metrics configuration: {name}"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;
    const LOGGER: i8 = 8;
    const METRICS: i8 = 16;
    const GROUP: i8 = 32;

    type Config = (&'static str, i8, Option<&'static str>);

    fn resource(resource_type: i8, name: &'static str, configs: &[Config]) -> AlterConfigsResource {
        let config = |(name, config_operation, value): &Config| AlterableConfig {
            name: (*name).into(),
            config_operation: *config_operation,
            value: value.map(Into::into),
        };
        AlterConfigsResource {
            resource_type,
            resource_name: name.into(),
            configs: configs.iter().map(config).collect(),
        }
    }

    const INVALID: ErrorCode = ErrorCode::INVALID_REQUEST;

    fn brokers() -> Brokers {
        Brokers {
            ids: vec![1],
            this: 1,
        }
    }

    /// Code and text of each; 0 and nothing for what is good.
    fn said(resources: &[AlterConfigsResource], way: Way) -> Vec<(ErrorCode, String)> {
        let said = |checked: Checked| match checked {
            Ok(_) => (ErrorCode::NONE, String::new()),
            Err(refusal) => (
                refusal.code,
                refusal.message.unwrap_or_default().to_string(),
            ),
        };
        check_all(resources, way, &brokers())
            .into_iter()
            .map(said)
            .collect()
    }

    #[test]
    fn what_is_named_twice_is_refused_twice() {
        let set = ("segment.bytes", SET, Some("2000000"));
        let resources = [
            resource(TOPIC, "t", &[set]),
            resource(BROKER, "1", &[]),
            resource(TOPIC, "t", &[]),
            resource(BROKER, "01", &[]),
            resource(TOPIC, "u", &[set]),
            resource(99, "u", &[]),
            resource(99, "u", &[]),
        ];
        let codes: Vec<_> = said(&resources, Way::Each)
            .into_iter()
            .map(|(code, text)| (code.0, text.contains("at most once")))
            .collect();
        let twice = (42, true);
        assert_eq!(
            codes,
            [twice, twice, twice, twice, (0, false), twice, twice]
        );
    }

    #[test]
    fn configs_are_checked_in_kafkas_order_and_words() {
        let null = ("b", SET, None);
        for (configs, text) in [
            (
                &[null, ("b", DELETE, None)][..],
                "Error due to duplicate config keys",
            ),
            (
                &[null, ("c", DELETE, None), ("d", APPEND, None)],
                "Null value not supported for : b, d",
            ),
            (&[("b", 9, None)], "Null value not supported for : b"),
        ] {
            let resources = [resource(TOPIC, "t", configs), resource(TOPIC, "u", &[])];
            let expected = [(INVALID, text.to_owned()), (ErrorCode::NONE, String::new())];
            assert_eq!(said(&resources, Way::Each), expected);
        }
    }

    #[test]
    fn an_unknown_operation_spoils_all_that_is_good() {
        let unknown = [("b", 9, Some("c"))];
        let resources = [
            resource(TOPIC, "t", &unknown),
            resource(TOPIC, "u", &[]),
            resource(99, "z", &unknown),
        ];
        let spoiled = (ErrorCode::UNKNOWN_SERVER_ERROR, String::new());
        let unknown_type = (INVALID, "Unknown resource type 99".to_owned());
        assert_eq!(
            said(&resources, Way::Each),
            [spoiled.clone(), spoiled.clone(), unknown_type]
        );
        // Brokers' and loggers' are their own trouble.
        let resources = [
            resource(BROKER, "1", &unknown),
            resource(LOGGER, "1", &unknown),
            resource(TOPIC, "u", &[]),
        ];
        let unknown = (INVALID, "Unknown operations type 9".to_owned());
        let good = (ErrorCode::NONE, String::new());
        assert_eq!(said(&resources, Way::Each), [unknown, spoiled, good]);
    }

    #[test]
    fn wrong_resources_are_refused_in_kafkas_words() {
        let set = &[("b", SET, Some("c"))][..];
        let append = &[("b", APPEND, Some("c"))];
        let config = ErrorCode::INVALID_CONFIG;
        for (resource_type, name, configs, code, text) in [
            (0, "z", set, INVALID, "Unknown resource type 0"),
            (
                BROKER,
                "9",
                set,
                INVALID,
                "Unexpected broker id, expected 1, but received 9",
            ),
            (
                BROKER,
                "x",
                set,
                INVALID,
                "Node id must be an integer, but it is: x",
            ),
            (
                LOGGER,
                "",
                set,
                INVALID,
                "Node id must be an integer, but it is: ",
            ),
            (
                LOGGER,
                "9",
                set,
                INVALID,
                "Unexpected node id. Expected 1, but received 9",
            ),
            (LOGGER, "1", set, config, "Logger b does not exist!"),
            (
                LOGGER,
                "1",
                append,
                INVALID,
                "APPEND operation is not allowed for the BROKER_LOGGER resource",
            ),
            (
                METRICS,
                "c",
                set,
                INVALID,
                "Unknown client metrics configuration: b",
            ),
            (
                METRICS,
                "",
                set,
                INVALID,
                "Subscription name can't be empty",
            ),
        ] {
            let said = said(&[resource(resource_type, name, configs)], Way::Each);
            assert_eq!(said, [(code, text.to_owned())]);
        }
        let loggers = said(&[resource(LOGGER, "1", set)], Way::Replace);
        assert_eq!(loggers, [(INVALID, "Unknown resource type 8".to_owned())]);
    }

    #[test]
    fn what_has_nothing_to_set_is_let_be() {
        let delete = &[("b", DELETE, None)];
        for (resource_type, name, configs) in [(LOGGER, "+1", &[][..]), (METRICS, "c", delete)] {
            let checked = check_all(
                &[resource(resource_type, name, configs)],
                Way::Each,
                &brokers(),
            );
            assert_eq!(checked, [Ok(None)]);
        }
    }

    #[test]
    fn good_changes_reach_the_catalog_as_they_were_asked() {
        let configs = [("b", SET, Some("c")), ("d", DELETE, Some("zz"))];
        let asked = [
            resource(TOPIC, "t", &configs),
            resource(BROKER, "", &configs),
            resource(GROUP, "g", &configs),
        ];
        let operations = vec![
            ("b".to_owned(), Operation::Set("c".to_owned())),
            ("d".to_owned(), Operation::Delete),
        ];
        let each = Alteration::Each(operations);
        let topic = Resource::Topic("t".to_owned());
        assert_eq!(
            check_all(&asked, Way::Each, &brokers()),
            [
                Ok(Some((topic, each.clone()))),
                Ok(Some((Resource::Broker(None), each.clone()))),
                Ok(Some((Resource::Group("g".to_owned()), each)))
            ]
        );
        let shards = Brokers {
            ids: vec![1, 2],
            this: 2,
        };
        let second = [resource(BROKER, "2", &configs[..1])];
        let changes = check_all(&second, Way::Each, &shards);
        let [Ok(Some((Resource::Broker(Some(1)), _)))] = &changes[..] else {
            panic!("what all brokers of the process share is changed: {changes:?}")
        };
        let asked = [resource(BROKER, "01", &configs[..1])];
        let values = [("b".to_owned(), "c".to_owned())];
        let replace = Alteration::Replace(values.into_iter().collect());
        let expected = Ok(Some((Resource::Broker(Some(1)), replace)));
        assert_eq!(check_all(&asked, Way::Replace, &brokers()), [expected]);
    }
}
