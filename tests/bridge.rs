//! The bridge against a real SeaweedFS: what it finds, what it changes, and what it says when servers
//! are slow or gone.

use std::cell::Cell;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use shards::{Options, Pin, ReplyTo, Service, Shard};
use tidegate::bridge::{
    Bridge, BridgeConfig, BridgeError, BridgeThread, Condition, DataMessage, Entry, FuseAttributes,
    List, Mutation, Placement, Publisher, Removal, Role, Security, TopicSpec, Transaction, etag,
    path,
};

mod common;

use common::weed::{Part, Weed, get, wait, wait_for};

const FOLDER: &str = "/bridge";
const FILES: [Part; 3] = [Part::Master, Part::Volume, Part::Filer];

fn bridge(weed: &Weed, deadline: Duration) -> (BridgeThread, Bridge) {
    let masters = vec![weed.master().parse().expect("an address")];
    let config = BridgeConfig {
        deadline,
        ..BridgeConfig::new(masters)
    };
    Bridge::start(config).expect("a thread")
}

fn patient(weed: &Weed) -> (BridgeThread, Bridge) {
    bridge(weed, Duration::from_secs(30))
}

fn file(name: &str, token: u8, content: &'static str) -> Entry {
    Entry {
        name: name.to_owned(),
        content: Bytes::from_static(content.as_bytes()),
        attributes: Some(FuseAttributes {
            file_mode: 0o644,
            file_size: content.len() as u64,
            md5: vec![token; 16].into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn put(entry: Entry) -> Mutation {
    Mutation::Put {
        directory: FOLDER.to_owned(),
        entry,
    }
}

/// Puts `entry` if the owner's entry has the token, and gives that the token `next`.
fn fenced(token: u8, next: u8, entry: Entry) -> Transaction {
    Transaction {
        lock: path(FOLDER, "owner"),
        condition: Some(Condition::Etag(format!("{token:02x}").repeat(16))),
        mutations: vec![put(entry), put(file("owner", next, ""))],
    }
}

#[test]
fn servers_are_found_and_entries_kept() {
    let weed = Weed::start_parts(&FILES);
    let (_thread, bridge) = patient(&weed);
    wait(async {
        assert_eq!(bridge.lookup(FOLDER, "a").await, Ok(None));
        bridge
            .create(FOLDER, file("a", 1, "one"), true)
            .await
            .expect("it is new");
        let again = bridge.create(FOLDER, file("a", 2, "two"), true).await;
        assert!(matches!(again, Err(BridgeError::Conflict(_))), "{again:?}");
        let kept = bridge
            .lookup(FOLDER, "a")
            .await
            .expect("an answer")
            .expect("it is there");
        assert_eq!(kept.content, "one");
        assert_eq!(etag(&kept), Some("01".repeat(16)));
        bridge
            .create(FOLDER, file("a", 2, "two"), false)
            .await
            .expect("it is replaced");
        let peers = bridge.peers().await.expect("an answer");
        let filer = peers
            .iter()
            .find(|peer| peer.role == Role::Filer)
            .expect("it is known");
        assert!(
            filer.up && filer.address == weed.address(Part::Filer),
            "{peers:?}"
        );

        bridge
            .delete(FOLDER, "a", Removal::default())
            .await
            .expect("it goes");
        bridge
            .delete(FOLDER, "a", Removal::default())
            .await
            .expect("it is gone");
        assert_eq!(bridge.lookup(FOLDER, "a").await, Ok(None));

        let key = Bytes::from_static(b"key");
        assert_eq!(bridge.kv_get(key.clone()).await, Ok(None));
        bridge
            .kv_put(key.clone(), Bytes::from_static(b"value"))
            .await
            .expect("it is set");
        assert_eq!(
            bridge.kv_get(key).await,
            Ok(Some(Bytes::from_static(b"value")))
        );
    });
}

#[test]
fn a_directory_is_read_in_pages() {
    let weed = Weed::start_parts(&FILES);
    let (_thread, bridge) = patient(&weed);
    wait(async {
        let empty = bridge.list(List {
            directory: "/none".to_owned(),
            limit: 9,
            ..List::default()
        });
        assert!(empty.await.expect("a page").entries.is_empty());
        for n in 0..25 {
            let name = format!("file-{n:02}");
            bridge
                .create(FOLDER, file(&name, 0, ""), false)
                .await
                .expect("it is made");
        }
        bridge
            .create(FOLDER, file("other", 0, ""), false)
            .await
            .expect("it is made");
        let mut list = List {
            directory: FOLDER.to_owned(),
            prefix: "file-".to_owned(),
            limit: 10,
            ..List::default()
        };
        let mut names = Vec::new();
        let mut pages = Vec::new();
        loop {
            let page = bridge.list(list.clone()).await.expect("a page");
            pages.push(page.entries.len());
            names.extend(page.entries.into_iter().map(|entry| entry.name));
            if !page.more {
                break;
            }
            list.after
                .clone_from(names.last().expect("there are more after it"));
        }
        assert_eq!(pages, [10, 10, 5]);
        let expected: Vec<_> = (0..25).map(|n| format!("file-{n:02}")).collect();
        assert_eq!(names, expected);
    });
}

#[test]
fn of_those_who_compare_and_swap_each_wins_as_often_as_the_count_says() {
    let weed = Weed::start_parts(&FILES);
    let (_thread, first) = patient(&weed);
    let (_other_thread, second) = patient(&weed);
    let counter = |n: u32| Entry {
        extended: HashMap::from([("n".to_owned(), Bytes::from(n.to_string()))]),
        ..file("counter", 1, "")
    };
    let swap_often = async |bridge: &Bridge| {
        let mut wins = 0;
        for _ in 0..50 {
            let entry = bridge.lookup(FOLDER, "counter").await.expect("an answer");
            let seen = entry.expect("it is there").extended["n"].clone();
            let n: u32 = std::str::from_utf8(&seen)
                .expect("digits")
                .parse()
                .expect("a number");
            let expected = vec![("n".to_owned(), seen)];
            match bridge.update(FOLDER, counter(n + 1), expected).await {
                Ok(()) => wins += 1,
                Err(BridgeError::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        wins
    };
    wait(first.create(FOLDER, counter(0), false)).expect("it is made");
    let bridges = [&first, &second, &first, &second];
    let wins: u32 = std::thread::scope(|scope| {
        let threads = bridges.map(|bridge| scope.spawn(|| wait(swap_often(bridge))));
        threads
            .into_iter()
            .map(|t| t.join().expect("no panic"))
            .sum()
    });
    let entry = wait(first.lookup(FOLDER, "counter"))
        .expect("an answer")
        .expect("it is there");
    assert_eq!(entry.extended["n"], wins.to_string());
    assert!(wins < 200, "nobody ever lost: they did not race");
    let absent = wait(first.update(FOLDER, file("absent", 0, ""), vec![]));
    assert!(
        matches!(absent, Err(BridgeError::NotFound(_))),
        "{absent:?}"
    );
}

#[test]
fn who_lost_the_fence_changes_nothing() {
    let weed = Weed::start_parts(&FILES);
    let (_thread, old) = patient(&weed);
    let (_other_thread, new) = patient(&weed);
    wait(async {
        old.create(FOLDER, file("owner", 1, ""), true)
            .await
            .expect("nobody owns it");
        old.transact(fenced(1, 2, file("a", 0, "old")))
            .await
            .expect("it owns it");
        new.transact(fenced(2, 9, file("b", 0, "new")))
            .await
            .expect("it takes it over");
        let late = old.transact(fenced(2, 3, file("a", 0, "late"))).await;
        assert!(matches!(late, Err(BridgeError::Conflict(_))), "{late:?}");
        let a = new
            .lookup(FOLDER, "a")
            .await
            .expect("an answer")
            .expect("it is there");
        assert_eq!(a.content, "old");
        let owner = new
            .lookup(FOLDER, "owner")
            .await
            .expect("an answer")
            .expect("it is there");
        assert_eq!(etag(&owner), Some("09".repeat(16)));
        new.transact(Transaction {
            lock: path(FOLDER, "owner"),
            condition: Some(Condition::Present),
            mutations: vec![
                Mutation::Delete {
                    directory: FOLDER.to_owned(),
                    name: "a".to_owned(),
                    data: true,
                    recursive: false,
                },
                Mutation::Patch {
                    directory: FOLDER.to_owned(),
                    name: "b".to_owned(),
                    set: vec![("mark".to_owned(), Bytes::from_static(b"1"))],
                    remove: vec![],
                },
            ],
        })
        .await
        .expect("it is there");
        assert_eq!(new.lookup(FOLDER, "a").await, Ok(None));
        let b = new
            .lookup(FOLDER, "b")
            .await
            .expect("an answer")
            .expect("it is there");
        assert_eq!(
            (&b.content[..], &b.extended["mark"][..]),
            (&b"new"[..], &b"1"[..])
        );
    });
}

#[test]
fn a_lease_has_one_owner() {
    let weed = Weed::start_parts(&FILES);
    let (_thread, bridge) = patient(&weed);
    wait(async {
        let lease = bridge
            .acquire("lease", "one", 30)
            .await
            .expect("nobody has it");
        let other = bridge.acquire("lease", "two", 30).await;
        assert!(matches!(other, Err(BridgeError::Conflict(_))), "{other:?}");
        let renewed = bridge.renew(lease.clone(), 30).await.expect("it has it");
        assert_ne!(lease.token, renewed.token);
        let old = bridge.renew(lease, 30).await;
        assert!(matches!(old, Err(BridgeError::Conflict(_))), "{old:?}");
        bridge.release(renewed).await.expect("it has it");
        bridge
            .acquire("lease", "two", 30)
            .await
            .expect("nobody has it");
    });
}

#[test]
fn a_chunk_comes_back_as_it_went_and_survives_a_restart() {
    let mut weed = Weed::start_parts(&FILES);
    let (_thread, bridge) = patient(&weed);
    let bytes: Bytes = (0..3_000_000u32).map(|n| (n ^ (n >> 9)) as u8).collect();
    let pieces = vec![
        bytes.slice(..1),
        bytes.slice(1..70_000),
        bytes.slice(70_000..),
    ];
    for fsync in [false, true] {
        let placement = Placement {
            path: path(FOLDER, "chunks"),
            fsync,
            ..Placement::default()
        };
        let chunk = wait(bridge.upload(pieces.clone(), placement)).expect("it is stored");
        assert_eq!(chunk.size, bytes.len() as u64);
        let mut entry = file("chunks", 7, "");
        entry.chunks.push(chunk.clone());
        wait(bridge.create(FOLDER, entry, false)).expect("it is made");
        let kept = wait(bridge.lookup(FOLDER, "chunks"))
            .expect("an answer")
            .expect("there");
        let check = |chunk| {
            for range in [
                0..3_000_000,
                0..1,
                69_000..71_000,
                2_999_999..3_000_000,
                5..5,
            ] {
                let read = wait(bridge.read(chunk, range.clone())).expect("it is read");
                assert!(
                    read == bytes[range.start as usize..range.end as usize],
                    "{range:?}"
                );
            }
        };
        // Once as the upload told it, and once as the filer keeps it.
        check(&chunk);
        check(&kept.chunks[0]);
        let beyond = wait(bridge.read(&chunk, 0..3_000_001));
        assert!(
            matches!(beyond, Err(BridgeError::Refused { .. })),
            "{beyond:?}"
        );
        let mut longer = chunk.clone();
        longer.size += 1;
        let damaged = wait(bridge.read(&longer, 0..3_000_001));
        assert!(
            matches!(damaged, Err(BridgeError::Damaged(_))),
            "{damaged:?}"
        );
        weed.kill(Part::Volume);
        weed.start_part(Part::Volume);
        check(&chunk);
    }
    let nobodys = wait(bridge.upload(pieces, Placement::default())).expect("it is stored");
    wait(bridge.discard(&nobodys)).expect("it goes");
    let gone = wait(bridge.read(&nobodys, 0..1));
    assert!(matches!(gone, Err(BridgeError::NotFound(_))), "{gone:?}");
    wait(bridge.discard(&nobodys)).expect("it is gone");
}

#[test]
fn every_chunk_has_a_place_of_its_own_also_after_the_master_restarts() {
    let mut weed = Weed::start_parts(&FILES);
    let (_thread, ours) = patient(&weed);
    let (_other_thread, others) = patient(&weed);
    let mut stored = Vec::new();
    for n in 0..60 {
        if n == 20 {
            weed.kill(Part::Master);
            weed.start_part(Part::Master);
        }
        for bridge in [&ours, &others] {
            let bytes = Bytes::from(format!("{} of {n}", stored.len()));
            let placement = Placement {
                path: path(FOLDER, &format!("chunk-{n}")),
                ..Placement::default()
            };
            let chunk = wait(bridge.upload(vec![bytes.clone()], placement));
            stored.push((chunk.expect("it is stored"), bytes));
        }
    }
    for (chunk, bytes) in stored {
        assert_eq!(
            wait(others.read(&chunk, 0..chunk.size)),
            Ok(bytes),
            "{}",
            chunk.file_id
        );
    }
}

#[test]
fn a_filer_that_was_killed_is_used_again_when_it_is_back() {
    let mut weed = Weed::start_parts(&FILES);
    let (_thread, hasty) = bridge(&weed, Duration::from_secs(1));
    let (_other_thread, patient) = patient(&weed);
    wait(hasty.create(FOLDER, file("a", 1, "kept"), false)).expect("it is made");
    weed.kill(Part::Filer);
    let began = Instant::now();
    let gone = wait(hasty.lookup(FOLDER, "a"));
    assert!(
        matches!(gone, Err(BridgeError::Unavailable { .. })),
        "{gone:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "it kept its time"
    );
    // What has the time for it waits for the filer, and finds what was committed.
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| wait(patient.lookup(FOLDER, "a")));
        weed.start_part(Part::Filer);
        let found = waits.join().expect("no panic").expect("an answer");
        assert_eq!(found.expect("it is there").content, "kept");
    });
}

#[test]
fn a_filer_that_stands_still_gives_a_retriable_error_in_time() {
    let weed = Weed::start_parts(&FILES);
    let (_thread, bridge) = bridge(&weed, Duration::from_secs(2));
    wait(bridge.create(FOLDER, file("owner", 1, ""), true)).expect("nobody owns it");
    weed.pause(Part::Filer);
    let began = Instant::now();
    let commit = fenced(1, 2, file("a", 0, "a"));
    let unknown = wait(bridge.transact(commit.clone()));
    let unanswered = wait(bridge.lookup(FOLDER, "a"));
    let took = began.elapsed();
    weed.resume(Part::Filer);
    assert!(
        matches!(unknown, Err(BridgeError::Unknown { .. })),
        "{unknown:?}"
    );
    let Err(unanswered) = unanswered else {
        panic!("it stood still")
    };
    assert!(unanswered.is_retriable() && unknown.is_err_and(|e| e.is_retriable()));
    assert!(took < Duration::from_secs(20), "twice 2 s took {took:?}");
    // It may have been done meanwhile, or not: after its repetition it is done, once.
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        match wait(bridge.transact(commit.clone())) {
            Ok(()) | Err(BridgeError::Conflict(_)) => break,
            Err(error) => assert!(error.is_retriable() && Instant::now() < patience, "{error}"),
        }
    }
    let owner = wait(bridge.lookup(FOLDER, "owner"))
        .expect("an answer")
        .expect("it is there");
    assert_eq!(etag(&owner), Some("02".repeat(16)));
    assert_eq!(
        wait(bridge.lookup(FOLDER, "a"))
            .expect("an answer")
            .expect("there")
            .content,
        "a"
    );
}

#[test]
fn of_several_servers_those_that_are_well_are_used() {
    let mut weed = Weed::start_parts(&[Part::Master, Part::Volume, Part::Filer, Part::OtherFiler]);
    // The first master is none.
    let masters = ["127.0.0.1:1".to_owned(), weed.master()].map(|m| m.parse().expect("an address"));
    let config = BridgeConfig {
        deadline: Duration::from_secs(5),
        ..BridgeConfig::new(masters.into())
    };
    let (_thread, bridge) = Bridge::start(config).expect("a thread");
    let addresses = [weed.address(Part::Filer), weed.address(Part::OtherFiler)];
    let up = |address: &String| {
        let peers = wait(bridge.peers()).expect("an answer");
        let mut filers = peers.iter().filter(|peer| peer.role == Role::Filer);
        filers.any(|peer| peer.address == *address && peer.up)
    };
    wait_for("both are known", || addresses.iter().all(up));
    let reads = |name: &str, content: &str| {
        let found = wait(bridge.lookup(FOLDER, name));
        found.is_ok_and(|entry| entry.is_some_and(|entry| entry.content == content))
    };
    wait(bridge.create(FOLDER, file("owner", 1, ""), true)).expect("nobody owns it");
    let filers = [Part::Filer, Part::OtherFiler];
    // Their stores are their own, and each tells the other what is new, some time later.
    let told = |weed: &Weed, name| {
        let has = |filer: &Part| weed.has(*filer, &path(FOLDER, name));
        wait_for("both have it", || filers.iter().all(has));
    };
    told(&weed, "owner");
    // Both filers bring it to the one that owns the lock.
    for (part, name, token) in [(Part::Filer, "a", 1), (Part::OtherFiler, "b", 2)] {
        let address = weed.address(part);
        weed.pause(part);
        // A commit that the paused one is to make waits for its end; reading does not.
        (0..4).for_each(|_| assert!(reads("owner", ""), "the other has it"));
        weed.resume(part);
        wait_for("it is back", || up(&address));
        let commit = fenced(token, token + 1, file(name, 0, "x"));
        wait_for("it is done", || {
            match wait(bridge.transact(commit.clone())) {
                Ok(()) | Err(BridgeError::Conflict(_)) => true,
                Err(error) => {
                    assert!(error.is_retriable(), "{error}");
                    false
                }
            }
        });
        told(&weed, name);
    }
    for part in filers {
        let address = weed.address(part);
        weed.kill(part);
        (0..4).for_each(|_| assert!(reads("a", "x") && reads("b", "x"), "the other has them"));
        wait_for("it is left", || !up(&address));
        weed.start_part(part);
        wait_for("it is taken again", || up(&address));
    }
    // What is known is used without a master.
    weed.kill(Part::Master);
    wait_for("it is read", || reads("a", "x"));
}

#[test]
fn without_a_volume_server_an_upload_fails_in_time_and_later_succeeds() {
    let mut weed = Weed::start_parts(&FILES);
    let (_thread, hasty) = bridge(&weed, Duration::from_secs(2));
    let (_other_thread, patient) = patient(&weed);
    let bytes = Bytes::from_static(b"bytes");
    let upload = |bridge: &Bridge| wait(bridge.upload(vec![bytes.clone()], Placement::default()));
    let chunk = upload(&hasty).expect("it is stored");
    weed.kill(Part::Volume);
    let began = Instant::now();
    let refused = upload(&hasty).expect_err("nobody takes it");
    let unread = wait(hasty.read(&chunk, 0..5)).expect_err("nobody has it");
    assert!(
        matches!(refused, BridgeError::Unavailable { .. }),
        "{refused:?}"
    );
    assert!(
        matches!(unread, BridgeError::Unavailable { .. }),
        "{unread:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "they kept their time"
    );
    weed.start_part(Part::Volume);
    weed.pause(Part::Volume);
    let began = Instant::now();
    let unanswered = upload(&hasty).expect_err("it stands still");
    assert!(
        matches!(unanswered, BridgeError::Unavailable { .. }),
        "{unanswered:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "it kept its time"
    );
    weed.resume(Part::Volume);
    let read = wait(patient.read(&chunk, 0..5)).expect("it is read");
    assert_eq!(read, bytes);
    upload(&patient).expect("it is stored");
}

#[test]
fn a_volume_that_no_server_has_is_told_at_once_and_costs_no_retries_until_it_is_back() {
    let mut weed = Weed::start_parts(&FILES);
    let (_thread, bridge) = patient(&weed);
    let bytes = Bytes::from_static(b"bytes");
    let chunk = wait(bridge.upload(vec![bytes.clone()], Placement::default()));
    let chunk = chunk.expect("it is stored");
    weed.kill(Part::Volume);
    let read = || wait(bridge.read(&chunk, 0..5));
    let is_away = |read| {
        let role = Role::Volume;
        matches!(read, Err(BridgeError::Unavailable { role: of, .. }) if of == role)
    };
    assert!(is_away(read()));
    let before = retries(&bridge);
    for _ in 0..1000 {
        assert!(is_away(read()));
    }
    assert_eq!(retries(&bridge), before);
    weed.start_part(Part::Volume);
    wait_for("it is read", || read().is_ok_and(|read| read == bytes));
}

#[test]
fn uploads_pass_over_a_volume_server_that_stands_still() {
    const UPLOADS: u64 = 60;
    let parts = [Part::Master, Part::Volume, Part::OtherVolume, Part::Filer];
    let weed = Weed::start_parts(&parts);
    let (_thread, bridge) = bridge(&weed, Duration::from_secs(3));
    // As many volumes on each.
    for part in [Part::Volume, Part::OtherVolume] {
        let node = weed.address(part);
        let grown = get(
            &weed.master(),
            &format!("/vol/grow?collection=both&replication=000&count=3&dataNode={node}"),
        );
        assert!(grown.contains(r#""count":3"#), "{grown}");
    }
    let placement = Placement {
        collection: "both".to_owned(),
        ..Placement::default()
    };
    let upload = || {
        let bytes = vec![Bytes::from_static(b"bytes")];
        wait(bridge.upload(bytes, placement.clone()))
    };
    upload().expect("it is stored");
    weed.pause(Part::Volume);
    wait_for("it is known to give no answer", || {
        let _ = upload();
        let peers = wait(bridge.peers()).expect("they are known");
        peers.iter().any(|p| p.role == Role::Volume && !p.up)
    });
    let before = retries(&bridge);
    for _ in 0..UPLOADS {
        upload().expect("it is stored");
    }
    // The master assigns places on both alike.
    assert!(retries(&bridge) - before < UPLOADS / 4);
    weed.resume(Part::Volume);
}

/// Attempts after the first, with all servers.
fn retries(bridge: &Bridge) -> u64 {
    let all = bridge.metrics().retries.iter();
    all.map(|number| number.get()).sum()
}

/// Nobody asks it.
struct Quiet;

impl Service for Quiet {
    type Request = ();
    type Reply = ();

    fn handle(self: &Rc<Self>, (): (), reply: ReplyTo<()>) {
        reply.send(());
    }
}

#[test]
fn an_answer_wakes_its_task_on_a_shard_that_works_on_meanwhile() {
    let masters = vec!["127.0.0.1:1".parse().expect("an address")];
    let config = BridgeConfig {
        deadline: Duration::from_millis(200),
        ..BridgeConfig::new(masters)
    };
    let (_thread, bridge) = Bridge::start(config).expect("a thread");
    let options = Options {
        shards: NonZeroUsize::new(1),
        pin: Pin::Off,
        ..Options::default()
    };
    let runtime = shards::start(options, move |shard: Shard<Quiet>| {
        let bridge = bridge.clone();
        async move {
            shard.serve(Rc::new(Quiet));
            shard.ready();
            let ticks = Rc::new(Cell::new(0));
            let ticking = ticks.clone();
            shard.spawn(async move {
                loop {
                    shards::sleep(Duration::from_millis(1)).await;
                    ticking.set(ticking.get() + 1);
                }
            });
            for _ in 0..3 {
                let before = ticks.get();
                let answer = bridge.lookup(FOLDER, "a").await;
                assert!(
                    matches!(answer, Err(BridgeError::Unavailable { .. })),
                    "{answer:?}"
                );
                assert!(ticks.get() > before, "the shard stood still");
            }
            shard.stop();
            shard.stopping().await;
            Ok::<(), String>(())
        }
    });
    runtime.expect("a shard").wait().expect("it ends well");
}

#[test]
fn without_any_server_operations_fail_in_time_and_too_many_are_refused() {
    let masters = vec!["127.0.0.1:1".parse().expect("an address")];
    let config = BridgeConfig {
        deadline: Duration::from_millis(500),
        calls_max: 2,
        bytes_max: 100,
        ..BridgeConfig::new(masters)
    };
    let (thread, bridge) = Bridge::start(config).expect("a thread");
    let lookups = std::thread::scope(|scope| {
        let lookups = [(); 3].map(|()| scope.spawn(|| wait(bridge.lookup(FOLDER, "a"))));
        lookups.map(|lookup| {
            lookup
                .join()
                .expect("no panic")
                .expect_err("nobody is there")
        })
    });
    let count = |error: &BridgeError| lookups.iter().filter(|e| *e == error).count();
    assert_eq!(count(&BridgeError::Overloaded), 1, "{lookups:?}");
    assert!(lookups.iter().all(BridgeError::is_retriable), "{lookups:?}");
    let upload = wait(bridge.upload(vec![vec![0; 101].into()], Placement::default()));
    assert!(
        matches!(upload, Err(BridgeError::Refused { .. })),
        "{upload:?}"
    );
    drop(thread);
    assert_eq!(wait(bridge.lookup(FOLDER, "a")), Err(BridgeError::Stopped));
}

/// An authority, and a certificate of it, as `ca.pem`, `cert.pem` and `key.pem` in a folder.
fn certify(folder: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let key = || KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = key();
    let ca = authority
        .self_signed(&authority_key)
        .expect("a certificate");
    let issuer = Issuer::new(authority, authority_key);
    // As SeaweedFS's documentation makes them, it has no host's name.
    let (params, key) = (CertificateParams::default(), key());
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let write = |name, text| std::fs::write(folder.join(name), text).expect("it is written");
    write("ca.pem", ca.pem());
    write("cert.pem", certificate.pem());
    write("key.pem", key.serialize_pem());
}

/// A `security.toml` that asks for certificates and tokens everywhere.
fn secure(folder: &Path) -> PathBuf {
    certify(folder);
    let path = folder.join("security.toml");
    let at = |name| folder.join(name).display().to_string();
    let mut text = format!(
        "[jwt.signing]\nkey = 'w'\n[jwt.signing.read]\nkey = 'r'\n[grpc]\nca = '{}'\n",
        at("ca.pem")
    );
    for part in ["master", "volume", "filer", "client"] {
        text += &format!(
            "[grpc.{part}]\ncert = '{}'\nkey = '{}'\n",
            at("cert.pem"),
            at("key.pem")
        );
    }
    std::fs::write(&path, text).expect("it is written");
    path
}

#[test]
fn who_has_the_certificates_and_the_keys_is_let_in() {
    let folder = common::data_folder();
    let own = secure(folder.path());
    let mut weed = Weed::start_in(folder, &FILES);
    let others_folder = common::data_folder();
    let others = secure(others_folder.path());
    let with = |security, deadline| {
        let config = BridgeConfig {
            security,
            deadline,
            ..BridgeConfig::new(vec![weed.master().parse().expect("an address")])
        };
        Bridge::start(config).expect("a thread")
    };
    let load = |path: &Path| Security::load(path).expect("it is whole");
    for security in [Security::default(), load(&others)] {
        let (_thread, outsider) = with(security, Duration::from_secs(2));
        let refused = wait(outsider.create(FOLDER, file("a", 1, "a"), false));
        assert!(
            matches!(refused, Err(BridgeError::Unavailable { .. })),
            "{refused:?}"
        );
    }
    let (_thread, bridge) = with(load(&own), Duration::from_secs(30));
    wait(bridge.create(FOLDER, file("a", 1, "a"), true)).expect("it is made");
    let bytes = Bytes::from_static(b"bytes");
    let upload = || wait(bridge.upload(vec![bytes.clone()], Placement::default()));
    let [chunk, nobodys] = [upload(), upload()].map(|chunk| chunk.expect("it is stored"));
    assert_eq!(wait(bridge.read(&chunk, 0..5)), Ok(bytes.clone()));
    wait(bridge.discard(&nobodys)).expect("it goes");
    let gone = wait(bridge.read(&nobodys, 0..5));
    assert!(matches!(gone, Err(BridgeError::NotFound(_))), "{gone:?}");
    // Who has no key to sign with reads through the filer.
    let text = std::fs::read_to_string(&own).expect("it is there");
    let keyless = own.with_file_name("keyless.toml");
    std::fs::write(&keyless, text.replace("key = 'r'", "")).expect("it is written");
    let (_thread, through) = with(load(&keyless), Duration::from_secs(30));
    assert_eq!(wait(through.read(&chunk, 1..3)), Ok(bytes.slice(1..3)));
    // Who has one needs no filer where the volume is known.
    wait(bridge.read(&chunk, 0..5)).expect("it is found");
    weed.kill(Part::Filer);
    assert_eq!(wait(bridge.read(&chunk, 1..3)), Ok(bytes.slice(1..3)));
}

#[test]
fn topics_are_made_and_described() {
    let weed = Weed::start();
    let (_thread, bridge) = patient(&weed);
    let spec = TopicSpec {
        partition_count: 3,
        retention: Some(Duration::from_secs(3600)),
        ..TopicSpec::default()
    };
    wait(async {
        let made = bridge
            .configure_topic("kafka", "t", spec.clone())
            .await
            .expect("it is made");
        let starts = |partitions: &[tidegate::bridge::BrokerPartitionAssignment]| {
            let starts = partitions.iter().filter_map(|p| p.partition.as_ref());
            starts.map(|p| p.range_start).collect::<Vec<_>>()
        };
        assert_eq!(starts(&made.partitions), [0, 840, 1680]);
        let topics = bridge.topics().await.expect("an answer");
        assert!(
            topics.contains(&("kafka".to_owned(), "t".to_owned())),
            "{topics:?}"
        );
        let told = bridge
            .topic_configuration("kafka", "t")
            .await
            .expect("an answer");
        let told = told.expect("it is there");
        assert_eq!(
            (starts(&told.partitions), told.retention),
            (vec![0, 840, 1680], spec.retention)
        );
        let brokers = bridge.topic_brokers("kafka", "t").await.expect("an answer");
        let leader = weed.address(Part::Broker);
        assert!(
            brokers
                .expect("it is there")
                .iter()
                .all(|p| p.leader_broker == leader)
        );
        assert_eq!(bridge.topic_configuration("kafka", "none").await, Ok(None));
        assert_eq!(bridge.topic_brokers("kafka", "none").await, Ok(None));
        for (name, partition_count) in [("t", 0), ("t", 2521), ("a/b", 1), (".t", 1), ("", 1)] {
            let spec = TopicSpec {
                partition_count,
                ..TopicSpec::default()
            };
            let refused = bridge.configure_topic("kafka", name, spec).await;
            assert!(
                matches!(refused, Err(BridgeError::Refused { .. })),
                "{refused:?}"
            );
        }
    });
}

#[test]
fn messages_are_numbered_read_back_and_known_to_be_written() {
    let mut weed = Weed::start();
    let (_thread, bridge) = patient(&weed);
    let spec = TopicSpec {
        partition_count: 1,
        ..TopicSpec::default()
    };
    wait(bridge.configure_topic("kafka", "m", spec)).expect("it is made");
    let began = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a time")
        .as_nanos() as i64;
    let list = List {
        directory: "/topics/kafka/m".to_owned(),
        prefix: "v".to_owned(),
        limit: 1,
        ..List::default()
    };
    let mut place = None;
    wait_for("a broker leads the partition", || {
        place = wait(bridge.message_place("kafka", "m", 0)).ok();
        place.is_some()
    });
    let place = place.expect("a place");
    let mut publisher = wait(bridge.publish(&place, "test")).expect("a stream");
    let message = |n: u8| DataMessage {
        key: vec![n].into(),
        value: vec![0xFF, n].into(),
        ts_ns: 0,
    };
    let publish = |publisher: &mut Publisher, numbers: std::ops::Range<u8>| {
        let count = numbers.len();
        for n in numbers {
            let sent = publisher.messages.unbounded_send(message(n).into());
            sent.expect("the stream is open");
        }
        let mut offsets = Vec::new();
        while offsets.len() < count {
            let acks = wait(publisher.acks.next()).expect("acknowledgements");
            offsets.extend(acks.expect("offsets"));
        }
        offsets
    };
    assert_eq!(publish(&mut publisher, 0..100), Vec::from_iter(0..100));
    let fetched = wait(bridge.fetch_messages(&place, 90, 1000)).expect("messages");
    let keys: Vec<_> = fetched.messages.iter().map(|m| m.key[0]).collect();
    assert_eq!(keys, Vec::from_iter(90..100));
    assert_eq!((fetched.next_offset, fetched.high_watermark), (100, 100));
    // The folder comes with the broker's first note of how far it is.
    let mut folder = None;
    wait_for("the partition has a folder", || {
        let page = wait(bridge.list(list.clone())).expect("a page");
        let generation = page.entries.first().map(|entry| entry.name.clone());
        folder = generation.map(|g| format!("/topics/kafka/m/{g}/0000-2520"));
        folder.is_some()
    });
    let folder = folder.expect("a folder");
    let folders = vec!["/topics/kafka/a".to_owned(), folder.clone()];
    let mut changes = wait(bridge.watch(folders, began)).expect("changes");
    // Of what begins at offset 0 the broker does not say which offsets it has.
    let mut written = |offset_max: Option<i64>| loop {
        let change = wait(changes.next()).expect("a change");
        assert_eq!(change.folder, folder);
        let entry = change.entry.expect("nothing is removed");
        if change.name != "checkpoint.offset" {
            let last = entry
                .extended
                .get("offset_max")
                .map(|last| last[..].to_vec());
            assert_eq!(last, offset_max.map(|last| last.to_be_bytes().to_vec()));
            return;
        }
    };
    written(None);
    assert_eq!(publish(&mut publisher, 100..110), Vec::from_iter(100..110));
    written(Some(109));
    weed.kill(Part::Broker);
    let end = wait(publisher.acks.next()).expect("why it ends");
    assert!(end.is_err(), "{end:?}");
    assert_eq!(wait(publisher.acks.next()), None);
}
