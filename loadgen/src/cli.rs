//! The command line: what is asked for, and what the process says when it ends.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::{Display, Write as _};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches};

use crate::machine::Check;
use crate::options::{self, Options, Output, Scenario};
use crate::report::compare::Comparison;
use crate::report::{self, Document};
use crate::scenario;
use crate::server::Scrape;

/// The run failed, or what it read back is not what was sent.
const EXIT_FAILURE: u8 = 1;
/// The command line is wrong.
const EXIT_USAGE: u8 = 2;

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    Run(Box<Options>),
    /// Compare what these files have.
    Compare {
        files: Vec<PathBuf>,
        html: Option<PathBuf>,
    },
    /// Write this text to standard output: help, version.
    Print(String),
}

/// The whole program. Exit codes: 0; 1 when the run failed or found a fault; 2 for errors of usage.
pub fn main() -> ExitCode {
    match parse(std::env::args_os()) {
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Run(options)) => run(&options),
        Ok(Command::Compare { files, html }) => compare(&files, html.as_deref()),
        Err(reason) => complain(&reason, EXIT_USAGE),
    }
}

fn run(options: &Options) -> ExitCode {
    let address = options.output.metrics.as_deref();
    let metrics = match address.map(Scrape::of).transpose() {
        Ok(metrics) => address.zip(metrics),
        Err(error) => return complain(&format!("--metrics: {error}"), EXIT_FAILURE),
    };
    let check = options.output.box_check.then(Check::run);
    let mut report = match scenario::run(options) {
        Ok(report) => report,
        Err(error) => return complain(&with_causes(&error), EXIT_FAILURE),
    };
    report.judge(check);
    if let Some((address, before)) = &metrics {
        report.server.scrape(address, before);
    }
    let verdict = report.verdict();
    let printed = print(&report.to_string());
    let written = Document::new(options, report)
        .map_err(|error| error.to_string())
        .and_then(|document| write(&document, &options.output));
    match written.and(verdict) {
        Ok(()) => printed,
        Err(reason) => complain(&reason, EXIT_FAILURE),
    }
}

/// Writes the files that were asked for.
fn write(document: &Document, output: &Output) -> Result<(), String> {
    let to = |path: &Option<PathBuf>, write: &dyn Fn(&Path) -> io::Result<()>| match path {
        Some(path) => write(path).map_err(|error| format!("{}: {error}", path.display())),
        None => Ok(()),
    };
    to(&output.json, &|path| document.write(path))?;
    to(&output.hgrm, &|path| {
        report::write_hgrm(path, &document.report.latencies)
    })?;
    to(&output.html, &|path| {
        std::fs::write(path, report::page(document))
    })
}

fn compare(files: &[PathBuf], html: Option<&Path>) -> ExitCode {
    let comparison = match Comparison::of_files(files) {
        Ok(comparison) => comparison,
        Err((path, error)) => {
            return complain(&format!("{} {error}", path.display()), EXIT_FAILURE);
        }
    };
    let printed = print(&comparison.to_string());
    let page = |path| std::fs::write(path, report::comparison_page(&comparison));
    match html.map(|path| page(path).map_err(|error| (path, error))) {
        Some(Err((path, error))) => complain(&format!("{}: {error}", path.display()), EXIT_FAILURE),
        _ => printed,
    }
}

/// One line on standard error. If that cannot be written, the exit code has to do.
fn complain(reason: &dyn Display, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "tidegate-loadgen: {reason}");
    ExitCode::from(code)
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut error = error;
    while let Some(cause) = error.source() {
        let _ = write!(text, ": {cause}");
        error = cause;
    }
    text
}

fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader such as `head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => complain(&error, EXIT_FAILURE),
    }
}

/// Reads the command line; `args` begins with the program's name.
///
/// # Errors
/// Anything that is not known or does not fit, as one line.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Command::Print(error.render().to_string())),
        Err(error) => return Err(one_line(&error)),
    };
    let scenario = matches.subcommand().and_then(|(name, matches)| {
        let mut named = SCENARIOS.iter().map(|(scenario, _)| *scenario);
        Some((named.find(|one| one.to_string() == name)?, matches))
    });
    match (scenario, matches.subcommand_matches("compare")) {
        (Some((scenario, matches)), _) => asked(scenario, matches),
        (None, Some(matches)) => Ok(Command::Compare {
            files: paths(matches, "files"),
            html: path(matches, "html"),
        }),
        (None, None) => Ok(Command::Print(command().render_help().to_string())),
    }
}

fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

fn asked(scenario: Scenario, matches: &ArgMatches) -> Result<Command, String> {
    let acks = value(matches, "acks", options::acks)?.unwrap_or(-1);
    let flag = |name| matches!(matches.try_get_one(name), Ok(Some(true)));
    let rate = |name| Ok::<_, String>(value(matches, name, options::number)?.filter(|r| *r > 0));
    let asked = Options {
        scenario,
        bootstrap: value(matches, "bootstrap", options::addresses)?.unwrap_or_default(),
        topic: value(matches, "topic", |topic| Ok(topic.to_owned()))?,
        partitions: value(matches, "partitions", parsed)?,
        messages: value(matches, "messages", options::number)?.unwrap_or_default(),
        size: value(matches, "size", options::sizes)?.unwrap_or_default(),
        keys: value(matches, "keys", options::keys)?.unwrap_or_default(),
        entropy: value(matches, "entropy", number)?,
        acks,
        compression: value(matches, "compression", options::compression)?.unwrap_or_default(),
        compression_level: value(matches, "compression-level", parsed)?,
        batch_bytes: value(matches, "batch-bytes", options::bytes)?.unwrap_or_default(),
        linger: required_time(matches, "linger")?,
        in_flight: value(matches, "in-flight", parsed)?.unwrap_or_default(),
        connections: value(matches, "connections", parsed)?.unwrap_or_default(),
        rate: rate("rate")?,
        warmup: value(matches, "warmup", options::warmup)?.unwrap_or_default(),
        // Kafka's producer does not offer it below acks=all.
        idempotence: acks == -1 && !flag("no-idempotence"),
        verify: !flag("no-verify"),
        delivery_timeout: required_time(matches, "delivery-timeout")?,
        request_timeout: required_time(matches, "request-timeout")?,
        mixed: options::Mixed {
            consume_rate: rate("consume-rate")?,
            backlog: value(matches, "backlog", options::number)?.unwrap_or_default(),
        },
        sweep: options::Sweep {
            p99_max: required_time(matches, "p99-max")?,
            step: required_time(matches, "step-time")?,
            factor: value(matches, "rate-factor", number)?.unwrap_or_default(),
            max_rate: value(matches, "max-rate", options::number)?.unwrap_or_default(),
            refine: value(matches, "refine", parsed)?.unwrap_or_default(),
        },
        storm: options::Storm {
            connects: value(matches, "connects", options::number)?.unwrap_or_default(),
            metadata: flag("metadata"),
        },
        idle: options::Idle {
            time: required_time(matches, "time")?,
            pid: value(matches, "pid", parsed)?,
        },
        output: output(matches),
    };
    asked.check()?;
    Ok(Command::Run(Box::new(asked)))
}

fn output(matches: &ArgMatches) -> Output {
    Output {
        json: path(matches, "json"),
        hgrm: path(matches, "hgrm"),
        html: path(matches, "html"),
        metrics: matches.get_one::<String>("metrics").cloned(),
        box_check: !matches.get_flag("no-box-check"),
    }
}

fn path(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    matches.get_one(name).cloned()
}

fn paths(matches: &ArgMatches, name: &str) -> Vec<PathBuf> {
    let paths = matches.get_many(name).into_iter().flatten();
    paths.cloned().collect()
}

fn value<T>(
    matches: &ArgMatches,
    name: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    // Not every scenario has every option.
    let text = matches.try_get_one::<String>(name).ok().flatten();
    let read = text.map(|text| read(text).map_err(|reason| format!("--{name}: {reason}")));
    read.transpose()
}

fn required_time(matches: &ArgMatches, name: &str) -> Result<Duration, String> {
    Ok(value(matches, name, options::time)?.unwrap_or_default())
}

fn parsed<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("\"{text}\" is not a whole number"))
}

fn number(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| format!("\"{text}\" is not a number"))
}

/// What there is to run, and what it does.
const SCENARIOS: [(Scenario, &str); 7] = [
    (
        Scenario::Produce,
        "Measure sending: throughput, and the time until it is acknowledged",
    ),
    (
        Scenario::Consume,
        "Measure reading a topic to its end; without --topic, one is filled first",
    ),
    (
        Scenario::E2e,
        "Measure from the time a message is to be sent until a consumer has it",
    ),
    (
        Scenario::Mixed,
        "Measure sending and reading at the same time, each at a rate of its own",
    ),
    (
        Scenario::Sweep,
        "Raise the rate of e2e step by step until its p99 is too high or the rate is not reached",
    ),
    (
        Scenario::Storm,
        "Measure clients that connect, ask for the broker's versions, and go",
    ),
    (
        Scenario::Idle,
        "Measure what connections cost that do nothing",
    ),
];

/// An option with a value: name, placeholder, default, meaning.
type Row = (
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static str,
);

/// Of all scenarios.
const BROKER_ROWS: &[Row] = &[
    (
        "bootstrap",
        "HOST:PORT,..",
        Some("127.0.0.1:9092"),
        "Brokers to ask first",
    ),
    (
        "request-timeout",
        "TIME",
        Some("30s"),
        "An answer that takes longer is given up",
    ),
];

/// Of all scenarios with a topic.
const TOPIC_ROWS: &[Row] = &[
    (
        "topic",
        "NAME",
        None,
        "A topic to keep; created if it is not there [default: a new one, deleted at the end]",
    ),
    (
        "partitions",
        "N",
        None,
        "Partitions of a topic that is created [default: 4]",
    ),
    (
        "size",
        "SIZE",
        Some("1KiB"),
        "Size of a message's value: one, a range such as 100..2KiB, or mix (see below)",
    ),
    (
        "keys",
        "KEYS",
        Some("none"),
        "Keys, which lead to partitions as with Kafka's clients: none, sequential[:N], random:N or zipf:N of N keys (see below)",
    ),
    (
        "entropy",
        "0..1",
        None,
        "Share of random bytes in values, of which codecs make nothing [default: random letters]",
    ),
    (
        "acks",
        "all|1|0",
        Some("all"),
        "What the broker has to have done before it answers",
    ),
    (
        "compression",
        "CODEC",
        Some("none"),
        "none, gzip, snappy, lz4 or zstd",
    ),
    (
        "compression-level",
        "N",
        None,
        "The codec's level: gzip 1 to 9, lz4 1 to 17, zstd up to 22 [default: Kafka's]",
    ),
    (
        "batch-bytes",
        "BYTES",
        Some("16KiB"),
        "A batch of this size, before compression, is sent at once",
    ),
    (
        "linger",
        "TIME",
        Some("5ms"),
        "A batch that is not full is sent after this time",
    ),
    (
        "in-flight",
        "N",
        Some("5"),
        "Requests on a connection that wait for their answer",
    ),
    (
        "delivery-timeout",
        "TIME",
        Some("2m"),
        "The run fails when a message is not acknowledged for so long",
    ),
];

const MESSAGES: Row = (
    "messages",
    "N",
    Some("100000"),
    "Messages that are measured",
);
const WARMUP: &str = "Messages, or a time, that come before what is measured";
const RATE: &str = "Messages a second, of all connections together; 0: as fast as they are taken";
const CONNECTIONS: &str =
    "Connections to each broker, of producers and of consumers each; with --keys, producers";

/// What a scenario has of its own, or with a default of its own.
fn own_rows(scenario: Scenario) -> Vec<Row> {
    let connections = ("connections", "N", Some("1"), CONNECTIONS);
    let load = |rate, warmup| {
        [
            ("rate", "N", Some(rate), RATE),
            ("warmup", "N|TIME", Some(warmup), WARMUP),
            connections,
        ]
    };
    let of = |rows: &[Row], more: &[Row]| [rows, more].concat();
    match scenario {
        Scenario::Produce => of(&[MESSAGES], &load("0", "0")),
        Scenario::Consume => vec![MESSAGES, connections],
        // For the default of 100000 messages, ten seconds.
        Scenario::E2e => of(&[MESSAGES], &load("10000", "0")),
        Scenario::Mixed => of(
            &[
                MESSAGES,
                (
                    "backlog",
                    "N",
                    Some("100000"),
                    "Messages that a new topic has before it begins; with --topic, it is what is there",
                ),
                (
                    "consume-rate",
                    "N",
                    Some("0"),
                    "Messages a second that are read, on average, while messages are sent; 0: as fast as they come",
                ),
            ],
            &load("10000", "0"),
        ),
        Scenario::Sweep => vec![
            (
                "rate",
                "N",
                Some("1000"),
                "Messages a second of the first step",
            ),
            (
                "rate-factor",
                "X",
                Some("1.5"),
                "What the rate is multiplied by from step to step",
            ),
            (
                "max-rate",
                "N",
                Some("1000000"),
                "The highest rate that is tried",
            ),
            (
                "p99-max",
                "TIME",
                Some("10ms"),
                "What the 99th percentile from the schedule to the consumer may not exceed",
            ),
            (
                "step-time",
                "TIME",
                Some("5s"),
                "How long a step is measured",
            ),
            (
                "warmup",
                "TIME",
                Some("1s"),
                "A time that comes before what is measured, in each step",
            ),
            (
                "refine",
                "N",
                Some("3"),
                "Rates that are tried between the last one that held and the first one that did not",
            ),
            connections,
        ],
        Scenario::Storm => vec![
            ("connects", "N", Some("10000"), "Connections in all"),
            (
                "rate",
                "N",
                Some("0"),
                "Connections a second, of all threads together; 0: as fast as they are taken",
            ),
            (
                "connections",
                "N",
                Some("16"),
                "Connections at a time: each is a thread",
            ),
        ],
        Scenario::Idle => vec![
            ("connections", "N", Some("1000"), "Connections at a time"),
            ("time", "TIME", Some("10s"), "How long they do nothing"),
            (
                "pid",
                "PID",
                None,
                "The server's process on this machine, to say what its memory and CPU are",
            ),
        ],
    }
}

/// The grammar.
fn command() -> clap::Command {
    clap::Command::new("tidegate-loadgen")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A load generator for Kafka brokers, which checks what it measures")
        .after_help(EXIT_CODES)
        .subcommands(SCENARIOS.map(|(scenario, about)| {
            with_options(clap::Command::new(scenario.to_string()), scenario)
                .about(about)
                .after_help(match has_topic(scenario) {
                    true => format!("{LOAD_HELP}\n{EXIT_CODES}"),
                    false => EXIT_CODES.to_owned(),
                })
        }))
        .subcommand(compare_command())
}

/// What does not fit beside the options.
const LOAD_HELP: &str = "\
With --rate, messages have times at which they are to be sent, fixed at the start, and latency counts
from these; --rate 0 sends as fast as the broker takes them, and latency counts from the hand-over.
Sizes: 4096, 64KiB, 1MiB. Times: milliseconds, or 500us, 5ms, 30s, 10m.
--size mix: small values and few large ones, up to 64 KiB: half are below 170 bytes, a hundredth is above
2.4 KiB (generalised Pareto, as measured of Facebook's ETC pool; Atikoglu et al., SIGMETRICS 2012).
--keys: sequential is the number of the message in the run (modulo N), random is uniform, zipf has the
exponent 0.99. A key is ten digits; its partition is that of Kafka's clients (murmur2).
--entropy: of 64 bytes each, the first ones are random and the rest is one letter. Without it, values are
random upper case letters: gzip and zstd make two thirds of them, snappy and lz4 nothing.";

const EXIT_CODES: &str = "\
Exit codes: 0; 1 when the run failed, when messages were lost, doubled, reordered or changed, when a
connection failed, or when no rate of a sweep held; 2 for wrong usage.";

fn has_topic(scenario: Scenario) -> bool {
    !matches!(scenario, Scenario::Storm | Scenario::Idle)
}

fn with_options(command: clap::Command, scenario: Scenario) -> clap::Command {
    let has_topic = has_topic(scenario);
    let topic_rows = if has_topic { TOPIC_ROWS } else { &[] };
    let own_rows = own_rows(scenario);
    let rows = BROKER_ROWS
        .iter()
        .chain(&own_rows)
        .chain(topic_rows)
        .copied();
    let flag = |name, help| {
        let arg = Arg::new(name).long(name);
        arg.action(ArgAction::SetTrue).help(help)
    };
    let mut flags = Vec::new();
    if has_topic {
        flags.push(flag(
            "no-idempotence",
            "Do not number batches: a retry may double or reorder messages, and --in-flight may exceed 5",
        ));
    }
    match scenario {
        Scenario::Produce => flags.push(flag("no-verify", "Do not read back what was sent")),
        Scenario::Storm => flags.push(flag("metadata", "Each asks for the brokers as well")),
        _ => {}
    }
    command
        .args(rows.map(|(name, placeholder, default, help)| {
            let arg = Arg::new(name)
                .long(name)
                .value_name(placeholder)
                .value_parser(ValueParser::string())
                .allow_negative_numbers(true)
                .help(help);
            match default {
                Some(default) => arg.default_value(default),
                None => arg,
            }
        }))
        .args(flags)
        .args(output_args())
}

/// What becomes of the figures.
fn output_args() -> [Arg; 5] {
    [
        file(
            "json",
            "Write all figures and histograms, the options and the environment to this file",
        ),
        file(
            "hgrm",
            "Write the first latency's percentiles in HdrHistogram's text format to this file, the \
             others' beside it",
        ),
        file(
            "html",
            "Write the report to this file as a page with charts",
        ),
        Arg::new("metrics")
            .long("metrics")
            .value_name("HOST:PORT")
            .value_parser(ValueParser::string())
            .help("Ask this for the server's /metrics, before and after: what changed is in --json and --html"),
        Arg::new("no-box-check")
            .long("no-box-check")
            .action(ArgAction::SetTrue)
            .help("Do not look at the machine for half a second before the run"),
    ]
}

fn file(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("FILE")
        .value_parser(ValueParser::path_buf())
        .help(help)
}

fn compare_command() -> clap::Command {
    let files = Arg::new("files")
        .value_name("FILE")
        .num_args(1..)
        .required(true)
        .value_parser(ValueParser::path_buf())
        .help("What --json has written; ratios are to the first");
    clap::Command::new("compare")
        .about("Compare the reports of runs")
        .arg(files)
        .arg(file(
            "html",
            "Write the comparison to this file as a page with charts",
        ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Warmup;
    use crate::payload::keys::Keys;
    use crate::payload::sizes::Sizes;

    fn parse_line(line: &str) -> Result<Command, String> {
        let args = std::iter::once("tidegate-loadgen").chain(line.split_whitespace());
        parse(args.map(OsString::from))
    }

    fn options_of(line: &str) -> Options {
        match parse_line(line) {
            Ok(Command::Run(options)) => *options,
            other => panic!("no run: {other:?}"),
        }
    }

    #[test]
    fn a_scenario_needs_no_options() {
        let options = options_of("produce");
        assert_eq!(
            (options.messages, options.size, options.acks),
            (100_000, Sizes::Fixed(1024), -1)
        );
        assert_eq!((options.rate, options.idempotence), (None, true));
        assert_eq!(options_of("e2e").rate, Some(10_000));
        assert_eq!(options_of("consume").warmup, Warmup::Messages(0));
    }

    #[test]
    fn every_scenario_is_known_and_has_its_own_options() {
        for (scenario, _) in SCENARIOS {
            assert_eq!(options_of(&scenario.to_string()).scenario, scenario);
        }
        let mixed = options_of("mixed --consume-rate 500 --backlog 7 --keys zipf:9 --size mix");
        assert_eq!(
            (mixed.mixed.consume_rate, mixed.mixed.backlog),
            (Some(500), 7)
        );
        assert_eq!((mixed.keys, mixed.size), (Keys::Zipf(9), Sizes::Mix));
        let sweep = options_of("sweep --p99-max 5 --step-time 2s");
        assert_eq!(sweep.sweep.p99_max, Duration::from_millis(5));
        assert_eq!((sweep.rate, sweep.sweep.refine), (Some(1_000), 3));
        let storm = options_of("storm --metadata --rate 100");
        assert_eq!((storm.storm.metadata, storm.rate), (true, Some(100)));
        let idle = options_of("idle --connections 100000 --time 1m --pid 7");
        assert_eq!((idle.connections, idle.idle.pid), (100_000, Some(7)));
    }

    #[test]
    fn the_rate_0_is_no_rate() {
        assert_eq!(options_of("e2e --rate 0").rate, None);
    }

    #[test]
    fn idempotence_goes_with_acks_all_only() {
        assert!(!options_of("produce --acks 1").idempotence);
        assert!(!options_of("produce --no-idempotence").idempotence);
        assert!(parse_line("produce --in-flight 6").is_err());
        assert_eq!(
            options_of("produce --in-flight 6 --no-idempotence").in_flight,
            6
        );
    }

    #[test]
    fn what_does_not_fit_is_one_line_that_names_the_option() {
        for line in [
            "produce --size 31",
            "produce --messages 0",
            "produce --acks 2",
            "e2e --warmup soon",
            "consume --rate 5",
            "e2e --partitions -1",
            "e2e --connections 0",
            "e2e --size 10..50",
            "e2e --keys zipf:0",
            "e2e --entropy 1.5",
            "e2e --compression-level 3",
            "produce --compression-level 23 --compression zstd",
            "sweep --messages 5",
            "sweep --warmup 5",
            "sweep --rate 0",
            "sweep --max-rate 10",
            "sweep --rate-factor 1",
            "sweep --step-time 0",
            "mixed --consume-rate x",
            "storm --size 5",
            "storm --connects 0",
            "idle --connections 2000000",
            "idle --pid x",
        ] {
            let reason = parse_line(line).expect_err(line);
            let option = line.split_whitespace().nth(1).unwrap_or_default();
            assert!(
                reason.contains(option) && !reason.contains('\n'),
                "{reason}"
            );
        }
    }

    #[test]
    fn a_comparison_has_files() {
        let asked = parse_line("compare a.json b.json --html page.html").unwrap();
        let Command::Compare { files, html } = asked else {
            panic!("no comparison: {asked:?}");
        };
        assert_eq!(files, [PathBuf::from("a.json"), PathBuf::from("b.json")]);
        assert_eq!(html, Some(PathBuf::from("page.html")));
        assert!(parse_line("compare").is_err());
    }

    #[test]
    fn the_machine_is_looked_at_unless_that_is_not_wanted() {
        assert!(options_of("produce").output.box_check);
        assert!(!options_of("produce --no-box-check").output.box_check);
    }

    #[test]
    fn without_a_scenario_there_is_help() {
        assert!(matches!(parse_line(""), Ok(Command::Print(text)) if text.contains("e2e")));
    }
}
