//! `tidegate check` as its users meet it.

mod common;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use common::weed::{self, Part, Weed};
use common::{Gateway, data_folder};
use serde_json::Value;
use tidegate::bridge::{Bridge, BridgeConfig, Entry, FuseAttributes};

fn check(data: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["check", "--admin", "off", "--data-dir"])
        .arg(data.join("data"))
        .args(options)
        .env_clear()
        .output()
        .expect("it runs")
}

/// State and fix of each item.
fn items(output: &Output) -> BTreeMap<String, (String, Value)> {
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let items = report["items"].as_array().expect("a list").iter();
    let states: BTreeMap<_, _> = items
        .map(|item| {
            (
                text(&item["item"]),
                (text(&item["state"]), item["fix"].clone()),
            )
        })
        .collect();
    let fails = states.values().any(|(state, _)| state == "fail");
    assert_eq!(report["ok"], Value::Bool(!fails));
    assert_eq!(output.status.code(), Some(i32::from(fails)));
    for (state, fix) in states.values() {
        assert_eq!(
            fix.is_null(),
            state == "ok",
            "a fix beside what falls short"
        );
    }
    states
}

#[test]
fn a_host_that_runs_the_gateway_passes() {
    let data = data_folder();
    let output = check(data.path(), &["--listen", "127.0.0.1:0", "--json"]);
    let items = items(&output);
    for item in [
        "kernel",
        "io_uring",
        "memlock",
        "open files",
        "CPUs",
        "CPU governor",
        "clock source",
        "net.core.somaxconn",
        "vm.swappiness",
        "huge pages",
        "data folder",
        "file system",
        "free space",
        "sync of 4 KiB",
        "listen",
    ] {
        let (state, _) = items
            .get(item)
            .unwrap_or_else(|| panic!("{item}: {items:?}"));
        assert_ne!(state, "fail", "{item}");
    }
    assert!(!data.path().join("data").exists(), "nothing is made");
}

#[test]
fn the_table_has_a_line_for_each_item() {
    let data = data_folder();
    let output = check(data.path(), &["--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(0));
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(table.starts_with("ITEM "), "{table}");
    assert!(
        table
            .lines()
            .any(|l| l.starts_with("sync of 4 KiB ") && l.contains("p99")),
        "{table}"
    );
}

#[test]
fn what_another_gateway_holds_is_told() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &[]);
    let listen = gateway.address.to_string();
    let output = check(data.path(), &["--listen", &listen, "--json"]);
    let items = items(&output);
    assert_eq!(items["data folder"].0, "fail");
    assert_eq!(items["listen"].0, "fail");
    assert_ne!(items["sync of 4 KiB"].0, "fail");
    let mut left = std::fs::read_dir(data.path().join("data")).expect("the folder");
    let drafts = left.any(|f| {
        f.expect("a file")
            .file_name()
            .to_string_lossy()
            .contains("tidegate-check")
    });
    assert!(!drafts, "what was written is gone");
}

#[test]
fn the_ports_of_shards_are_looked_at() {
    let data = data_folder();
    // Of the second shard.
    let (taken, port) = loop {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        match taken
            .local_addr()
            .expect("an address")
            .port()
            .checked_sub(2)
        {
            Some(port @ 1..) => break (taken, port),
            _ => continue,
        }
    };
    let listen = format!("127.0.0.1:{port}");
    let options = [
        "--listen",
        &listen,
        "--shards",
        "2",
        "--routing",
        "per-core",
    ];
    let output = check(data.path(), &options);
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout).expect("text");
    let taken = taken.local_addr().expect("an address");
    let told =
        |l: &&str| l.starts_with("listen (shard)") && l.contains(&format!("{taken}, in use"));
    assert_eq!(table.lines().filter(told).count(), 1, "{table}");
}

#[test]
fn seaweedfs_is_looked_at_where_topics_are_to_be_there() {
    let mut weed = Weed::start();
    let data = data_folder();
    let master = weed.master();
    let options = [
        "--listen",
        "127.0.0.1:0",
        "--json",
        "--store",
        "seaweedmq",
        "--seaweedfs-masters",
        &master,
    ];
    let found = items(&check(data.path(), &options));
    for item in [
        "SeaweedFS master",
        "SeaweedFS filers",
        "SeaweedMQ brokers",
        "SeaweedFS version",
        "room for volumes",
        "rules with a TTL",
        "commit of 4 KiB",
        "read of 4 KiB",
        "removal of a file",
    ] {
        let (state, _) = found
            .get(item)
            .unwrap_or_else(|| panic!("{item}: {found:?}"));
        assert_ne!(state, "fail", "{item}: {found:?}");
    }
    assert!(!found.contains_key("sync of 4 KiB"), "no disk is used");
    let left = weed::get(&weed.address(Part::Filer), "/topics/kafka/.tidegate/");
    assert!(!left.contains("check-"), "what was written is gone: {left}");
    expire_topics(&master);
    let found = items(&check(data.path(), &options));
    assert_eq!(found["rules with a TTL"].0, "fail");
    let elsewhere = [&options[..], &["--seaweedfs-replication", "002"]].concat();
    let found = items(&check(data.path(), &elsewhere));
    assert_eq!(found["commit of 4 KiB"].0, "fail", "there is one server");
    weed.kill(Part::Filer);
    weed.kill(Part::Master);
    let found = items(&check(data.path(), &options));
    assert_eq!(found["SeaweedFS masters"].0, "fail");
}

/// As `fs.configure` of weed shell.
fn expire_topics(master: &str) {
    let master = master.parse().expect("an address");
    let (_thread, bridge) = Bridge::start(BridgeConfig::new(vec![master])).expect("a thread");
    let rules = r#"{"version": 1, "locations": [{"locationPrefix": "/topics/", "ttl": "1d"}]}"#;
    let entry = Entry {
        name: "filer.conf".to_owned(),
        content: rules.into(),
        attributes: Some(FuseAttributes {
            file_mode: 0o644,
            file_size: rules.len() as u64,
            ..FuseAttributes::default()
        }),
        ..Entry::default()
    };
    let made = bridge.create("/etc/seaweedfs", entry, false);
    futures::executor::block_on(made).expect("it is made");
}
