//! A disk that is full, and one that fails: on a small file system of its own, made for the test.
//!
//! It needs root, `mkfs.ext4` and loop devices. Without them the tests say so and do nothing.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use common::{Client, Gateway, batch, data_folder};
use tidegate::wire::ErrorCode;

const DISK_BYTES: u64 = 192 << 20;

/// A mounted file system. Unmounted when dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// `None`, with the reason said, where there cannot be one.
    fn new() -> Option<Disk> {
        let disk = Disk {
            folder: data_folder(),
        };
        let image = disk.image();
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(DISK_BYTES).expect("a sparse file");
        std::fs::create_dir(disk.path()).expect("a mount point");
        let made = run("mkfs.ext4", &["-q", "-m", "0", text(&image)]);
        match made.and_then(|()| disk.mount()) {
            Ok(()) => Some(disk),
            Err(why) => {
                skip(&why);
                None
            }
        }
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn mount(&self) -> Result<(), String> {
        let (image, path) = (self.image(), self.path());
        run("mount", &["-o", "loop", text(&image), text(&path)])
    }

    fn unmount(&self) -> Result<(), String> {
        run("umount", &[text(&self.path())])
    }

    /// Takes all room that is left.
    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.path().join("filler")).expect("a file");
        let (mut piece, zeros) = (1 << 20, vec![0; 1 << 20]);
        while piece > 0 {
            if file.write_all(&zeros[..piece]).is_err() {
                piece /= 2;
            }
        }
        let _ = file.sync_all();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("filler")).expect("it was filled");
        // The file system gives room back when it commits.
        run("sync", &["-f", text(&self.path())]).expect("there is room");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.unmount().is_err() {
            let _ = run("umount", &["-l", text(&self.path())]);
        }
    }
}

#[expect(clippy::print_stderr, reason = "a test says why it does nothing")]
fn skip(why: &str) {
    eprintln!("skipped, there is no file system to fail: {why}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of characters")
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

const OPTIONS: [&str; 4] = ["--shards", "1", "--checkpoint-interval-ms", "200"];

/// Offset and value of all that was acknowledged.
type Acked = Vec<(i64, Bytes)>;

/// Sends a record of 100 kB.
fn produce(client: &mut Client, acked: &mut Acked, number: usize) -> ErrorCode {
    let value = Bytes::from(number.to_string() + &"x".repeat(100_000));
    let answer = client.produce("t", 0, batch(&[&value], None));
    let answer = answer.expect("an answer");
    if answer.error_code == ErrorCode::NONE {
        acked.push((answer.base_offset, value));
    }
    answer.error_code
}

/// Sends records until one is refused.
fn produce_until_refused(client: &mut Client, acked: &mut Acked) -> ErrorCode {
    let codes = (0..4000).map(|number| produce(client, acked, number));
    codes
        .into_iter()
        .find(|code| *code != ErrorCode::NONE)
        .expect("the disk takes only so much")
}

fn assert_all_there(client: &mut Client, acked: &Acked) {
    let found = client.drain("t", 0);
    assert!(
        found
            .iter()
            .enumerate()
            .all(|(n, (offset, _))| *offset == n as i64),
        "offsets are gapless"
    );
    for (offset, value) in acked {
        assert_eq!(
            found[*offset as usize].1, value,
            "offset {offset} was acknowledged"
        );
    }
}

#[test]
fn on_a_full_disk_producers_are_refused_and_go_on_when_there_is_room() {
    let Some(disk) = Disk::new() else {
        return;
    };
    let mut gateway = Gateway::start(&disk.path(), &OPTIONS);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let mut acked = Acked::new();
    for number in 0..20 {
        assert_eq!(produce(&mut client, &mut acked, number), ErrorCode::NONE);
    }
    disk.fill();
    let refused = produce_until_refused(&mut client, &mut acked);
    assert_eq!(refused, ErrorCode::KAFKA_STORAGE_ERROR);
    assert_all_there(&mut client, &acked);
    disk.make_room();
    for number in 0..20 {
        assert_eq!(produce(&mut client, &mut acked, number), ErrorCode::NONE);
    }
    disk.fill();
    produce_until_refused(&mut client, &mut acked);
    gateway.kill();
    disk.make_room();

    gateway = Gateway::start(&disk.path(), &OPTIONS);
    let mut client = gateway.connect();
    assert_all_there(&mut client, &acked);
    assert_eq!(produce(&mut client, &mut acked, 0), ErrorCode::NONE);
    assert_all_there(&mut client, &acked);
}

#[test]
fn a_disk_that_turns_read_only_is_read_on_and_loses_nothing() {
    let Some(disk) = Disk::new() else {
        return;
    };
    let mut gateway = Gateway::start(&disk.path(), &OPTIONS);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let mut acked = Acked::new();
    for number in 0..30 {
        assert_eq!(produce(&mut client, &mut acked, number), ErrorCode::NONE);
    }
    // As the kernel does when the disk reports errors.
    if let Err(why) = run("mount", &["-o", "remount,abort", text(&disk.path())]) {
        return skip(&why);
    }
    let refused = produce_until_refused(&mut client, &mut acked);
    assert_eq!(refused, ErrorCode::KAFKA_STORAGE_ERROR);
    assert_all_there(&mut client, &acked);
    gateway.kill();
    disk.unmount().expect("nothing uses it any more");
    disk.mount().expect("its journal is replayed");

    let gateway = Gateway::start(&disk.path(), &OPTIONS);
    let mut client = gateway.connect();
    assert_all_there(&mut client, &acked);
    assert_eq!(produce(&mut client, &mut acked, 0), ErrorCode::NONE);
}
