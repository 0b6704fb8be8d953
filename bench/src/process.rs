//! What the kernel says of a peer's process.

use std::io;

/// CPU time used so far, user and system, in seconds.
pub fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold anything; what follows it are numbers: state is field 3.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |n: usize| fields.split_whitespace().nth(n - 3)?.parse::<u64>().ok();
    let all = ticks(14).zip(ticks(15)).map(|(user, system)| user + system);
    let all = all.ok_or_else(|| io::Error::other("an odd /proc/PID/stat"))?;
    Ok(all as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Resident memory in bytes.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::other("an odd /proc/PID/statm"))?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Open file descriptors.
pub fn open_files(pid: u32) -> io::Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// CPU time of the whole machine that others took from it (steal), in seconds.
pub fn steal_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let steal = stat
        .lines()
        .next()
        .and_then(|cpu| cpu.split_whitespace().nth(8));
    let ticks = steal.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}
