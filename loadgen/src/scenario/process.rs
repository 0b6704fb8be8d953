//! What the kernel has to say about processes: limits of this one, memory and CPU of another one.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::Error;

/// Lets this process have so many open files.
///
/// # Errors
/// [`Error::Limit`] if it may not.
pub fn allow_files(wanted: u64) -> Result<(), Error> {
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if enough(limit.current) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: if enough(limit.maximum) {
            limit.maximum
        } else {
            Some(wanted)
        },
    };
    setrlimit(Resource::Nofile, raised).map_err(|_| Error::Limit {
        wanted,
        limit: limit.maximum.unwrap_or(wanted),
    })
}

/// A process, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// What it has in memory, in bytes.
    pub resident: u64,
    /// CPU time, of the kernel for it as well.
    pub cpu: Duration,
}

impl Process {
    /// Asks the kernel. proc(5): `statm`, `stat`.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn look(pid: u32) -> Result<Self, Error> {
        let read = |file| {
            fs::read_to_string(format!("/proc/{pid}/{file}"))
                .map_err(|source| Error::Process { pid, source })
        };
        let parsed = Self::parse(&read("statm")?, &read("stat")?);
        parsed.ok_or_else(|| Error::Process {
            pid,
            source: io::ErrorKind::InvalidData.into(),
        })
    }

    fn parse(statm: &str, stat: &str) -> Option<Self> {
        let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        // The name, in brackets, may have anything in it. Behind it are the fields from the third on.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut times = fields.split_whitespace().skip(11);
        let user: u64 = times.next()?.parse().ok()?;
        let system: u64 = times.next()?.parse().ok()?;
        let ticks = (user + system) as f64 / clock_ticks_per_second() as f64;
        Some(Self {
            resident: pages * page_size() as u64,
            cpu: Duration::from_secs_f64(ticks),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_times_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 0 1 2 3 4 250 150 0 0 20 0 1 0 99";
        let process = Process::parse("900 25 3 1 0 2 0", stat).unwrap();
        assert_eq!(process.resident, 25 * page_size() as u64);
        let ticks = 400.0 / clock_ticks_per_second() as f64;
        assert_eq!(process.cpu, Duration::from_secs_f64(ticks));
        assert_eq!(Process::parse("", stat), None);
        assert_eq!(Process::parse("900 25", "7 (a) S 1"), None);
    }

    #[test]
    fn this_process_is_there() {
        let process = Process::look(std::process::id()).unwrap();
        assert!(process.resident > 100 << 10);
        assert!(matches!(
            Process::look(0),
            Err(Error::Process { pid: 0, .. })
        ));
    }
}
