//! All metrics, each once. `docs/metrics.md` is made from this table.

use std::fmt::Write;

/// One metric: a row of the table.
#[derive(Debug)]
pub struct Metric {
    /// As it is scraped.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// What it says, in one line.
    pub help: &'static str,
    /// Heading that it stands under.
    section: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from 0 at the start.
    Counter,
    /// What is so now.
    Gauge,
    Histogram,
}

impl Metric {
    /// Whether there are numbers only where topics are in SeaweedFS.
    pub fn is_of_seaweedfs(&self) -> bool {
        self.section == SEAWEEDFS_EPOCH.section
    }

    /// Whether it is known only from what shards tell of the catalog.
    pub fn is_of_topics(&self) -> bool {
        self.section == TOPICS.section
    }
}

impl Kind {
    /// As Prometheus calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

macro_rules! metrics {
    ($($section:literal { $(
        $(#[doc = $help:literal])+
        $row:ident = $kind:ident $name:literal $(by $($label:literal),+)?;
    )+ })+) => {
        $($(
            pub static $row: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($($label),+)?],
                help: concat!($($help),+).trim_ascii(),
                section: $section,
            };
        )+)+

        /// In the order in which they are scraped.
        pub static METRICS: &[&Metric] = &[$($(&$row),+),+];
    };
}

metrics! {
    "Requests" {
        /// Requests taken.
        REQUESTS = Counter "tidegate_requests_total" by "api";
        /// Time from the arrival of a request's last byte to its answer being handed to the socket. It has the time for which a Fetch waits for records as it was asked to; requests without an answer (acks=0) are left out.
        REQUEST_SECONDS = Histogram "tidegate_request_seconds" by "api";
        /// Errors told to clients; one answer may tell several, as one for each partition.
        REQUEST_ERRORS = Counter "tidegate_request_errors_total" by "api", "error";
        /// Requests taken and not yet answered.
        REQUESTS_IN_FLIGHT = Gauge "tidegate_requests_in_flight" by "shard";
        /// Bytes received from clients.
        RECEIVED_BYTES = Counter "tidegate_received_bytes_total";
        /// Bytes sent to clients.
        SENT_BYTES = Counter "tidegate_sent_bytes_total";
    }

    "Connections" {
        /// Open connections.
        CONNECTIONS = Gauge "tidegate_connections" by "shard";
        /// Most connections at a time, of the whole process (max_connections).
        CONNECTIONS_LIMIT = Gauge "tidegate_connections_limit";
        /// Connections taken.
        CONNECTIONS_ACCEPTED = Counter "tidegate_connections_accepted_total";
        /// Connections refused, by the limit that was reached.
        CONNECTIONS_REFUSED = Counter "tidegate_connections_refused_total" by "limit";
        /// Connections that ended: by their client (client), for requests that break the protocol (bad_request), idle for too long (idle), keeping memory from others (stalled), at a stop (stop), by a bug (failed).
        CONNECTIONS_CLOSED = Counter "tidegate_connections_closed_total" by "reason";
    }

    "Produce and Fetch" {
        /// Batches stored.
        PRODUCED_BATCHES = Counter "tidegate_produced_batches_total";
        /// Records stored.
        PRODUCED_RECORDS = Counter "tidegate_produced_records_total";
        /// Bytes of batches stored.
        PRODUCED_BYTES = Counter "tidegate_produced_bytes_total";
        /// Bytes of batches given to consumers.
        FETCHED_BYTES = Counter "tidegate_fetched_bytes_total";
        /// Fetches that had to wait for records.
        FETCH_WAITS = Counter "tidegate_fetch_waits_total";
        /// Open fetch sessions.
        FETCH_SESSIONS = Gauge "tidegate_fetch_sessions" by "shard";
        /// Reads of a partition for a Fetch: from memory (tail), or from its segment files (cold).
        FETCH_READS = Counter "tidegate_fetch_reads_total" by "source";
    }

    "Store" {
        /// Time of one group commit, from taking what waits to its high watermarks.
        COMMIT_SECONDS = Histogram "tidegate_commit_seconds";
        /// Batches in one group commit.
        COMMIT_BATCHES = Histogram "tidegate_commit_batches";
        /// Bytes of batches in one group commit.
        COMMIT_BYTES = Histogram "tidegate_commit_bytes";
        /// Partitions in one group commit.
        COMMIT_PARTITIONS = Histogram "tidegate_commit_partitions";
        /// When the last commit ended that stored something, in seconds since the epoch; 0 if none did.
        LAST_COMMIT_SECONDS = Gauge "tidegate_last_commit_timestamp_seconds" by "shard";
        /// Time in which a commit was made durable: written to the journal and synced (flush = durable), or brought to SeaweedFS.
        SYNC_SECONDS = Histogram "tidegate_sync_seconds";
        /// Commits of a partition that the disk did not take; producers are told to try again.
        STORE_FAILURES = Counter "tidegate_store_failures_total";
        /// Whether the shard stores nothing any more, after a disk or a filer lost what it was given (restart the process) or another gateway took over.
        STORE_BROKEN = Gauge "tidegate_store_broken" by "shard";
        /// Whether another gateway has taken the store over, so that the shard serves nothing any more: stop the process.
        STORE_FENCED = Gauge "tidegate_store_fenced" by "shard";
        /// Partitions that are not served since the start, as what is stored of them is damaged; the log says what.
        UNREADABLE_PARTITIONS = Gauge "tidegate_unreadable_partitions" by "shard";
        /// Partitions that are not served yet, as no volume server of SeaweedFS has a part of what is stored of them; they are looked at again every few seconds.
        AWAY_PARTITIONS = Gauge "tidegate_away_partitions" by "shard";
        /// Bytes written to journals.
        JOURNAL_BYTES = Counter "tidegate_journal_written_bytes_total";
        /// Journal files, those kept for another use included.
        JOURNAL_FILES = Gauge "tidegate_journal_files" by "shard";
        /// Checkpoints made.
        CHECKPOINTS = Counter "tidegate_checkpoints_total";
        /// Checkpoints that failed.
        CHECKPOINT_FAILURES = Counter "tidegate_checkpoint_failures_total";
        /// Logs compacted (cleanup.policy=compact).
        COMPACTIONS = Counter "tidegate_compactions_total";
        /// Compactions of a log that failed; it stays as it was and is tried again later.
        COMPACTION_FAILURES = Counter "tidegate_compaction_failures_total";
        /// Bytes read by compactions.
        COMPACTION_READ_BYTES = Counter "tidegate_compaction_read_bytes_total";
        /// Bytes written by compactions.
        COMPACTION_WRITTEN_BYTES = Counter "tidegate_compaction_written_bytes_total";
        /// Partitions whose log could not be compacted at the last try.
        UNCLEANABLE_PARTITIONS = Gauge "tidegate_uncleanable_partitions" by "shard";
        /// Of the log of which most waits for compaction, how much, in percent; when it was looked at last.
        MAX_DIRTY_PERCENT = Gauge "tidegate_compaction_max_dirty_percent" by "shard";
        /// Segment files kept open for writing.
        OPEN_SEGMENTS = Gauge "tidegate_open_segments" by "shard";
    }

    "SeaweedFS" {
        /// Operations that ended (store = seaweedmq), as SeaweedFS names them or UploadChunk, ReadChunk and DeleteChunk, by what came of them. An operation is tried again within its time; unavailable and unknown are those that were not done in time, or perhaps done.
        SEAWEEDFS_OPERATIONS = Counter "tidegate_seaweedfs_operations_total" by "operation", "result";
        /// Time of an operation, with all that was tried for it.
        SEAWEEDFS_OPERATION_SECONDS = Histogram "tidegate_seaweedfs_operation_seconds" by "operation";
        /// Attempts that were made again, by the role of the server asked.
        SEAWEEDFS_RETRIES = Counter "tidegate_seaweedfs_retries_total" by "role";
        /// Operations refused, and tried later, as too many were under way.
        SEAWEEDFS_OVERLOADS = Counter "tidegate_seaweedfs_overloads_total";
        /// Operations under way.
        SEAWEEDFS_IN_FLIGHT = Gauge "tidegate_seaweedfs_operations_in_flight";
        /// Most operations under way at a time.
        SEAWEEDFS_IN_FLIGHT_LIMIT = Gauge "tidegate_seaweedfs_operations_in_flight_limit";
        /// Bytes of chunks and entries under way.
        SEAWEEDFS_IN_FLIGHT_BYTES = Gauge "tidegate_seaweedfs_bytes_in_flight";
        /// Most bytes under way at a time.
        SEAWEEDFS_IN_FLIGHT_BYTES_LIMIT = Gauge "tidegate_seaweedfs_bytes_in_flight_limit";
        /// Bytes sent to volume servers.
        SEAWEEDFS_SENT_BYTES = Counter "tidegate_seaweedfs_sent_bytes_total";
        /// Bytes received from volume servers.
        SEAWEEDFS_RECEIVED_BYTES = Counter "tidegate_seaweedfs_received_bytes_total";
        /// Whether a server answered last time, or was not asked yet. Volume servers are those that were met.
        SEAWEEDFS_PEER_UP = Gauge "tidegate_seaweedfs_peer_up" by "role", "address";
        /// Failures of a server since it last answered.
        SEAWEEDFS_PEER_FAILURES = Gauge "tidegate_seaweedfs_peer_failures" by "role", "address";
        /// Epoch by which this gateway owns the store; each start takes a higher one.
        SEAWEEDFS_EPOCH = Gauge "tidegate_seaweedfs_epoch";
        /// Chunks that cold reads wanted: those in memory, and those that a volume server was asked for.
        SEAWEEDFS_CHUNK_READS = Counter "tidegate_seaweedfs_chunk_reads_total" by "source";
        /// Bytes of chunks that were read lately and are kept in memory.
        SEAWEEDFS_CHUNK_CACHE_BYTES = Gauge "tidegate_seaweedfs_chunk_cache_bytes";
        /// Most bytes of such chunks, of all shards together.
        SEAWEEDFS_CHUNK_CACHE_LIMIT_BYTES = Gauge "tidegate_seaweedfs_chunk_cache_limit_bytes";
        /// Merges of small chunks.
        SEAWEEDFS_MERGES = Counter "tidegate_seaweedfs_merges_total";
        /// Bytes of chunks that merges made.
        SEAWEEDFS_MERGED_BYTES = Counter "tidegate_seaweedfs_merged_bytes_total";
        /// Changes of files that SeaweedMQ's brokers write, as filers told of them: each leads to a look at its partition.
        SEAWEEDFS_CHANGES = Counter "tidegate_seaweedfs_changes_total";
    }

    "Memory" {
        /// Memory in use: requests that arrive or wait for their answers (request_large, request_small), answers that clients have not taken (answer), newest records for consumers (tail), and batches not yet stored (uncommitted).
        MEMORY_BYTES = Gauge "tidegate_memory_bytes" by "shard", "budget";
        /// What one shard may use.
        MEMORY_LIMIT_BYTES = Gauge "tidegate_memory_limit_bytes" by "budget";
        /// Produce requests held back until batches are stored.
        HELD_BACK = Gauge "tidegate_requests_held_back" by "shard";
    }

    "Shards" {
        /// Whether the shard told its state for this scrape within a second; where not, it has no series of gauges that only the shard knows.
        SHARD_ANSWERS = Gauge "tidegate_shard_answers" by "shard";
        /// Time in which the shard worked; its rate is the share of a CPU.
        SHARD_BUSY_SECONDS = Counter "tidegate_shard_busy_seconds_total" by "shard";
        /// Rounds of the shard's loop.
        SHARD_ROUNDS = Counter "tidegate_shard_rounds_total" by "shard";
        /// Rounds longer than 10 ms: some task holds the shard for too long.
        SHARD_LONG_ROUNDS = Counter "tidegate_shard_long_rounds_total" by "shard";
        /// Seconds in which the shard made no round at all.
        SHARD_STALLS = Counter "tidegate_shard_stalled_seconds_total" by "shard";
        /// Tasks and requests that panicked.
        SHARD_PANICS = Counter "tidegate_shard_panics_total" by "shard";
        /// Tasks alive.
        SHARD_TASKS = Gauge "tidegate_shard_tasks" by "shard";
        /// Messages in the shard's mailbox.
        SHARD_MAILBOX = Gauge "tidegate_shard_mailbox_messages" by "shard";
        /// Requests handled for other shards.
        SHARD_REQUESTS = Counter "tidegate_shard_requests_total" by "shard";
        /// Messages that found the mailbox of another shard full.
        SHARD_OVERFLOWED = Counter "tidegate_shard_overflowed_messages_total" by "shard";
        /// Blocking work queued or running, as reads from the disk.
        SHARD_BLOCKING = Gauge "tidegate_shard_blocking_jobs" by "shard";
        /// Fetches that wait for records.
        SHARD_WAITING_FETCHES = Gauge "tidegate_shard_waiting_fetches" by "shard";
        /// Partitions with records that the shard owns.
        SHARD_PARTITIONS = Gauge "tidegate_shard_partitions" by "shard";
    }

    "Topics" {
        /// Topics.
        TOPICS = Gauge "tidegate_topics";
        /// Partitions of all topics.
        PARTITIONS = Gauge "tidegate_partitions";
        /// Partitions of a topic. Topics beyond metrics_topics_max share the name _other, here and below.
        TOPIC_PARTITIONS = Gauge "tidegate_topic_partitions" by "topic";
        /// Bytes of a topic's segments.
        TOPIC_SIZE_BYTES = Gauge "tidegate_topic_size_bytes" by "topic";
        /// Bytes of batches stored for a topic since the start.
        TOPIC_PRODUCED_BYTES = Counter "tidegate_topic_produced_bytes_total" by "topic";
        /// Records stored for a topic since the start.
        TOPIC_PRODUCED_RECORDS = Counter "tidegate_topic_produced_records_total" by "topic";
        /// Bytes of a topic's batches given to consumers since the start.
        TOPIC_FETCHED_BYTES = Counter "tidegate_topic_fetched_bytes_total" by "topic";
    }

    "Groups" {
        /// Rebalances that began, by reason; of the consumer protocol, new epochs of groups (consumer_epoch).
        GROUP_REBALANCES = Counter "tidegate_group_rebalances_total" by "reason";
        /// Time from the beginning of a classic group's rebalance until its members have their assignments.
        GROUP_REBALANCE_SECONDS = Histogram "tidegate_group_rebalance_seconds";
        /// Members taken for dead, as they gave no sign of life for their session.
        GROUP_SESSIONS_OVER = Counter "tidegate_group_sessions_over_total";
        /// Offsets committed.
        GROUP_COMMITS = Counter "tidegate_group_committed_offsets_total";
        /// Groups by their state, as Kafka calls it.
        GROUPS = Gauge "tidegate_groups" by "state";
        /// Members of a group.
        GROUP_MEMBERS = Gauge "tidegate_group_members" by "group";
        /// Records between a group's committed offset and the end of the partition, as consumers see it.
        GROUP_LAG = Gauge "tidegate_group_lag" by "group", "topic", "partition";
        /// Age of the oldest record that the group has not committed. Missing where that record could not be read within half a second.
        GROUP_LAG_SECONDS = Gauge "tidegate_group_lag_seconds" by "group", "topic", "partition";
        /// Groups and partitions that have no series of their own here, as there are more than metrics_groups_max.
        GROUP_SERIES_HIDDEN = Gauge "tidegate_group_series_hidden";
    }

    "Process" {
        /// Which build runs; always 1.
        BUILD_INFO = Gauge "tidegate_build_info" by "version";
        /// CPU time used.
        PROCESS_CPU_SECONDS = Counter "process_cpu_seconds_total";
        /// Resident memory.
        PROCESS_RESIDENT_BYTES = Gauge "process_resident_memory_bytes";
        /// Open file descriptors.
        PROCESS_OPEN_FDS = Gauge "process_open_fds";
        /// Most open file descriptors.
        PROCESS_MAX_FDS = Gauge "process_max_fds";
        /// When the process started, in seconds since the epoch.
        PROCESS_START_SECONDS = Gauge "process_start_time_seconds";
    }
}

/// All metrics as Markdown: `docs/metrics.md`.
pub fn reference() -> String {
    let mut text = String::from(INTRODUCTION);
    let mut section = "";
    for metric in METRICS {
        if section != metric.section {
            section = metric.section;
            // Writing to a `String` cannot fail.
            let _ = write!(
                text,
                "\n## {section}\n\n| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n"
            );
        }
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.kind.name(),
            metric.labels.join(", "),
            metric.help
        );
    }
    text
}

const INTRODUCTION: &str = "\
# Metrics

`http://127.0.0.1:9644/metrics` (`--admin`) gives these in the text format of Prometheus. Counters begin at 0 when
the process starts. Where there is no label `shard`, all shards are summed. An API, an error or a reason that never
occurred has no series.
";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let mut names = HashSet::new();
        for metric in METRICS {
            let name = metric.name;
            assert!(names.insert(name), "{name} is there twice");
            let of_a_name = |b: u8| b.is_ascii_lowercase() || b == b'_';
            assert!(name.bytes().all(of_a_name), "{name}");
            let is_counter = metric.kind == Kind::Counter;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            assert!(metric.help.ends_with('.'), "{name}");
        }
    }
}
