//! The programs that are compared: started, stopped, and what is known of each.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process;

/// A JVM with something to recover takes its time.
const START_PATIENCE: Duration = Duration::from_secs(120);
const STOP_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `flush = os`: acknowledges from the page cache, as Kafka does.
    TidegateOs,
    /// `flush = durable`, the default: syncs before it acknowledges.
    TidegateDurable,
    Kafka,
    /// A bare loop that acknowledges from the page cache.
    Floor,
    /// The same, with a sync for each request.
    FloorSync,
}

impl Kind {
    pub const ALL: [Kind; 5] = [
        Kind::TidegateOs,
        Kind::TidegateDurable,
        Kind::Kafka,
        Kind::Floor,
        Kind::FloorSync,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::TidegateOs => "tidegate-os",
            Kind::TidegateDurable => "tidegate-durable",
            Kind::Kafka => "kafka",
            Kind::Floor => "floor",
            Kind::FloorSync => "floor-sync",
        }
    }

    /// It only takes what producers send.
    pub fn is_floor(self) -> bool {
        matches!(self, Kind::Floor | Kind::FloorSync)
    }
}

/// Where the peers' programs are, and where they may write.
pub struct Site {
    pub tidegate: PathBuf,
    /// Jars of Apache Kafka.
    pub kafka_libs: PathBuf,
    /// `bench/kafka`.
    pub kafka_conf: PathBuf,
    pub work: PathBuf,
}

/// One peer. Killed when dropped.
pub struct Peer {
    pub kind: Kind,
    pub address: SocketAddr,
    dir: PathBuf,
    child: Child,
}

impl Peer {
    /// Starts a peer with nothing stored yet.
    pub fn start(kind: Kind, site: &Site) -> io::Result<Peer> {
        let dir = site.work.join(kind.name());
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        if kind.is_floor() {
            return start_floor(kind, dir);
        }
        let address = free_address()?;
        if kind == Kind::Kafka {
            prepare_kafka(site, &dir, address)?;
        }
        let child = command(kind, site, &dir, address)?.spawn()?;
        let peer = Peer {
            kind,
            address,
            dir,
            child,
        };
        peer.wait_until_it_answers().map(|()| peer)
    }

    /// Ends it as an operator would, and starts it again on what it stored.
    pub fn restart(&mut self, site: &Site) -> io::Result<Duration> {
        self.stop()?;
        self.start_again(site)
    }

    /// `kill -9`, and a start on what it stored.
    pub fn kill_and_restart(&mut self, site: &Site) -> io::Result<Duration> {
        self.child.kill()?;
        self.child.wait()?;
        self.start_again(site)
    }

    /// How long it took until it answered.
    fn start_again(&mut self, site: &Site) -> io::Result<Duration> {
        let began = Instant::now();
        self.child = command(self.kind, site, &self.dir, self.address)?.spawn()?;
        self.wait_until_it_answers()?;
        Ok(began.elapsed())
    }

    fn stop(&mut self) -> io::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > STOP_PATIENCE {
                return Err(io::Error::other(format!(
                    "{} does not stop",
                    self.kind.name()
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn wait_until_it_answers(&self) -> io::Result<()> {
        let began = Instant::now();
        loop {
            match TcpStream::connect(self.address) {
                Ok(_) => return Ok(()),
                Err(error) if began.elapsed() > START_PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    pub fn cpu_seconds(&self) -> io::Result<f64> {
        process::cpu_seconds(self.child.id())
    }

    pub fn resident_bytes(&self) -> io::Result<u64> {
        process::resident_bytes(self.child.id())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself; what it stored is of no more use.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A free port whose successor is free too: Kafka takes two.
fn free_address() -> io::Result<SocketAddr> {
    loop {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let next = address.port().checked_add(1);
        if next.is_some_and(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return Ok(address);
        }
    }
}

fn start_floor(kind: Kind, dir: PathBuf) -> io::Result<Peer> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("floor").arg(&dir);
    if kind == Kind::FloorSync {
        command.arg("--sync");
    }
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut port = String::new();
    let out = child
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("no output"))?;
    BufReader::new(out).read_line(&mut port)?;
    let address = port.trim().parse().map_err(io::Error::other)?;
    Ok(Peer {
        kind,
        address,
        dir,
        child,
    })
}

fn command(kind: Kind, site: &Site, dir: &Path, address: SocketAddr) -> io::Result<Command> {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))?;
    let mut command = match kind {
        Kind::Kafka => kafka(site, "kafka.Kafka", "1g"),
        _ => Command::new(&site.tidegate),
    };
    match kind {
        Kind::Kafka => command.arg(dir.join("server.properties")),
        _ => command
            .args(["--listen", &address.to_string(), "--admin", "off"])
            .args([
                "--flush",
                if kind == Kind::TidegateOs {
                    "os"
                } else {
                    "durable"
                },
            ])
            .arg("--data-dir")
            .arg(dir.join("data")),
    };
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    Ok(command)
}

fn kafka(site: &Site, class: &str, heap: &str) -> Command {
    let mut command = Command::new("java");
    let log4j = site.kafka_conf.join("log4j2.yaml");
    command
        .args([format!("-Xms{heap}"), format!("-Xmx{heap}")])
        .arg("-XX:+UseG1GC")
        .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
        .arg("-cp")
        .arg(site.kafka_libs.join("*"))
        .arg(class);
    command
}

/// One KRaft node with replication factor 1, otherwise as it comes.
fn prepare_kafka(site: &Site, dir: &Path, address: SocketAddr) -> io::Result<()> {
    let controller = address.port() + 1;
    let properties = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://{address}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n",
        dir.join("data").display()
    );
    let file = dir.join("server.properties");
    std::fs::write(&file, properties)?;
    let formatted = kafka(site, "kafka.tools.StorageTool", "128m")
        .args(["format", "-t", "dGlkZWdhdGUtYmVuY2htYQ", "-c"])
        .arg(file)
        .stdout(Stdio::null())
        .status()?;
    match formatted.success() {
        true => Ok(()),
        false => Err(io::Error::other("Kafka's storage cannot be formatted")),
    }
}
