//! Apache Kafka: one KRaft node with replication factor 1 and a heap of 1 GiB, otherwise as it comes, but for
//! sessions of the consumer protocol, which members cannot ask for.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Site;

/// Counted from the one for clients: the controller's.
pub const OTHER_PORTS: [u16; 1] = [1];

pub fn command(site: &Site, dir: &Path) -> Command {
    let mut command = java(site, "kafka.Kafka", "1g");
    command.arg(properties_file(dir));
    command
}

fn java(site: &Site, class: &str, heap: &str) -> Command {
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

fn properties_file(dir: &Path) -> PathBuf {
    dir.join("server.properties")
}

/// Writes its configuration and formats its storage.
pub fn prepare(site: &Site, dir: &Path, address: SocketAddr) -> io::Result<()> {
    let controller = address.port() + OTHER_PORTS[0];
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
         transaction.state.log.min.isr=1\n\
         group.consumer.min.session.timeout.ms=6000\n\
         group.consumer.session.timeout.ms=6000\n\
         group.consumer.min.heartbeat.interval.ms=500\n\
         group.consumer.heartbeat.interval.ms=500\n",
        dir.join("data").display()
    );
    let file = properties_file(dir);
    std::fs::write(&file, properties)?;
    let formatted = java(site, "kafka.tools.StorageTool", "128m")
        .args(["format", "-t", "dGlkZWdhdGUtYmVuY2htYQ", "-c"])
        .arg(file)
        .stdout(Stdio::null())
        .status()?;
    match formatted.success() {
        true => Ok(()),
        false => Err(io::Error::other("Kafka's storage cannot be formatted")),
    }
}
