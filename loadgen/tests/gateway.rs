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

/// How often a latency was measured.
fn count_of(report: &serde_json::Value, of: &str) -> u64 {
    let latencies = report["report"]["latencies"].as_array();
    let mut rows = latencies.into_iter().flatten();
    let row = rows.find(|row| row["of"] == of);
    row.and_then(|row| row["count"].as_u64())
        .unwrap_or_else(|| panic!("no times of {of} in {report:#}"))
}

/// What was measured over time.
fn series(report: &serde_json::Value) -> Vec<&str> {
    let all = report["report"]["series"].as_array();
    let titles = all.into_iter().flatten();
    titles.filter_map(|one| one["title"].as_str()).collect()
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
    for of in ["end to end", "ack", "service"] {
        assert_eq!(count_of(&run.json, of), 2000, "{of}");
    }
    assert!(run.output.contains("schedule lag"), "{run}");
}

#[test]
fn messages_of_all_kinds_are_checked() {
    let gateway = Gateway::start(&["--shards", "2", "--routing", "per-core"]);
    for (kind, description) in [
        (
            "e2e --rate 3000 --size mix --keys zipf:100 --compression zstd --compression-level 1",
            "mixed sizes, keys zipf:100",
        ),
        (
            "produce --size 32..5000 --keys random:50 --entropy 0.5 --compression gzip --connections 3",
            "32..5000 bytes, keys random:50",
        ),
        (
            "produce --keys sequential --compression snappy --entropy 0 --warmup 100ms --acks 1",
            "1024 bytes, keys sequential",
        ),
        (
            "consume --size 100..2KiB --entropy 1 --compression lz4 --linger 0 --partitions 7",
            "100..2048 bytes",
        ),
        (
            "produce --size mix --acks 0 --keys sequential:10 --batch-bytes 1",
            "mixed sizes, keys sequential:10",
        ),
    ] {
        let run = loadgen(&gateway, &format!("{kind} --messages 2000"));
        assert!(run.succeeded(), "{kind}: {run}");
        assert!(run.output.contains(description), "{run}");
        assert!(figure(&run.json, "/report/checked/messages") >= 2000);
        assert_eq!(figure(&run.json, "/report/load/messages"), 2000);
    }
}

/// Without keys, messages go to the partitions in turns; keys of which one comes most often do not.
#[test]
fn a_key_that_comes_often_makes_its_partition_large() {
    let gateway = Gateway::start(&[]);
    for (keys, fewest) in [("none", 250), ("zipf:1000000", 1), ("sequential:1", 0)] {
        let topic = format!("keys-{}", keys.replace(':', "-"));
        let line = format!("produce --messages 1000 --topic {topic} --keys {keys}");
        let run = loadgen(&gateway, &line);
        assert!(run.succeeded(), "{run}");
        let mut sizes = gateway.sizes(&topic);
        sizes.sort_unstable();
        assert_eq!(sizes.iter().sum::<i64>(), 1000);
        match fewest {
            1 => assert!(sizes[0] > 0 && sizes[3] > 280, "{sizes:?}"),
            _ => assert_eq!(sizes[0], fewest, "{sizes:?}"),
        }
        assert_eq!(sizes[3] == 1000, keys == "sequential:1", "{sizes:?}");
    }
}

/// A shard that leads a partition, and is asked for it, needs no other one.
#[test]
fn each_partition_is_written_and_read_where_its_leader_is() {
    let passed_on = |routing, keys| {
        let gateway = Gateway::start_with_metrics(&["--shards", "2", "--routing", routing]);
        let line = format!(
            "produce --messages 4000 --partitions 8 --batch-bytes 1 --in-flight 1 --topic t --keys {keys}"
        );
        let run = loadgen(&gateway, &line);
        assert!(run.succeeded(), "{run}");
        let requests = figure(&run.json, "/report/sending/requests");
        (gateway.metric("tidegate_shard_requests_total"), requests)
    };
    for keys in ["none", "random:1000"] {
        let (shared, requests) = passed_on("shared", keys);
        assert!(shared > requests / 4, "{shared} of {requests}");
        let (per_core, requests) = passed_on("per-core", keys);
        assert!(per_core < requests / 10, "{per_core} of {requests}");
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
fn mixed_reads_what_was_there_and_what_is_new() {
    let gateway = Gateway::start(&["--shards", "2"]);
    let line = "mixed --messages 3000 --warmup 300 --rate 6000 --keys random:100 --size 100..300";
    let run = loadgen(&gateway, &format!("{line} --backlog 5000 --connections 2"));
    assert!(run.succeeded(), "{run}");
    assert_eq!(figure(&run.json, "/report/checked/messages"), 8300);
    assert_eq!(figure(&run.json, "/report/load/messages"), 3000);
    assert_eq!(figure(&run.json, "/report/mixed/backlog"), 5000);
    assert_eq!(count_of(&run.json, "ack"), 3000);
    assert_eq!(count_of(&run.json, "end to end"), 3000);
    assert!(count_of(&run.json, "fetch") > 0);
    assert!(run.output.contains("fetched"), "{run}");
}

#[test]
fn mixed_reads_no_faster_than_it_is_told_to_while_messages_are_sent() {
    let gateway = Gateway::start(&[]);
    let kept = "--topic kept --partitions 1 --size 4KiB";
    let run = loadgen(&gateway, &format!("produce {kept} --messages 5000"));
    assert!(run.succeeded(), "{run}");
    let line = format!("mixed {kept} --messages 1000 --rate 1000 --consume-rate 1000");
    let run = loadgen(&gateway, &line);
    assert!(run.succeeded(), "{run}");
    assert_eq!(figure(&run.json, "/report/mixed/backlog"), 5000);
    assert_eq!(figure(&run.json, "/report/checked/messages"), 1000);
    assert_eq!(figure(&run.json, "/report/reading/others"), 5000);
    let fetched = figure(&run.json, "/report/mixed/fetched/messages");
    assert_eq!(fetched + figure(&run.json, "/report/mixed/behind"), 6000);
    // In a second at least: a fetch brings no more than 1 MiB above that.
    let rate = run
        .json
        .pointer("/report/mixed/fetched/messages_per_second");
    let rate = rate.and_then(serde_json::Value::as_f64).unwrap_or_default();
    assert!(0.0 < rate && rate < 1300.0, "{run}");
}

#[test]
fn a_sweep_ends_where_the_rate_does_not_hold() {
    let gateway = Gateway::start(&[]);
    let sweep = "sweep --step-time 300ms --warmup 100ms --rate 500 --rate-factor 2 --max-rate 2000";
    let run = loadgen(&gateway, &format!("{sweep} --p99-max 10m"));
    assert!(run.succeeded(), "{run}");
    let rates = |run: &common::Run| -> Vec<u64> {
        let steps = run.json.pointer("/report/sweep/steps");
        let steps = steps.and_then(|steps| steps.as_array());
        let rate = |step: &serde_json::Value| step["rate"].as_u64();
        steps.into_iter().flatten().filter_map(rate).collect()
    };
    assert_eq!(rates(&run), [500, 1000, 2000]);
    assert_eq!(figure(&run.json, "/report/sweep/knee"), 2000);
    assert_eq!(
        figure(&run.json, "/report/checked/messages"),
        200 + 400 + 800
    );
    assert!(run.output.contains("above 2000 messages/s"), "{run}");

    let run = loadgen(&gateway, &format!("{sweep} --p99-max 1us --refine 2"));
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.errors.contains("no rate held, down to 125"), "{run}");
    assert_eq!(rates(&run), [125, 125, 250, 250, 500, 500]);
    assert!(run.output.contains("p99 too high"), "{run}");
}

#[test]
fn a_storm_counts_who_came_and_who_was_turned_away() {
    let gateway = Gateway::start(&[]);
    let run = loadgen(&gateway, "storm --connects 500 --metadata");
    assert!(run.succeeded(), "{run}");
    assert_eq!(figure(&run.json, "/report/storm/connects"), 500);
    for of in ["connect", "first answer", "metadata"] {
        assert_eq!(count_of(&run.json, of), 500, "{of}");
    }
    let titles = ["connect", "first answer", "metadata"];
    assert_eq!(series(&run.json), titles);
    let run = loadgen(&gateway, "storm --connects 200 --rate 1000");
    assert!(run.succeeded(), "{run}");
    assert_eq!(count_of(&run.json, "schedule lag"), 200);

    let narrow = Gateway::start(&["--max-connections", "1"]);
    let run = loadgen(&narrow, "storm --connects 300 --connections 8");
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.errors.contains("of 300 connections failed"), "{run}");
    let failures = run.json.pointer("/report/storm/failures");
    let failures = failures.and_then(|failures| failures.as_object());
    let failed: u64 = failures
        .into_iter()
        .flatten()
        .filter_map(|(_, count)| count.as_u64())
        .sum();
    assert!(failed > 0, "{run}");
    assert!(failed + figure(&run.json, "/report/storm/connects") <= 300);
}

#[test]
fn idle_connections_are_weighed_and_still_served_at_the_end() {
    let gateway = Gateway::start(&["--connections-max-idle-ms", "60s"]);
    let line = "idle --connections 200 --time 300ms";
    let run = loadgen(&gateway, &format!("{line} --pid {}", gateway.pid()));
    assert!(run.succeeded(), "{run}");
    assert_eq!(figure(&run.json, "/report/idle/open"), 200);
    assert_eq!(figure(&run.json, "/report/idle/served"), 200);
    let resident = |when| figure(&run.json, &format!("/report/idle/server/resident_{when}"));
    assert!(resident("before") > 0 && resident("open") > 0 && resident("after") > 0);
    assert_eq!(count_of(&run.json, "answer after"), 200);
    let titles = ["connect", "first answer", "answer after"];
    assert_eq!(series(&run.json), [&titles[..], &["server"]].concat());

    let run = loadgen(&gateway, line);
    assert!(run.succeeded(), "{run}");
    assert_eq!(series(&run.json), titles);
    assert!(
        run.output.contains("its process is not known (--pid)"),
        "{run}"
    );
    let run = loadgen(&gateway, &format!("{line} --pid 4194305"));
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.errors.contains("process 4194305"), "{run}");
}

#[test]
fn idle_connections_that_are_closed_are_found() {
    let gateway = Gateway::start(&["--connections-max-idle-ms", "100ms"]);
    let run = loadgen(&gateway, "idle --connections 20 --time 2s");
    assert_eq!(run.code, Some(1), "{run}");
    assert_eq!(figure(&run.json, "/report/idle/open"), 20);
    assert_eq!(figure(&run.json, "/report/idle/served"), 0, "{run}");
    assert!(run.errors.contains("20 not served to the end"), "{run}");
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
    let free = free.expect("a free port");
    for scenario in ["produce", "mixed", "sweep", "storm", "idle"] {
        let run = common::run_at(free, scenario);
        assert_eq!(run.code, Some(1), "{run}");
        assert!(run.errors.contains("cannot connect to 127.0.0.1:"), "{run}");
        assert_eq!(run.errors.lines().count(), 1, "{run}");
    }
}
