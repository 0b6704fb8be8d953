//! `compare`: Tidegate and its peers under the same load, interleaved, in one run.
//!
//! Every round runs each row on each peer, one after the other, so that what the machine does
//! meanwhile hits all alike. What is idle stays up: a stopped JVM would be a cold one.

mod client;
mod floor;
mod life;
mod load;
mod peer;
mod process;
mod report;
mod rows;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use serde::Serialize;

use life::Life;
use peer::{Kind, Peer, Site};
use report::Summary;
use rows::{ROWS, Row, Sample};

fn main() -> io::Result<()> {
    let matches = cli().get_matches();
    match matches.subcommand() {
        Some(("floor", of)) => {
            let dir: &PathBuf = of
                .get_one("dir")
                .unwrap_or_else(|| unreachable!("required"));
            floor::serve(dir, of.get_flag("sync"))
        }
        _ => compare(&matches),
    }
}

fn cli() -> clap::Command {
    let names = ROWS.iter().map(|row| row.name);
    let peers = Kind::ALL.iter().map(|kind| kind.name());
    let number = |name: &'static str, default: &'static str| {
        Arg::new(name)
            .long(name)
            .default_value(default)
            .value_parser(value_parser!(u64).range(1..=1000))
    };
    clap::Command::new("compare")
        .about("Runs Tidegate, Apache Kafka and a floor under the same load, and prints ratios")
        .arg(number("rounds", "5").help("Rounds that count"))
        .arg(number("seconds", "3").help("Length of one round of one row on one peer"))
        .arg(number("warmup", "10").help("Seconds of load on a peer before the first round"))
        .arg(
            Arg::new("row")
                .long("row")
                .action(ArgAction::Append)
                .value_parser(clap::builder::PossibleValuesParser::new(names))
                .help("Only these rows"),
        )
        .arg(
            Arg::new("peer")
                .long("peer")
                .action(ArgAction::Append)
                .value_parser(clap::builder::PossibleValuesParser::new(peers))
                .help("Only these peers"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .value_parser(value_parser!(PathBuf))
                .help("Writes all figures to a file"),
        )
        .arg(
            Arg::new("no-life")
                .long("no-life")
                .action(ArgAction::SetTrue)
                .help("Leaves out starts, kills and idle connections"),
        )
        .subcommand(
            clap::Command::new("floor")
                .hide(true)
                .arg(
                    Arg::new("dir")
                        .required(true)
                        .value_parser(value_parser!(PathBuf)),
                )
                .arg(Arg::new("sync").long("sync").action(ArgAction::SetTrue)),
        )
}

/// What was run, where, and what came of it.
#[derive(Serialize)]
struct Results {
    environment: Environment,
    /// Of a 4 KiB append with its sync, in this run.
    raw_sync_p50_ms: f64,
    raw_sync_p99_ms: f64,
    lives: Vec<Life>,
    rows: Vec<Summary>,
}

#[derive(Serialize)]
struct Environment {
    kernel: String,
    cpu: String,
    cores: usize,
    /// CPU time that the host took away during the run, as a share.
    steal: f64,
}

fn compare(matches: &ArgMatches) -> io::Result<()> {
    let number = |name: &str| matches.get_one::<u64>(name).copied().unwrap_or(1);
    let chosen = |name: &str| {
        matches
            .get_many::<String>(name)
            .map(|v| v.collect::<Vec<_>>())
    };
    let (rows, peers) = (chosen("row"), chosen("peer"));
    let is_in = |chosen: &Option<Vec<&String>>, name: &str| {
        chosen.as_ref().is_none_or(|c| c.iter().any(|n| *n == name))
    };
    let rows: Vec<&Row> = ROWS.iter().filter(|row| is_in(&rows, row.name)).collect();
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|k| is_in(&peers, k.name()))
        .collect();
    let site = prepare(&kinds)?;
    let time = Duration::from_secs(number("seconds"));
    let (began, stolen) = (Instant::now(), process::steal_seconds());
    let mut raw = floor::raw_syncs(&site.work, 500)?;
    raw.sort_unstable();
    let mut results = Results {
        environment: Environment::here(),
        raw_sync_p50_ms: raw[raw.len() / 2] as f64 / 1e3,
        raw_sync_p99_ms: raw[raw.len() * 99 / 100] as f64 / 1e3,
        lives: Vec::new(),
        rows: Vec::new(),
    };
    for kind in kinds
        .iter()
        .filter(|k| !k.is_floor() && !matches.get_flag("no-life"))
    {
        say(&format!("a life of {}", kind.name()))?;
        results.lives.push(life::live(*kind, &site)?);
    }
    let start = |kind: Kind| Peer::start(kind, &site);
    let mut running: Vec<Peer> = kinds.into_iter().map(start).collect::<io::Result<_>>()?;
    let samples = run_rounds(&rows, &mut running, &site, matches, time)?;
    let mut out = io::stdout().lock();
    let Environment {
        kernel, cpu, cores, ..
    } = &results.environment;
    writeln!(out, "{cores} cores, {cpu}, Linux {kernel}")?;
    writeln!(
        out,
        "a 4 KiB append with its sync: p50 {:.2} ms, p99 {:.2} ms",
        results.raw_sync_p50_ms, results.raw_sync_p99_ms
    )?;
    report::write_lives(&mut out, &results.lives)?;
    for (row, of_row) in rows.iter().zip(samples) {
        let of_row: Vec<_> = running
            .iter()
            .zip(of_row)
            .filter(|(_, samples)| !samples.is_empty())
            .map(|(peer, samples)| Summary::new(row, peer.kind, &samples))
            .collect();
        report::write_row(&mut out, row, &of_row)?;
        results.rows.extend(of_row);
    }
    let stolen = process::steal_seconds() - stolen;
    let cpus = results.environment.cores as f64 * began.elapsed().as_secs_f64();
    results.environment.steal = stolen / cpus;
    if results.environment.steal > 0.01 {
        let share = results.environment.steal * 100.0;
        writeln!(
            out,
            "\nthe host took {share:.1} % of the CPU time: tails are not to be trusted"
        )?;
    }
    if let Some(path) = matches.get_one::<PathBuf>("json") {
        std::fs::write(path, serde_json::to_vec_pretty(&results)?)?;
    }
    Ok(())
}

/// Samples by row and peer.
fn run_rounds(
    rows: &[&Row],
    peers: &mut [Peer],
    site: &Site,
    matches: &ArgMatches,
    time: Duration,
) -> io::Result<Vec<Vec<Vec<Sample>>>> {
    let number = |name: &str| matches.get_one::<u64>(name).copied().unwrap_or(1);
    for peer in peers.iter_mut() {
        say(&format!("warming up {}", peer.kind.name()))?;
        let (warmup, began) = (Duration::from_secs(number("warmup")), Instant::now());
        let kind = peer.kind;
        let loads = rows.iter().filter(|row| row.is_for(kind));
        for row in loads.cycle().take_while(|_| began.elapsed() < warmup) {
            row.run(peer, site, time.min(warmup))?;
        }
    }
    let mut samples: Vec<Vec<Vec<Sample>>> = Vec::new();
    samples.resize_with(rows.len(), || peers.iter().map(|_| Vec::new()).collect());
    for round in 1..=number("rounds") {
        for (row, of_row) in rows.iter().zip(&mut samples) {
            say(&format!("round {round}: {}", row.name))?;
            for (peer, of_peer) in peers.iter_mut().zip(of_row) {
                if row.is_for(peer.kind) {
                    // What the one before left to be written back is not this one's load.
                    rustix::fs::sync();
                    of_peer.push(row.run(peer, site, time)?);
                }
            }
        }
    }
    Ok(samples)
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "{text}")
}

impl Environment {
    fn here() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|l| l.strip_prefix("model name")?.split_once(": "));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Environment {
            kernel: kernel.trim().to_owned(),
            cpu: model.map_or("an unknown CPU", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            steal: 0.0,
        }
    }
}

/// Builds Tidegate and fetches the peers that are asked for, below `target/bench`.
fn prepare(kinds: &[Kind]) -> io::Result<Site> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()?;
    let program = std::env::current_exe()?;
    let profile = program.parent().unwrap_or(Path::new("."));
    let target = profile.parent().unwrap_or(Path::new("."));
    let work = target.join("bench");
    std::fs::create_dir_all(&work)?;
    let site = Site {
        tidegate: target.join("release/tidegate"),
        kafka_libs: work.join("kafka-libs"),
        kafka_conf: root.join("bench/kafka"),
        work,
    };
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "--bin", "tidegate"]);
    run(build.current_dir(&root))?;
    if kinds.contains(&Kind::Kafka) && !site.kafka_libs.join(".whole").exists() {
        let mut maven = Command::new("mvn");
        maven
            .args(["-q", "-B", "-f"])
            .arg(site.kafka_conf.join("pom.xml"));
        maven.arg("dependency:copy-dependencies");
        run(maven.arg(format!("-DoutputDirectory={}", site.kafka_libs.display())))?;
        std::fs::write(site.kafka_libs.join(".whole"), b"")?;
    }
    Ok(site)
}

fn run(command: &mut Command) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status();
    let status = status.map_err(|e| io::Error::other(format!("cannot run {name}: {e}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{name} ended with {status}"))),
    }
}
