//! `compare`: Tidegate and its peers under the same load, interleaved, in one run.
//!
//! Every round runs each row on each peer, one after the other, so that what the machine does
//! meanwhile hits all alike. What is idle stays up: a stopped JVM would be a cold one.

mod client;
mod crowd;
mod environment;
mod floor;
mod goals;
mod groups;
mod growth;
mod html;
mod life;
mod load;
mod peer;
mod process;
mod report;
mod rounds;
mod rows;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use serde::Serialize;

use environment::Environment;
use goals::Verdict;
use life::Life;
use peer::{Kind, Site};
use report::Summary;
use rounds::Times;
use rows::{ROWS, Row};

fn main() -> io::Result<()> {
    let matches = cli().get_matches();
    match matches.subcommand() {
        Some(("floor", of)) => {
            let dir: &PathBuf = of
                .get_one("dir")
                .unwrap_or_else(|| unreachable!("required"));
            floor::serve(dir, of.get_flag("sync"))
        }
        Some(("growth", of)) => growth::run(of),
        Some(("groups", of)) => groups::run(of),
        _ => compare(&matches),
    }
}

fn cli() -> clap::Command {
    let names = ROWS.iter().map(|row| row.name);
    let number = |name: &'static str, default: &'static str| {
        Arg::new(name)
            .long(name)
            .default_value(default)
            .value_parser(value_parser!(u64).range(1..=1000))
    };
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    clap::Command::new("compare")
        .about("Runs Tidegate and its peers under the same load, and prints ratios")
        .args([
            number("rounds", "5").help("Rounds that count"),
            number("seconds", "3").help("Length of one round of one row on one peer"),
            number("warmup", "10").help("Seconds of load on a peer before the first round"),
            Arg::new("row")
                .long("row")
                .action(ArgAction::Append)
                .value_parser(clap::builder::PossibleValuesParser::new(names))
                .help("Only these rows"),
            of_peers("peer")
                .action(ArgAction::Append)
                .help("Only these peers"),
            file("json").help("Writes all figures to a file"),
            file("html").help("Writes a page with all figures, by itself"),
            flag("no-life").help("Leaves out starts, kills, idle connections and partitions"),
            flag("no-rows").help("Leaves out the rows"),
        ])
        .subcommand(growth::cli())
        .subcommand(groups::cli())
        .subcommand(
            clap::Command::new("floor")
                .hide(true)
                .arg(
                    Arg::new("dir")
                        .required(true)
                        .value_parser(value_parser!(PathBuf)),
                )
                .arg(flag("sync")),
        )
}

/// An option that names peers.
fn of_peers(name: &'static str) -> Arg {
    let peers = Kind::ALL.iter().map(|kind| kind.name());
    Arg::new(name)
        .long(name)
        .value_parser(clap::builder::PossibleValuesParser::new(peers))
}

/// An option that names a file.
fn file(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
}

/// What was run, where, and what came of it.
#[derive(Serialize)]
pub struct Results {
    pub environment: Environment,
    pub lives: Vec<Life>,
    pub rows: Vec<Summary>,
    pub verdicts: Vec<Verdict>,
}

fn compare(matches: &ArgMatches) -> io::Result<()> {
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
    let site = Site::prepare(&kinds)?;
    let clock = environment::Clock::start();
    let mut results = Results {
        environment: Environment::here(),
        lives: Vec::new(),
        rows: Vec::new(),
        verdicts: Vec::new(),
    };
    if !matches.get_flag("no-life") {
        for kind in kinds.iter().filter(|kind| kind.is_broker()) {
            say(&format!("a life of {}", kind.name()))?;
            results.lives.push(Life::of(*kind, &site)?);
        }
    }
    if !matches.get_flag("no-rows") {
        let number = |name: &str| matches.get_one::<u64>(name).copied().unwrap_or(1);
        let times = Times {
            rounds: number("rounds"),
            round: Duration::from_secs(number("seconds")),
            warmup: Duration::from_secs(number("warmup")),
        };
        results.rows = rounds::run(&rows, &kinds, &site, times)?;
    }
    results.verdicts = goals::judge(&results.rows);
    results
        .verdicts
        .extend(results.lives.iter().flat_map(Life::judge));
    results.environment.steal = clock.steal();
    report::write(&mut io::stdout().lock(), &results)?;
    if let Some(path) = matches.get_one::<PathBuf>("json") {
        std::fs::write(path, serde_json::to_vec_pretty(&results)?)?;
    }
    if let Some(path) = matches.get_one::<PathBuf>("html") {
        std::fs::write(path, html::page(&results))?;
    }
    // A peer that cannot do a row is a result. That Tidegate cannot is a fault.
    let is_tidegate = |s: &Summary| s.peer.starts_with("tidegate");
    match results
        .rows
        .iter()
        .find(|s| is_tidegate(s) && s.failure.is_some())
    {
        Some(row) => Err(io::Error::other(format!(
            "{} failed in {}",
            row.peer, row.row
        ))),
        None => Ok(()),
    }
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "{text}")
}
