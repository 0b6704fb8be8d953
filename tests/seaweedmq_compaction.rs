//! Compacted topics in SeaweedFS. What is tried on any store is in [`common::compaction`].

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::compaction::{
    self, EAGER, Site, Topic, fill, last_of_each, put_one, read, wait_compacted,
};
use common::places::Place;
use common::weed::{Part, get, list, wait, wait_for};
use common::{Gateway, now_ms};
use tidegate::bridge::{Entry, FileChunk};

impl Place {
    /// The folder of partition 0 of a topic that has one. The filer has it when something is in it.
    fn folder(&self, topic: &str) -> Option<String> {
        let (_thread, bridge) = self.weed.bridge();
        let below = |path: String| {
            let mut entries = list(&bridge, &path).into_iter();
            let below = entries.find(|entry| entry.is_directory)?;
            Some(format!("{path}/{}", below.name))
        };
        let generation = below(format!("/topics/kafka/{topic}"))?;
        below(generation)
    }

    /// Its segments, by name.
    fn entries(&self, topic: &str) -> Vec<Entry> {
        let (_thread, bridge) = self.weed.bridge();
        let folder = self.folder(topic);
        folder.map_or_else(Vec::new, |folder| list(&bridge, &folder))
    }

    fn chunks(&self, topic: &str) -> Vec<FileChunk> {
        let entries = self.entries(topic).into_iter();
        entries.flat_map(|entry| entry.chunks).collect()
    }
}

fn base_offset(entry: &Entry) -> i64 {
    let bytes = &entry.extended["offset_min"][..];
    i64::from_be_bytes(bytes.try_into().expect("8 bytes"))
}

impl Site for Place {
    fn data(&self) -> &Path {
        self.data.path()
    }

    fn gateway(&self, options: &[&str]) -> Gateway {
        self.weed.gateway(self.data.path(), None, options)
    }

    fn segments(&self, (name, _): Topic) -> BTreeMap<i64, bool> {
        let entries = self.entries(name).into_iter();
        let segment = |entry: Entry| (base_offset(&entry), entry.extended["tidegate"][0] == 2);
        entries.map(segment).collect()
    }

    /// Removes one of its chunks.
    fn damage(&self, (name, _): Topic, base: i64) {
        let (_thread, bridge) = self.weed.bridge();
        let entries = self.entries(name);
        let entry = entries.iter().find(|entry| base_offset(entry) == base);
        let chunks = &entry.expect("the segment's entry").chunks;
        wait(bridge.discard(&chunks[chunks.len() / 2])).expect("it is gone");
    }

    /// Segments are in order, what they list is there, and the filer gives all of it.
    fn inspect(&self, (name, _): Topic) {
        let entries = self.entries(name);
        assert!(entries.is_sorted_by(|a, b| base_offset(a) < base_offset(b)));
        let (_thread, bridge) = self.weed.bridge();
        for chunk in entries.iter().flat_map(|entry| &entry.chunks) {
            let read = wait(bridge.read(chunk, 0..chunk.size));
            assert_eq!(read.expect("the chunk").len() as u64, chunk.size);
        }
        let filer = self.weed.address(Part::Filer);
        let folder = self.folder(name).expect("it has segments");
        for entry in &entries {
            let size = entry.chunks.iter().map(|chunk| chunk.size).sum::<u64>();
            let given = get(&filer, &format!("{folder}/{}", entry.name));
            let length = format!("Content-Length: {size}\r\n");
            assert!(
                given.contains(&length),
                "{}",
                &given[..given.len().min(500)]
            );
        }
    }
}

#[test]
fn who_reads_finds_the_last_record_of_each_key_at_its_offset() {
    compaction::who_reads_finds_the_last_record_of_each_key_at_its_offset(&Place::start());
}

#[test]
fn behind_a_hole_at_the_end_of_a_chunk_or_segment_the_next_one_is_read() {
    compaction::behind_a_hole_at_the_end_of_a_chunk_or_segment_the_next_one_is_read(&Place::start());
}

#[test]
fn tombstones_go_in_time_and_what_they_deleted_at_once() {
    compaction::tombstones_go_in_time_and_what_they_deleted_at_once(&Place::start());
}

#[test]
fn a_kill_while_logs_are_compacted_loses_no_keys_last_record() {
    compaction::a_kill_while_logs_are_compacted_loses_no_keys_last_record(&Place::start());
}

#[test]
fn a_topic_with_both_policies_is_compacted_and_loses_its_beginning() {
    compaction::a_topic_with_both_policies_is_compacted_and_loses_its_beginning(&Place::start());
}

#[test]
fn a_log_that_cannot_be_compacted_stays_as_it_is_and_others_do_not_wait_for_it() {
    compaction::a_log_that_cannot_be_compacted_stays_as_it_is_and_others_do_not_wait_for_it(
        &Place::start(),
    );
}

#[test]
fn many_commits_do_not_make_the_offsets_topic_grow_and_groups_are_as_they_were() {
    compaction::many_commits_do_not_make_the_offsets_topic_grow_and_groups_are_as_they_were(
        &Place::start(),
    );
}

#[test]
fn what_was_compacted_away_leaves_the_volumes() {
    let place = Place::start();
    let options = ["--checkpoint-interval-ms", "20", "--log-cleaner-backoff-ms"];
    let mut gateway = place.gateway(&[&options[..], &["3600000"]].concat());
    let mut client = gateway.connect();
    let topic = ("t", client.create_topic_with("t", 1, &EAGER));
    // Chunks of their own, of which all is left.
    for n in 0..5 {
        put_one(&mut client, "t", &format!("once {n}"), 100_000);
    }
    let mut written = read(&mut client, "t");
    written.extend(fill(&mut client, "t", 6, now_ms()));
    wait_for("all of it is in segments", || {
        let bytes = place
            .chunks("t")
            .iter()
            .map(|chunk| chunk.size)
            .sum::<u64>();
        bytes > 6_000_000
    });
    let before = place.chunks("t");
    assert_eq!(gateway.stop(), Some(0));
    let gateway = place.gateway(&[&options[..], &["10"]].concat());
    wait_compacted(&place, topic);
    let after = place.chunks("t");
    let size = |chunks: &[FileChunk]| chunks.iter().map(|chunk| chunk.size).sum::<u64>();
    assert!(size(&after) < size(&before) / 2, "{after:?}");
    assert!(after.len() < before.len());
    let (_thread, bridge) = place.weed.bridge();
    let is_listed = |chunk: &&FileChunk| after.iter().any(|one| one.file_id == chunk.file_id);
    let (kept, gone): (Vec<_>, Vec<_>) = before.iter().partition(is_listed);
    assert!(kept.len() >= 5);
    // The filer removes them some time later.
    wait_for("chunks that no entry lists are gone", || {
        gone.iter()
            .all(|chunk| wait(bridge.read(chunk, 0..chunk.size)).is_err())
    });
    place.inspect(topic);
    let mut client = gateway.connect();
    assert_eq!(
        last_of_each(&read(&mut client, "t")),
        last_of_each(&written)
    );
}

#[test]
fn a_gateway_that_was_taken_over_from_in_the_midst_of_it_harms_nothing() {
    let place = Place::start();
    let slow = [
        "--shards",
        "1",
        "--checkpoint-interval-ms",
        "20",
        "--log-cleaner-backoff-ms",
        "10",
        "--log-cleaner-io-max-bytes-per-second",
        "4MiB",
    ];
    let first = place.gateway(&slow);
    let mut client = first.connect();
    let topic = ("t", client.create_topic_with("t", 1, &EAGER));
    let written = fill(&mut client, "t", 8, now_ms());
    let second = place.gateway(&["--log-cleaner-enable", "false"]);
    let mut client = second.connect();
    let check = |client: &mut common::Client| {
        let left = read(client, "t");
        assert!(
            left.iter()
                .all(|(offset, record)| written[offset] == *record)
        );
        assert_eq!(last_of_each(&left), last_of_each(&written));
        left
    };
    let left = check(&mut client);
    let segments = place.segments(topic);
    // What the first one still had in hand is over when it has noticed.
    wait_for("the first one has noticed", || {
        Gateway::log(place.data()).contains("another gateway")
    });
    drop(first);
    assert_eq!(place.segments(topic), segments);
    drop(second);
    let third = place.gateway(&slow[..2]);
    assert_eq!(check(&mut third.connect()), left);
}

#[test]
fn what_compaction_replaced_does_not_come_back_after_a_kill() {
    compaction::what_compaction_replaced_does_not_come_back_after_a_kill(&Place::start());
}

#[test]
fn what_the_journal_still_has_of_segments_that_are_gone_does_not_come_back() {
    let place = Place::start();
    // All is committed before any of it is in segments, and no commit comes after that.
    let options = ["--checkpoint-interval-ms", "3000"];
    let backoff = ["--log-cleaner-backoff-ms", "10"];
    let mut gateway = place.gateway(&[options, backoff].concat());
    let mut client = gateway.connect();
    let topic = ("t", client.create_topic_with("t", 1, &EAGER));
    let written = fill(&mut client, "t", 3, now_ms());
    wait_compacted(&place, topic);
    let left = read(&mut client, "t");
    gateway.kill();
    let often = ["--checkpoint-interval-ms", "20"];
    let gateway = place.gateway(&[often, ["--log-cleaner-enable", "false"]].concat());
    let mut client = gateway.connect();
    assert_eq!(read(&mut client, "t"), left);
    // What was found goes with the next checkpoint.
    put_one(&mut client, "t", "one more", 10);
    assert_eq!(last_of_each(&left), last_of_each(&written));
    let log = Gateway::log(place.data());
    assert!(
        log.contains("brought the journal's records into segments"),
        "{log}"
    );
    wait_compacted(&place, topic);
}
