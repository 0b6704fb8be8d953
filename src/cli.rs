//! The command line: what is asked for, and what the process says when it ends.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches};

use crate::config::{
    self, Config, DEFAULT_PORT, Form, Given, Host, HostPort, OPTIONS, Origin, Resolved, UsageError,
};
use crate::{check, dump, import_offsets, logging, metrics};

/// Names the TOML file. It is no option of the table, as the file cannot name itself.
const CONFIG_ENV: &str = "TIDEGATE_CONFIG";
/// Far above any sensible file.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The command line or the configuration is wrong.
const EXIT_USAGE: u8 = 2;

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Serve Kafka clients.
    Serve(Box<Resolved>),
    /// Write this text to standard output: help, version, configuration.
    Print(String),
    /// Tell what this host offers; as JSON if so asked.
    Check { resolved: Box<Resolved>, json: bool },
    /// Show what a segment file holds.
    Dump(PathBuf),
    /// Commit what SeaweedFS's Kafka gateway kept to the gateway at an address.
    ImportOffsets {
        resolved: Box<Resolved>,
        gateway: HostPort,
        dry_run: bool,
    },
}

/// The whole program but for the server: reads the command line, prints or calls `serve`, and says
/// what went wrong. Exit codes: 0; 1 for failures at run time; 2 for errors of usage, with one line
/// on standard error.
pub fn main<E: Error>(serve: impl FnOnce(Config) -> Result<(), E>) -> ExitCode {
    logging::install_panic_hook();
    match parse(
        std::env::args_os(),
        std::env::vars_os(),
        &this_host(),
        read_file,
    ) {
        Ok(Command::Print(text)) => print(&text, &mut io::stdout().lock()),
        Ok(Command::Check { resolved, json }) => check_host(&resolved, json),
        Ok(Command::Dump(path)) => dump_to(&path, io::BufWriter::new(io::stdout().lock())),
        Ok(Command::ImportOffsets {
            resolved,
            gateway,
            dry_run,
        }) => {
            let mut out = io::stdout().lock();
            match import_offsets::run(&resolved.config, &gateway, dry_run, &mut out) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => complain(&error, 1),
            }
        }
        Ok(Command::Serve(resolved)) => run(*resolved, serve),
        Err(error) => complain(&error, EXIT_USAGE),
    }
}

fn run<E: Error>(resolved: Resolved, serve: impl FnOnce(Config) -> Result<(), E>) -> ExitCode {
    let warnings = resolved.warnings();
    let config = resolved.config;
    if let Err(error) = logging::init(&config.log, config.log_format) {
        return complain(&error, 1);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// One line on standard error. If that cannot be written, the exit code has to do.
fn complain(error: &dyn Error, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "tidegate: {}", with_causes(error));
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

fn print(text: &str, out: &mut impl Write) -> ExitCode {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader such as `head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => complain(&error, 1),
    }
}

fn check_host(resolved: &Resolved, json: bool) -> ExitCode {
    let report = check::check(resolved);
    let text = match json {
        true => report.to_json(),
        false => report.to_string(),
    };
    match print(&text, &mut io::stdout().lock()) {
        ExitCode::SUCCESS if !report.ok => ExitCode::FAILURE,
        code => code,
    }
}

fn dump_to(path: &Path, mut out: impl Write) -> ExitCode {
    let dumped = dump::dump(path, &mut out);
    match (dumped, out.flush()) {
        (Ok(()), Ok(())) => ExitCode::SUCCESS,
        // A reader such as `head` has seen enough.
        (Err(dump::DumpError::Output(error)), _) | (Ok(()), Err(error))
            if error.kind() == io::ErrorKind::BrokenPipe =>
        {
            ExitCode::SUCCESS
        }
        (Err(error), _) => complain(&error, 1),
        (Ok(()), Err(error)) => complain(&error, 1),
    }
}

fn this_host() -> Host {
    Host {
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        name: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
    }
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!(
            "larger than {MAX_FILE_BYTES} bytes"
        )));
    }
    Ok(text)
}

/// Reads the command line (`args` begins with the program's name), the environment and, by
/// `read_file`, the TOML file that they name.
///
/// # Errors
/// Anything that is not known or does not fit.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    host: &Host,
    read_file: impl FnOnce(&Path) -> io::Result<String>,
) -> Result<Command, UsageError> {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Command::Print(error.render().to_string())),
        Err(error) => return Err(usage_error(&error)),
    };
    match matches.subcommand() {
        Some(("config", matches)) if matches.get_flag("markdown") => {
            Ok(Command::Print(config::reference()))
        }
        Some(("config", matches)) => Ok(Command::Print(
            resolve(matches, env, host, read_file)?.to_toml(),
        )),
        Some(("check", matches)) => Ok(Command::Check {
            json: matches.get_flag("json"),
            resolved: resolve(matches, env, host, read_file)?.into(),
        }),
        Some(("metrics", _)) => Ok(Command::Print(metrics::table::reference())),
        Some(("dump", matches)) => {
            let file = matches
                .get_one::<OsString>("file")
                .cloned()
                .unwrap_or_default();
            Ok(Command::Dump(file.into()))
        }
        Some(("import-offsets", matches)) => {
            let resolved = resolve(matches, env, host, read_file)?;
            Ok(Command::ImportOffsets {
                gateway: gateway_of(matches, &resolved.config)?,
                dry_run: matches.get_flag("dry-run"),
                resolved: resolved.into(),
            })
        }
        Some((_, matches)) => Ok(Command::Serve(
            resolve(matches, env, host, read_file)?.into(),
        )),
        None => Ok(Command::Serve(
            resolve(&matches, env, host, read_file)?.into(),
        )),
    }
}

/// The gateway to ask: the one named, or the one with this configuration.
fn gateway_of(matches: &ArgMatches, config: &Config) -> Result<HostPort, UsageError> {
    let refuse = |text| UsageError::CommandLine(format!("--gateway: {text}"));
    match matches.get_one::<OsString>("gateway") {
        Some(given) => HostPort::parse(&given.to_string_lossy(), DEFAULT_PORT).map_err(refuse),
        None => {
            let listens = config.listen.first().cloned();
            listens.ok_or_else(|| refuse("it is not told where the gateway listens".to_owned()))
        }
    }
}

/// Flags, then environment, then file.
fn resolve(
    matches: &ArgMatches,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    host: &Host,
    read_file: impl FnOnce(&Path) -> io::Result<String>,
) -> Result<Resolved, UsageError> {
    let env: Vec<(OsString, OsString)> = env.into_iter().collect();
    let mut given = flag_layer(matches)?;
    let named_by_env = env
        .iter()
        .find(|(name, _)| name == CONFIG_ENV)
        .map(|(_, path)| path);
    let path = matches
        .get_one::<OsString>("config")
        .or(named_by_env)
        .cloned();
    given.extend(config::env_layer(env, &[CONFIG_ENV])?);
    if let Some(path) = path {
        let name = path.to_string_lossy();
        let text = read_file(Path::new(&path)).map_err(|error| UsageError::File {
            file: config::quote(&name),
            reason: error.to_string(),
        })?;
        given.extend(config::file_layer(&name, &text)?);
    }
    config::resolve(&given, host)
}

fn flag_layer(matches: &ArgMatches) -> Result<Vec<Given>, UsageError> {
    let mut given = Vec::new();
    for opt in OPTIONS {
        let Some(values) = matches.get_many::<OsString>(opt.key) else {
            continue;
        };
        // Only lists may be repeated, and they are separated by commas.
        let values: Vec<OsString> = values.cloned().collect();
        given.push(Given::new(
            opt,
            values.join(",".as_ref()),
            Origin::Flag(opt.flag()),
        )?);
    }
    Ok(given)
}

/// The grammar. `serve` is what happens without a command, so its options stand at the root too.
fn command() -> clap::Command {
    let markdown = Arg::new("markdown")
        .long("markdown")
        .action(ArgAction::SetTrue)
        .help("Print the reference of all options as Markdown instead");
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Print it as JSON");
    with_options(clap::Command::new("tidegate"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Kafka-protocol gateway for SeaweedMQ, thread-per-core on io_uring")
        .after_help(AFTER_HELP)
        .args_conflicts_with_subcommands(true)
        .subcommand(
            with_options(clap::Command::new("serve"))
                .about("Serve Kafka clients (what happens without a command)")
                .after_help(AFTER_HELP),
        )
        .subcommand(
            with_options(clap::Command::new("config"))
                .about("Print what is in force, and where each value came from, as TOML")
                .arg(markdown),
        )
        .subcommand(
            with_options(clap::Command::new("check"))
                .about("Tell what this host offers for these options, and how to mend what falls short; exit code 1 if the gateway would not work")
                .arg(json),
        )
        .subcommand(
            with_options(clap::Command::new("import-offsets"))
                .about("Commit the offsets that SeaweedFS's own Kafka gateway kept for groups to a Tidegate that runs on the same SeaweedFS; what is committed there stays")
                .arg(
                    Arg::new("dry-run")
                        .long("dry-run")
                        .action(ArgAction::SetTrue)
                        .help("Only print what would be imported"),
                )
                .arg(
                    Arg::new("gateway")
                        .long("gateway")
                        .value_name("HOST:PORT")
                        .value_parser(ValueParser::os_string())
                        .help("The Tidegate to ask [default: where --listen says]"),
                ),
        )
        .subcommand(
            clap::Command::new("metrics").about("Print the reference of all metrics as Markdown"),
        )
        .subcommand(
            clap::Command::new("dump")
                .about("Show the batches and records of a segment file, and what is wrong with it")
                .arg(
                    Arg::new("file")
                        .value_name("FILE")
                        .value_parser(ValueParser::os_string())
                        .required(true)
                        .help("A .log file below the data directory's topics/"),
                ),
        )
}

const AFTER_HELP: &str = "\
Every option is also a TOML key (--data-dir is data_dir) and an environment variable
(TIDEGATE_DATA_DIR). Flags go before the environment, the environment before the file.
Sizes: 4096, 64KiB, 10MiB, 1GiB. Times: milliseconds, or 500ms, 30s, 10m.";

fn with_options(command: clap::Command) -> clap::Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(ValueParser::os_string())
        .help(format!("TOML file to read [env: {CONFIG_ENV}]"));
    command
        .next_line_help(true)
        .arg(file)
        .args(OPTIONS.iter().map(|opt| {
            let action = match opt.form {
                Form::List(_) => ArgAction::Append,
                _ => ArgAction::Set,
            };
            Arg::new(opt.key)
                .long(opt.flag())
                .value_name(opt.form.placeholder())
                .value_parser(ValueParser::os_string())
                .action(action)
                // So that "-1" gets the same answer as in the file: out of bounds.
                .allow_negative_numbers(true)
                .help(format!(
                    "{} [default: {}]",
                    opt.meaning(),
                    opt.default_text()
                ))
                .help_heading(opt.section)
        }))
}

/// clap's error as one line that names the nearest known word.
fn usage_error(error: &clap::Error) -> UsageError {
    let root = command();
    let given = |kind| match error.get(kind) {
        Some(ContextValue::String(name)) => Some(config::printable(name)),
        _ => None,
    };
    let word = given(ContextKind::InvalidSubcommand).or(given(ContextKind::InvalidArg));
    match (error.kind(), word) {
        (ErrorKind::UnknownArgument, Some(name)) if name.starts_with('-') => {
            let all = std::iter::once(&root).chain(root.get_subcommands());
            let longs = all
                .flat_map(clap::Command::get_arguments)
                .filter_map(Arg::get_long);
            let known = longs.chain(["help", "version"]);
            let nearest = format!("--{}", config::nearest(name.trim_start_matches('-'), known));
            UsageError::UnknownName {
                what: "option",
                name,
                nearest,
            }
        }
        (ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand, Some(name)) => {
            let known = root
                .get_subcommands()
                .map(clap::Command::get_name)
                .chain(["help"]);
            let nearest = config::nearest(&name, known).to_owned();
            UsageError::UnknownName {
                what: "command",
                name,
                nearest,
            }
        }
        _ => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            UsageError::CommandLine(config::printable(line.trim_start_matches("error: ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_with(
        args: &[&str],
        env: &[(&str, &str)],
        file: Option<&str>,
    ) -> Result<Command, String> {
        let args = std::iter::once("tidegate")
            .chain(args.iter().copied())
            .map(OsString::from);
        let env = env.iter().map(|(name, value)| (name.into(), value.into()));
        let host = Host {
            cpus: 4,
            name: "gate".to_owned(),
        };
        let read = |path: &Path| match file {
            Some(text) if path == Path::new("tidegate.toml") => Ok(text.to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        parse(args, env, &host, read).map_err(|error| error.to_string())
    }

    fn config_of(command: Result<Command, String>) -> Config {
        match command {
            Ok(Command::Serve(resolved)) => resolved.config,
            other => panic!("not serve: {other:?}"),
        }
    }

    fn text_of(command: Result<Command, String>) -> String {
        match command {
            Ok(Command::Print(text)) => text,
            other => panic!("not a text: {other:?}"),
        }
    }

    #[test]
    fn serve_is_what_happens_without_a_command() {
        let serve = config_of(parse_with(&["serve", "--num-partitions", "3"], &[], None));
        assert_eq!(serve.num_partitions, 3);
        assert_eq!(
            serve,
            config_of(parse_with(&["--num-partitions", "3"], &[], None))
        );
    }

    #[test]
    fn flags_go_before_environment_before_file_before_default() {
        let file = Some("num_partitions = 2\nbroker_id = 2\nshards = 2");
        let env = [
            ("TIDEGATE_CONFIG", "tidegate.toml"),
            ("TIDEGATE_NUM_PARTITIONS", "3"),
            ("TIDEGATE_BROKER_ID", "3"),
        ];
        let config = config_of(parse_with(&["--num-partitions", "4"], &env, file));
        let expected = (4, 3, 2, 64);
        let actual = (
            config.num_partitions,
            config.broker_id,
            config.shards,
            config.queued_max_requests,
        );
        assert_eq!(actual, expected);
    }

    #[test]
    fn the_flag_names_the_file_before_the_environment_does() {
        let env = [("TIDEGATE_CONFIG", "absent.toml")];
        let flag = ["--config", "tidegate.toml"];
        assert_eq!(
            config_of(parse_with(&flag, &env, Some("shards = 3"))).shards,
            3
        );
        assert_eq!(
            parse_with(&[], &env, Some("shards = 3")).unwrap_err(),
            "\"absent.toml\": entity not found"
        );
    }

    #[test]
    fn listen_may_be_repeated_and_comma_separated() {
        let args = ["--listen", "[::1]:1,localhost:2", "--listen", "127.0.0.1:3"];
        let listen = config_of(parse_with(&args, &[], None)).listen;
        let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["[::1]:1", "localhost:2", "127.0.0.1:3"]);
    }

    #[test]
    fn errors_are_one_line_that_names_the_nearest() {
        let cases: &[(&[&str], &str)] = &[
            (
                &["--flsh", "os"],
                "unknown option --flsh; the nearest is --flush",
            ),
            (
                &["--data_dir", "x"],
                "unknown option --data_dir; the nearest is --data-dir",
            ),
            (
                &["config", "--markdwn"],
                "unknown option --markdwn; the nearest is --markdown",
            ),
            (
                &["--versoin"],
                "unknown option --versoin; the nearest is --version",
            ),
            (&["srve"], "unknown command srve; the nearest is serve"),
            (
                &["help", "confg"],
                "unknown command confg; the nearest is config",
            ),
            (
                &["--flush"],
                "a value is required for '--flush <durable|os>' but none was supplied",
            ),
            (
                &["--flush", "os", "--flush", "os"],
                "the argument '--flush <durable|os>' cannot be used multiple times",
            ),
            (
                &["--flush", "os", "config"],
                "the subcommand 'config' cannot be used with '--flush <durable|os>'",
            ),
            (
                &["--broker-id", "-1"],
                "broker_id (flag --broker-id): \"-1\" is not a whole number",
            ),
        ];
        for (args, expected) in cases {
            assert_eq!(
                parse_with(args, &[], None).unwrap_err(),
                *expected,
                "{args:?}"
            );
        }
    }

    #[test]
    fn a_value_that_is_not_utf8_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        let bad = OsString::from_vec(b"d\xff".to_vec());
        let args = ["tidegate".into(), "--data-dir".into(), bad];
        let host = Host {
            cpus: 1,
            name: "gate".to_owned(),
        };
        let error = parse(args, [], &host, read_file).unwrap_err();
        assert_eq!(
            error.to_string(),
            "data_dir (flag --data-dir): \"d\u{fffd}\" is not UTF-8"
        );
    }

    #[test]
    fn help_of_serve_shows_every_option_and_its_default() {
        let help = text_of(parse_with(&["help", "serve"], &[], None));
        assert_eq!(help, text_of(parse_with(&["serve", "--help"], &[], None)));
        for opt in OPTIONS {
            assert!(help.contains(&format!("--{} <", opt.flag())), "{}", opt.key);
            assert!(
                help.contains(&format!("[default: {}]", opt.default_text())),
                "{}",
                opt.key
            );
        }
    }

    #[test]
    fn config_prints_what_would_be_served() {
        let env = [("TIDEGATE_FLUSH", "os")];
        let text = text_of(parse_with(&["config", "--shards", "3"], &env, None));
        let file = ["--config", "tidegate.toml"];
        let served = config_of(parse_with(&["--shards", "3"], &env, None));
        assert_eq!(config_of(parse_with(&file, &[], Some(&text))), served);
    }

    #[test]
    fn a_file_too_large_to_be_meant_is_not_read_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_FILE_BYTES + 1).unwrap();
        let error = read_file(file.path()).unwrap_err();
        assert_eq!(error.to_string(), "larger than 1048576 bytes");
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        struct Fails(io::ErrorKind);
        impl Write for Fails {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let code = |kind| format!("{:?}", print("text", &mut Fails(kind)));
        assert_eq!(
            code(io::ErrorKind::BrokenPipe),
            format!("{:?}", ExitCode::SUCCESS)
        );
        assert_eq!(
            code(io::ErrorKind::StorageFull),
            format!("{:?}", ExitCode::FAILURE)
        );
    }
}
