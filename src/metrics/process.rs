//! What the kernel tells of this process. Blocking, though never for long.

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// What is not known is 0.
#[derive(Debug, Default)]
pub struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub open_fds: usize,
    pub max_fds: u64,
    /// Since the epoch.
    pub start_seconds: f64,
}

impl Process {
    pub fn now() -> Self {
        let (cpu_seconds, start_seconds) = times().unwrap_or_default();
        Process {
            cpu_seconds,
            start_seconds,
            resident_bytes: resident_bytes().unwrap_or_default(),
            // One of them is the listing itself.
            open_fds: std::fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() - 1),
            max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }
}

/// CPU time, and the time of the start.
fn times() -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in parentheses, may hold anything: what follows it begins with field 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
    let system = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = system.lines().find_map(|l| l.strip_prefix("btime "))?;
    let boot: f64 = boot.trim().parse().ok()?;
    Some((seconds(ticks(14)? + ticks(15)?), boot + seconds(ticks(22)?)))
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * page_size() as u64)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let process = Process::now();
        assert!(process.resident_bytes > 1 << 20);
        assert!(process.open_fds >= 3 && process.max_fds >= process.open_fds as u64);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - process.start_seconds;
        // The kernel tells the boot's time in whole seconds.
        assert!((-2.0..24.0 * 3600.0).contains(&age), "{age}");
    }
}
