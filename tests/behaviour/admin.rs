//! Administration from the outside, over real sockets: what is changed is so for everybody, and still
//! is after a restart.

use std::path::Path;

use crate::common::{Client, Gateway, batch};
use crate::data_folder;
use tidegate::wire::{
    ErrorCode, alter_configs, create_partitions, describe_configs, incremental_alter_configs,
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;

fn start(data: &Path) -> Gateway {
    Gateway::start(data, &["--shards", "2"])
}

/// Value and source of a config.
fn described(client: &mut Client, of: (i8, &str), config: &str) -> (String, i8) {
    let resource = describe_configs::DescribeConfigsResource {
        resource_type: of.0,
        resource_name: of.1.to_owned().into(),
        configuration_keys: Some(vec![config.to_owned().into()]),
    };
    let request = describe_configs::Request {
        resources: vec![resource],
        ..Default::default()
    };
    let response: describe_configs::Response = client
        .call(describe_configs::KEY, 4, &request)
        .expect("an answer");
    let config = &response.results[0].configs[0];
    let value = config.value.clone().expect("a value");
    (value.to_string(), config.config_source)
}

/// Changes one config; gives the error's code and text.
fn alter(
    client: &mut Client,
    of: (i8, &str),
    config: (&str, i8, &str),
    validate_only: bool,
) -> (ErrorCode, String) {
    let config = incremental_alter_configs::AlterableConfig {
        name: config.0.to_owned().into(),
        config_operation: config.1,
        value: (config.1 != DELETE).then(|| config.2.to_owned().into()),
    };
    let resource = incremental_alter_configs::AlterConfigsResource {
        resource_type: of.0,
        resource_name: of.1.to_owned().into(),
        configs: vec![config],
    };
    let request = incremental_alter_configs::Request {
        resources: vec![resource],
        validate_only,
    };
    let response: incremental_alter_configs::Response = client
        .call(incremental_alter_configs::KEY, 1, &request)
        .expect("an answer");
    let text = response.responses[0].error_message.clone();
    (
        response.responses[0].error_code,
        text.unwrap_or_default().to_string(),
    )
}

fn good() -> (ErrorCode, String) {
    (ErrorCode::NONE, String::new())
}

/// The error code that one record of this size gets.
fn produce(client: &mut Client, topic: &str, partition: i32, bytes: usize) -> ErrorCode {
    let record = vec![b'x'; bytes];
    let answer = client.produce(topic, partition, batch(&[&record], None));
    answer.expect("an answer").error_code
}

#[test]
fn a_topics_configs_are_changed_at_once_and_for_good() {
    let data = data_folder();
    let mut gateway = start(data.path());
    let mut client = gateway.connect();
    client.create_topic("t", 2);
    let limit = ("max.message.bytes", SET, "500");
    assert_eq!(alter(&mut client, (TOPIC, "t"), limit, true), good());
    assert_eq!(produce(&mut client, "t", 0, 1000), ErrorCode::NONE);
    assert_eq!(alter(&mut client, (TOPIC, "t"), limit, false), good());
    for partition in 0..2 {
        let refused = produce(&mut client, "t", partition, 1000);
        assert_eq!(refused, ErrorCode::MESSAGE_TOO_LARGE);
    }
    gateway.kill();

    let gateway = start(data.path());
    let mut client = gateway.connect();
    let of = (TOPIC, "t");
    let set = described(&mut client, of, "max.message.bytes");
    assert_eq!(set, ("500".to_owned(), 1));
    let refused = produce(&mut client, "t", 0, 1000);
    assert_eq!(refused, ErrorCode::MESSAGE_TOO_LARGE);
    let delete = ("max.message.bytes", DELETE, "");
    assert_eq!(alter(&mut client, of, delete, false), good());
    let default = described(&mut client, of, "max.message.bytes");
    assert_eq!(default, ("1048588".to_owned(), 5));
    assert_eq!(produce(&mut client, "t", 0, 1000), ErrorCode::NONE);
}

#[test]
fn alter_configs_replaces_what_the_topic_set_before() {
    let data = data_folder();
    let gateway = start(data.path());
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let set = ("max.message.bytes", SET, "500");
    assert_eq!(alter(&mut client, (TOPIC, "t"), set, false), good());
    let replace = |client: &mut Client, topic: &str, value: &str| {
        let config = alter_configs::AlterableConfig {
            name: "segment.bytes".into(),
            value: Some(value.to_owned().into()),
        };
        let resource = alter_configs::AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: topic.to_owned().into(),
            configs: vec![config],
        };
        let request = alter_configs::Request {
            resources: vec![resource],
            validate_only: false,
        };
        let response: alter_configs::Response = client
            .call(alter_configs::KEY, 2, &request)
            .expect("an answer");
        response.responses[0].error_code
    };
    let refused = replace(&mut client, "t", "x");
    assert_eq!(refused, ErrorCode::INVALID_CONFIG);
    let refused = replace(&mut client, "nope", "2000000");
    assert_eq!(refused, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(
        described(&mut client, (TOPIC, "t"), "max.message.bytes").1,
        1
    );
    assert_eq!(replace(&mut client, "t", "2000000"), ErrorCode::NONE);
    assert_eq!(
        described(&mut client, (TOPIC, "t"), "max.message.bytes").1,
        5
    );
    let segment = described(&mut client, (TOPIC, "t"), "segment.bytes");
    assert_eq!(segment, ("2000000".to_owned(), 1));
}

#[test]
fn broker_configs_reach_topics_that_set_nothing_also_after_a_restart() {
    let data = data_folder();
    let mut gateway = start(data.path());
    let mut client = gateway.connect();
    client.create_topic("follows", 1);
    client.create_topic("own", 1);
    let own = ("max.message.bytes", SET, "4000");
    assert_eq!(alter(&mut client, (TOPIC, "own"), own, false), good());
    let all = ("message.max.bytes", SET, "3000");
    assert_eq!(alter(&mut client, (BROKER, ""), all, false), good());
    let one = ("message.max.bytes", SET, "500");
    assert_eq!(alter(&mut client, (BROKER, "1"), one, false), good());
    let fixed = alter(
        &mut client,
        (BROKER, "1"),
        ("num.partitions", SET, "2"),
        false,
    );
    let text = "Cannot update these configs dynamically: [num.partitions]";
    assert_eq!(fixed, (ErrorCode::INVALID_REQUEST, text.to_owned()));
    gateway.kill();

    let gateway = start(data.path());
    let mut client = gateway.connect();
    let too_large = ErrorCode::MESSAGE_TOO_LARGE;
    assert_eq!(produce(&mut client, "follows", 0, 1000), too_large);
    assert_eq!(produce(&mut client, "own", 0, 1000), ErrorCode::NONE);
    let of = (TOPIC, "follows");
    let broker = described(&mut client, of, "max.message.bytes");
    assert_eq!(broker, ("500".to_owned(), 2));
    let delete = ("message.max.bytes", DELETE, "");
    assert_eq!(alter(&mut client, (BROKER, "1"), delete, false), good());
    let cluster = described(&mut client, of, "max.message.bytes");
    assert_eq!(cluster, ("3000".to_owned(), 3));
    assert_eq!(produce(&mut client, "follows", 0, 1000), ErrorCode::NONE);
    // A new topic follows too, and is told so.
    let created = client.try_create_topic("new", 1, &[]);
    let configs = created.configs.expect("configs");
    let limit = configs.iter().find(|c| &*c.name == "max.message.bytes");
    let limit = limit.expect("the config");
    assert_eq!(
        (limit.value.as_deref(), limit.config_source),
        (Some("3000"), 3)
    );
    assert_eq!(produce(&mut client, "new", 0, 5000), too_large);
}

fn create_partitions(
    client: &mut Client,
    topic: &str,
    count: i32,
    validate_only: bool,
) -> (ErrorCode, String) {
    let topic = create_partitions::CreatePartitionsTopic {
        name: topic.to_owned().into(),
        count,
        assignments: None,
    };
    let request = create_partitions::Request {
        topics: vec![topic],
        timeout_ms: 10_000,
        validate_only,
    };
    let response: create_partitions::Response = client
        .call(create_partitions::KEY, 3, &request)
        .expect("an answer");
    let text = response.results[0].error_message.clone();
    (
        response.results[0].error_code,
        text.unwrap_or_default().to_string(),
    )
}

#[test]
fn a_topic_gets_more_partitions_and_keeps_what_it_had() {
    let data = data_folder();
    let mut gateway = start(data.path());
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    assert_eq!(produce(&mut client, "t", 0, 10), ErrorCode::NONE);
    assert_eq!(create_partitions(&mut client, "t", 4, true), good());
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(produce(&mut client, "t", 3, 10), unknown);
    assert_eq!(create_partitions(&mut client, "t", 4, false), good());
    for partition in 0..4 {
        // Every shard knows them when the answer comes.
        let mut other = gateway.connect();
        assert_eq!(produce(&mut other, "t", partition, 10), ErrorCode::NONE);
    }
    let again = create_partitions(&mut client, "t", 4, false);
    let text = "Topic already has 4 partition(s).";
    assert_eq!(again, (ErrorCode::INVALID_PARTITIONS, text.to_owned()));
    gateway.kill();

    let gateway = start(data.path());
    let mut client = gateway.connect();
    let ends: Vec<_> = (0..4).map(|p| client.latest("t", p)).collect();
    assert_eq!(ends, [2, 1, 1, 1]);
    assert_eq!(produce(&mut client, "t", 4, 10), unknown);
}
