//! The admin pages of a gateway that works, stops, or is asked for nonsense.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::prometheus::Scrape;
use common::{Client, Gateway, batch, data_folder, fetch_request, now_ms, produce_request};
use tidegate::record::Builder;
use tidegate::wire::{ErrorCode, StrBytes, api_versions, fetch, produce};

const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];
/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a request as it is; gives the status and the whole answer.
fn ask(admin: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).expect("the admin pages are there");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    (status.expect("a status"), answer)
}

/// Status and body of a page.
fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    let (status, answer) = ask(admin, &format!("GET {path} HTTP/1.1\r\nhost: gate\r\n\r\n"));
    let (_, body) = answer.split_once("\r\n\r\n").expect("headers");
    (status, body.to_owned())
}

/// A scrape for which every shard told its state: on a busy machine one may be late.
fn scrape(admin: SocketAddr) -> Scrape {
    let began = Instant::now();
    loop {
        let (status, text) = get(admin, "/metrics");
        assert_eq!(status, 200);
        let scrape = Scrape::parse(&text);
        let (shards, told) = (
            scrape.count("tidegate_shard_answers"),
            scrape.sum("tidegate_shard_answers"),
        );
        if shards > 0 && told == shards as f64 {
            return scrape;
        }
        assert!(began.elapsed() < PATIENCE, "{told} of {shards} shards");
    }
}

/// Scrapes until `holds`: some things are counted after their client has its answer.
fn scrape_until(admin: SocketAddr, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    let began = Instant::now();
    loop {
        let found = scrape(admin);
        if holds(&found) {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{found:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Rows of the reference: name and type.
fn documented() -> Vec<(String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = std::fs::read_to_string(page).expect("the reference");
    let row = |line: &str| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        Some((name.to_owned(), rest.split(' ').next()?.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn a_scrape_has_all_metrics_that_are_documented_and_no_others() {
    let data = data_folder();
    let _gateway = Gateway::start(data.path(), &ADMIN);
    let mut scraped = scrape(Gateway::admin(data.path())).metrics;
    let mut documented = documented();
    scraped.sort();
    documented.sort();
    assert_eq!(scraped, documented);
}

/// Ten batches of three records in four partitions of `first`, one in `second` and in `third`.
fn produce_some(client: &mut Client) -> usize {
    let values: [&[u8]; 3] = [b"one", b"two", b"three"];
    let size = batch(&values, None).len();
    for n in 0..10 {
        let produced = client.produce("first", n % 4, batch(&values, None));
        assert_eq!(produced.expect("an answer").error_code, ErrorCode::NONE);
    }
    for topic in ["second", "third"] {
        client
            .produce(topic, 0, batch(&[b"x"], None))
            .expect("an answer");
    }
    size
}

#[test]
fn metrics_say_what_clients_did() {
    let data = data_folder();
    let options = [&ADMIN[..], &["--shards", "2", "--metrics-topics-max", "2"]].concat();
    let gateway = Gateway::start(data.path(), &options);
    let admin = Gateway::admin(data.path());
    let mut client = gateway.connect();
    client.create_topic("first", 4);
    client.create_topic("second", 1);
    // Who is there first has its own series.
    scrape(admin);
    client.create_topic("third", 1);
    let size = produce_some(&mut client);
    let small = batch(&[b"x"], None).len();
    let refused = client.produce("nowhere", 0, batch(&[b"x"], None));
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(refused.expect("an answer").error_code, unknown);
    let silent = produce_request("first", vec![(0, batch(&[b"x"], None))], 0);
    client.send(produce::KEY, 9, &silent).expect("it is sent");
    // It is answered after the produce before it was taken up.
    let request = fetch_request("first", &[(1, 0)], 1000, 1);
    let fetched = client.fetch(&request).expect("an answer");
    let fetched = fetched.responses[0].partitions[0].records.clone();
    let fetched = fetched.unwrap_or_default().into_bytes().len();
    let end = client.latest("second", 0);
    let wait = fetch_request("second", &[(0, end)], 20, 1);
    client.fetch(&wait).expect("an answer");

    let seen = scrape_until(admin, |s| s.sum("tidegate_produced_batches_total") == 13.0);
    let of = |name: &str, labels: &[(&str, &str)]| seen.get(name, labels).unwrap_or(-1.0);
    let produce = [("api", "Produce")];
    assert_eq!(of("tidegate_requests_total", &produce), 14.0);
    assert_eq!(of("tidegate_request_seconds_count", &produce), 13.0);
    assert!(of("tidegate_request_seconds_sum", &produce) > 0.0);
    assert_eq!(of("tidegate_requests_total", &[("api", "Fetch")]), 2.0);
    let error = [("api", "Produce"), ("error", unknown.name())];
    assert_eq!(of("tidegate_request_errors_total", &error), 1.0);
    assert_eq!(seen.sum("tidegate_request_errors_total"), 1.0);
    assert_eq!(of("tidegate_produced_records_total", &[]), 33.0);
    let all = (10 * size + 3 * small) as f64;
    assert_eq!(of("tidegate_produced_bytes_total", &[]), all);
    assert_eq!(of("tidegate_commit_bytes_sum", &[]), all);
    assert_eq!(of("tidegate_commit_batches_sum", &[]), 13.0);
    let commits = of("tidegate_commit_seconds_count", &[]);
    assert!((1.0..=13.0).contains(&commits), "{commits}");
    assert_eq!(of("tidegate_sync_seconds_count", &[]), commits);
    assert!(of("tidegate_journal_written_bytes_total", &[]) >= all);
    assert_eq!(of("tidegate_fetched_bytes_total", &[]), fetched as f64);
    // Nobody read it before, so nothing of it was kept in memory.
    assert_eq!(of("tidegate_fetch_reads_total", &[("source", "cold")]), 1.0);
    assert_eq!(of("tidegate_fetch_reads_total", &[("source", "tail")]), 0.0);
    assert_eq!(of("tidegate_fetch_waits_total", &[]), 1.0);

    assert_eq!(of("tidegate_topics", &[]), 3.0);
    assert_eq!(of("tidegate_partitions", &[]), 6.0);
    for (topic, partitions, records, bytes) in [
        ("first", 4.0, 31.0, 10 * size + small),
        ("second", 1.0, 1.0, small),
        ("_other", 1.0, 1.0, small),
    ] {
        let topic = [("topic", topic)];
        assert_eq!(of("tidegate_topic_partitions", &topic), partitions);
        assert_eq!(of("tidegate_topic_produced_records_total", &topic), records);
        assert_eq!(
            of("tidegate_topic_produced_bytes_total", &topic),
            bytes as f64
        );
        assert!(of("tidegate_topic_size_bytes", &topic) > bytes as f64);
    }
    let topic = [("topic", "first")];
    assert_eq!(
        of("tidegate_topic_fetched_bytes_total", &topic),
        fetched as f64
    );
    assert_eq!(of("tidegate_shard_answers", &[("shard", "1")]), 1.0);
    assert_eq!(seen.sum("tidegate_requests_in_flight"), 0.0);
}

#[test]
fn what_is_read_stays_in_memory_and_is_counted() {
    let data = data_folder();
    let options = [&ADMIN[..], &["--shards", "1"]].concat();
    let gateway = Gateway::start(data.path(), &options);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    // A reader who waits is one.
    let end = fetch_request("t", &[(0, 0)], 20, 1);
    client.fetch(&end).expect("an answer");
    let written = batch(&[b"one"], None);
    client.produce("t", 0, written.clone()).expect("an answer");
    client.fetch(&end).expect("an answer");
    let seen = scrape_until(Gateway::admin(data.path()), |s| {
        s.sum("tidegate_fetched_bytes_total") > 0.0
    });
    let of = |name: &str, labels: &[(&str, &str)]| seen.get(name, labels).unwrap_or(-1.0);
    assert_eq!(of("tidegate_fetch_reads_total", &[("source", "tail")]), 1.0);
    assert_eq!(of("tidegate_fetch_reads_total", &[("source", "cold")]), 0.0);
    let tail = [("shard", "0"), ("budget", "tail")];
    let size = written.len() as f64;
    assert_eq!(of("tidegate_memory_bytes", &tail), size);
}

#[test]
fn reads_from_the_disk_and_checkpoints_are_counted() {
    let data = data_folder();
    let options = [&ADMIN[..], &["--checkpoint-interval-ms", "10"]].concat();
    let mut gateway = Gateway::start(data.path(), &options);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let written = batch(&[b"one", b"two"], None);
    client.produce("t", 0, written.clone()).expect("an answer");
    let admin = Gateway::admin(data.path());
    scrape_until(admin, |s| s.sum("tidegate_checkpoints_total") > 0.0);
    assert_eq!(gateway.stop(), Some(0));

    std::fs::remove_file(data.path().join("gateway.log")).expect("the first run's log");
    let gateway = Gateway::start(data.path(), &options);
    let admin = Gateway::admin(data.path());
    assert_eq!(gateway.connect().drain("t", 0).len(), 2);
    let seen = scrape(admin);
    let of = |name: &str, labels: &[(&str, &str)]| seen.get(name, labels).unwrap_or(-1.0);
    assert_eq!(of("tidegate_fetch_reads_total", &[("source", "cold")]), 1.0);
    let topic = [("topic", "t")];
    let bytes = written.len() as f64;
    assert_eq!(of("tidegate_topic_fetched_bytes_total", &topic), bytes);
    assert_eq!(of("tidegate_fetched_bytes_total", &[]), bytes);
    assert_eq!(of("tidegate_topic_produced_bytes_total", &topic), 0.0);
    assert!(of("tidegate_topic_size_bytes", &topic) > bytes);
    assert_eq!(of("tidegate_checkpoint_failures_total", &[]), 0.0);
}

#[test]
fn connections_are_counted_from_their_beginning_to_their_end() {
    let data = data_folder();
    let options = [&ADMIN[..], &["--max-connections", "2"]].concat();
    let gateway = Gateway::start(data.path(), &options);
    let admin = Gateway::admin(data.path());
    let open = |s: &Scrape| s.sum("tidegate_connections");
    scrape_until(admin, |s| open(s) == 0.0);
    let mut client = gateway.connect();
    let versions = api_versions::Request::default();
    let _: api_versions::Response = client
        .call(api_versions::KEY, 0, &versions)
        .expect("an answer");
    let mut bad = gateway.connect();
    bad.stream.write_all(&[0; 4]).expect("it is sent");
    assert!(bad.receive_frame().is_err(), "it is closed");
    let closed = |s: &Scrape, why| s.get("tidegate_connections_closed_total", &[("reason", why)]);
    let seen = scrape_until(admin, |s| closed(s, "bad_request") == Some(1.0));
    assert_eq!(open(&seen), 1.0);
    let accepted = seen.sum("tidegate_connections_accepted_total");
    assert_eq!(
        accepted,
        1.0 + seen.sum("tidegate_connections_closed_total")
    );
    assert!(seen.sum("tidegate_received_bytes_total") > 4.0);
    assert!(seen.sum("tidegate_sent_bytes_total") > 4.0);

    let _second = gateway.connect();
    scrape_until(admin, |s| open(s) == 2.0);
    assert!(gateway.connect().receive_frame().is_err(), "it is refused");
    let limit = [("limit", "max_connections")];
    let refused = |s: &Scrape| s.get("tidegate_connections_refused_total", &limit);
    scrape_until(admin, |s| refused(s) == Some(1.0));
    drop(client);
    scrape_until(admin, |s| open(s) == 1.0);
}

#[test]
fn a_gateway_that_stops_is_alive_and_not_ready() {
    let data = data_folder();
    let mut gateway = Gateway::start(data.path(), &ADMIN);
    let admin = Gateway::admin(data.path());
    assert_eq!(get(admin, "/healthz"), (200, "ok\n".to_owned()));
    let began = Instant::now();
    while get(admin, "/readyz").0 != 200 {
        assert!(began.elapsed() < PATIENCE);
    }
    // Answers that nobody takes, more than the kernel holds for a connection: the stop waits for them.
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let value = vec![7; 900_000];
    for _ in 0..4 {
        client
            .produce("t", 0, batch(&[&value], None))
            .expect("an answer");
    }
    let request = fetch_request("t", &[(0, 0)], 0, 1);
    for _ in 0..30 {
        client.send(fetch::KEY, 11, &request).expect("it is sent");
    }
    scrape_until(admin, |s| s.sum("tidegate_requests_in_flight") > 0.0);
    gateway.begin_stop();
    let began = Instant::now();
    let reason = loop {
        match get(admin, "/readyz") {
            (503, reason) => break reason,
            other => assert!(began.elapsed() < PATIENCE, "{other:?}"),
        }
    };
    assert_eq!(reason, "stopping\n");
    assert_eq!(get(admin, "/healthz").0, 200);
    drop(client);
    assert_eq!(gateway.wait_stopped(), Some(0));
    assert!(TcpStream::connect(admin).is_err(), "the pages end with it");
}

#[test]
fn the_pages_can_only_be_read() {
    let data = data_folder();
    let _gateway = Gateway::start(data.path(), &ADMIN);
    let admin = Gateway::admin(data.path());
    let (status, index) = get(admin, "/");
    assert_eq!(status, 200);
    for page in ["/metrics", "/healthz", "/readyz"] {
        assert!(index.contains(page), "{index}");
    }
    assert_eq!(get(admin, "/metrics/").0, 404);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let request = format!("{method} /metrics HTTP/1.1\r\nhost: gate\r\n\r\n");
        let (status, answer) = ask(admin, &request);
        assert_eq!(status, 405);
        assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    }
    let (status, answer) = ask(admin, "HEAD /metrics HTTP/1.1\r\nhost: gate\r\n\r\n");
    assert_eq!(status, 200);
    assert!(answer.contains("content-type: text/plain; version=0.0.4\r\n"));
    assert!(answer.ends_with("\r\n\r\n"), "no body");
}

#[test]
fn clients_that_say_nothing_or_too_much_keep_nobody_out() {
    let data = data_folder();
    let _gateway = Gateway::start(data.path(), &ADMIN);
    let admin = Gateway::admin(data.path());
    let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(admin)).collect();
    let headers = "x: y\r\n".repeat(1000);
    let (status, _) = ask(admin, &format!("GET / HTTP/1.1\r\n{headers}\r\n"));
    assert_eq!(status, 431);
    assert_eq!(get(admin, "/healthz").0, 200);
    drop(silent);
}

#[test]
fn an_address_in_use_is_told_at_the_start() {
    let data = data_folder();
    let _gateway = Gateway::start(data.path(), &ADMIN);
    let admin = Gateway::admin(data.path()).to_string();
    let second = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["--listen", "127.0.0.1:0", "--admin", &admin, "--data-dir"])
        .arg(data.path().join("other"))
        .env_clear()
        .output()
        .expect("it runs");
    assert_eq!(second.status.code(), Some(1));
    let log = String::from_utf8_lossy(&second.stderr);
    let expected = format!("cannot serve the admin pages on {admin}");
    assert!(
        log.contains(&expected) && log.contains("--admin off"),
        "{log}"
    );
}

#[test]
fn lags_of_groups_are_told() {
    let data = data_folder();
    let options = [&ADMIN[..], &["--shards", "2"]].concat();
    let gateway = Gateway::start(data.path(), &options);
    let admin = Gateway::admin(data.path());
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let hour_ms = 3_600_000;
    for n in 0..4 {
        let mut builder = Builder::new();
        builder.append(now_ms() - (4 - n) * hour_ms, None, Some(b"x"), &[]);
        let produced = client.produce("t", 0, builder.build());
        assert_eq!(produced.expect("an answer").error_code, ErrorCode::NONE);
    }
    client.coordinator("behind");
    client.commit_offset("behind", "t", 1, StrBytes::default());
    client.commit_offset("ready", "t", 4, StrBytes::default());
    let seen = scrape_until(admin, |s| s.count("tidegate_group_lag_seconds") == 2);
    let lag = |group, name: &str| {
        let labels = [("group", group), ("topic", "t"), ("partition", "0")];
        seen.get(name, &labels).unwrap_or(-1.0)
    };
    assert_eq!(lag("behind", "tidegate_group_lag"), 3.0);
    assert_eq!(lag("ready", "tidegate_group_lag"), 0.0);
    let age = lag("behind", "tidegate_group_lag_seconds");
    assert!((3.0 * 3600.0..4.0 * 3600.0).contains(&age), "{age}");
    assert_eq!(lag("ready", "tidegate_group_lag_seconds"), 0.0);
    assert_eq!(
        seen.get("tidegate_groups", &[("state", "Empty")]),
        Some(2.0)
    );
    assert_eq!(seen.sum("tidegate_group_series_hidden"), 0.0);
    assert_eq!(seen.sum("tidegate_group_committed_offsets_total"), 2.0);
}
