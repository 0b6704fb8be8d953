//! The kernel, its settings, and the limits of the process.

use std::fs;
use std::path::Path;

use shards::PreflightError;

use super::{Item, State};
use crate::config::Config;
use crate::partition::owner::OPEN_FILES_MAX;

/// What the gateway is tested with.
const KERNEL_MIN: (u32, u32) = (5, 10);
/// The queue of connections that a listener asks for.
const BACKLOG: u64 = 4096;
/// Descriptors of a shard beside its connections and segments: sockets, epoll, journal, reads.
const OTHER_FILES_PER_SHARD: u64 = 64;
/// Clocks that are read without a system call.
const FAST_CLOCKS: [&str; 4] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
];
const SWAPPINESS_MAX: u64 = 10;

pub(super) fn check(config: &Config) -> Vec<Item> {
    let mut items = vec![kernel(&read("/proc/sys/kernel/osrelease"))];
    items.extend(io_uring(config));
    items.push(cpus(config));
    items.push(governor(&governors()));
    items.push(clock(&read(
        "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    )));
    items.push(somaxconn(&read("/proc/sys/net/core/somaxconn")));
    items.push(swappiness(&read("/proc/sys/vm/swappiness"), has_swap()));
    items.push(huge_pages(
        &read("/sys/kernel/mm/transparent_hugepage/enabled"),
        &read("/sys/kernel/mm/transparent_hugepage/defrag"),
    ));
    items
}

/// Empty where there is nothing.
fn read(path: impl AsRef<Path>) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

fn kernel(release: &str) -> Item {
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = KERNEL_MIN;
    Item::ok("kernel", release, format!("{major}.{minor} or newer")).but(
        State::Fail,
        version < KERNEL_MIN,
        "run a newer kernel",
    )
}

/// io_uring, and the limits that are raised with it.
fn io_uring(config: &Config) -> Vec<Item> {
    let works = || Item::ok("io_uring", "works", "shards need it");
    match shards::preflight() {
        Ok(host) => vec![
            works(),
            Item::ok("memlock", limit(host.memlock), "512KiB or more"),
            open_files(host.nofile, config),
        ],
        Err(error @ PreflightError::Memlock { limit, .. }) => vec![
            works(),
            Item::ok("memlock", limit.to_string(), "512KiB or more").but(
                State::Fail,
                true,
                error.to_string(),
            ),
        ],
        Err(error) => vec![Item::ok("io_uring", "not usable", "shards need it").but(
            State::Fail,
            true,
            error.to_string(),
        )],
    }
}

fn limit(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

fn open_files(found: Option<u64>, config: &Config) -> Item {
    let per_shard = OPEN_FILES_MAX as u64 + OTHER_FILES_PER_SHARD;
    let wanted = config.max_connections as u64 + config.shards as u64 * per_shard;
    let reason = format!("{wanted}: connections and segments");
    Item::ok("open files", limit(found), reason).but(
        State::Warn,
        found.is_some_and(|found| found < wanted),
        format!("LimitNOFILE={wanted} in the systemd unit, or a lower max_connections"),
    )
}

fn cpus(config: &Config) -> Item {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let found = format!("{cpus}, for {} shards", config.shards);
    Item::ok("CPUs", found, "one for each shard").but(
        State::Warn,
        config.shards > cpus,
        format!("--shards {cpus}"),
    )
}

/// Of each CPU that has one.
fn governors() -> Vec<String> {
    let cpus = fs::read_dir("/sys/devices/system/cpu")
        .into_iter()
        .flatten();
    let governor = |cpu: fs::DirEntry| read(cpu.path().join("cpufreq/scaling_governor"));
    let governors = cpus.flatten().map(governor);
    governors.filter(|governor| !governor.is_empty()).collect()
}

fn governor(governors: &[String]) -> Item {
    let slow = governors.iter().find(|governor| *governor != "performance");
    let found = match (slow, governors.first()) {
        (Some(slow), _) => slow,
        (None, Some(first)) => first,
        (None, None) => "none, as on virtual machines",
    };
    Item::ok("CPU governor", found, "performance").but(
        State::Warn,
        slow.is_some(),
        "cpupower frequency-set -g performance",
    )
}

fn clock(source: &str) -> Item {
    Item::ok("clock source", source, "one read without a system call").but(
        State::Warn,
        !source.is_empty() && !FAST_CLOCKS.contains(&source),
        "see available_clocksource beside /sys/devices/system/clocksource/clocksource0/current_clocksource",
    )
}

fn somaxconn(found: &str) -> Item {
    Item::ok("net.core.somaxconn", found, format!("{BACKLOG} or more")).but(
        State::Warn,
        found.parse().is_ok_and(|found: u64| found < BACKLOG),
        format!("sysctl -w net.core.somaxconn={BACKLOG}"),
    )
}

fn has_swap() -> bool {
    // The first line is a heading.
    read("/proc/swaps").lines().count() > 1
}

fn swappiness(found: &str, has_swap: bool) -> Item {
    let wanted = format!("{SWAPPINESS_MAX} or less, or no swap");
    let text = match has_swap {
        true => found,
        false => "no swap",
    };
    Item::ok("vm.swappiness", text, wanted).but(
        State::Warn,
        has_swap && found.parse().is_ok_and(|found: u64| found > SWAPPINESS_MAX),
        "sysctl -w vm.swappiness=1",
    )
}

fn huge_pages(enabled: &str, defrag: &str) -> Item {
    let chosen = |text: &str| {
        let word = text.split(['[', ']']).nth(1);
        word.unwrap_or("not there").to_owned()
    };
    let (enabled, defrag) = (chosen(enabled), chosen(defrag));
    let stalls = enabled == "always" && defrag == "always";
    let found = format!("{enabled}, defrag {defrag}");
    Item::ok("huge pages", found, "no page fault that waits for defrag").but(
        State::Warn,
        stalls,
        "echo madvise > /sys/kernel/mm/transparent_hugepage/defrag",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states<const N: usize>(items: [Item; N]) -> [State; N] {
        items.map(|item| item.state)
    }

    #[test]
    fn kernels_are_compared_by_number() {
        let of = ["5.10.0-8-amd64", "6.18.44", "10.0", "5.9.16", "4.18", ""].map(kernel);
        assert_eq!(
            states(of),
            [
                State::Ok,
                State::Ok,
                State::Ok,
                State::Fail,
                State::Fail,
                State::Fail
            ]
        );
    }

    #[test]
    fn one_slow_cpu_is_enough() {
        let of = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|w| (*w).to_owned()).collect();
            governor(&words).state
        };
        assert_eq!(of(&[]), State::Ok);
        assert_eq!(of(&["performance", "performance"]), State::Ok);
        assert_eq!(of(&["performance", "powersave"]), State::Warn);
    }

    #[test]
    fn settings_of_the_kernel_are_judged_by_what_they_cost() {
        let items = [
            clock("tsc"),
            clock("hpet"),
            somaxconn("4096"),
            somaxconn("128"),
            swappiness("60", false),
            swappiness("60", true),
            swappiness("1", true),
            huge_pages("always [madvise] never", "[always] defer"),
            huge_pages("[always] madvise never", "[always] defer"),
        ];
        use State::{Ok, Warn};
        assert_eq!(states(items), [Ok, Warn, Ok, Warn, Ok, Warn, Ok, Ok, Warn]);
    }
}
