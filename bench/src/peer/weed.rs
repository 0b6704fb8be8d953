//! SeaweedFS's Go gateway and the cluster that it needs: `weed server` (master, volumes, filer), one
//! broker, the gateway. All of them are the peer: their CPU time and memory count together.

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

/// Starts the cluster and the gateway at `address`, on what `dir` holds.
pub fn start(
    site: &Site,
    dir: &Path,
    address: SocketAddr,
    log: &File,
    children: &mut Vec<Child>,
) -> io::Result<()> {
    let at = |offset: u16| SocketAddr::new(address.ip(), address.port() + offset);
    let port = |flag: &str, offset: u16| format!("-{flag}={}", at(offset).port());
    let ip = format!("-ip={}", address.ip());
    let master = format!("-master={}", at(MASTER));
    let data = dir.join("data");
    std::fs::create_dir_all(&data)?;
    let launch = |children: &mut Vec<Child>, args: &[&str]| {
        let mut command = Command::new(&site.weed);
        command.arg("-logtostderr=true").args(args);
        children.push(spawn(command.current_dir(dir), log)?);
        Ok::<(), io::Error>(())
    };
    // Without a limit the number of volumes ends at 8, and then its broker waits for more in silence.
    let server = [
        "server",
        &format!("-dir={}", data.display()),
        &ip,
        &port("master.port", MASTER),
        &port("volume.port", VOLUME),
        &port("filer.port", FILER),
        "-filer",
        "-filer.localSocket=filer.sock",
        "-volume.max=0",
        "-master.volumeSizeLimitMB=1024",
        "-master.telemetry=false",
        "-volume.preStopSeconds=0",
    ];
    launch(children, &server)?;
    wait_for(at(FILER), || false)?;
    launch(
        children,
        &["mq.broker", &ip, &port("port", BROKER), &master],
    )?;
    wait_for(at(BROKER), || false)?;
    let registry = format!("-schema-registry-url=http://{}", registry()?);
    let gateway = [
        "mq.kafka.gateway",
        &ip,
        &port("port", 0),
        &master,
        &registry,
    ];
    let began = Instant::now();
    loop {
        launch(children, &gateway)?;
        let has_ended = || {
            children
                .last_mut()
                .is_some_and(|c| matches!(c.try_wait(), Ok(Some(_))))
        };
        match wait_for(address, has_ended) {
            Ok(()) => return await_broker(address),
            Err(error) if began.elapsed() > START_PATIENCE => return Err(error),
            // It ends if the master does not know of the broker yet.
            Err(_) => {
                children.pop();
                std::thread::sleep(Duration::from_millis(200));
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
        write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
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
