//! SeaweedFS, where topics are to be there: who answers, room for volumes, and a commit on trial.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::executor::block_on;

use super::{Item, State};
use crate::bridge::{
    Bridge, BridgeConfig, BridgeError, Condition, Entry, FuseAttributes, Mutation, Node, Placement,
    Removal, Role, Room, Transaction, path,
};
use crate::config::Config;
use crate::serve::{bridge_config, volumes};
use crate::store::seaweedmq::layout::ROOT;
use crate::store::seaweedmq::rules::Rules;

/// Of each operation, with its retries.
const DEADLINE: Duration = Duration::from_secs(5);
/// Commits on trial.
const TRIALS: usize = 10;
const TRIAL_BYTES: usize = 4 << 10;
/// Above that, a producer with acks=all that awaits each answer feels it first.
const COMMIT_P50_MAX: Duration = Duration::from_millis(20);
/// What the gateway is tested with.
const VERSION: &str = "4.48";

pub(super) fn check(config: &Config) -> Vec<Item> {
    let started = bridge_config(config).map_err(|error| error.to_string());
    let started = started.and_then(|bridge| {
        let bridge = BridgeConfig {
            deadline: DEADLINE,
            ..bridge
        };
        Bridge::start(bridge).map_err(|error| error.to_string())
    });
    match started {
        Ok((_thread, bridge)) => block_on(look(&bridge, config)),
        Err(error) => {
            let item = Item::ok("SeaweedFS", error, "what --seaweedfs-security names");
            vec![item.but(State::Fail, true, "mend that file, or name another")]
        }
    }
}

async fn look(bridge: &Bridge, config: &Config) -> Vec<Item> {
    let filers = bridge.nodes(Role::Filer).await;
    let mut items = masters(bridge).await;
    let filers = match filers {
        Ok(filers) => filers,
        // Nothing else can be found.
        Err(error) => {
            let item = Item::ok("SeaweedFS masters", error.to_string(), "one that answers");
            let fix = "start weed master, or name another with --seaweedfs-masters";
            items.push(item.but(State::Fail, true, fix));
            return items;
        }
    };
    items.push(nodes(
        "SeaweedFS filers",
        &filers,
        State::Fail,
        "start weed filer with these masters, or see --seaweedfs-filer-group",
    ));
    let brokers = bridge.nodes(Role::Broker).await.unwrap_or_default();
    items.push(nodes(
        "SeaweedMQ brokers",
        &brokers,
        State::Warn,
        "start weed mq.broker: without one no topic can be made",
    ));
    items.push(versions(filers.iter().chain(&brokers)));
    items.push(match bridge.room().await {
        Ok(found) => room(&found),
        Err(error) => Item::ok("room for volumes", error.to_string(), "some").but(
            State::Fail,
            true,
            "see the master's log",
        ),
    });
    if filers.is_empty() {
        return items;
    }
    items.push(ttl_rules(
        Rules::read(bridge).await.map(|rules| rules.expiring()),
    ));
    items.extend(trial(bridge, volumes(config)).await);
    items
}

/// One line for each, as the thread that speaks with them has found them.
async fn masters(bridge: &Bridge) -> Vec<Item> {
    let peers = bridge.peers().await.unwrap_or_default();
    let masters: Vec<_> = peers.iter().filter(|p| p.role == Role::Master).collect();
    let item = |peer: &&crate::bridge::PeerHealth| {
        let found = match peer.up {
            true => format!("{}, answers", peer.address),
            false => format!("{}, does not answer", peer.address),
        };
        Item::ok("SeaweedFS master", found, "answers").but(
            State::Warn,
            !peer.up,
            "start it, or take it from --seaweedfs-masters",
        )
    };
    masters.iter().map(item).collect()
}

fn nodes(what: &str, found: &[Node], without: State, fix: &str) -> Item {
    let all: Vec<_> = found.iter().map(|node| node.address.as_str()).collect();
    let told = match all.is_empty() {
        true => "none".to_owned(),
        false => all.join(", "),
    };
    Item::ok(what, told, "at least one").but(without, all.is_empty(), fix)
}

fn versions<'a>(nodes: impl Iterator<Item = &'a Node>) -> Item {
    let mut all: Vec<_> = nodes.map(|node| node.version.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    let other = all.iter().any(|version| !version.contains(VERSION));
    let found = match all.is_empty() {
        true => "unknown".to_owned(),
        false => all.join(", "),
    };
    Item::ok("SeaweedFS version", found, format!("{VERSION}: tested")).but(
        State::Warn,
        other || all.len() > 1,
        "others may work as well: try them before they are relied on",
    )
}

fn room(found: &BTreeMap<String, Room>) -> Item {
    let kind = |kind: &str| match kind {
        "" => "hdd".to_owned(),
        kind => kind.to_owned(),
    };
    let one = |(name, room): (&String, &Room)| {
        let Room {
            max,
            free,
            size_mib,
        } = room;
        format!(
            "{}: {free} of {max} volumes of {size_mib} MiB free",
            kind(name)
        )
    };
    let all: Vec<_> = found.iter().map(one).collect();
    let told = match all.is_empty() {
        true => "no volume server".to_owned(),
        false => all.join(", "),
    };
    let fix = "start volume servers, or give them a higher -max";
    let free: i64 = found.values().map(|room| room.free).sum();
    Item::ok("room for volumes", told, "free ones for new data")
        .but(State::Fail, found.is_empty(), fix)
        .but(State::Warn, free <= 0, fix)
}

fn ttl_rules(found: Result<Option<String>, BridgeError>) -> Item {
    let wanted = "none for topics: records go when their topics say so";
    let (found, fix) = match found {
        Ok(None) => return Item::ok("rules with a TTL", "none", wanted),
        Ok(Some(rule)) => (rule, "remove the rule"),
        Err(error) => (error.to_string(), "see the filer's log"),
    };
    Item::ok("rules with a TTL", found, wanted).but(State::Fail, true, fix)
}

/// How long the parts of commits took.
#[derive(Default)]
struct Times {
    upload: Vec<Duration>,
    transaction: Vec<Duration>,
    read: Vec<Duration>,
    delete: Vec<Duration>,
}

/// Writes, reads and removes files beside the store's.
async fn trial(bridge: &Bridge, volumes: Placement) -> Vec<Item> {
    let folder = format!("{ROOT}/check-{}", std::process::id());
    let mut times = Times::default();
    let mut failed = None;
    for number in 0..TRIALS {
        if let Err((what, error)) = try_one(bridge, &folder, number, &volumes, &mut times).await {
            failed = Some((what, error));
            break;
        }
    }
    let removal = Removal {
        data: true,
        recursive: true,
    };
    let name = folder.rsplit('/').next().unwrap_or_default();
    // What stays is a small folder.
    let _ = bridge.delete(ROOT, name, removal).await;
    match failed {
        Some((what, error)) => vec![failure(what, &error)],
        None => took(times),
    }
}

async fn try_one(
    bridge: &Bridge,
    folder: &str,
    number: usize,
    volumes: &Placement,
    times: &mut Times,
) -> Result<(), (&'static str, BridgeError)> {
    let name = format!("trial-{number}");
    let data = Bytes::from(vec![number as u8; TRIAL_BYTES]);
    let placement = Placement {
        path: path(folder, &name),
        ..volumes.clone()
    };
    let upload = bridge.upload(vec![data.clone()], placement);
    let chunk = timed(&mut times.upload, upload).await;
    let chunk = chunk.map_err(|error| ("a chunk cannot be written", error))?;
    let transaction = Transaction {
        lock: path(folder, &name),
        condition: Some(Condition::Absent),
        mutations: vec![Mutation::Put {
            directory: folder.to_owned(),
            entry: Entry {
                name: name.clone(),
                chunks: vec![chunk.clone()],
                attributes: Some(FuseAttributes {
                    file_size: chunk.size,
                    file_mode: 0o644,
                    ..FuseAttributes::default()
                }),
                ..Entry::default()
            },
        }],
    };
    let transacted = timed(&mut times.transaction, bridge.transact(transaction)).await;
    transacted.map_err(|error| ("an entry cannot be made", error))?;
    let read = timed(&mut times.read, bridge.read(&chunk, 0..chunk.size)).await;
    let read = read.map_err(|error| ("a chunk cannot be read", error))?;
    if read != data {
        let damaged = BridgeError::Damaged("other bytes came back".to_owned());
        return Err(("a chunk cannot be read", damaged));
    }
    let removal = Removal {
        data: true,
        recursive: false,
    };
    let deleted = timed(&mut times.delete, bridge.delete(folder, &name, removal)).await;
    deleted.map_err(|error| ("an entry cannot be removed", error))
}

async fn timed<T>(times: &mut Vec<Duration>, operation: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let done = operation.await;
    times.push(began.elapsed());
    done
}

fn failure(what: &str, error: &dyn Display) -> Item {
    let fix = match what {
        "a chunk cannot be written" | "a chunk cannot be read" => {
            "see that a volume server runs, has room, and takes what --seaweedfs-replication, --seaweedfs-disk-type and --seaweedfs-security say"
        }
        _ => "see the filer's log",
    };
    let found = format!("{what}: {error}");
    Item::ok("commit of 4 KiB", found, "works").but(State::Fail, true, fix)
}

fn took(times: Times) -> Vec<Item> {
    let p50 = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
    let (upload, transaction) = (p50(times.upload), p50(times.transaction));
    let commit = upload + transaction;
    let parts = format!(
        "p50 {}: upload {}, transaction {}",
        ms(commit),
        ms(upload),
        ms(transaction)
    );
    let most = COMMIT_P50_MAX.as_millis();
    let commit = Item::ok(
        "commit of 4 KiB",
        parts,
        format!("p50 up to {most} ms: acks=all waits for it"),
    )
    .but(
        State::Warn,
        commit > COMMIT_P50_MAX,
        "see what keeps the volume servers or the filer's store busy",
    );
    let (read, delete) = (ms(p50(times.read)), ms(p50(times.delete)));
    vec![
        commit,
        Item::ok("read of 4 KiB", format!("p50 {read}"), "works"),
        Item::ok("removal of a file", format!("p50 {delete}"), "works"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_volumes_it_does_not_work_and_without_free_ones_not_for_long() {
        let of = |free| Room {
            max: 8,
            free,
            size_mib: 64,
        };
        let state = |rooms: &[(&str, Room)]| {
            let rooms = rooms.iter().map(|(kind, room)| ((*kind).to_owned(), *room));
            room(&rooms.collect()).state
        };
        assert_eq!(state(&[]), State::Fail);
        assert_eq!(state(&[("", of(0))]), State::Warn);
        assert_eq!(state(&[("", of(0)), ("ssd", of(1))]), State::Ok);
    }

    #[test]
    fn other_versions_are_warned_of() {
        let node = |version: &str| Node {
            address: String::new(),
            version: version.to_owned(),
        };
        let state = |all: &[&str]| {
            let all: Vec<_> = all.iter().map(|version| node(version)).collect();
            versions(all.iter()).state
        };
        assert_eq!(state(&["8000GB 4.48 pypi"; 2]), State::Ok);
        assert_eq!(state(&["30GB 4.48", "30GB 4.50"]), State::Warn);
    }
}
