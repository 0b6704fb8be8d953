//! `compare groups`: how long consumer groups take to become stable, alone and many at once, and what
//! their commits cost.

mod commits;
mod consumer;
mod member;
mod storm;
mod turnover;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches};
use serde::Serialize;

use crate::client::Client;
use crate::environment::{Clock, Environment};
use crate::growth::{figures, quantile};
use crate::peer::{Kind, Peer, Site};
use crate::report::{self, Figure};

const KINDS: [Kind; 3] = [Kind::TidegateOs, Kind::TidegateDurable, Kind::Kafka];

const PARTS: [Part; 4] = [
    Part {
        name: "turnover",
        columns: &["median ms", "min ms", "max ms"],
        measure: turnover,
    },
    Part {
        name: "consumer",
        columns: &["median ms", "min ms", "max ms"],
        measure: consumer,
    },
    Part {
        name: "storm",
        columns: &["p50 ms", "p99 ms", "max ms", "CPU s", "resident MB"],
        measure: storm,
    },
    Part {
        name: "commits",
        columns: &[
            "commits/s",
            "p50 ms",
            "p99 ms",
            "CPU us each",
            "resident MB",
        ],
        measure: commits,
    },
];

struct Part {
    name: &'static str,
    /// Names that say their units.
    columns: &'static [&'static str],
    measure: fn(Kind, &Site) -> io::Result<Vec<Row>>,
}

pub fn cli() -> clap::Command {
    clap::Command::new("groups")
        .about("Shows how consumer groups rebalance and commit")
        .args([
            Arg::new("part")
                .long("part")
                .action(ArgAction::Append)
                .value_parser(clap::builder::PossibleValuesParser::new(
                    PARTS.map(|part| part.name),
                ))
                .help("Only these parts"),
            Arg::new("peer")
                .long("peer")
                .action(ArgAction::Append)
                .value_parser(clap::builder::PossibleValuesParser::new(
                    KINDS.map(Kind::name),
                ))
                .help("Only these peers"),
            crate::file("json").help("Writes all figures to a file"),
        ])
}

/// One thing that happened, on one peer.
#[derive(Serialize)]
struct Row {
    peer: &'static str,
    event: String,
    figures: Vec<f64>,
}

#[derive(Serialize)]
struct Table {
    part: &'static str,
    /// Of the figures.
    columns: &'static [&'static str],
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Groups {
    environment: Environment,
    tables: Vec<Table>,
}

pub fn run(matches: &ArgMatches) -> io::Result<()> {
    let chosen = |option: &str, name: &str| {
        let mut all = matches.get_many::<String>(option).into_iter().flatten();
        matches.get_many::<String>(option).is_none() || all.any(|chosen| chosen == name)
    };
    let kinds = KINDS.into_iter().filter(|k| chosen("peer", k.name()));
    let kinds: Vec<Kind> = kinds.collect();
    let site = Site::prepare(&kinds)?;
    let clock = Clock::start();
    let mut groups = Groups {
        environment: Environment::here(),
        tables: Vec::new(),
    };
    let mut out = io::stdout().lock();
    for part in PARTS.iter().filter(|part| chosen("part", part.name)) {
        let mut rows = Vec::new();
        for kind in &kinds {
            crate::say(&format!("{} of {}", part.name, kind.name()))?;
            rows.extend((part.measure)(*kind, &site)?);
        }
        let table = Table {
            part: part.name,
            columns: part.columns,
            rows,
        };
        table.write(&mut out)?;
        groups.tables.push(table);
    }
    groups.environment.steal = clock.steal();
    writeln!(out, "\n{}", groups.environment.words())?;
    if let Some(path) = matches.get_one::<PathBuf>("json") {
        std::fs::write(path, serde_json::to_vec_pretty(&groups)?)?;
    }
    Ok(())
}

impl Table {
    /// As Markdown.
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = [&["event", "peer"], self.columns].concat();
        let cells = |row: &Row| {
            let head = [row.event.clone(), row.peer.to_owned()];
            head.into_iter().chain(figures(&row.figures)).collect()
        };
        report::write_table(out, self.part, &columns, self.rows.iter().map(cells))
    }
}

fn turnover(kind: Kind, site: &Site) -> io::Result<Vec<Row>> {
    let peer = Peer::start(kind, site)?;
    turnover_rows(&peer, &turnover::CLASSIC)
}

fn consumer(kind: Kind, site: &Site) -> io::Result<Vec<Row>> {
    let peer = Peer::start_with(kind, site, &turnover::OPTIONS)?;
    Client::connect(peer.address)?.create_topic(consumer::TOPIC, consumer::PARTITIONS as i32)?;
    turnover_rows(&peer, &turnover::CONSUMER)
}

fn turnover_rows(peer: &Peer, protocol: &turnover::Protocol) -> io::Result<Vec<Row>> {
    let times = turnover::run(peer, protocol)?;
    let events = turnover::EVENTS.into_iter().zip(times);
    let row = |(event, times): (&str, Vec<f64>)| {
        let figure = Figure::of(times);
        Row {
            peer: peer.kind.name(),
            event: event.to_owned(),
            figures: vec![figure.median, figure.min, figure.max],
        }
    };
    Ok(events.map(row).collect())
}

fn storm(kind: Kind, site: &Site) -> io::Result<Vec<Row>> {
    let peer = Peer::start_with(kind, site, &storm::OPTIONS)?;
    let row = |storm: storm::Storm| {
        let median = |rounds| Figure::of(rounds).median;
        Row {
            peer: kind.name(),
            event: storm.event.to_owned(),
            figures: vec![
                median(storm.p50_ms),
                median(storm.p99_ms),
                // The worst round's: a mishap is not to be hidden by the others.
                Figure::of(storm.max_ms).max,
                median(storm.cpu_seconds),
                median(storm.resident_megabytes),
            ],
        }
    };
    Ok(storm::run(&peer)?.into_iter().map(row).collect())
}

fn commits(kind: Kind, site: &Site) -> io::Result<Vec<Row>> {
    let peer = Peer::start(kind, site)?;
    let (done, cpu) = commits::run(&peer)?;
    Ok(vec![Row {
        peer: kind.name(),
        event: format!("{} a second", commits::RATE),
        figures: vec![
            done.requests as f64 / done.seconds,
            quantile(&done, 0.5),
            quantile(&done, 0.99),
            cpu * 1e6 / done.requests as f64,
            peer.resident_bytes()? as f64 / 1e6,
        ],
    }])
}
