//! The program against a gateway of this workspace, as a user runs it.

mod common;

use std::net::TcpListener;

use common::{Gateway, loadgen};

/// A number at a path of the report that `--json` wrote.
fn figure(report: &serde_json::Value, path: &str) -> u64 {
    let value = report.pointer(path);
    value
        .and_then(serde_json::Value::as_u64)
        .unwrap_or_else(|| panic!("no number at {path} of {report:#}"))
}

#[test]
fn produce_reads_back_what_it_sent() {
    let gateway = Gateway::start(&[]);
    let run = loadgen(
        &gateway,
        "produce --messages 3000 --size 300 --warmup 500 --connections 2",
    );
    assert!(run.succeeded(), "{run}");
    assert_eq!(figure(&run.json, "/report/load/messages"), 3000);
    assert_eq!(figure(&run.json, "/report/checked/messages"), 3500);
    assert_eq!(figure(&run.json, "/report/latencies/0/count"), 3000);
    assert!(run.output.contains("0 lost, 0 duplicates"), "{run}");
}

#[test]
fn e2e_measures_every_message_of_its_schedule() {
    let gateway = Gateway::start(&["--shards", "2", "--routing", "per-core"]);
    let run = loadgen(
        &gateway,
        "e2e --messages 2000 --rate 4000 --warmup 100ms --compression lz4",
    );
    assert!(run.succeeded(), "{run}");
    assert_eq!(
        figure(&run.json, "/report/brokers"),
        2,
        "both shards lead partitions"
    );
    assert_eq!(figure(&run.json, "/report/latencies/0/count"), 2000);
    assert_eq!(figure(&run.json, "/report/checked/messages"), 2400);
    for line in ["end to end", "ack", "schedule lag"] {
        assert!(run.output.contains(line), "{run}");
    }
}

#[test]
fn consume_fills_a_topic_of_its_own_and_reads_one_that_is_there() {
    let gateway = Gateway::start(&[]);
    let run = loadgen(&gateway, "consume --messages 1000");
    assert!(run.succeeded(), "{run}");
    assert_eq!(figure(&run.json, "/report/checked/messages"), 1000);

    let kept = "--topic kept --partitions 3 --messages 700";
    for sent in [700, 1400] {
        let run = loadgen(&gateway, &format!("produce {kept} --acks 1"));
        assert!(run.succeeded(), "{run}");
        let run = loadgen(&gateway, "consume --topic kept");
        assert!(run.succeeded(), "{run}");
        assert_eq!(figure(&run.json, "/report/partitions"), 3);
        assert_eq!(figure(&run.json, "/report/load/messages"), sent);
        assert_eq!(figure(&run.json, "/report/checked/messages"), sent);
    }
}

#[test]
fn what_is_wrong_with_a_topic_is_found_and_said() {
    let gateway = Gateway::start(&[]);
    let cases: [(&str, &[u64], Option<&str>); 4] = [
        ("whole", &[0, 1, 2, 3, 4], None),
        (
            "lost",
            &[0, 1, 3, 4],
            Some("1 lost, 0 duplicates, 0 out of order"),
        ),
        (
            "doubled",
            &[0, 1, 1, 2],
            Some("0 lost, 1 duplicates, 0 out of order"),
        ),
        (
            "reordered",
            &[0, 2, 1, 3],
            Some("0 lost, 0 duplicates, 1 out of order"),
        ),
    ];
    for (topic, numbers, fault) in cases {
        gateway.write(topic, numbers);
        let run = loadgen(&gateway, &format!("consume --topic {topic}"));
        assert_eq!(run.code, Some(i32::from(fault.is_some())), "{run}");
        assert!(run.errors.contains(fault.unwrap_or_default()), "{run}");
        assert_eq!(
            figure(&run.json, "/report/load/messages"),
            numbers.len() as u64
        );
    }
}

#[test]
fn a_topic_of_its_own_is_gone_at_the_end() {
    let gateway = Gateway::start(&[]);
    let run = loadgen(&gateway, "produce --messages 10 --acks 0");
    assert!(run.succeeded(), "{run}");
    let topic = run
        .json
        .pointer("/report/topic")
        .and_then(|name| name.as_str());
    let topic = topic.expect("the topic's name").to_owned();
    let run = loadgen(&gateway, &format!("consume --topic {topic}"));
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.errors.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{run}");
}

#[test]
fn a_topic_with_other_partitions_is_refused() {
    let gateway = Gateway::start(&[]);
    let topic = "produce --messages 10 --topic narrow";
    assert!(loadgen(&gateway, &format!("{topic} --partitions 1")).succeeded());
    let run = loadgen(&gateway, &format!("{topic} --partitions 2"));
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.errors.contains("has 1 partitions, not the 2"), "{run}");
}

#[test]
fn a_broker_that_ends_in_the_middle_ends_the_run_in_time() {
    let mut gateway = Gateway::start(&[]);
    let mut run = common::start(
        &gateway,
        "e2e --messages 1000000 --rate 2000 --delivery-timeout 2s --request-timeout 1s",
    );
    gateway.wait_for_records();
    gateway.kill();
    let run = run.finish();
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.errors.contains("cannot connect"), "{run}");
}

#[test]
fn a_broker_that_comes_back_costs_neither_messages_nor_order() {
    let mut gateway = Gateway::start(&[]);
    let mut run = common::start(&gateway, "e2e --messages 12000 --rate 4000");
    gateway.wait_for_records();
    gateway.kill();
    gateway.start_again();
    let run = run.finish();
    assert!(run.succeeded(), "{run}");
    assert_eq!(figure(&run.json, "/report/checked/messages"), 12000);
    assert!(figure(&run.json, "/report/sending/retries") > 0, "{run}");
}

#[test]
fn no_broker_is_an_error_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    let run = common::run_at(free.expect("a free port"), "produce");
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.errors.contains("cannot connect to 127.0.0.1:"), "{run}");
    assert_eq!(run.errors.lines().count(), 1, "{run}");
}
