//! What is promised of the configuration: precedence, error texts, bounds, the round trip.

use std::collections::HashSet;
use std::ffi::OsString;

use super::option::Form;
use super::*;

fn host() -> Host {
    Host {
        cpus: 4,
        name: "gate".to_owned(),
    }
}

fn defaults() -> Resolved {
    resolve(&[], &host()).unwrap()
}

fn from_file(text: &str) -> Result<Resolved, String> {
    let given = file_layer("tidegate.toml", text).map_err(|error| error.to_string())?;
    resolve(&given, &host()).map_err(|error| error.to_string())
}

fn from_env(name: &str, value: &str) -> Result<Resolved, String> {
    let env: [(OsString, OsString); 2] =
        [("PATH".into(), "/bin".into()), (name.into(), value.into())];
    let given = env_layer(env, &["TIDEGATE_CONFIG"]).map_err(|error| error.to_string())?;
    resolve(&given, &host()).map_err(|error| error.to_string())
}

#[test]
fn of_times_in_several_units_the_finest_counts_as_in_kafka() {
    let times = |text: &str| {
        let config = from_file(text).unwrap().config;
        let minutes = |time: Duration| time.as_secs() / 60;
        (config.log_retention.map(minutes), minutes(config.log_roll))
    };
    const WEEK: u64 = 7 * 24 * 60;
    assert_eq!(times(""), (Some(WEEK), WEEK));
    let hours = "log_retention_hours = 2\nlog_roll_hours = 3\n";
    assert_eq!(times(hours), (Some(120), 180));
    let minutes = format!("{hours}log_retention_minutes = 7\n");
    assert_eq!(times(&minutes), (Some(7), 180));
    let ms = format!("{minutes}log_retention_ms = \"5m\"\nlog_roll_ms = \"4m\"\n");
    assert_eq!(times(&ms), (Some(5), 4));
    for forever in ["hours", "minutes", "ms"] {
        assert_eq!(times(&format!("log_retention_{forever} = -1")).0, None);
    }
    let largest = format!("log_retention_hours = {I32_MAX}");
    assert_eq!(times(&largest).0, Some(I32_MAX * 60));
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    assert_eq!(from_file(text).unwrap_err(), expected, "{text}");
}

#[test]
fn defaults_are_those_of_kafka_where_it_has_them() {
    let config = defaults().config;
    assert_eq!(
        config.listen,
        [HostPort {
            host: "127.0.0.1".to_owned(),
            port: 9092
        }]
    );
    assert_eq!(config.data_dir, PathBuf::from("./data"));
    assert_eq!(
        (config.store, config.flush, config.pin),
        (Store::Local, Flush::Durable, Pin::Auto)
    );
    assert_eq!(
        (config.shards, config.broker_id, config.cluster_id),
        (4, 1, None)
    );
    assert_eq!(
        (config.num_partitions, config.auto_create_topics_enable),
        (1, true)
    );
    assert_eq!(
        (config.message_max_bytes, config.fetch_max_bytes),
        (1_048_588, 57_671_680)
    );
    assert_eq!(config.socket_request_max_bytes, 104_857_600);
    assert_eq!(config.log_segment_bytes, 1 << 30);
    assert_eq!(config.connections_max_idle, Duration::from_secs(600));
    assert_eq!(config.producer_id_expiration, Duration::from_secs(86_400));
    assert_eq!(
        config.message_timestamp_before_max,
        Duration::from_millis(I64_MAX)
    );
    assert_eq!(
        config.message_timestamp_after_max,
        Duration::from_secs(3_600)
    );
}

#[test]
fn every_row_is_whole() {
    let mut keys = HashSet::new();
    for opt in OPTIONS {
        assert!(keys.insert(opt.key), "{} twice", opt.key);
        assert!(
            opt.doc.ends_with('.') && !opt.doc.contains(['\n', '|']),
            "{}",
            opt.key
        );
        if let Form::Number {
            unit: Unit::Millis, ..
        } = opt.form
        {
            assert!(opt.key.ends_with("_ms"), "{}", opt.key);
        }
    }
}

#[test]
fn both_bounds_of_every_number_hold() {
    for opt in OPTIONS {
        let Form::Number { min, max, .. } = opt.form else {
            continue;
        };
        let line = |number: u64| format!("{} = {number}", opt.key);
        for inside in [min, max] {
            match from_file(&line(inside)) {
                Ok(resolved) => {
                    let mut settings = resolved.settings.iter();
                    let setting = settings.find(|s| s.opt.key == opt.key).unwrap();
                    assert_eq!(
                        setting.value.as_integer(),
                        Some(inside as i64),
                        "{}",
                        opt.key
                    );
                }
                // Within its own bounds, and in conflict with the default of another option.
                Err(error) => assert!(error.contains("must not exceed"), "{error}"),
            }
        }
        let below = format!("{} = -1", opt.key);
        let mut outside = vec![line(max).replace(" = ", " = \"9") + "\""];
        outside.extend(min.checked_sub(1).map(line));
        match opt.doc.contains("; -1:") {
            true => drop(from_file(&below).expect("no limit")),
            false => outside.push(below),
        }
        for line in outside {
            let error = from_file(&line).unwrap_err();
            let known = error.contains("is out of bounds (") || error.contains("\"-1\" is not ");
            assert!(known && error.contains(opt.key), "{error}");
        }
    }
}

#[test]
fn levels_are_those_of_their_codec() {
    for opt in OPTIONS {
        let Form::Level(codec) = opt.form else {
            continue;
        };
        let levels = codec.levels().unwrap();
        let line = |level: i32| format!("{} = {level}", opt.key);
        for level in [levels.least, levels.most, levels.default] {
            let resolved = from_file(&line(level)).unwrap();
            let mut settings = resolved.settings.iter();
            let setting = settings.find(|s| s.opt.key == opt.key).unwrap();
            assert_eq!(setting.value.as_integer(), Some(level.into()));
        }
        for level in [levels.least - 1, levels.most + 1] {
            let error = from_file(&line(level)).unwrap_err();
            assert!(error.contains("is out of bounds ("), "{error}");
        }
    }
    refused(
        "compression_gzip_level = 0",
        "compression_gzip_level (tidegate.toml:1): \"0\" is out of bounds (1 to 9, or -1)",
    );
    refused(
        "compression_lz4_level = 'high'",
        "compression_lz4_level (tidegate.toml:1): \"high\" is not a whole number",
    );
}

#[test]
fn the_first_given_value_counts() {
    let mut given = file_layer("tidegate.toml", "flush = 'durable'").unwrap();
    let env = env_layer([("TIDEGATE_FLUSH".into(), "os".into())], &[]).unwrap();
    given.splice(0..0, env);
    let resolved = resolve(&given, &host()).unwrap();
    assert_eq!(resolved.config.flush, Flush::Os);
    let flush = resolved
        .settings
        .iter()
        .find(|setting| setting.opt.key == "flush")
        .unwrap();
    assert_eq!(
        flush.origin,
        Origin::Environment("TIDEGATE_FLUSH".to_owned())
    );
}

#[test]
fn unknown_names_are_errors_that_name_the_nearest() {
    refused(
        "# comment\n\nflsh = 'os'",
        "tidegate.toml:3: unknown key flsh; the nearest is flush",
    );
    refused(
        "num-partitions = 3",
        "tidegate.toml:1: unknown key num-partitions; the nearest is num_partitions",
    );
    refused(
        "log.segment.bytes = 3",
        "tidegate.toml:1: unknown key log.segment.bytes; the nearest is log_segment_bytes",
    );
    refused(
        "\n[log]\nformat = 'json'",
        "tidegate.toml:2: unknown key log.format; the nearest is log_format",
    );
    assert_eq!(
        from_env("TIDEGATE_FLSH", "os").unwrap_err(),
        "unknown environment variable TIDEGATE_FLSH; the nearest is TIDEGATE_FLUSH"
    );
    assert_eq!(
        from_env("TIDEGATE_CONFG", "x").unwrap_err(),
        "unknown environment variable TIDEGATE_CONFG; the nearest is TIDEGATE_CONFIG"
    );
}

#[test]
fn unknown_words_are_errors_that_name_the_nearest() {
    assert_eq!(
        from_env("TIDEGATE_FLUSH", "").unwrap_err(),
        "flush (environment TIDEGATE_FLUSH): unknown value \"\"; the nearest is os (known: durable, os)"
    );
    refused(
        "shards = 1\nflush = 'durabel'",
        "flush (tidegate.toml:2): unknown value \"durabel\"; the nearest is durable (known: durable, os)",
    );
    refused(
        "auto_create_topics_enable = 'True'",
        "auto_create_topics_enable (tidegate.toml:1): unknown value \"True\"; the nearest is true \
         (known: true, false)",
    );
    refused(
        "log = 'wran'",
        "log (tidegate.toml:1): unknown level \"wran\"; the nearest is warn \
         (known: error, warn, info, debug, trace, off)",
    );
}

#[test]
fn values_of_a_wrong_type_are_errors() {
    refused(
        "shards = 1.5",
        "shards (tidegate.toml:1): a value of type float is not wanted here",
    );
    refused(
        "shards = [1]",
        "shards (tidegate.toml:1): a value of type array is not wanted here",
    );
    refused(
        "listen = [1]",
        "listen (tidegate.toml:1): an array of strings is wanted",
    );
    refused(
        "shards = true",
        "shards (tidegate.toml:1): \"true\" is not a whole number",
    );
    refused(
        "data_dir = ''",
        "data_dir (tidegate.toml:1): a path cannot be empty",
    );
    refused(
        "cluster_id = 'a b'",
        "cluster_id (tidegate.toml:1): \"a b\" is not an id of at most 64 letters, digits, '-', '_' \
         and '.'",
    );
}

#[test]
fn a_file_that_is_not_toml_is_an_error_with_its_line() {
    let error = from_file("shards = 1\nflush = \n").unwrap_err();
    assert!(error.starts_with("tidegate.toml:2: "), "{error}");
    let error = from_file("shards = 1\nshards = 2\n").unwrap_err();
    assert!(
        error.starts_with("tidegate.toml:2: duplicate key"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1);
}

#[test]
fn long_and_odd_values_are_told_on_one_short_line() {
    let error = from_file(&format!("flush = \"a\\n{}\"", "b".repeat(100_000))).unwrap_err();
    assert!(error.lines().count() == 1 && error.len() < 300, "{error}");
}

#[test]
fn sizes_and_times_take_suffixes() {
    let config = from_file(
        "tail_memory = '3MiB'\nlog_segment_bytes = '1 GiB'\nfetch_max_bytes = '64KiB'\n\
         max_inflated_bytes = 0x100000\nshutdown_timeout_ms = '2m'\nconnections_max_idle_ms = '250ms'\n\
         message_timestamp_after_max_ms = '7s'\nproducer_id_expiration_ms = 1_000",
    )
    .unwrap()
    .config;
    assert_eq!(
        (config.tail_memory, config.log_segment_bytes),
        (3 << 20, 1 << 30)
    );
    assert_eq!(
        (config.fetch_max_bytes, config.max_inflated_bytes),
        (64 << 10, 1 << 20)
    );
    assert_eq!(config.shutdown_timeout, Duration::from_secs(120));
    assert_eq!(config.connections_max_idle, Duration::from_millis(250));
    assert_eq!(config.message_timestamp_after_max, Duration::from_secs(7));
    assert_eq!(config.producer_id_expiration, Duration::from_secs(1));
}

#[test]
fn wrong_sizes_and_times_are_errors() {
    refused(
        "tail_memory = '1MB'",
        "tail_memory (tidegate.toml:1): unknown unit \"MB\"; the nearest is MiB",
    );
    refused(
        "tail_memory = 'much'",
        "tail_memory (tidegate.toml:1): \"much\" is not a size in bytes (4096, 64KiB, 10MiB, 1GiB)",
    );
    refused(
        "tail_memory = '20000000000GiB'",
        "tail_memory (tidegate.toml:1): \"20000000000GiB\" is out of bounds (1MiB to 1024GiB)",
    );
    refused(
        "shutdown_timeout_ms = '61m'",
        "shutdown_timeout_ms (tidegate.toml:1): \"61m\" is out of bounds (0 to 60m)",
    );
    refused(
        "shutdown_timeout_ms = ''",
        "shutdown_timeout_ms (tidegate.toml:1): \"\" is not a time in milliseconds (500, 500ms, 30s, 10m)",
    );
    refused(
        "num_partitions = '1KiB'",
        "num_partitions (tidegate.toml:1): \"KiB\" after the number: no unit is known here",
    );
}

#[test]
fn a_batch_that_is_allowed_has_to_fit_into_a_request() {
    refused(
        "message_max_bytes = '200MiB'",
        "message_max_bytes = 209715200 (tidegate.toml:1) must not exceed \
         socket_request_max_bytes = 104857600 (default)",
    );
    refused(
        "max_uncommitted_bytes = '1MiB'",
        "message_max_bytes = 1048588 (default) must not exceed \
         max_uncommitted_bytes = 1048576 (tidegate.toml:1)",
    );
}

#[test]
fn addresses_of_every_kind_are_understood() {
    let listen = |text: &str| from_env("TIDEGATE_LISTEN", text).unwrap().config.listen;
    let address = |host: &str, port| HostPort {
        host: host.to_owned(),
        port,
    };
    assert_eq!(listen("[::]:9093"), [address("::", 9093)]);
    assert_eq!(listen("localhost:0"), [address("localhost", 0)]);
    assert_eq!(
        listen("::1, 10.0.0.1"),
        [address("::1", 9092), address("10.0.0.1", 9092)]
    );
    assert_eq!(listen("[::1]"), [address("::1", 9092)]);
    let array = from_file("listen = ['[::1]:1', 'a-b.example:2']")
        .unwrap()
        .config
        .listen;
    assert_eq!(array, [address("::1", 1), address("a-b.example", 2)]);
    let socket = address("::1", 9093).socket_addrs().unwrap();
    assert_eq!(socket, ["[::1]:9093".parse().unwrap()]);
}

#[test]
fn wrong_addresses_are_errors() {
    let wrong = [
        "",
        ":9092",
        "a:b",
        "a:+1",
        "a:65536",
        "a:",
        "PLAINTEXT://a:9092",
        "[::1",
        "[::1]9092",
        "[a]:1",
        "1:2:3",
        "a b:1",
    ];
    for text in wrong {
        let expected = format!(
            "listen (environment TIDEGATE_LISTEN): {text:?} is not HOST:PORT (127.0.0.1:9092, [::]:9092)"
        );
        assert_eq!(from_env("TIDEGATE_LISTEN", text).unwrap_err(), expected);
    }
    let twice = from_env("TIDEGATE_LISTEN", "a:9092,a").unwrap_err();
    assert!(twice.ends_with("a:9092 is given twice"), "{twice}");
    let many: Vec<String> = (1..=17).map(|port| format!("a:{port}")).collect();
    let many = from_env("TIDEGATE_LISTEN", &many.join(",")).unwrap_err();
    assert!(many.ends_with("more than 16 addresses"), "{many}");
    for text in ["0.0.0.0:1", "[::]", "a:0"] {
        let error = from_env("TIDEGATE_ADVERTISE", text).unwrap_err();
        assert!(
            error.ends_with("is no address that a client can connect to"),
            "{error}"
        );
    }
}

#[test]
fn clients_are_told_an_address_that_they_can_reach() {
    let cases = [
        ("10.0.0.1:9093", "10.0.0.1:9093", false),
        ("[::1]:9093", "[::1]:9093", false),
        ("127.0.0.1:0", "127.0.0.1:7", false),
        ("0.0.0.0:9093", "gate:9093", true),
        ("127.0.0.1:1,[::]:2", "gate:2", true),
        ("[::]:0", "gate:7", true),
    ];
    for (listen, advertised, warned) in cases {
        let resolved = from_env("TIDEGATE_LISTEN", listen).unwrap();
        let advertise = resolved.config.advertise.with_port(7);
        assert_eq!(advertise.to_string(), advertised, "{listen}");
        assert_eq!(!resolved.warnings().is_empty(), warned, "{listen}");
    }
    let said = from_file("listen = '0.0.0.0:1'\nadvertise = 'kafka.example'").unwrap();
    assert_eq!(
        said.config.advertise.with_port(1).to_string(),
        "kafka.example:1"
    );
    assert_eq!(said.warnings(), Vec::<String>::new());
}

#[test]
fn the_warning_says_what_to_set() {
    let resolved = from_env("TIDEGATE_LISTEN", "0.0.0.0").unwrap();
    assert_eq!(
        resolved.warnings(),
        [
            "listening on 0.0.0.0:9092 without advertise: clients are told to connect to gate:9092; if \
          they cannot reach that name, set advertise (--advertise HOST[:PORT])"
        ]
    );
}

#[test]
fn what_is_printed_reads_back_as_the_same_configuration() {
    let unusual = "listen = ['0.0.0.0:0', '[::1]:9']\ndata_dir = 'a \"b\" \\ #'\ncluster_id = 'c-1'\n\
                   log = 'info,tidegate=debug'\nlog_format = 'json'\npin = 'off'\n\
                   record_validation = 'header'\nauto_create_topics_enable = false\nshards = 9";
    for resolved in [defaults(), from_file(unusual).unwrap()] {
        let text = resolved.to_toml();
        assert_eq!(from_file(&text).unwrap().config, resolved.config, "{text}");
    }
}

#[test]
fn what_is_printed_says_where_each_value_came_from() {
    let mut given = env_layer([("TIDEGATE_FLUSH".into(), "os".into())], &[]).unwrap();
    given.extend(file_layer("a\nb.toml", "\nshards = 2").unwrap());
    let text = resolve(&given, &host()).unwrap().to_toml();
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap();
    let comment = |key: &str| line(key).split_once('#').unwrap().1.trim();
    assert_eq!(comment("flush "), "environment TIDEGATE_FLUSH");
    assert_eq!(comment("shards "), "a\u{fffd}b.toml:2");
    assert_eq!(comment("broker_id "), "default");
    assert_eq!(comment("advertise "), "default: from listen");
    let columns: HashSet<_> = OPTIONS
        .iter()
        .map(|opt| line(opt.key).find('#').unwrap())
        .collect();
    assert_eq!(columns.len(), 1, "{text}");
}

#[test]
fn the_reference_has_a_row_for_every_option() {
    let text = reference();
    for opt in OPTIONS {
        let row = format!("| `{}` | {} |", opt.key, opt.default_text());
        assert_eq!(text.matches(&row).count(), 1, "{}", opt.key);
    }
}
