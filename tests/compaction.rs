//! Compacted topics on the embedded log. What is tried is in [`common::compaction`].

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::compaction::{self, Site, Topic};
use common::{Gateway, data_folder};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(data_folder())
    }

    /// The files of partition 0.
    fn files(&self, (_, id): Topic) -> Vec<PathBuf> {
        let dir = self.0.path().join("data/topics").join(id.to_string());
        let files = std::fs::read_dir(dir.join("0")).into_iter().flatten();
        files.flatten().map(|file| file.path()).collect()
    }
}

impl Site for Folder {
    fn data(&self) -> &Path {
        self.0.path()
    }

    fn gateway(&self, options: &[&str]) -> Gateway {
        Gateway::start(self.0.path(), options)
    }

    fn segments(&self, topic: Topic) -> BTreeMap<i64, bool> {
        let segment = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?;
            let stem = name.strip_suffix(".log")?;
            let (base, rest) = stem.split_once('.').unwrap_or((stem, ""));
            Some((base.parse().ok()?, !rest.is_empty()))
        };
        self.files(topic).iter().filter_map(segment).collect()
    }

    /// Flips a bit in the middle of the file.
    fn damage(&self, topic: Topic, base_offset: i64) {
        let name = format!("{base_offset:020}.log");
        let files = self.files(topic);
        let path = files.iter().find(|path| path.ends_with(&name));
        let path = path.expect("the segment's file");
        let mut bytes = std::fs::read(path).expect("the file");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).expect("it is written");
    }

    /// `tidegate dump` finds nothing wrong with any segment, and says which is compacted.
    fn inspect(&self, topic: Topic) {
        let files = self.files(topic).into_iter();
        let logs = files.filter(|path| path.extension().is_some_and(|e| e == "log"));
        let mut compacted = 0;
        for log in logs {
            let mut dump = Command::new(env!("CARGO_BIN_EXE_tidegate"));
            let output = dump.arg("dump").arg(log).output();
            let output = output.expect("it runs");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{text}");
            compacted += text.matches("compacted up to offset").count();
        }
        assert!(compacted > 0);
    }
}

#[test]
fn who_reads_finds_the_last_record_of_each_key_at_its_offset() {
    compaction::who_reads_finds_the_last_record_of_each_key_at_its_offset(&Folder::new());
}

#[test]
fn behind_a_hole_at_the_end_of_a_chunk_or_segment_the_next_one_is_read() {
    compaction::behind_a_hole_at_the_end_of_a_chunk_or_segment_the_next_one_is_read(&Folder::new());
}

#[test]
fn tombstones_go_in_time_and_what_they_deleted_at_once() {
    compaction::tombstones_go_in_time_and_what_they_deleted_at_once(&Folder::new());
}

#[test]
fn a_kill_while_logs_are_compacted_loses_no_keys_last_record() {
    compaction::a_kill_while_logs_are_compacted_loses_no_keys_last_record(&Folder::new());
}

#[test]
fn a_topic_with_both_policies_is_compacted_and_loses_its_beginning() {
    compaction::a_topic_with_both_policies_is_compacted_and_loses_its_beginning(&Folder::new());
}

#[test]
fn a_log_that_cannot_be_compacted_stays_as_it_is_and_others_do_not_wait_for_it() {
    compaction::a_log_that_cannot_be_compacted_stays_as_it_is_and_others_do_not_wait_for_it(
        &Folder::new(),
    );
}

#[test]
fn many_commits_do_not_make_the_offsets_topic_grow_and_groups_are_as_they_were() {
    compaction::many_commits_do_not_make_the_offsets_topic_grow_and_groups_are_as_they_were(
        &Folder::new(),
    );
}

#[test]
fn what_compaction_replaced_does_not_come_back_after_a_kill() {
    compaction::what_compaction_replaced_does_not_come_back_after_a_kill(&Folder::new());
}
