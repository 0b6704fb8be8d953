//! The command line: what is asked for, and what the process says when it ends.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::{Display, Write as _};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches};

use crate::options::{self, Options, Scenario};
use crate::{report, scenario};

/// The run failed, or what it read back is not what was sent.
const EXIT_FAILURE: u8 = 1;
/// The command line is wrong.
const EXIT_USAGE: u8 = 2;
/// `e2e` without a rate: for the default of 100000 messages, ten seconds.
const E2E_RATE: &str = "10000";

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    Run(Box<Options>),
    /// Write this text to standard output: help, version.
    Print(String),
}

/// The whole program. Exit codes: 0; 1 when the run failed or found a fault; 2 for errors of usage.
pub fn main() -> ExitCode {
    match parse(std::env::args_os()) {
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Run(options)) => run(&options),
        Err(reason) => complain(&reason, EXIT_USAGE),
    }
}

fn run(options: &Options) -> ExitCode {
    let report = match scenario::run(options) {
        Ok(report) => report,
        Err(error) => return complain(&with_causes(&error), EXIT_FAILURE),
    };
    let printed = print(&report.to_string());
    if let Some(path) = &options.json
        && let Err(error) = report::write_json(path, options, &report)
    {
        return complain(&format!("{}: {error}", path.display()), EXIT_FAILURE);
    }
    match report.verdict() {
        Ok(()) => printed,
        Err(fault) => complain(&fault, EXIT_FAILURE),
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
    match matches.subcommand() {
        Some(("produce", matches)) => asked(Scenario::Produce, matches),
        Some(("consume", matches)) => asked(Scenario::Consume, matches),
        Some((_, matches)) => asked(Scenario::E2e, matches),
        None => Ok(Command::Print(command().render_help().to_string())),
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
    let asked = Options {
        scenario,
        bootstrap: value(matches, "bootstrap", options::addresses)?.unwrap_or_default(),
        topic: matches.get_one::<String>("topic").cloned(),
        partitions: value(matches, "partitions", parsed)?,
        messages: value(matches, "messages", options::number)?.unwrap_or_default(),
        size: value(matches, "size", options::bytes)?.unwrap_or_default(),
        acks,
        compression: value(matches, "compression", options::compression)?.unwrap_or_default(),
        batch_bytes: value(matches, "batch-bytes", options::bytes)?.unwrap_or_default(),
        linger: required_time(matches, "linger")?,
        in_flight: value(matches, "in-flight", parsed)?.unwrap_or_default(),
        connections: value(matches, "connections", parsed)?.unwrap_or_default(),
        rate: value(matches, "rate", options::number)?.filter(|rate| *rate > 0),
        warmup: value(matches, "warmup", options::warmup)?.unwrap_or(options::Warmup::Messages(0)),
        // Kafka's producer does not offer it below acks=all.
        idempotence: acks == -1 && !flag("no-idempotence"),
        verify: !flag("no-verify"),
        delivery_timeout: required_time(matches, "delivery-timeout")?,
        request_timeout: required_time(matches, "request-timeout")?,
        json: matches.get_one::<PathBuf>("json").cloned(),
    };
    asked.check()?;
    Ok(Command::Run(Box::new(asked)))
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

/// An option with a value: name, placeholder, default, meaning.
type Row = (
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static str,
);

const ROWS: &[Row] = &[
    (
        "bootstrap",
        "HOST:PORT,..",
        Some("127.0.0.1:9092"),
        "Brokers to ask first",
    ),
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
        "messages",
        "N",
        Some("100000"),
        "Messages that are measured",
    ),
    ("size", "BYTES", Some("1KiB"), "Size of a message's value"),
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
        "connections",
        "N",
        Some("1"),
        "Connections to each broker, of producers and of consumers each",
    ),
    (
        "delivery-timeout",
        "TIME",
        Some("2m"),
        "The run fails when a message is not acknowledged for so long",
    ),
    (
        "request-timeout",
        "TIME",
        Some("30s"),
        "An answer that takes longer is given up",
    ),
];

const LOAD_ROWS: &[Row] = &[(
    "warmup",
    "N|TIME",
    Some("0"),
    "Messages, or a time, that come before what is measured",
)];

/// The grammar.
fn command() -> clap::Command {
    let no_verify = Arg::new("no-verify")
        .long("no-verify")
        .action(ArgAction::SetTrue)
        .help("Do not read back what was sent");
    clap::Command::new("tidegate-loadgen")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A load generator for Kafka brokers, which checks what it measures")
        .after_help(AFTER_HELP)
        .subcommand(
            with_options(clap::Command::new("produce"), Some("0"))
                .about("Measure sending: throughput, and the time until it is acknowledged")
                .arg(no_verify),
        )
        .subcommand(
            with_options(clap::Command::new("consume"), None)
                .about("Measure reading a topic to its end; without --topic, one is filled first"),
        )
        .subcommand(
            with_options(clap::Command::new("e2e"), Some(E2E_RATE))
                .about("Measure from the time a message is to be sent until a consumer has it"),
        )
}

const AFTER_HELP: &str = "\
With --rate, messages have times at which they are to be sent, fixed at the start, and latency counts
from these; --rate 0 sends as fast as the broker takes them, and latency counts from the hand-over.
Sizes: 4096, 64KiB, 1MiB. Times: milliseconds, or 500us, 5ms, 30s, 10m.
Exit codes: 0; 1 when the run failed or messages were lost, doubled or reordered; 2 for wrong usage.";

/// `rate`: the default, for a scenario that has one.
fn with_options(command: clap::Command, rate: Option<&'static str>) -> clap::Command {
    const RATE: &str =
        "Messages a second, of all connections together; 0: as fast as they are taken";
    let rate_row = rate.map(|rate| ("rate", "N", Some(rate), RATE));
    let load = LOAD_ROWS.iter().copied().filter(|_| rate.is_some());
    let rows = ROWS.iter().copied().chain(load).chain(rate_row);
    let no_idempotence = Arg::new("no-idempotence")
        .long("no-idempotence")
        .action(ArgAction::SetTrue)
        .help("Do not number batches: a retry may double or reorder messages, and --in-flight may exceed 5");
    let json = Arg::new("json")
        .long("json")
        .value_name("FILE")
        .value_parser(ValueParser::path_buf())
        .help("Write all figures, options and the environment to this file");
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
        .arg(no_idempotence)
        .arg(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Warmup;

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
            (100_000, 1024, -1)
        );
        assert_eq!((options.rate, options.idempotence), (None, true));
        assert_eq!(options_of("e2e").rate, Some(10_000));
        assert_eq!(options_of("consume").warmup, Warmup::Messages(0));
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
    fn without_a_scenario_there_is_help() {
        assert!(matches!(parse_line(""), Ok(Command::Print(text)) if text.contains("e2e")));
    }
}
