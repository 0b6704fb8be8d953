//! The data folder: whether it is free, what it lies on, and how fast that is.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Item, State};
use crate::config::{Config, Flush};
use crate::store::local::{JOURNAL_FILE_BYTES, lock_folder};

const SYNCS: usize = 200;
const SYNC_BYTES: usize = 4 << 10;
/// A slow disk has been measured well enough by then.
const SYNC_TIME_MAX: Duration = Duration::from_secs(5);
/// Above that, a producer with acks=all that awaits each answer feels the disk first.
const SYNC_P99_MAX: Duration = Duration::from_millis(20);
/// Less than that is soon used up.
const FREE_BYTES_MIN: u64 = 10 << 30;

/// File systems by their number in statfs(2): name, and why not, if there is a reason.
const FILE_SYSTEMS: [(u64, &str, Option<&str>); 10] = [
    (0xef53, "ext4", None),
    (0x5846_5342, "xfs", None),
    (0x9123_683e, "btrfs", None),
    (0xf2f5_2010, "f2fs", None),
    (0x2fc1_2fc1, "zfs", None),
    (0x0102_1994, "tmpfs", Some(IN_MEMORY)),
    (0x8584_58f6, "ramfs", Some(IN_MEMORY)),
    (0x794c_7630, "overlay", Some(CONTAINER)),
    (0x6969, "nfs", Some(NETWORK)),
    (0x6573_5546, "fuse", Some(NETWORK)),
];
const IN_MEMORY: &str = "it is memory: choose a --data-dir on a disk";
const CONTAINER: &str = "it goes with the container: mount a volume there";
const NETWORK: &str =
    "what is synced is up to another program: choose a --data-dir on a local disk";

pub(super) fn check(config: &Config) -> Vec<Item> {
    let dir = &config.data_dir;
    let mut items = vec![folder(dir)];
    // What is not made yet will lie where its nearest parent lies.
    let Some(existing) = dir.ancestors().map(or_here).find(|path| path.is_dir()) else {
        return items;
    };
    items.extend(file_system(existing));
    items.extend(free_space(existing, config.shards));
    items.push(match measure(existing) {
        Ok(times) => sync_time(times, config.flush),
        Err(error) => cannot_write(existing, &error),
    });
    items
}

/// The parent of a relative path of one part is the current folder.
fn or_here(path: &Path) -> &Path {
    match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    }
}

fn folder(dir: &Path) -> Item {
    let item = |found: String| Item::ok("data folder", found, "used by no other process");
    let name = dir.display();
    if !dir.exists() {
        return item(format!("{name}, to be made"));
    }
    // Nothing is left behind that belongs to another user than the gateway's.
    if !dir.join("lock").exists() {
        return item(format!("{name}, free"));
    }
    match lock_folder(dir) {
        Ok(Some(_)) => item(format!("{name}, free")),
        Ok(None) => item(format!("{name}, in use")).but(
            State::Fail,
            true,
            "stop the process that uses it, or choose another --data-dir",
        ),
        Err(error) => item(format!("{name}: {error}")).but(
            State::Fail,
            true,
            "give the user of the gateway the right to write there",
        ),
    }
}

fn file_system(path: &Path) -> Option<Item> {
    let found = rustix::fs::statfs(path).ok()?.f_type;
    Some(judge_file_system(found as u64))
}

fn judge_file_system(number: u64) -> Item {
    let known = FILE_SYSTEMS.iter().find(|(known, ..)| *known == number);
    let name = known.map_or_else(|| format!("{number:#x}"), |(_, name, _)| (*name).to_owned());
    let reason = known.and_then(|(.., reason)| *reason);
    Item::ok("file system", name, "one on a local disk").but(
        State::Warn,
        reason.is_some(),
        reason.unwrap_or_default(),
    )
}

fn free_space(path: &Path, shards: usize) -> Option<Item> {
    let found = rustix::fs::statvfs(path).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    Some(judge_free_space(free, shards))
}

fn judge_free_space(free: u64, shards: usize) -> Item {
    // Without room for a journal nothing can be stored.
    let journals = shards as u64 * JOURNAL_FILE_BYTES;
    let wanted = FREE_BYTES_MIN.max(4 * journals);
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let fix = "make room, or choose another --data-dir";
    Item::ok("free space", mib(free), format!("{} or more", mib(wanted)))
        .but(State::Fail, free < journals, fix)
        .but(State::Warn, free < wanted, fix)
}

/// A file that is gone with this.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // It was to be made and could not.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// How long each append and its sync take. Blocking.
fn measure(folder: &Path) -> io::Result<Vec<Duration>> {
    let draft = Draft(folder.join(format!(".tidegate-check-{}", std::process::id())));
    let mut file = File::create_new(&draft.0)?;
    let block = [0x5a; SYNC_BYTES];
    let began = Instant::now();
    let mut times = Vec::with_capacity(SYNCS);
    while times.len() < SYNCS && began.elapsed() < SYNC_TIME_MAX {
        let start = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    Ok(times)
}

fn sync_time(mut times: Vec<Duration>, flush: Flush) -> Item {
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len().saturating_sub(1) * percent / 100);
    let (p50, p99) = (at(50).copied(), at(99).copied());
    let ms = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64() * 1e3;
    let found = format!("p50 {:.2} ms, p99 {:.2} ms", ms(p50), ms(p99));
    let wanted = match flush {
        Flush::Durable => format!(
            "p99 up to {} ms: acks=all waits for it",
            SYNC_P99_MAX.as_millis()
        ),
        Flush::Os => "not waited for (flush = os)".to_owned(),
    };
    Item::ok("sync of 4 KiB", found, wanted).but(
        State::Warn,
        flush == Flush::Durable && p99.unwrap_or_default() > SYNC_P99_MAX,
        "use a disk with power-loss protection, and not one that others keep busy",
    )
}

fn cannot_write(folder: &Path, error: &io::Error) -> Item {
    let found = format!("cannot write in {}: {error}", folder.display());
    Item::ok("sync of 4 KiB", found, "a folder to write to").but(
        State::Fail,
        true,
        "give the user of the gateway the right to write there, or choose another --data-dir",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_keep_data_is_warned_of() {
        let of = |number| judge_file_system(number).state;
        assert_eq!(of(0xef53), State::Ok);
        assert_eq!(of(0x0102_1994), State::Warn);
        assert_eq!(of(0x1234), State::Ok);
    }

    #[test]
    fn a_disk_without_room_for_the_journals_fails() {
        let of = |mib: u64| judge_free_space(mib << 20, 2).state;
        assert_eq!(
            [of(127), of(128), of(20_000)],
            [State::Fail, State::Warn, State::Ok]
        );
    }

    #[test]
    fn a_slow_disk_is_warned_of_where_it_is_waited_for() {
        let times = |slow: usize| {
            let time = |n| Duration::from_millis(if n < slow { 50 } else { 1 });
            (0..100).map(time).collect::<Vec<_>>()
        };
        let of = |slow, flush| sync_time(times(slow), flush).state;
        assert_eq!(of(1, Flush::Durable), State::Ok);
        assert_eq!(of(3, Flush::Durable), State::Warn);
        assert_eq!(of(3, Flush::Os), State::Ok);
        assert_eq!(
            sync_time(times(3), Flush::Os).found,
            "p50 1.00 ms, p99 50.00 ms"
        );
        assert_eq!(sync_time(Vec::new(), Flush::Durable).state, State::Ok);
    }
}
