//! The programs that are compared: started, stopped, and what is known of each.

mod kafka;
mod site;
mod weed;

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use self::site::Site;
use crate::client::Target;
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
    /// Its topics are in SeaweedFS, in a cluster of its own: acknowledges what is committed there.
    TidegateSeaweedMq,
    Kafka,
    /// SeaweedFS's own gateway on its own cluster: acknowledges from the broker's memory.
    GoGateway,
    /// A bare loop that acknowledges from the page cache.
    Floor,
    /// The same, with a sync for each request.
    FloorSync,
    /// No server: an append of 4 KiB with its sync, at the times at which a request would be sent.
    RawSync,
    /// No gateway: an upload of 4 KiB to SeaweedFS with the transaction that makes it a file's, likewise.
    RawCommit,
}

impl Kind {
    pub const ALL: [Kind; 9] = [
        Kind::TidegateOs,
        Kind::TidegateDurable,
        Kind::TidegateSeaweedMq,
        Kind::Kafka,
        Kind::GoGateway,
        Kind::Floor,
        Kind::FloorSync,
        Kind::RawSync,
        Kind::RawCommit,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::TidegateOs => "tidegate-os",
            Kind::TidegateDurable => "tidegate-durable",
            Kind::TidegateSeaweedMq => "tidegate-seaweedmq",
            Kind::Kafka => "kafka",
            Kind::GoGateway => "go-gateway",
            Kind::Floor => "floor",
            Kind::FloorSync => "floor-sync",
            Kind::RawSync => "raw-sync",
            Kind::RawCommit => "raw-commit",
        }
    }

    /// What is behind an acknowledgement.
    pub fn promise(self) -> &'static str {
        match self {
            Kind::TidegateOs | Kind::Kafka | Kind::Floor => "page cache",
            Kind::GoGateway => "broker's memory",
            Kind::TidegateSeaweedMq | Kind::RawCommit => "SeaweedFS",
            Kind::TidegateDurable | Kind::FloorSync | Kind::RawSync => "disk",
        }
    }

    pub fn is_tidegate(self) -> bool {
        self.is_local_tidegate() || self == Kind::TidegateSeaweedMq
    }

    /// One that stores everything itself.
    pub fn is_local_tidegate(self) -> bool {
        matches!(self, Kind::TidegateOs | Kind::TidegateDurable)
    }

    /// It has a cluster of SeaweedFS.
    pub fn needs_weed(self) -> bool {
        matches!(
            self,
            Kind::TidegateSeaweedMq | Kind::GoGateway | Kind::RawCommit
        )
    }

    /// No server is asked, but what is below one is done at the times at which a request would be sent.
    pub fn is_raw(self) -> bool {
        matches!(self, Kind::RawSync | Kind::RawCommit)
    }

    /// It serves clients with all that they need; the others only take what producers send.
    pub fn is_broker(self) -> bool {
        self.is_tidegate() || matches!(self, Kind::Kafka | Kind::GoGateway)
    }

    /// It forgets acknowledged records when it ends, or finds them under other offsets afterwards.
    pub fn is_forgetful(self) -> bool {
        self == Kind::GoGateway
    }
}

/// One peer. Killed when dropped.
pub struct Peer {
    pub kind: Kind,
    pub address: SocketAddr,
    /// For Tidegate's command line.
    options: Vec<String>,
    dir: PathBuf,
    /// In the order in which they were started.
    children: Vec<Child>,
}

impl Peer {
    /// Starts a peer with nothing stored yet.
    pub fn start(kind: Kind, site: &Site) -> io::Result<Peer> {
        Self::start_with(kind, site, &[])
    }

    /// As [`Peer::start`]; Tidegate gets `options` on its command line.
    pub fn start_with(kind: Kind, site: &Site, options: &[&str]) -> io::Result<Peer> {
        let dir = site.work.join(kind.name());
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let others: &[u16] = match kind {
            Kind::Kafka => &kafka::OTHER_PORTS,
            _ if kind.needs_weed() => &weed::OTHER_PORTS,
            _ => &[],
        };
        let mut peer = Peer {
            kind,
            address: free_address(others)?,
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            dir,
            children: Vec::new(),
        };
        if kind == Kind::Kafka {
            kafka::prepare(site, &peer.dir, peer.address)?;
        }
        peer.start_again(site)?;
        Ok(peer)
    }

    /// Where a load for this peer goes.
    pub fn target(&self) -> Target {
        match self.kind {
            Kind::GoGateway => Target::old(self.address),
            _ => Target::new(self.address),
        }
    }

    /// Ends it as an operator would, and starts it again on what it stored.
    pub fn restart(&mut self, site: &Site) -> io::Result<Duration> {
        self.stop()?;
        self.start_again(site)
    }

    /// `kill -9`, and a start on what it stored.
    pub fn kill_and_restart(&mut self, site: &Site) -> io::Result<Duration> {
        self.kill()?;
        self.start_again(site)
    }

    /// How long it took until it answered.
    fn start_again(&mut self, site: &Site) -> io::Result<Duration> {
        let began = Instant::now();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))?;
        let cluster = weed::Cluster {
            site,
            dir: &self.dir,
            address: self.address,
            log: &log,
        };
        if self.kind.needs_weed() {
            cluster.start(&mut self.children)?;
        }
        match self.kind {
            Kind::RawSync | Kind::RawCommit => return Ok(began.elapsed()),
            Kind::GoGateway => cluster.start_gateway(&mut self.children)?,
            Kind::Floor | Kind::FloorSync => {
                let (child, address) = start_floor(self.kind, &self.dir)?;
                self.children.push(child);
                self.address = address;
            }
            _ => {
                let mut command = match self.kind {
                    Kind::Kafka => kafka::command(site, &self.dir),
                    _ => self.tidegate(site),
                };
                self.children.push(spawn(&mut command, &log)?);
            }
        }
        self.wait_until_it_answers()?;
        Ok(began.elapsed())
    }

    fn tidegate(&self, site: &Site) -> Command {
        let flush = match self.kind {
            Kind::TidegateOs => "os",
            _ => "durable",
        };
        let mut command = Command::new(&site.tidegate);
        command
            .args(["--listen", &self.address.to_string(), "--admin", "off"])
            .args(["--flush", flush])
            .arg("--data-dir")
            .arg(self.dir.join("gateway"))
            .args(&self.options);
        if self.kind == Kind::TidegateSeaweedMq {
            let master = self.master().to_string();
            command.args(["--store", "seaweedmq", "--seaweedfs-masters", &master]);
        }
        command
    }

    /// Where the master of its SeaweedFS is.
    pub fn master(&self) -> SocketAddr {
        weed::master(self.address)
    }

    fn stop(&mut self) -> io::Result<()> {
        // Who was started last needs the others to stop.
        for mut child in self.children.drain(..).rev() {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
            let began = Instant::now();
            while child.try_wait()?.is_none() {
                if began.elapsed() > STOP_PATIENCE {
                    child.kill()?;
                    child.wait()?;
                    let name = self.kind.name();
                    return Err(io::Error::other(format!("{name} does not stop")));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    fn kill(&mut self) -> io::Result<()> {
        for mut child in self.children.drain(..).rev() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn wait_until_it_answers(&mut self) -> io::Result<()> {
        let ended = |child: &mut Child| matches!(child.try_wait(), Ok(Some(_)));
        wait_for(self.address, || self.children.iter_mut().any(ended))
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.kind.name())))
    }

    /// Of all of its processes so far, user and system.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        let of = |child: &Child| process::cpu_seconds(child.id());
        self.children.iter().map(of).sum()
    }

    /// Of all of its processes.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let of = |child: &Child| process::resident_bytes(child.id());
        self.children.iter().map(of).sum()
    }

    /// Of all of its processes.
    pub fn open_files(&self) -> io::Result<usize> {
        let of = |child: &Child| process::open_files(child.id());
        self.children.iter().map(of).sum()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself; what it stored is of no more use.
        let _ = self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn spawn(command: &mut Command, log: &std::fs::File) -> io::Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.try_clone()?)
        .spawn()
}

/// Waits until somebody listens there, or `is_over` says that nobody will.
fn wait_for(address: SocketAddr, mut is_over: impl FnMut() -> bool) -> io::Result<()> {
    let began = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) if began.elapsed() > START_PATIENCE => return Err(error),
            Err(_) if is_over() => return Err(io::Error::other("it ended instead of serving")),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// A free port of this host, such that those behind it by `others` are free too. It is below those that
/// the kernel gives to connections, which might take it while a peer is restarted.
fn free_address(others: &[u16]) -> io::Result<SocketAddr> {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    // Each process begins elsewhere, and goes on from where it was.
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    for _ in 0..1000 {
        let step = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let port = 10_000 + ((std::process::id() * 37 + step) % 600 * 20) as u16;
        if is_free(port) && others.iter().all(|other| is_free(port + other)) {
            return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
        }
    }
    Err(io::Error::other("no free ports"))
}

fn start_floor(kind: Kind, dir: &Path) -> io::Result<(Child, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("floor").arg(dir);
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
    Ok((child, address))
}
