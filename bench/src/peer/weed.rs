//! SeaweedFS: a cluster of `weed server` (master, volumes, filer) and one broker, and its Go gateway. All
//! of a peer's are the peer: their CPU time and memory count together with its gateway's.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::client::Client;

use super::{START_PATIENCE, Site, spawn, wait_for};

/// Counted from the one for clients: the broker's, the master's, the volume server's, the filer's, and
/// 10000 above each of the last three that of its gRPC.
pub const OTHER_PORTS: [u16; 7] = [BROKER, MASTER, VOLUME, FILER, 10_002, 10_003, 10_004];
const BROKER: u16 = 1;
const MASTER: u16 = 2;
const VOLUME: u16 = 3;
const FILER: u16 = 4;

/// Where the master is of the cluster behind the gateway at `address`.
pub fn master(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port() + MASTER)
}

/// A cluster behind a gateway.
pub struct Cluster<'a> {
    pub site: &'a Site,
    /// What it stores is below.
    pub dir: &'a Path,
    /// The gateway's.
    pub address: SocketAddr,
    pub log: &'a File,
}

impl Cluster<'_> {
    fn at(&self, offset: u16) -> SocketAddr {
        SocketAddr::new(self.address.ip(), self.address.port() + offset)
    }

    fn port(&self, flag: &str, offset: u16) -> String {
        format!("-{flag}={}", self.at(offset).port())
    }

    fn ip(&self) -> String {
        format!("-ip={}", self.address.ip())
    }

    fn launch(&self, children: &mut Vec<Child>, args: &[&str]) -> io::Result<()> {
        let mut command = Command::new(&self.site.weed);
        command.arg("-logtostderr=true").args(args);
        children.push(spawn(command.current_dir(self.dir), self.log)?);
        Ok(())
    }

    /// Starts all of it but the gateway, on what the folder holds.
    pub fn start(&self, children: &mut Vec<Child>) -> io::Result<()> {
        let data = self.dir.join("data");
        std::fs::create_dir_all(&data)?;
        // Without a limit the number of volumes ends at 8, and then its broker waits for more in silence.
        let server = [
            "server",
            &format!("-dir={}", data.display()),
            &self.ip(),
            &self.port("master.port", MASTER),
            &self.port("volume.port", VOLUME),
            &self.port("filer.port", FILER),
            "-filer",
            "-filer.localSocket=filer.sock",
            "-volume.max=0",
            "-master.volumeSizeLimitMB=1024",
            "-master.telemetry=false",
            "-volume.preStopSeconds=0",
        ];
        self.launch(children, &server)?;
        wait_for(self.at(FILER), || false)?;
        let master = format!("-master={}", self::master(self.address));
        let broker = ["mq.broker", &self.ip(), &self.port("port", BROKER), &master];
        self.launch(children, &broker)?;
        wait_for(self.at(BROKER), || false)
    }

    /// Starts the Go gateway before it.
    pub fn start_gateway(&self, children: &mut Vec<Child>) -> io::Result<()> {
        let gateway = [
            "mq.kafka.gateway",
            &self.ip(),
            &self.port("port", 0),
            &format!("-master={}", master(self.address)),
            &format!("-schema-registry-url=http://{}", registry()?),
        ];
        let began = Instant::now();
        loop {
            self.launch(children, &gateway)?;
            let has_ended = || {
                children
                    .last_mut()
                    .is_some_and(|c| matches!(c.try_wait(), Ok(Some(_))))
            };
            match wait_for(self.address, has_ended) {
                Ok(()) => return await_broker(self.address),
                Err(error) if began.elapsed() > START_PATIENCE => return Err(error),
                // It ends if the master does not know of the broker yet.
                Err(_) => {
                    children.pop();
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }
}

/// The gateway answers before its broker takes part in the cluster. Waits until a topic can be made.
fn await_broker(address: SocketAddr) -> io::Result<()> {
    let began = Instant::now();
    loop {
        match Client::connect(address)?.create_topic("ready", 1) {
            Err(error) if began.elapsed() > START_PATIENCE => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
            Ok(()) => return Ok(()),
        }
    }
}

/// The gateway does not start without a schema registry that answers. This one holds no schemas. It is
/// there for this peer only, and serves until the process ends.
fn registry() -> io::Result<SocketAddr> {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    if let Some(address) = ADDRESS.get() {
        return Ok(*address);
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = *ADDRESS.get_or_init(|| {
        listener
            .local_addr()
            .unwrap_or_else(|e| unreachable!("it is bound: {e}"))
    });
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever asked and left needs no answer.
            std::thread::spawn(move || answer_as_empty_registry(stream));
        }
    });
    Ok(address)
}

fn answer_as_empty_registry(mut stream: impl Read + Write) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let (status, body) = match head.starts_with(b"GET /subjects ") {
        true => ("200 OK", "[]"),
        false => (
            "404 Not Found",
            r#"{"error_code":40401,"message":"Subject not found."}"#,
        ),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn get(path: &str) -> String {
        let mut stream = TcpStream::connect(registry().unwrap()).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn the_registry_is_there_and_empty() {
        let subjects = get("/subjects");
        assert!(subjects.starts_with("HTTP/1.1 200 ") && subjects.ends_with("\r\n\r\n[]"));
        assert!(get("/schemas/ids/1").starts_with("HTTP/1.1 404 "));
    }
}
