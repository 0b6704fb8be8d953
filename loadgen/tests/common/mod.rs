//! A gateway process to measure, and the program that measures it.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use loadgen::client::Cluster;
use loadgen::payload::{Filler, Head};
use tidegate::record::Builder;
use tidegate::wire::produce;

/// Longer than anything here may take; a test that hangs fails instead.
const PATIENCE: Duration = Duration::from_secs(60);

/// The gateway's program. Cargo does not tell a test where another package's program is: it lies one
/// folder above this test's own. `cargo test --workspace` has built it; else it is built here.
fn gateway_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("this test has a path");
        let folder = test
            .parent()
            .and_then(Path::parent)
            .expect("target/<profile>");
        let program = folder.join("tidegate");
        if !program.exists() {
            build_gateway(folder.ends_with("release"));
        }
        program
    })
}

fn build_gateway(release: bool) {
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "-p", "tidegate", "--bin", "tidegate"])
        .args(release.then_some("--release"))
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let status = build.status().expect("cargo is there");
    assert!(status.success(), "the gateway is built");
}

/// A gateway process with a data folder of its own. Killed when dropped.
pub struct Gateway {
    child: Child,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    options: Vec<String>,
    data: tempfile::TempDir,
}

impl Gateway {
    /// Starts, behind whose port two more were free, and waits until it answers.
    pub fn start(options: &[&str]) -> Gateway {
        // Gateways of tests that run at the same time cannot share the default address.
        Self::start_with(options, None)
    }

    /// As [`Gateway::start`], and can be asked for its metrics.
    pub fn start_with_metrics(options: &[&str]) -> Gateway {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        Self::start_with(options, Some(free.expect("a free port")))
    }

    fn start_with(options: &[&str], admin: Option<SocketAddr>) -> Gateway {
        // On the disk's own file system, not on tmpfs.
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let address = free_ports();
        let mut options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let page = admin.map_or_else(|| "off".to_owned(), |admin| admin.to_string());
        options.extend(["--admin".to_owned(), page]);
        let child = spawn(address, data.path(), &options);
        let mut gateway = Gateway {
            child,
            address,
            admin,
            options,
            data,
        };
        gateway.wait_until_it_answers();
        gateway
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The sum of a metric over all its labels.
    pub fn metric(&self, name: &str) -> u64 {
        let admin = self.admin.expect("a gateway with metrics");
        let mut stream = TcpStream::connect(admin).expect("the admin page");
        let request = "GET /metrics HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("a request");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        let series = page.lines().filter_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix('{')?;
            value.split_whitespace().last()?.parse::<f64>().ok()
        });
        let values: Vec<f64> = series.collect();
        assert!(!values.is_empty(), "no {name} in\n{page}");
        values.iter().sum::<f64>() as u64
    }

    /// Writes the messages of these numbers to a new topic with one partition, each as a batch.
    pub fn write(&self, topic: &str, numbers: &[u64]) {
        let cluster = Cluster::new(vec![self.address.to_string()], PATIENCE);
        cluster.create(topic, 1).expect("a new topic");
        let mut connection = cluster.connect().expect("a connection");
        for number in numbers {
            let mut message = Filler::new(None).take(100);
            let head = Head {
                number: *number,
                ..Head::default()
            };
            head.put(&mut message);
            let mut builder = Builder::new();
            builder.append(0, None, Some(&message), &[]);
            let partition = produce::PartitionProduceData {
                index: 0,
                records: Some(builder.build().into()),
            };
            let request = produce::Request {
                acks: -1,
                timeout_ms: 30_000,
                topic_data: vec![produce::TopicProduceData {
                    name: topic.to_owned().into(),
                    partition_data: vec![partition],
                    ..Default::default()
                }],
                ..Default::default()
            };
            let response: produce::Response = connection
                .call((produce::KEY, 9, 9), &request, PATIENCE)
                .expect("an answer");
            let answer = &response.responses[0].partition_responses[0];
            assert!(answer.error_code.is_ok(), "{answer:?}");
        }
    }

    /// Records of each partition of a topic.
    pub fn sizes(&self, topic: &str) -> Vec<i64> {
        let cluster = Cluster::new(vec![self.address.to_string()], PATIENCE);
        let topic = cluster.topic(topic).expect("a topic");
        cluster.latest(&topic).expect("its ends")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts again, with the same data.
    pub fn start_again(&mut self) {
        self.child = spawn(self.address, self.data.path(), &self.options);
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&mut self) {
        let began = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.try_wait().ok().flatten();
            assert!(
                ended.is_none() && began.elapsed() < PATIENCE,
                "the gateway does not answer ({ended:?}):\n{}",
                std::fs::read_to_string(self.data.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the run's topic has some records.
    pub fn wait_for_records(&self) {
        let began = Instant::now();
        while folder_bytes(&self.data.path().join("data")) < 256 << 10 {
            assert!(began.elapsed() < PATIENCE, "no records are stored");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(address: SocketAddr, data: &Path, options: &[String]) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(data.join("log"));
    Command::new(gateway_program())
        .args(["--listen", &address.to_string(), "--data-dir"])
        .arg(data.join("data"))
        .args(options)
        .env_clear()
        .stdout(Stdio::null())
        .stderr(log.expect("a log file"))
        .spawn()
        .expect("the gateway's program starts")
}

fn free_ports() -> SocketAddr {
    let bind = |port| TcpListener::bind(("127.0.0.1", port));
    for _ in 0..100 {
        let first = bind(0).and_then(|l| l.local_addr()).expect("a free port");
        let behind = (1..=2).map(|n| first.port().checked_add(n).map(bind));
        if behind.into_iter().all(|bound| matches!(bound, Some(Ok(_)))) {
            return first;
        }
    }
    panic!("no three free ports in a row");
}

/// Bytes that files below a folder take on the disk: some are made larger than what is in them.
fn folder_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// A run of the program that goes on.
pub struct Running {
    child: Child,
    out: tempfile::TempDir,
}

/// A run that has ended.
pub struct Run {
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
    /// What `--json` wrote; null if it wrote nothing.
    pub json: serde_json::Value,
}

impl Run {
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {:?}\n{}{}", self.code, self.output, self.errors)
    }
}

/// Runs the program against this gateway, to its end.
pub fn loadgen(gateway: &Gateway, line: &str) -> Run {
    run_at(gateway.address, line)
}

/// Runs the program against this address, to its end.
pub fn run_at(address: SocketAddr, line: &str) -> Run {
    start_at(address, line).finish()
}

/// Starts the program against this gateway.
pub fn start(gateway: &Gateway, line: &str) -> Running {
    start_at(gateway.address, line)
}

fn start_at(address: SocketAddr, line: &str) -> Running {
    let out = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let file = |name| std::fs::File::create(out.path().join(name)).expect("a file");
    let child = Command::new(env!("CARGO_BIN_EXE_tidegate-loadgen"))
        .args(line.split_whitespace())
        .args(["--bootstrap", &address.to_string(), "--json"])
        .arg(out.path().join("json"))
        .stdout(file("output"))
        .stderr(file("errors"))
        .spawn()
        .expect("the program starts");
    Running { child, out }
}

impl Running {
    /// Waits for the end.
    pub fn finish(&mut self) -> Run {
        let began = Instant::now();
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().expect("a child to wait for") {
                break status;
            }
            assert!(began.elapsed() < 2 * PATIENCE, "the run does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let read = |name| std::fs::read_to_string(self.out.path().join(name)).unwrap_or_default();
        Run {
            code: status.code(),
            output: read("output"),
            errors: read("errors"),
            json: serde_json::from_str(&read("json")).unwrap_or_default(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
