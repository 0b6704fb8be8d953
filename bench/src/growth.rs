//! `compare growth`: what becomes of a peer's costs as one thing grows and all else stays.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches};
use serde::Serialize;

use crate::client::Client;
use crate::crowd::{Crowd, milliseconds};
use crate::environment::{Clock, Environment};
use crate::life::connect_idle;
use crate::load::{Outcome, Produce, drain, metadata};
use crate::peer::{Kind, Peer, Site};
use crate::report::{self, Figure};
use crate::rows::{BULK, MANY, fill, settle};

/// How far it goes: ten times as much each time.
const STEPS: [usize; 5] = [1, 10, 100, 1000, 10_000];
/// Idle connections are watched for so long.
const IDLE_TIME: Duration = Duration::from_secs(10);
const LOAD_TIME: Duration = Duration::from_secs(2);
/// Topics made by one request.
const TOPICS_AT_ONCE: usize = 1000;
/// The largest batch is to be within Kafka's limit of 1 MiB.
const VALUE_BYTES: usize = 64;

/// What may grow, and what is measured as it does.
const PARTS: [(&str, Part); 5] = [
    ("partitions", partitions),
    ("connections", connections),
    ("topics", topics),
    ("records", batches),
    ("shards", shards),
];
type Part = fn(Kind, &Site) -> io::Result<Table>;

pub fn cli() -> clap::Command {
    clap::Command::new("growth")
        .about("Shows how costs grow with partitions, connections, topics, records and shards")
        .args([
            Arg::new("part")
                .long("part")
                .action(ArgAction::Append)
                .value_parser(clap::builder::PossibleValuesParser::new(
                    PARTS.map(|(name, _)| name),
                ))
                .help("Only these parts"),
            crate::of_peers("peer")
                .default_value(Kind::TidegateOs.name())
                .help("Who is to grow"),
            crate::file("json").help("Writes all figures to a file"),
        ])
}

/// One thing that grew: a row for each step.
#[derive(Serialize)]
struct Table {
    part: &'static str,
    /// Names that say their units.
    columns: Vec<&'static str>,
    rows: Vec<Vec<f64>>,
}

/// A figure under its column's name.
type Cell = (&'static str, f64);

#[derive(Serialize)]
struct Growth {
    environment: Environment,
    peer: &'static str,
    tables: Vec<Table>,
}

pub fn run(matches: &ArgMatches) -> io::Result<()> {
    let name = matches.get_one::<String>("peer");
    let kind = Kind::ALL
        .into_iter()
        .find(|k| name.is_some_and(|n| n == k.name()));
    let kind = kind.unwrap_or(Kind::TidegateOs);
    let chosen: Option<Vec<&String>> = matches.get_many("part").map(Iterator::collect);
    let site = Site::prepare(&[kind])?;
    let clock = Clock::start();
    let mut growth = Growth {
        environment: Environment::here(),
        peer: kind.name(),
        tables: Vec::new(),
    };
    let mut out = io::stdout().lock();
    for (name, part) in PARTS {
        if chosen.as_ref().is_none_or(|c| c.iter().any(|n| *n == name)) {
            let table = part(kind, &site)?;
            table.write(&mut out)?;
            growth.tables.push(table);
        }
    }
    growth.environment.steal = clock.steal();
    writeln!(out, "\n{} on {}", growth.peer, growth.environment.words())?;
    if let Some(path) = matches.get_one::<PathBuf>("json") {
        std::fs::write(path, serde_json::to_vec_pretty(&growth)?)?;
    }
    Ok(())
}

impl Table {
    /// What `measure` finds at each of the steps.
    fn of<const N: usize>(
        part: &'static str,
        steps: impl IntoIterator<Item = usize>,
        measure: impl Fn(usize) -> io::Result<[Cell; N]>,
    ) -> io::Result<Self> {
        let mut table = Table {
            part,
            columns: vec![part],
            rows: Vec::new(),
        };
        for step in steps {
            crate::say(&format!("{part}: {step}"))?;
            let cells = measure(step)?;
            table.columns.truncate(1);
            table.columns.extend(cells.map(|(name, _)| name));
            let values = cells.into_iter().map(|(_, value)| value);
            table
                .rows
                .push(std::iter::once(step as f64).chain(values).collect());
        }
        Ok(table)
    }

    /// As Markdown.
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.rows.iter().map(|row| figures(row).collect());
        report::write_table(out, self.part, &self.columns, rows)
    }
}

/// As cells of a table.
pub fn figures(row: &[f64]) -> impl Iterator<Item = String> {
    row.iter().map(|figure| digits(*figure))
}

/// Three digits or more of a figure.
fn digits(figure: f64) -> String {
    let decimals = match figure.abs() {
        _ if figure.fract() == 0.0 => 0,
        n if n >= 100.0 => 0,
        n if n >= 10.0 => 1,
        n if n >= 1.0 => 2,
        _ => 3,
    };
    format!("{figure:.decimals$}")
}

fn partitions(kind: Kind, site: &Site) -> io::Result<Table> {
    Table::of("partitions", STEPS, |count| {
        let crowd = Crowd::of(count as i32, kind, site)?;
        Ok([
            ("created, ms", crowd.created_ms),
            ("KB each, written", crowd.partition_kilobytes),
            ("KB each, after a start", crowd.started_partition_kilobytes),
            ("files open after a start", crowd.open_files as f64),
            ("produce beside, p50 ms", crowd.produce_p50_ms),
            ("produce p99 ms", crowd.produce_p99_ms),
            ("longest ms", crowd.produce_longest_ms),
            ("fetch beside, p50 ms", crowd.fetch_p50_ms),
            ("fetch p99 ms", crowd.fetch_p99_ms),
            ("start, ms", crowd.start_ms),
            ("start after kill -9, ms", crowd.start_after_kill_ms),
        ])
    })
}

fn connections(kind: Kind, site: &Site) -> io::Result<Table> {
    let options = [
        "--max-connections",
        "20000",
        "--max-connections-per-ip",
        "20000",
    ];
    Table::of("connections", STEPS, |count| {
        let peer = Peer::start_with(kind, site, &options)?;
        // The first one touches what all others use.
        let _first = connect_idle(&peer, 1)?;
        let before = peer.resident_bytes()?;
        let began = Instant::now();
        let _idle = connect_idle(&peer, count)?;
        let took = began.elapsed();
        let grown = peer.resident_bytes()?.saturating_sub(before);
        let cpu = peer.cpu_seconds()?;
        std::thread::sleep(IDLE_TIME);
        let cpu = peer.cpu_seconds()? - cpu;
        Ok([
            (
                "us to connect and ask",
                took.as_secs_f64() * 1e6 / count as f64,
            ),
            ("KB each", grown as f64 / count as f64 / 1e3),
            ("CPU of all idle, ms/s", cpu * 1e3 / IDLE_TIME.as_secs_f64()),
        ])
    })
}

fn topics(kind: Kind, site: &Site) -> io::Result<Table> {
    Table::of("topics", STEPS, |count| {
        let peer = Peer::start(kind, site)?;
        let mut client = Client::connect(peer.address)?;
        client.create_topic("first", 1)?;
        let before = peer.resident_bytes()?;
        let names: Vec<String> = (0..count).map(|n| format!("topic-{n}")).collect();
        let began = Instant::now();
        for some in names.chunks(TOPICS_AT_ONCE) {
            client.create_topics(some.iter().cloned(), 1)?;
        }
        let create = began.elapsed();
        let grown = peer.resident_bytes()?.saturating_sub(before);
        let more = one_by_one(&mut client)?;
        let all = metadata(peer.target(), None, LOAD_TIME)?;
        let one = metadata(peer.target(), Some(&names[count / 2]), LOAD_TIME)?;
        Ok([
            ("created, ms", milliseconds(create)),
            ("KB each", grown as f64 / count as f64 / 1e3),
            ("one more, ms", more),
            ("Metadata of all, p50 ms", quantile(&all, 0.5)),
            ("all p99 ms", quantile(&all, 0.99)),
            ("all KB", all.bytes as f64 / all.requests as f64 / 1e3),
            ("Metadata of one, p50 ms", quantile(&one, 0.5)),
            ("one p99 ms", quantile(&one, 0.99)),
        ])
    })
}

/// What a topic takes to be made beside those that are there, in ms: the median of some.
fn one_by_one(client: &mut Client) -> io::Result<f64> {
    let create = |n| {
        let began = Instant::now();
        client.create_topic(&format!("more-{n}"), 1)?;
        Ok(milliseconds(began.elapsed()))
    };
    let took: Vec<f64> = (0..9).map(create).collect::<io::Result<_>>()?;
    Ok(Figure::of(took).median)
}

fn batches(kind: Kind, site: &Site) -> io::Result<Table> {
    let peer = Peer::start(kind, site)?;
    Table::of("records", STEPS, |records| {
        let load = Produce {
            connections: 1,
            in_flight: 1,
            records,
            value_bytes: VALUE_BYTES,
            ..BULK
        };
        let topic = format!("records-{records}");
        let (done, cpu) = loaded(&peer, &topic, &load)?;
        Ok([
            ("p50 us", quantile(&done, 0.5) * 1e3),
            ("p99 us", quantile(&done, 0.99) * 1e3),
            ("records/s", done.records as f64 / done.seconds),
            ("MB/s", done.bytes as f64 / done.seconds / 1e6),
            ("CPU us/request", cpu * 1e6 / done.requests as f64),
            ("CPU ns/record", cpu * 1e9 / done.records as f64),
        ])
    })
}

fn shards(kind: Kind, site: &Site) -> io::Result<Table> {
    Table::of("shards", [1, 2], |shards| {
        let peer = Peer::start_with(kind, site, &["--shards", &shards.to_string()])?;
        let (bulk, bulk_cpu) = loaded(&peer, "bulk", &BULK)?;
        let (small, small_cpu) = loaded(&peer, "small", &MANY)?;
        let records = bulk.records + fill(&peer, "bulk", 256 << 20)?;
        let before = peer.cpu_seconds()?;
        let drained = drain(peer.target(), "bulk", BULK.partitions, records)?;
        let drain_cpu = peer.cpu_seconds()? - before;
        let per_second = |done: &Outcome| done.bytes as f64 / done.seconds / 1e6;
        let per_megabyte = |cpu: f64, done: &Outcome| cpu * 1e3 / (done.bytes as f64 / 1e6);
        Ok([
            ("produce 64 x 1 KiB, MB/s", per_second(&bulk)),
            ("produce CPU ms/MB", per_megabyte(bulk_cpu, &bulk)),
            (
                "64 x 1 x 100 B, requests/s",
                small.requests as f64 / small.seconds,
            ),
            ("p99 ms", quantile(&small, 0.99)),
            ("CPU us/request", small_cpu * 1e6 / small.requests as f64),
            ("drain, MB/s", per_second(&drained)),
            ("drain CPU ms/MB", per_megabyte(drain_cpu, &drained)),
        ])
    })
}

/// A load on a new topic, and the server's CPU time for it in seconds.
fn loaded(peer: &Peer, topic: &str, load: &Produce) -> io::Result<(Outcome, f64)> {
    Client::connect(peer.address)?.create_topic(topic, load.partitions)?;
    settle(peer, topic, load.partitions)?;
    rustix::fs::sync();
    let before = peer.cpu_seconds()?;
    let done = load.run(peer.target(), topic, LOAD_TIME)?;
    Ok((done, peer.cpu_seconds()? - before))
}

/// In ms.
pub fn quantile(outcome: &Outcome, quantile: f64) -> f64 {
    outcome.latency.value_at_quantile(quantile) as f64 / 1e3
}
