//! What a run leaves behind: files that are read back here, as other programs read them.

#[allow(dead_code)] // Each test has its own use of what is common.
mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Gateway, Run, loadgen};
use loadgen::latency::Latency;
use loadgen::report::{Document, Report};

const E2E: &str = "e2e --messages 2000 --rate 4000 --no-box-check";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

/// The report that `--json` wrote, read back.
fn report(run: &Run) -> Report {
    let document = Document::parse(&run.json.to_string());
    document.expect("a report").report
}

/// A file with what `--json` wrote.
fn json(folder: &Path, name: &str, run: &Run) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, run.json.to_string()).expect("a file");
    path
}

fn compare(args: &[&Path]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tidegate-loadgen"));
    program.arg("compare").args(args);
    program.output().expect("the program runs")
}

#[test]
fn the_json_has_the_histogram_of_every_message() {
    let gateway = Gateway::start(&[]);
    let run = loadgen(&gateway, E2E);
    assert!(run.succeeded(), "{run}");
    let report = report(&run);
    let names: Vec<&str> = report
        .latencies
        .iter()
        .map(|times| times.of.as_str())
        .collect();
    assert_eq!(names, ["end to end", "ack", "service", "schedule lag"]);
    for times in &report.latencies {
        let latency = times.decoded().expect("a histogram");
        assert_eq!(latency.count(), times.count);
        assert_eq!(times.count, 2000, "{}", times.of);
        assert_eq!(latency.percentile_ns(99.9), times.p99_9_ns);
        assert_eq!(latency.max_ns(), times.max_ns);
    }
}

#[test]
fn the_json_has_every_message_at_its_time() {
    let gateway = Gateway::start(&[]);
    let run = loadgen(&gateway, &format!("{E2E} --connections 2"));
    assert!(run.succeeded(), "{run}");
    let report = report(&run);
    let titles: Vec<&str> = report
        .series
        .iter()
        .map(|series| series.title.as_str())
        .collect();
    assert_eq!(titles, ["end to end", "ack", "service", "schedule lag"]);
    for series in &report.series {
        let times = report.times(&series.title).expect("a latency of this name");
        assert!(series.is_whole());
        let places: Vec<f64> = series.x.values.iter().copied().flatten().collect();
        assert!(places.is_sorted() && places.len() >= 2, "{places:?}");
        let max = series.column("max").expect("a column").values.iter();
        let max = max.copied().flatten().fold(0.0, f64::max);
        let off = (max - times.max_ns as f64).abs() / times.max_ns as f64;
        assert!(off < 0.02, "{}: {max} is not {}", times.of, times.max_ns);
    }
}

#[test]
fn the_json_says_where_it_was_and_what_the_server_told() {
    let gateway = Gateway::start(&[]);
    let run = loadgen(&gateway, "produce --messages 100");
    assert!(run.succeeded(), "{run}");
    let document = Document::parse(&run.json.to_string()).expect("a report");
    assert!(document.environment.kernel.starts_with("Linux"));
    assert!(document.environment.cores > 0);
    let server = &document.report.server;
    assert_eq!(server.not_told, Vec::<String>::new());
    let apis = server.facts.iter().find(|facts| facts.of == "APIs");
    assert!(apis.is_some_and(|apis| apis.facts.contains_key("Produce versions")));
    let check = document.report.check.expect("the machine was looked at");
    assert!(check.timer.p50_ns > 0 && check.loopback.is_some_and(|floor| floor.p50_ns > 0));
    assert!(run.output.contains("a loopback round trip takes"), "{run}");
}

#[test]
fn hgrm_is_the_histogram_of_the_run() {
    let (gateway, folder) = (Gateway::start(&[]), folder());
    let path = folder.path().join("run.hgrm");
    let run = loadgen(&gateway, &format!("{E2E} --hgrm {}", path.display()));
    assert!(run.succeeded(), "{run}");
    let report = report(&run);
    for (file, of) in [("run.hgrm", "end to end"), ("run-ack.hgrm", "ack")] {
        let text = std::fs::read_to_string(folder.path().join(file)).expect(file);
        let times = report.times(of).expect(of);
        check_hgrm(&text, &times.decoded().expect("a histogram"));
    }
}

/// Values are those of their percentiles, counts go up to all.
fn check_hgrm(text: &str, latency: &Latency) {
    let mut rows = 0;
    let mut last_count = 0;
    for line in text.lines().skip(2).filter(|line| !line.starts_with('#')) {
        let cells: Vec<f64> = line
            .split_whitespace()
            .map(|cell| cell.parse().unwrap())
            .collect();
        // What a percentile is exactly at the border of two values depends on the last bit.
        let near = |by: f64| latency.percentile_ns(cells[1] * 100.0 + by) as f64 / 1e6;
        let (low, high) = (near(-1e-6) * 0.999 - 0.001, near(1e-6) * 1.001 + 0.001);
        assert!((low..=high).contains(&cells[0]), "{line}: {low} to {high}");
        last_count = cells[2] as u64;
        rows += 1;
    }
    assert!(rows > 20, "{text}");
    assert_eq!(last_count, latency.count());
}

#[test]
fn two_runs_are_compared() {
    let (gateway, folder) = (Gateway::start(&[]), folder());
    let [first, second] = [("first.json", "10ms"), ("second.json", "0")].map(|(name, linger)| {
        let run = loadgen(&gateway, &format!("{E2E} --linger {linger}"));
        assert!(run.succeeded(), "{run}");
        json(folder.path(), name, &run)
    });
    let page = folder.path().join("page.html");
    let output = compare(&[&first, &second, Path::new("--html"), &page]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    for line in [
        "differs: linger_seconds: 0.01 | 0.0",
        "end to end, ms",
        "schedule lag, ms",
    ] {
        assert!(text.contains(line), "{text}");
    }
    // Each table: a heading, the first run, and the second one with a ratio for each figure.
    let ratios = text
        .lines()
        .filter(|line| line.starts_with("second ") && line.contains('×'));
    assert_eq!(ratios.count(), 5, "{text}");
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.contains("End to end: latency by percentile")
    );
}

#[test]
fn a_sweep_is_a_table_and_lines() {
    let (gateway, folder) = (Gateway::start(&[]), folder());
    let path = folder.path().join("page.html");
    let sweep = "sweep --step-time 200ms --warmup 0ms --rate 500 --rate-factor 2 --max-rate 1000";
    let sweep = format!(
        "{sweep} --p99-max 10m --no-box-check --html {}",
        path.display()
    );
    let run = loadgen(&gateway, &sweep);
    assert!(run.succeeded(), "{run}");
    let report = report(&run);
    assert_eq!(report.tables[0].rows, ["500", "1000"]);
    assert_eq!(report.tables[0].remarks, ["held", "held"]);
    assert_eq!(report.series[0].x.values, [Some(500.0), Some(1000.0)]);
    let page = std::fs::read_to_string(path).expect("a page");
    assert!(page.contains("Sweep by offered rate") && page.contains("offered rate, /s"));
}

#[test]
fn what_is_no_report_is_not_compared() {
    let folder = folder();
    let text = folder.path().join("text");
    std::fs::write(&text, "       Value     Percentile\n").expect("a file");
    let bytes = folder.path().join("bytes");
    std::fs::write(&bytes, [0, 159, 146, 150]).expect("a file");
    let missing = folder.path().join("missing");
    for (path, reason) in [
        (&text, "is no report of tidegate-loadgen"),
        (&bytes, "is no report of tidegate-loadgen"),
        (&missing, "cannot be read: No such file"),
    ] {
        let output = compare(&[path]);
        let errors = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(reason), "{errors}");
        assert!(errors.contains(&path.display().to_string()) && errors.lines().count() == 1);
    }
}

#[test]
fn a_page_of_a_run_has_its_figures() {
    let (gateway, folder) = (Gateway::start(&[]), folder());
    let path = folder.path().join("page.html");
    let run = loadgen(&gateway, &format!("{E2E} --html {}", path.display()));
    assert!(run.succeeded(), "{run}");
    let page = std::fs::read_to_string(path).expect("a page");
    let report = report(&run);
    assert!(page.contains(&report.topic));
    assert!(page.contains("2000 messages read: 0 lost"));
    assert_eq!(
        page.matches("<figure").count(),
        9,
        "percentiles, and two for each latency"
    );
}

#[test]
fn metrics_that_are_not_there_are_an_error_before_the_run() {
    let gateway = Gateway::start(&[]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = listener.local_addr().expect("an address");
    drop(listener);
    let run = loadgen(
        &gateway,
        &format!("produce --messages 10 --metrics {nobody}"),
    );
    assert_eq!(run.code, Some(1), "{run}");
    assert!(
        run.errors.contains("--metrics: Connection refused"),
        "{run}"
    );
    assert_eq!(run.output, "");
}

#[test]
fn a_file_that_cannot_be_written_is_an_error() {
    let gateway = Gateway::start(&[]);
    let run = loadgen(
        &gateway,
        "produce --messages 10 --no-box-check --html /nowhere/page.html",
    );
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.errors.contains("/nowhere/page.html"), "{run}");
    assert!(
        run.output.contains("throughput"),
        "the text is there: {run}"
    );
}
