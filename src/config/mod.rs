//! The configuration: every option once, in the table below.
//!
//! The table gives the fields of [`Config`], the command line's flags, the `TIDEGATE_*` environment
//! variables, the keys of the TOML file, what `tidegate config` prints and the reference in
//! `docs/configuration.md`; and under Kafka's names, where it has them, what DescribeConfigs tells of
//! the broker. Flags go before the environment, the environment before the file, the file before the
//! defaults.
//!
//! Nothing here reads the environment, a file or the clock: [`crate::cli`] hands their contents in.

mod kafka;
mod layers;
mod option;
mod print;
#[cfg(test)]
mod tests;
mod value;

use std::path::PathBuf;
use std::time::Duration;

use crate::bridge::ServerAddress;
use crate::group::assignor::Assignor;
use crate::logging::Filter;
use crate::record::Compression;
use option::{
    Form::Choice, Form::Level as LevelOf, Form::List, Form::Text, GIB, KIB, MIB, bytes, count,
    millis, options,
};
use option::{Preset::Derived, Preset::Is};

pub use kafka::KafkaConfig;
pub use layers::{
    Given, Host, Origin, Resolved, Setting, UsageError, env_layer, file_layer, resolve,
};
pub(crate) use layers::{nearest, printable, quote};
pub use option::{Form, Opt, Preset, Unit};
pub use print::reference;
pub(crate) use value::DEFAULT_PORT;
pub use value::{
    Admin, Advertise, CompressionType, Flush, HostPort, Level, LogFormat, MigrationPolicy, Pin,
    RecordValidation, Replication, Routing, SeaweedMqPath, Store, shard_port,
};

/// The largest number that fields of the Kafka protocol of type INT32 can say.
const I32_MAX: u64 = i32::MAX as u64;
/// The largest number that fields of the Kafka protocol of type INT64 can say.
const I64_MAX: u64 = i64::MAX as u64;
const SHARDS_MAX: u64 = 1024;
const HOUR_MS: u64 = 3_600_000;
const YEAR_MS: u64 = 365 * 24 * HOUR_MS;

options! {
    "Addresses" {
        /// Address to listen on for Kafka clients; IPv4, IPv6 or a name; port 0 takes a free one.
        listen: Vec<HostPort> = Is("127.0.0.1:9092"), List("ADDR");
        /// Address that clients are told to connect to; without a port: the port listened on.
        advertise: Advertise = Derived("from listen", value::advertise_from_listen), Text("HOST[:PORT]");
        /// Broker id that clients see; of the first shard, if each is a broker to them.
        broker_id: i32 = Is("1"), count(0, I32_MAX - SHARDS_MAX), kafka "broker.id";
        /// Where clients send requests: to one port that all shards share, or to the shard that owns the partition, which then is a broker with a port of its own: those that follow the port of listen.
        routing: Routing = Is("shared"), Choice(Routing::NAMES);
        /// Cluster id that clients see.
        cluster_id: Option<String> = Derived("generated at the first start, then kept", |_, _| String::new()), Text("ID");
    }

    "Storage" {
        /// Directory of topics and catalog; made if it does not exist.
        data_dir: PathBuf = Is("./data"), Text("DIR");
        /// Where partitions are stored.
        store: Store = Is("local"), Choice(Store::NAMES);
        /// Masters of SeaweedFS, for the store seaweedmq; a port may have that of gRPC behind it, with a dot. Filers and brokers are found through them.
        seaweedfs_masters: Vec<ServerAddress> = Is("127.0.0.1:9333"), List("ADDR");
        /// SeaweedFS's security.toml, with what its servers ask of clients: certificates, and keys of tokens.
        seaweedfs_security: Option<PathBuf> = Derived("none", |_, _| String::new()), Text("FILE");
        /// Group of the filers and brokers of SeaweedFS to use.
        seaweedfs_filer_group: Option<String> = Derived("none", |_, _| String::new()), Text("NAME");
        /// Collection of SeaweedFS that the volumes of topics belong to; none: as the filer has it for their folder.
        seaweedfs_collection: Option<String> = Derived("none", |_, _| String::new()), Text("NAME");
        /// How SeaweedFS replicates the volumes of topics: copies in other data centers, on other racks and on other servers, as 001; none: as the filer or the master has it.
        seaweedfs_replication: Option<Replication> = Derived("none", |_, _| String::new()), Text("XYZ");
        /// Kind of disk that the volumes of topics are on, as hdd, ssd or a name that volume servers were started with; none: as the filer has it.
        seaweedfs_disk_type: Option<String> = Derived("none", |_, _| String::new()), Text("NAME");
        /// Whether volume servers answer after fsync, and acks=all with it.
        seaweedfs_fsync: bool = Is("false"), Choice(&["true", "false"]);
        /// Who writes the logs of topics that are created without seaweedmq.path, on the store seaweedmq: the gateway alone, or SeaweedMQ's brokers for it and for other programs, with weaker promises. Compacted topics are written by the gateway.
        seaweedmq_path: SeaweedMqPath = Is("segments"), Choice(SeaweedMqPath::NAMES);
        /// What acks=all waits for: data synced to the disk, or handed to the operating system.
        flush: Flush = Is("durable"), Choice(Flush::NAMES);
        /// Size at which a partition begins a new segment file.
        log_segment_bytes: u64 = Is("1GiB"), bytes(MIB, I32_MAX), kafka "log.segment.bytes";
        /// The same as log_roll_ms in hours, if that is not given.
        log_roll_hours: u64 = Is("168"), count(1, I32_MAX), kafka "log.roll.hours";
        /// Time after which a partition begins a new segment file.
        log_roll as "log_roll_ms": Duration = Derived("from log_roll_hours", value::roll_from_hours), millis(1, I64_MAX), kafka "log.roll.ms";
        /// The same as log_retention_ms in hours, if neither it nor log_retention_minutes is given; -1: for ever.
        log_retention_hours: Option<u64> = Is("168"), count(1, I32_MAX), kafka "log.retention.hours";
        /// The same in minutes, if log_retention_ms is not given, as Kafka's log.retention.minutes; -1: for ever.
        log_retention_minutes: Option<u64> = Derived("from log_retention_hours", value::retention_from_hours), count(1, I32_MAX * 60);
        /// Time for which records are kept, in whole segments; -1: for ever.
        log_retention as "log_retention_ms": Option<Duration> = Derived("from log_retention_minutes", value::retention_from_minutes), millis(1, I64_MAX), kafka "log.retention.ms";
        /// Bytes that a partition keeps, in whole segments; -1: all.
        log_retention_bytes: Option<u64> = Is("-1"), bytes(0, I64_MAX), kafka "log.retention.bytes";
        /// Time between two looks at what need not be kept.
        log_retention_check_interval as "log_retention_check_interval_ms": Duration = Is("300000"), millis(1, YEAR_MS), kafka "log.retention.check.interval.ms";
        /// Time for which the files of removed segments stay.
        log_segment_delete_delay as "log_segment_delete_delay_ms": Duration = Is("60000"), millis(0, I64_MAX), kafka "log.segment.delete.delay.ms";
        /// Whether topics with cleanup.policy=compact are compacted.
        log_cleaner_enable: bool = Is("true"), Choice(&["true", "false"]), kafka "log.cleaner.enable";
        /// Time between two looks for logs to be compacted.
        log_cleaner_backoff as "log_cleaner_backoff_ms": Duration = Is("15000"), millis(1, YEAR_MS), kafka "log.cleaner.backoff.ms";
        /// Memory for the keys of logs that are being compacted, of all shards together; one that has more keys takes several runs. A shard compacts one log at a time.
        log_cleaner_dedupe_buffer_size: usize = Is("128MiB"), bytes(MIB, 64 * GIB), kafka "log.cleaner.dedupe.buffer.size";
        /// Bytes that compaction reads and writes in a second, of all shards together; -1: as many as it can.
        log_cleaner_io_max_bytes_per_second: Option<u64> = Is("-1"), bytes(1, I64_MAX);
        /// How long a compacted topic keeps the marks of deleted keys, from the time that it is compacted with them.
        log_cleaner_delete_retention as "log_cleaner_delete_retention_ms": Duration = Is("86400000"), millis(0, I64_MAX), kafka "log.cleaner.delete.retention.ms";
        /// How long a record is not compacted.
        log_cleaner_min_compaction_lag as "log_cleaner_min_compaction_lag_ms": Duration = Is("0"), millis(0, I64_MAX), kafka "log.cleaner.min.compaction.lag.ms";
        /// After how long a record is compacted at the latest.
        log_cleaner_max_compaction_lag as "log_cleaner_max_compaction_lag_ms": Duration = Is("9223372036854775807"), millis(1, I64_MAX), kafka "log.cleaner.max.compaction.lag.ms";
        /// Time after which what was written is synced to its segments, which bounds the work of a start after a crash.
        checkpoint_interval as "checkpoint_interval_ms": Duration = Is("30s"), millis(10, HOUR_MS);
        /// Bytes taken but not yet stored, per shard; beyond it producers wait.
        max_uncommitted_bytes: usize = Is("256MiB"), bytes(MIB, 64 * GIB);
        /// Bytes of the newest records kept in memory for consumers, per shard.
        tail_memory: usize = Is("256MiB"), bytes(MIB, 1024 * GIB);
    }

    "Shards" {
        /// Shards, each a thread with partitions, groups and connections of its own.
        shards: usize = Derived("one per CPU", |host, _| host.cpus.to_string()), count(1, SHARDS_MAX);
        /// Whether each shard is bound to a CPU; auto binds where every shard has one to itself.
        pin: Pin = Is("auto"), Choice(Pin::NAMES);
        /// Time that a stop waits for requests and commits under way.
        shutdown_timeout as "shutdown_timeout_ms": Duration = Is("30s"), millis(0, HOUR_MS);
    }

    "Topics and records" {
        /// Partitions of a topic that is made without a count.
        num_partitions: i32 = Is("1"), count(1, 10_000), kafka "num.partitions";
        /// Partitions of all topics together; more are refused.
        max_partitions: usize = Is("100000"), count(1, 10_000_000);
        /// Whether a topic is made when a client first names it.
        auto_create_topics_enable: bool = Is("true"), Choice(&["true", "false"]), kafka "auto.create.topics.enable";
        /// Largest record batch taken from a producer.
        message_max_bytes: usize = Is("1048588"), bytes(KIB, I32_MAX), kafka "message.max.bytes";
        /// Whether producers' batches are checked record by record, or by header and checksum only.
        record_validation: RecordValidation = Is("full"), Choice(RecordValidation::NAMES);
        /// How batches are compressed in the log; producer leaves them as they come.
        compression_type: CompressionType = Is("producer"), Choice(CompressionType::NAMES), kafka "compression.type";
        /// Level of batches that are compressed with gzip here.
        compression_gzip_level: Level = Is("-1"), LevelOf(Compression::Gzip), kafka "compression.gzip.level";
        /// Level of batches that are compressed with LZ4 here; 9 is the fast compressor, all others are slower and compress more.
        compression_lz4_level: Level = Is("9"), LevelOf(Compression::Lz4), kafka "compression.lz4.level";
        /// Level of batches that are compressed with Zstandard here.
        compression_zstd_level: Level = Is("3"), LevelOf(Compression::Zstd), kafka "compression.zstd.level";
        /// Largest size of one compressed batch once inflated; larger ones are refused. A shard compresses twice as much at a time.
        max_inflated_bytes: usize = Is("128MiB"), bytes(MIB, 4 * GIB);
        /// How far a record's timestamp may lie in the past.
        message_timestamp_before_max as "message_timestamp_before_max_ms": Duration = Is("9223372036854775807"), millis(0, I64_MAX), kafka "log.message.timestamp.before.max.ms";
        /// How far a record's timestamp may lie in the future.
        message_timestamp_after_max as "message_timestamp_after_max_ms": Duration = Is("3600000"), millis(0, I64_MAX), kafka "log.message.timestamp.after.max.ms";
        /// Time after which an idle idempotent producer is forgotten.
        producer_id_expiration as "producer_id_expiration_ms": Duration = Is("86400000"), millis(1, I32_MAX), kafka "producer.id.expiration.ms";
    }

    "Groups" {
        /// Time that a group without members waits for more of them after the first. 3 s in Kafka, which a consumer waits at each start.
        group_initial_rebalance_delay as "group_initial_rebalance_delay_ms": Duration = Is("0"), millis(0, HOUR_MS), kafka "group.initial.rebalance.delay.ms";
        /// Shortest session of a member: the time after which it is taken for dead if it gives no sign of life.
        group_min_session_timeout as "group_min_session_timeout_ms": Duration = Is("6000"), millis(1, I32_MAX), kafka "group.min.session.timeout.ms";
        /// Longest session of a member.
        group_max_session_timeout as "group_max_session_timeout_ms": Duration = Is("1800000"), millis(1, I32_MAX), kafka "group.max.session.timeout.ms";
        /// Members of one group.
        group_max_size: usize = Is("2147483647"), count(1, I32_MAX), kafka "group.max.size";
        /// Whether an assignment that gives a partition to two consumers is sent back to the leader once.
        group_cooperative: bool = Is("true"), Choice(&["true", "false"]);
        /// Session of a member of the consumer protocol: the time after which it is taken for dead if it gives no sign of life.
        group_consumer_session_timeout as "group_consumer_session_timeout_ms": Duration = Is("45000"), millis(1, I32_MAX), kafka "group.consumer.session.timeout.ms";
        /// Shortest session that a group may be set to.
        group_consumer_min_session_timeout as "group_consumer_min_session_timeout_ms": Duration = Is("45000"), millis(1, I32_MAX), kafka "group.consumer.min.session.timeout.ms";
        /// Longest session that a group may be set to.
        group_consumer_max_session_timeout as "group_consumer_max_session_timeout_ms": Duration = Is("60000"), millis(1, I32_MAX), kafka "group.consumer.max.session.timeout.ms";
        /// Time between two heartbeats, as members of the consumer protocol are told.
        group_consumer_heartbeat_interval as "group_consumer_heartbeat_interval_ms": Duration = Is("5000"), millis(1, I32_MAX), kafka "group.consumer.heartbeat.interval.ms";
        /// Shortest time between two heartbeats that a group may be set to.
        group_consumer_min_heartbeat_interval as "group_consumer_min_heartbeat_interval_ms": Duration = Is("5000"), millis(1, I32_MAX), kafka "group.consumer.min.heartbeat.interval.ms";
        /// Longest time between two heartbeats that a group may be set to.
        group_consumer_max_heartbeat_interval as "group_consumer_max_heartbeat_interval_ms": Duration = Is("15000"), millis(1, I32_MAX), kafka "group.consumer.max.heartbeat.interval.ms";
        /// Members of one group of the consumer protocol.
        group_consumer_max_size: usize = Is("2147483647"), count(1, I32_MAX), kafka "group.consumer.max.size";
        /// Assignors that members of the consumer protocol may ask for; the first is for those that do not.
        group_consumer_assignors: Vec<Assignor> = Is("uniform,range"), List("uniform|range"), kafka "group.consumer.assignors";
        /// Shortest time between two times that the partitions of a group of the consumer protocol are shared out.
        group_consumer_assignment_interval as "group_consumer_assignment_interval_ms": Duration = Is("1000"), millis(0, HOUR_MS), kafka "group.consumer.assignment.interval.ms";
        /// Shortest such time that a group may be set to.
        group_consumer_min_assignment_interval as "group_consumer_min_assignment_interval_ms": Duration = Is("0"), millis(0, HOUR_MS), kafka "group.consumer.min.assignment.interval.ms";
        /// Longest such time that a group may be set to.
        group_consumer_max_assignment_interval as "group_consumer_max_assignment_interval_ms": Duration = Is("15000"), millis(0, HOUR_MS), kafka "group.consumer.max.assignment.interval.ms";
        /// Longest time between two times that the topics of regular expressions are looked up; they are with every change of topics too.
        group_consumer_regex_refresh_interval as "group_consumer_regex_refresh_interval_ms": Duration = Is("600000"), millis(10_000, I32_MAX), kafka "group.consumer.regex.refresh.interval.ms";
        /// Whether a group with members goes over to the consumer protocol when such a member joins (upgrade), and back when its last such member goes (downgrade).
        group_consumer_migration_policy: MigrationPolicy = Is("bidirectional"), Choice(MigrationPolicy::NAMES), kafka "group.consumer.migration.policy";
        /// Groups, per shard.
        max_groups: usize = Is("100000"), count(1, 10_000_000);
        /// Members of all groups, per shard.
        max_group_members: usize = Is("100000"), count(1, 10_000_000);
        /// Partitions of the topic that groups and offsets are kept in, when it is made.
        offsets_topic_num_partitions: i32 = Is("50"), count(1, 10_000), kafka "offsets.topic.num.partitions";
        /// Longest text that a consumer keeps beside an offset, in characters.
        offset_metadata_max_bytes: usize = Is("4096"), count(0, 10_000), kafka "offset.metadata.max.bytes";
        /// Minutes after which offsets go that nobody uses.
        offsets_retention_minutes: i32 = Is("10080"), count(1, I32_MAX), kafka "offsets.retention.minutes";
        /// Time between two looks for such offsets.
        offsets_retention_check_interval as "offsets_retention_check_interval_ms": Duration = Is("600000"), millis(1, YEAR_MS), kafka "offsets.retention.check.interval.ms";
    }

    "Limits of clients" {
        /// Connections at a time.
        max_connections: usize = Is("10000"), count(1, 1_000_000), kafka "max.connections";
        /// Connections at a time from one address.
        max_connections_per_ip: usize = Is("10000"), count(1, 1_000_000), kafka "max.connections.per.ip";
        /// Time after which an idle connection is closed.
        connections_max_idle as "connections_max_idle_ms": Duration = Is("600000"), millis(100, YEAR_MS), kafka "connections.max.idle.ms";
        /// Largest request.
        socket_request_max_bytes: usize = Is("104857600"), bytes(16 * KIB, I32_MAX), kafka "socket.request.max.bytes";
        /// Requests read but not yet answered on one connection; beyond it reading pauses.
        queued_max_requests: usize = Is("64"), count(1, 10_000);
        /// Bytes of requests read but not yet answered on one connection; beyond it reading pauses.
        connection_max_inflight_bytes: usize = Is("32MiB"), bytes(16 * KIB, 16 * GIB);
        /// Bytes of requests not yet answered, per shard, those that are still arriving included; beyond it reading pauses. A quarter is kept for small requests.
        request_memory: usize = Is("256MiB"), bytes(4 * MIB, 1024 * GIB);
        /// Bytes of answers that clients have not taken yet, per shard; beyond it fetches wait.
        answer_memory: usize = Is("256MiB"), bytes(MIB, 1024 * GIB);
        /// Time for which a client may stall, in a request or in taking an answer, while others wait for the memory; then its connection is closed.
        stalled_client_timeout as "stalled_client_timeout_ms": Duration = Is("10s"), millis(100, HOUR_MS);
        /// Largest answer to one Fetch, whatever the client asks for.
        fetch_max_bytes: usize = Is("57671680"), bytes(KIB, I32_MAX), kafka "fetch.max.bytes";
        /// Fetch sessions of consumers at a time. They may take 64 KiB each on average, which is for about 200 partitions.
        max_incremental_fetch_session_cache_slots: usize = Is("1000"), count(0, 1_000_000), kafka "max.incremental.fetch.session.cache.slots";
    }

    "Monitoring" {
        /// Address of the admin pages: /metrics for Prometheus, /healthz and /readyz; port 0 takes a free one.
        admin: Admin = Is("127.0.0.1:9644"), Text("ADDR|off");
        /// Topics that have metrics of their own, at a time; the others share the name _other.
        metrics_topics_max: usize = Is("1000"), count(0, 100_000);
        /// Groups whose members are counted, and partitions with offsets of groups whose lag is told, at a time; divided among the shards.
        metrics_groups_max: usize = Is("10000"), count(0, 1_000_000);
    }

    "Logging" {
        /// Level (error, warn, info, debug, trace, off), or directives such as info,tidegate::api=debug.
        log: Filter = Is("info"), Text("LEVEL");
        /// Form of the log on standard error.
        log_format: LogFormat = Is("text"), Choice(LogFormat::NAMES);
    }
}

impl Config {
    /// Pairs where the first must not exceed the second: a record batch that is allowed has to fit
    /// into what carries it, a record that may be compacted must be old enough, and what holds for
    /// groups lies within the bounds of what they may be set to.
    fn ordered(&self) -> Vec<[(&'static Opt, usize); 2]> {
        let millis = |time: Duration| usize::try_from(time.as_millis()).unwrap_or(usize::MAX);
        macro_rules! times {
            ($($small:ident <= $large:ident),+ $(,)?) => {
                [$([
                    (&table::$small, millis(self.$small)),
                    (&table::$large, millis(self.$large)),
                ]),+]
            };
        }
        let batch = (&table::message_max_bytes, self.message_max_bytes);
        let (request, uncommitted) = (self.socket_request_max_bytes, self.max_uncommitted_bytes);
        let sizes = [
            [batch, (&table::socket_request_max_bytes, request)],
            [batch, (&table::max_uncommitted_bytes, uncommitted)],
        ];
        let times = times![
            log_cleaner_min_compaction_lag <= log_cleaner_max_compaction_lag,
            group_consumer_min_session_timeout <= group_consumer_session_timeout,
            group_consumer_session_timeout <= group_consumer_max_session_timeout,
            group_consumer_min_heartbeat_interval <= group_consumer_heartbeat_interval,
            group_consumer_heartbeat_interval <= group_consumer_max_heartbeat_interval,
            group_consumer_heartbeat_interval <= group_consumer_session_timeout,
            group_consumer_min_assignment_interval <= group_consumer_assignment_interval,
            group_consumer_assignment_interval <= group_consumer_max_assignment_interval,
        ];
        sizes.into_iter().chain(times).collect()
    }
}
