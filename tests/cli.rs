//! The program as its users meet it: standard output, standard error, exit codes.

use std::path::Path;
use std::process::{Command, Output};

fn tidegate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let outside = std::env::vars_os().map(|(name, _)| name);
    for name in outside.filter(|name| name.to_string_lossy().starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn printed(output: &Output) -> String {
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(0), "")
    );
    text(&output.stdout)
}

#[track_caller]
fn refused(output: &Output, expected: &str) {
    assert_eq!(text(&output.stderr), format!("tidegate: {expected}\n"));
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(2), "")
    );
}

#[test]
fn version_is_the_package_version() {
    let version = printed(&tidegate(&["--version"]).output().unwrap());
    assert_eq!(version, format!("tidegate {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn config_prints_values_of_all_origins() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidegate.toml");
    std::fs::write(&file, "num_partitions = 3\nflush = \"durable\"\n").unwrap();
    let file = file.to_str().unwrap();
    let mut command = tidegate(&["config", "--config", file, "--shards", "2"]);
    let shown = printed(&command.env("TIDEGATE_FLUSH", "os").output().unwrap());
    let words = |key: &str| {
        let line = shown.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(words("shards "), "shards = 2 # flag --shards");
    assert_eq!(
        words("flush "),
        "flush = \"os\" # environment TIDEGATE_FLUSH"
    );
    assert_eq!(
        words("num_partitions "),
        format!("num_partitions = 3 # {file}:1")
    );
    assert_eq!(words("broker_id "), "broker_id = 1 # default");
}

#[test]
fn errors_of_usage_are_one_line_and_exit_code_2() {
    refused(
        &tidegate(&["--flsh", "os"]).output().unwrap(),
        "unknown option --flsh; the nearest is --flush",
    );
    refused(
        &tidegate(&["config"])
            .env("TIDEGATE_SHARD", "1")
            .output()
            .unwrap(),
        "unknown environment variable TIDEGATE_SHARD; the nearest is TIDEGATE_SHARDS",
    );
    refused(
        &tidegate(&["config", "--config", "/nonexistent.toml"])
            .output()
            .unwrap(),
        "\"/nonexistent.toml\": No such file or directory (os error 2)",
    );
}

/// `tidegate metrics > docs/metrics.md` brings the page up to date.
#[test]
fn the_page_of_the_metrics_is_up_to_date() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let shown = printed(&tidegate(&["metrics"]).output().unwrap());
    assert_eq!(shown, std::fs::read_to_string(page).unwrap());
}

/// `tidegate config --markdown > docs/configuration.md` brings the page up to date.
#[test]
fn the_page_of_the_options_is_up_to_date() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let shown = printed(&tidegate(&["config", "--markdown"]).output().unwrap());
    assert_eq!(shown, std::fs::read_to_string(page).unwrap());
}
