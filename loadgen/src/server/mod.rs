//! What brokers tell of themselves when they are asked: for the report, so that two runs can be told
//! apart by more than their figures. What they do not tell is said as well, and is no error.

mod metrics;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate::wire::{StrBytes, api_versions, describe_cluster, describe_configs, fetch, produce};

use crate::client::{Cluster, Connection, Error, Topic};
use crate::report::Table;

pub use metrics::Scrape;

const API_VERSIONS: (i16, i16, i16) = (api_versions::KEY, 0, 3);
const DESCRIBE_CLUSTER: (i16, i16, i16) = (describe_cluster::KEY, 0, 1);
const DESCRIBE_CONFIGS: (i16, i16, i16) = (describe_configs::KEY, 1, 4);
/// DescribeConfigs' numbers for what has configs, and for a value that nobody has set.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const DEFAULT_CONFIG: i8 = 5;
/// This is no measurement: what does not answer by then does not tell.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was asked, and what the answer was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Server {
    pub facts: Vec<Facts>,
    /// What changed in its metrics from before the run until after it; none: nobody said where they are.
    pub metrics: Option<Table>,
    /// What was not told, and why.
    pub not_told: Vec<String>,
}

/// What is known of something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub of: String,
    pub facts: BTreeMap<String, String>,
}

/// Asks the topic's first broker: what it is and serves, and which of its configs and of the topic's
/// are not Kafka's defaults. Without a topic, any broker, and no configs.
pub fn describe(cluster: &Cluster, topic: Option<&Topic>) -> Server {
    let mut server = Server::default();
    let broker = topic.and_then(|topic| topic.leaders.first().copied());
    let connected = match topic.zip(broker) {
        Some((topic, broker)) => cluster.connect_to(topic, broker),
        None => cluster.connect(),
    };
    let mut connection = match connected {
        Ok(connection) => connection,
        Err(error) => {
            server.not_told.push(error.to_string());
            return server;
        }
    };
    let apis = apis(&mut connection);
    server.told("APIs".to_owned(), apis);
    let identity = identity(&mut connection);
    server.told("cluster".to_owned(), identity);
    let Some((topic, broker)) = topic.zip(broker) else {
        return server;
    };
    for (kind, resource, name) in [
        ("broker", BROKER, broker.to_string().into()),
        ("topic", TOPIC, topic.name.clone()),
    ] {
        let of = format!("{kind} {name}, configs that are set");
        let configs = configs(&mut connection, resource, name);
        server.told(of, configs);
    }
    server
}

impl Server {
    /// Looks at the metrics again, after the run.
    pub fn scrape(&mut self, address: &str, before: &Scrape) {
        match Scrape::of(address) {
            Ok(after) => self.metrics = Some(after.changes_since(before)),
            Err(error) => self.not_told.push(format!("metrics: {address}: {error}")),
        }
    }

    fn told(&mut self, of: String, facts: Result<BTreeMap<String, String>, Error>) {
        match facts {
            Ok(facts) => self.facts.push(Facts { of, facts }),
            Err(error) => self.not_told.push(format!("{of}: {error}")),
        }
    }
}

fn apis(connection: &mut Connection) -> Result<BTreeMap<String, String>, Error> {
    let request = api_versions::Request {
        client_software_name: "tidegate-loadgen".into(),
        client_software_version: env!("CARGO_PKG_VERSION").into(),
    };
    let response: api_versions::Response = connection.call(API_VERSIONS, &request, PATIENCE)?;
    let mut facts = BTreeMap::from([("APIs".to_owned(), response.api_keys.len().to_string())]);
    for (name, key) in [("Produce", produce::KEY), ("Fetch", fetch::KEY)] {
        if let Some(api) = response.api_keys.iter().find(|api| api.api_key == key) {
            let versions = format!("{}-{}", api.min_version, api.max_version);
            facts.insert(format!("{name} versions"), versions);
        }
    }
    facts.extend(response.finalized_features.iter().map(|feature| {
        let level = feature.max_version_level.to_string();
        (feature.name.to_string(), level)
    }));
    Ok(facts)
}

fn identity(connection: &mut Connection) -> Result<BTreeMap<String, String>, Error> {
    let request = describe_cluster::Request::default();
    let response: describe_cluster::Response =
        connection.call(DESCRIBE_CLUSTER, &request, PATIENCE)?;
    if !response.error_code.is_ok() {
        return Err(Error::refused("the cluster", response.error_code, None));
    }
    let brokers = response.brokers.iter();
    let addresses: Vec<String> = brokers
        .map(|broker| format!("{} at {}:{}", broker.broker_id, broker.host, broker.port))
        .collect();
    Ok(BTreeMap::from([
        ("id".to_owned(), response.cluster_id.to_string()),
        ("controller".to_owned(), response.controller_id.to_string()),
        ("brokers".to_owned(), addresses.join(", ")),
    ]))
}

/// The configs that somebody has set.
fn configs(
    connection: &mut Connection,
    resource_type: i8,
    resource_name: StrBytes,
) -> Result<BTreeMap<String, String>, Error> {
    let what = format!("configs of {resource_name}");
    let request = describe_configs::Request {
        resources: vec![describe_configs::DescribeConfigsResource {
            resource_type,
            resource_name,
            configuration_keys: None,
        }],
        ..Default::default()
    };
    let response: describe_configs::Response =
        connection.call(DESCRIBE_CONFIGS, &request, PATIENCE)?;
    let Some(result) = response.results.first() else {
        return Err(connection.unexpected("no configs".to_owned()));
    };
    if !result.error_code.is_ok() {
        let message = result.error_message.as_deref();
        return Err(Error::refused(what, result.error_code, message));
    }
    let set = result
        .configs
        .iter()
        .filter(|config| config.config_source != DEFAULT_CONFIG);
    Ok(set
        .map(|config| {
            let value = match (&config.value, config.is_sensitive) {
                (_, true) => "(secret)".to_owned(),
                (value, false) => value.as_deref().unwrap_or("(none)").to_owned(),
            };
            (config.name.to_string(), value)
        })
        .collect())
}
