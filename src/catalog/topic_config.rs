//! Topic configs: one table of those that can be set, and what they come to.
//!
//! A topic keeps the values that were given for it, as text. [`TopicConfig`] is what these and the
//! broker's defaults come to; it is made once, when a topic enters the catalog, for those who need
//! it with every request.

use std::str::FromStr;

use super::Values;
use super::broker_config::BrokerConfigs;
use crate::config::{CompressionType, Config, SeaweedMqPath, Store};
use crate::record::batch::TimestampType;
use crate::record::compress::LevelRange;
use crate::record::{Compression, Levels, Target};
use crate::store::{Retention, Rolling};

const DAY_MS: i64 = 24 * 3_600_000;

/// What a topic's configs and the broker's defaults come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicConfig {
    /// `compression.type`: `None` leaves batches as producers made them.
    pub compression: Option<Compression>,
    /// `compression.gzip.level` and so on.
    pub compression_levels: Levels,
    /// `max.message.bytes`: of one record batch.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// `segment.bytes`
    pub segment_bytes: u64,
    /// `segment.ms`
    pub segment_ms: i64,
    /// `segment.jitter.ms`
    pub segment_jitter_ms: i64,
    /// `cleanup.policy`
    pub cleanup_policy: CleanupPolicy,
    /// `retention.ms`; negative: for ever.
    pub retention_ms: i64,
    /// `retention.bytes`; negative: all.
    pub retention_bytes: i64,
    /// `file.delete.delay.ms`
    pub file_delete_delay_ms: i64,
    /// `min.insync.replicas`
    pub min_insync_replicas: i32,
    /// `delete.retention.ms`
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`
    pub max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`
    pub min_cleanable_dirty_ratio: Ratio,
    /// `seaweedmq.path`; `None` on a store that has no paths.
    pub seaweedmq_path: Option<SeaweedMqPath>,
    /// `seaweedmq.producer.ids`
    pub seaweedmq_producer_ids: bool,
}

/// What becomes of old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanupPolicy {
    Nothing,
    Delete,
    Compact,
    CompactDelete,
    /// The same, as it was given in this order.
    DeleteCompact,
}

impl CleanupPolicy {
    /// Records are deleted when they are old or many.
    pub fn deletes(self) -> bool {
        !matches!(self, CleanupPolicy::Nothing | CleanupPolicy::Compact)
    }

    /// Records need keys, of each of which the last record is kept.
    pub fn compacts(self) -> bool {
        !matches!(self, CleanupPolicy::Nothing | CleanupPolicy::Delete)
    }

    fn text(self) -> &'static str {
        match self {
            CleanupPolicy::Nothing => "",
            CleanupPolicy::Delete => "delete",
            CleanupPolicy::Compact => "compact",
            CleanupPolicy::CompactDelete => "compact,delete",
            CleanupPolicy::DeleteCompact => "delete,compact",
        }
    }
}

/// A number from 0 to 1, or none at all, as Kafka takes it too.
#[derive(Debug, Clone, Copy)]
pub struct Ratio(f64);

impl PartialEq for Ratio {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Ratio {}

impl Ratio {
    pub fn get(self) -> f64 {
        self.0
    }

    /// As Java writes it.
    fn text(self) -> String {
        let text = match self.0 {
            small if small > 0.0 && small < 1e-3 => format!("{small:E}"),
            usual => return format!("{usual:?}"),
        };
        match text.split_once('E') {
            Some((digits, power)) if !digits.contains('.') => format!("{digits}.0E{power}"),
            _ => text,
        }
    }
}

impl TopicConfig {
    /// When partitions begin new segments.
    pub fn rolling(&self) -> Rolling {
        // A record has to leave the last segment before it can be compacted.
        let segment_ms = match self.cleanup_policy.compacts() {
            true => self.segment_ms.min(self.max_compaction_lag_ms),
            false => self.segment_ms,
        };
        Rolling {
            segment_bytes: self.segment_bytes,
            segment_ms,
            segment_jitter_ms: self.segment_jitter_ms,
        }
    }

    /// Whether others keep the log, and publish to it too.
    pub fn is_brokers(&self) -> bool {
        self.seaweedmq_path == Some(SeaweedMqPath::Broker)
    }

    /// What is kept of partitions; `None`: everything, as far as this gateway decides it.
    pub fn retention(&self) -> Option<Retention> {
        let limited = self.retention_ms >= 0 || self.retention_bytes >= 0;
        (limited && self.cleanup_policy.deletes() && !self.is_brokers()).then_some(Retention {
            bytes: self.retention_bytes,
            ms: self.retention_ms,
        })
    }
}

/// Kafka's defaults.
impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            compression: None,
            compression_levels: Levels::default(),
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
            segment_jitter_ms: 0,
            cleanup_policy: CleanupPolicy::Delete,
            retention_ms: 7 * DAY_MS,
            retention_bytes: -1,
            file_delete_delay_ms: 60_000,
            min_insync_replicas: 1,
            delete_retention_ms: DAY_MS,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio: Ratio(0.5),
            seaweedmq_path: None,
            seaweedmq_producer_ids: false,
        }
    }
}

/// The broker's defaults, for a topic that sets nothing.
impl From<&Config> for TopicConfig {
    fn from(config: &Config) -> Self {
        let millis = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        Self {
            compression: match config.compression_type {
                CompressionType::Producer => None,
                CompressionType::Uncompressed => Some(Compression::None),
                CompressionType::Gzip => Some(Compression::Gzip),
                CompressionType::Snappy => Some(Compression::Snappy),
                CompressionType::Lz4 => Some(Compression::Lz4),
                CompressionType::Zstd => Some(Compression::Zstd),
            },
            compression_levels: Levels {
                gzip: config.compression_gzip_level.0,
                lz4: config.compression_lz4_level.0,
                zstd: config.compression_zstd_level.0,
            },
            max_message_bytes: config.message_max_bytes,
            timestamp_before_max_ms: millis(config.message_timestamp_before_max),
            timestamp_after_max_ms: millis(config.message_timestamp_after_max),
            segment_bytes: config.log_segment_bytes,
            segment_ms: millis(config.log_roll),
            retention_ms: config.log_retention.map_or(-1, millis),
            retention_bytes: config.log_retention_bytes.map_or(-1, |bytes| bytes as i64),
            file_delete_delay_ms: millis(config.log_segment_delete_delay),
            delete_retention_ms: millis(config.log_cleaner_delete_retention),
            min_compaction_lag_ms: millis(config.log_cleaner_min_compaction_lag),
            max_compaction_lag_ms: millis(config.log_cleaner_max_compaction_lag),
            seaweedmq_path: match config.store {
                Store::Local => None,
                Store::SeaweedMq => Some(SeaweedMqPath::Segments),
            },
            ..Self::default()
        }
    }
}

/// One topic config: a row of the table.
pub struct Row {
    pub name: &'static str,
    /// The broker config that stands in for it, by Kafka's name.
    pub broker_name: &'static str,
    pub kind: ConfigType,
    /// What it is for, in one line.
    pub doc: &'static str,
    /// Checks a value and takes it.
    set: fn(&mut TopicConfig, &Given<'_>) -> Result<(), ConfigError>,
    /// The value as text that `set` takes.
    get: fn(&TopicConfig) -> String,
}

/// A config's type, as DescribeConfigs numbers them (KIP-226, KIP-569).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// Where a config's value comes from, as DescribeConfigs and CreateTopics number them (KIP-226).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    Topic = 1,
    /// Set for one broker while it runs.
    DynamicBroker = 2,
    /// Set for all brokers while they run.
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    /// Set for one group.
    Group = 8,
}

/// Configs of Kafka's that can be set, by name.
pub const TABLE: &[Row] = &[
    Row {
        name: "cleanup.policy",
        broker_name: "log.cleanup.policy",
        kind: ConfigType::List,
        doc: "What becomes of old records: deleted, or compacted to the last of each key.",
        set: |config, given| {
            config.cleanup_policy = given.cleanup_policy()?;
            Ok(())
        },
        get: |config| config.cleanup_policy.text().to_owned(),
    },
    Row {
        name: "compression.gzip.level",
        broker_name: "compression.gzip.level",
        kind: ConfigType::Int,
        doc: "Level of batches that are compressed with gzip here.",
        set: |config, given| {
            config.compression_levels.gzip = given.level(Compression::Gzip)?;
            Ok(())
        },
        get: |config| config.compression_levels.gzip.to_string(),
    },
    Row {
        name: "compression.lz4.level",
        broker_name: "compression.lz4.level",
        kind: ConfigType::Int,
        doc: "Level of batches that are compressed with LZ4 here; 9 is the fast compressor.",
        set: |config, given| {
            config.compression_levels.lz4 = given.level(Compression::Lz4)?;
            Ok(())
        },
        get: |config| config.compression_levels.lz4.to_string(),
    },
    Row {
        name: "compression.type",
        broker_name: "compression.type",
        kind: ConfigType::String,
        doc: "How batches are compressed in the log; producer leaves them as they come.",
        set: |config, given| {
            let types = ["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
            config.compression = match given.one_of(&types)? {
                "producer" => None,
                "uncompressed" => Some(Compression::None),
                name => Compression::ALL
                    .into_iter()
                    .find(|codec| codec.name() == name),
            };
            Ok(())
        },
        get: |config| match config.compression {
            None => "producer".to_owned(),
            Some(Compression::None) => "uncompressed".to_owned(),
            Some(codec) => codec.name().to_owned(),
        },
    },
    Row {
        name: "compression.zstd.level",
        broker_name: "compression.zstd.level",
        kind: ConfigType::Int,
        doc: "Level of batches that are compressed with Zstandard here.",
        set: |config, given| {
            config.compression_levels.zstd = given.level(Compression::Zstd)?;
            Ok(())
        },
        get: |config| config.compression_levels.zstd.to_string(),
    },
    Row {
        name: "delete.retention.ms",
        broker_name: "log.cleaner.delete.retention.ms",
        kind: ConfigType::Long,
        doc: "How long a compacted topic keeps the marks of deleted keys, from the time that it is compacted with them.",
        set: |config, given| {
            config.delete_retention_ms = given.long(0)?;
            Ok(())
        },
        get: |config| config.delete_retention_ms.to_string(),
    },
    Row {
        name: "file.delete.delay.ms",
        broker_name: "log.segment.delete.delay.ms",
        kind: ConfigType::Long,
        doc: "How long the files of removed segments stay.",
        set: |config, given| {
            config.file_delete_delay_ms = given.long(0)?;
            Ok(())
        },
        get: |config| config.file_delete_delay_ms.to_string(),
    },
    Row {
        name: "max.compaction.lag.ms",
        broker_name: "log.cleaner.max.compaction.lag.ms",
        kind: ConfigType::Long,
        doc: "After how long a record is compacted at the latest, whatever the ratio; a segment of a compacted topic is rolled after it, too.",
        set: |config, given| {
            config.max_compaction_lag_ms = given.long(1)?;
            Ok(())
        },
        get: |config| config.max_compaction_lag_ms.to_string(),
    },
    Row {
        name: "max.message.bytes",
        broker_name: "message.max.bytes",
        kind: ConfigType::Int,
        doc: "Largest record batch that is taken, in bytes as it is sent.",
        set: |config, given| {
            config.max_message_bytes = given.int(0)? as usize;
            Ok(())
        },
        get: |config| config.max_message_bytes.to_string(),
    },
    Row {
        name: "message.timestamp.after.max.ms",
        broker_name: "log.message.timestamp.after.max.ms",
        kind: ConfigType::Long,
        doc: "How far a record's timestamp may lie in the future, with CreateTime.",
        set: |config, given| {
            config.timestamp_after_max_ms = given.long(0)?;
            Ok(())
        },
        get: |config| config.timestamp_after_max_ms.to_string(),
    },
    Row {
        name: "message.timestamp.before.max.ms",
        broker_name: "log.message.timestamp.before.max.ms",
        kind: ConfigType::Long,
        doc: "How far a record's timestamp may lie in the past, with CreateTime.",
        set: |config, given| {
            config.timestamp_before_max_ms = given.long(0)?;
            Ok(())
        },
        get: |config| config.timestamp_before_max_ms.to_string(),
    },
    Row {
        name: "message.timestamp.type",
        broker_name: "log.message.timestamp.type",
        kind: ConfigType::String,
        doc: "Whether a record's timestamp is when it was made or when it was appended.",
        set: |config, given| {
            config.timestamp_type = match given.one_of(&["CreateTime", "LogAppendTime"])? {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            };
            Ok(())
        },
        get: |config| match config.timestamp_type {
            TimestampType::CreateTime => "CreateTime".to_owned(),
            TimestampType::LogAppendTime => "LogAppendTime".to_owned(),
        },
    },
    Row {
        name: "min.cleanable.dirty.ratio",
        broker_name: "log.cleaner.min.cleanable.ratio",
        kind: ConfigType::Double,
        doc: "How much of a log is not compacted yet before it is.",
        set: |config, given| {
            config.min_cleanable_dirty_ratio = given.ratio()?;
            Ok(())
        },
        get: |config| config.min_cleanable_dirty_ratio.text(),
    },
    Row {
        name: "min.compaction.lag.ms",
        broker_name: "log.cleaner.min.compaction.lag.ms",
        kind: ConfigType::Long,
        doc: "How long a record is not compacted.",
        set: |config, given| {
            config.min_compaction_lag_ms = given.long(0)?;
            Ok(())
        },
        get: |config| config.min_compaction_lag_ms.to_string(),
    },
    Row {
        name: "min.insync.replicas",
        broker_name: "min.insync.replicas",
        kind: ConfigType::Int,
        doc: "Replicas that have to take what acks=all acknowledges; as in Kafka, never more than the topic has, which is one.",
        set: |config, given| {
            config.min_insync_replicas = given.int(1)?;
            Ok(())
        },
        get: |config| config.min_insync_replicas.to_string(),
    },
    Row {
        name: "retention.bytes",
        broker_name: "log.retention.bytes",
        kind: ConfigType::Long,
        doc: "Bytes that a partition keeps, in whole segments; -1: all.",
        set: |config, given| {
            config.retention_bytes = given.long(i64::MIN)?;
            Ok(())
        },
        get: |config| config.retention_bytes.to_string(),
    },
    Row {
        name: "retention.ms",
        broker_name: "log.retention.ms",
        kind: ConfigType::Long,
        doc: "How long records are kept, in whole segments; -1: for ever.",
        set: |config, given| {
            config.retention_ms = given.long(-1)?;
            Ok(())
        },
        get: |config| config.retention_ms.to_string(),
    },
    Row {
        name: "segment.bytes",
        broker_name: "log.segment.bytes",
        kind: ConfigType::Int,
        doc: "Size at which a partition begins a new segment file.",
        set: |config, given| {
            config.segment_bytes = given.int(1 << 20)? as u64;
            Ok(())
        },
        get: |config| config.segment_bytes.to_string(),
    },
    Row {
        name: "segment.jitter.ms",
        broker_name: "log.roll.jitter.ms",
        kind: ConfigType::Long,
        doc: "How much earlier than segment.ms a segment may end, so that not all do at the same time.",
        set: |config, given| {
            config.segment_jitter_ms = given.long(0)?;
            Ok(())
        },
        get: |config| config.segment_jitter_ms.to_string(),
    },
    Row {
        name: "segment.ms",
        broker_name: "log.roll.ms",
        kind: ConfigType::Long,
        doc: "After how long a partition begins a new segment file.",
        set: |config, given| {
            config.segment_ms = given.long(1)?;
            Ok(())
        },
        get: |config| config.segment_ms.to_string(),
    },
];

/// A config that Kafka has not, and no broker config stands in for. It is told of where it can be set.
const SEAWEEDMQ_PATH: Row = Row {
    name: "seaweedmq.path",
    broker_name: "seaweedmq.path",
    kind: ConfigType::String,
    doc: "Who writes the topic's log in SeaweedFS: the gateway alone (segments), or SeaweedMQ's brokers for it and for other programs (broker), with weaker promises. Cannot be changed.",
    set: |config, given| {
        let path = given.one_of(SeaweedMqPath::NAMES)?;
        let old = config.seaweedmq_path.as_mut();
        *old.ok_or(ConfigError::OtherStore(given.name))? = match path {
            "broker" => SeaweedMqPath::Broker,
            _ => SeaweedMqPath::Segments,
        };
        Ok(())
    },
    get: |config| match config.is_brokers() {
        true => "broker".to_owned(),
        false => "segments".to_owned(),
    },
};

/// The same, and where others write the log.
const SEAWEEDMQ_PRODUCER_IDS: Row = Row {
    name: "seaweedmq.producer.ids",
    broker_name: "seaweedmq.producer.ids",
    kind: ConfigType::Boolean,
    doc: "Whether in a topic that brokers write what idempotent producers send has their ids and sequence numbers behind its values, so that nothing is stored twice after a restart of the gateway either. Other programs see them there.",
    set: |config, given| {
        let is_set = given.boolean()?;
        config
            .seaweedmq_path
            .ok_or(ConfigError::OtherStore(given.name))?;
        config.seaweedmq_producer_ids = is_set;
        Ok(())
    },
    get: |config| config.seaweedmq_producer_ids.to_string(),
};

const SEAWEEDMQ: &[Row] = &[SEAWEEDMQ_PATH, SEAWEEDMQ_PRODUCER_IDS];

/// The configs that a topic with this one has.
pub fn rows(config: &TopicConfig) -> impl Iterator<Item = &'static Row> {
    let own: &[Row] = match config.seaweedmq_path {
        Some(_) => SEAWEEDMQ,
        None => &[],
    };
    TABLE.iter().chain(own)
}

/// Topic configs that Kafka has and that would have no effect here.
const NOT_SUPPORTED: &[&str] = &[
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "segment.index.bytes",
    "unclean.leader.election.enable",
];

/// Why configs are refused: INVALID_CONFIG. The texts are Kafka's, but for what is not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("Null value not supported for topic configs: {0}")]
    Null(String),
    #[error("Unknown topic config name: {0}")]
    UnknownName(String),
    #[error("The topic config {0} is not supported yet")]
    NotSupported(String),
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    InvalidValue {
        name: &'static str,
        value: String,
        reason: String,
    },
    #[error(
        "conflict topic config setting min.compaction.lag.ms ({0}) > max.compaction.lag.ms ({1})"
    )]
    CompactionLags(i64, i64),
    #[error("Configuration '{0}' values must not be empty.")]
    EmptyElement(&'static str),
    #[error("The topic config {0} can be set with the store seaweedmq only")]
    OtherStore(&'static str),
    #[error("The topic config {0} cannot be changed; it is set when the topic is created")]
    Fixed(&'static str),
    #[error("A topic with seaweedmq.path=broker cannot be compacted (cleanup.policy)")]
    BrokersDoNotCompact,
}

impl TopicConfig {
    /// What a topic's configs come to. Those that are not taken were written by another version.
    pub fn of(topic: &str, values: &Values, defaults: TopicConfig) -> Self {
        let mut config = defaults;
        for (name, value) in values {
            if let Err(error) = config.set(name, value) {
                tracing::warn!(topic, %error, "the topic keeps a config that this version does not take; using the default");
            }
        }
        config
    }

    /// How a batch of this codec is to be compressed for the log, unless it may stay as it is. As in
    /// Kafka, the level alone is no reason to write it anew.
    pub fn recode(&self, codec: Compression) -> Option<Target> {
        let wanted = self.compression.filter(|&wanted| wanted != codec)?;
        Some(Target {
            codec: wanted,
            level: self.compression_levels.of(wanted),
        })
    }

    /// Takes one config's value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        row(name)?.take(self, value)
    }
}

/// Checks the configs that a client gives for a topic: the values to keep, and what they come to with
/// the broker's `defaults`. Of a config given twice the last value counts.
pub fn check<'a>(
    defaults: TopicConfig,
    given: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<(Values, TopicConfig), ConfigError> {
    let mut values = Values::new();
    let mut nulls = Vec::new();
    for (name, value) in given {
        match value {
            Some(value) => drop(values.insert(name.to_owned(), value.to_owned())),
            None => nulls.push(name),
        }
    }
    if !nulls.is_empty() {
        return Err(ConfigError::Null(nulls.join(",")));
    }
    // A wrong name is said before a wrong value, as Kafka does.
    values.keys().try_for_each(|name| row(name).map(drop))?;
    let mut config = defaults;
    values
        .iter()
        .try_for_each(|(name, value)| config.set(name, value))?;
    let (min, max) = (config.min_compaction_lag_ms, config.max_compaction_lag_ms);
    if min > max {
        return Err(ConfigError::CompactionLags(min, max));
    }
    if config.is_brokers() && config.cleanup_policy.compacts() {
        return Err(ConfigError::BrokersDoNotCompact);
    }
    Ok((values, config))
}

/// Has brokers keep the log of a topic that is to be created, if they do so for topics that do not say who
/// does, unless it is compacted. It says so itself from then on, as that cannot be changed.
pub fn choose_path(path: SeaweedMqPath, values: &mut Values, config: &mut TopicConfig) {
    let name = SEAWEEDMQ_PATH.name;
    let is_open = config.seaweedmq_path.is_some() && !values.contains_key(name);
    if is_open && path == SeaweedMqPath::Broker && !config.cleanup_policy.compacts() {
        config.seaweedmq_path = Some(path);
        values.insert(name.to_owned(), (SEAWEEDMQ_PATH.get)(config));
    }
}

/// Keeps what was fixed when a topic was created, though configs that replace all do not name it.
pub fn keep_fixed(before: &Values, after: &mut Values) {
    if let Some(path) = before.get(SEAWEEDMQ_PATH.name) {
        let name = SEAWEEDMQ_PATH.name.to_owned();
        after.entry(name).or_insert_with(|| path.clone());
    }
}

/// Checks that what was fixed when a topic was created stays as it is.
pub fn check_fixed(before: &TopicConfig, after: &TopicConfig) -> Result<(), ConfigError> {
    match before.seaweedmq_path == after.seaweedmq_path {
        true => Ok(()),
        false => Err(ConfigError::Fixed(SEAWEEDMQ_PATH.name)),
    }
}

/// A value that somebody gave a config. In force is the first of those that there are (KIP-226).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    /// What the config is called there.
    pub name: &'static str,
    pub value: String,
    pub source: ConfigSource,
}

/// The values of a broker config. One that is set to its default counts as not set.
pub fn broker_synonyms(
    name: &'static str,
    value: String,
    default: Option<String>,
) -> impl Iterator<Item = Synonym> {
    let synonym = |value, source| Synonym {
        name,
        value,
        source,
    };
    let set = (default.as_ref() != Some(&value)).then_some(value);
    let set = set.map(|value| synonym(value, ConfigSource::StaticBroker));
    let default = default.map(|value| synonym(value, ConfigSource::Default));
    set.into_iter().chain(default)
}

impl Row {
    /// The row of a broker config that stands in for topics.
    pub fn of_broker(name: &str) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.broker_name == name)
    }

    /// The value as Kafka writes it, however it was given.
    pub fn value(&self, config: &TopicConfig) -> String {
        (self.get)(config)
    }

    /// Checks a topic's value and takes it.
    fn take(&self, config: &mut TopicConfig, value: &str) -> Result<(), ConfigError> {
        let name = self.name;
        (self.set)(config, &Given { name, value })
    }

    /// The same for a broker's value; errors have the broker config's name.
    pub fn take_of_broker(&self, config: &mut TopicConfig, value: &str) -> Result<(), ConfigError> {
        let name = self.broker_name;
        (self.set)(config, &Given { name, value })
    }

    /// The values of this config of a topic that sets it to `set`, if it does.
    pub fn synonyms(
        &self,
        set: Option<String>,
        broker: &BrokerConfigs,
    ) -> impl Iterator<Item = Synonym> {
        let set = set.map(|value| Synonym {
            name: self.name,
            value,
            source: ConfigSource::Topic,
        });
        set.into_iter().chain(broker.synonyms(self))
    }
}

/// A config's value as a topic has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    pub name: &'static str,
    pub value: String,
    pub source: ConfigSource,
}

/// All configs of a topic that sets `values`, by name; what the topic sets stands as it was given.
pub fn effective(values: &Values, broker: &BrokerConfigs) -> impl Iterator<Item = Effective> {
    rows(broker.started()).filter_map(move |row| {
        let set = values.get(row.name).cloned();
        let in_force = row.synonyms(set, broker).next()?;
        Some(Effective {
            name: row.name,
            value: in_force.value,
            source: in_force.source,
        })
    })
}

/// The row of a topic config.
pub(super) fn row(name: &str) -> Result<&'static Row, ConfigError> {
    let mut all = TABLE.iter().chain(SEAWEEDMQ);
    match all.find(|row| row.name == name) {
        Some(row) => Ok(row),
        None if NOT_SUPPORTED.contains(&name) => Err(ConfigError::NotSupported(name.to_owned())),
        None => Err(ConfigError::UnknownName(name.to_owned())),
    }
}

/// A value as a client gave it, to be read as what its config takes.
pub(super) struct Given<'a> {
    pub name: &'static str,
    pub value: &'a str,
}

impl<'a> Given<'a> {
    fn invalid(&self, value: &str, reason: String) -> ConfigError {
        ConfigError::InvalidValue {
            name: self.name,
            value: value.to_owned(),
            reason,
        }
    }

    /// Without the characters around it that Java's `trim` takes away.
    fn trimmed(&self) -> &'a str {
        self.value.trim_matches(|c| c <= ' ')
    }

    pub fn int(&self, min: i32) -> Result<i32, ConfigError> {
        self.number("INT", min)
    }

    fn long(&self, min: i64) -> Result<i64, ConfigError> {
        self.number("LONG", min)
    }

    fn number<T: FromStr + Ord + ToString>(&self, kind: &str, min: T) -> Result<T, ConfigError> {
        let number = self.trimmed().parse::<T>();
        let number =
            number.map_err(|_| self.invalid(self.value, format!("Not a number of type {kind}")))?;
        if number < min {
            let reason = format!("Value must be at least {}", min.to_string());
            return Err(self.invalid(&number.to_string(), reason));
        }
        Ok(number)
    }

    fn level(&self, codec: Compression) -> Result<i32, ConfigError> {
        let level = self.int(i32::MIN)?;
        let Some(levels) = codec.levels().filter(|levels| !levels.has(level)) else {
            return Ok(level);
        };
        let LevelRange {
            least,
            most,
            default,
        } = levels;
        let reason = if !(least..=most).contains(&default) {
            format!("Value must be between {least} and {most} or equal to {default}")
        } else if level < least {
            format!("Value must be at least {least}")
        } else {
            format!("Value must be no more than {most}")
        };
        Err(self.invalid(&level.to_string(), reason))
    }

    fn ratio(&self) -> Result<Ratio, ConfigError> {
        let number = self.trimmed().parse::<f64>();
        let number = number
            .map_err(|_| self.invalid(self.value, "Not a number of type DOUBLE".to_owned()))?;
        let reason = match number {
            ..0.0 => "Value must be at least 0",
            _ if number > 1.0 => "Value must be no more than 1",
            _ => return Ok(Ratio(number)),
        };
        Err(self.invalid(&format!("{number:?}"), reason.to_owned()))
    }

    fn cleanup_policy(&self) -> Result<CleanupPolicy, ConfigError> {
        self.list_of(&["compact", "delete"])?;
        let at = |policy| self.value.split(',').position(|word| word.trim() == policy);
        Ok(match (at("compact"), at("delete")) {
            (None, None) => CleanupPolicy::Nothing,
            (None, Some(_)) => CleanupPolicy::Delete,
            (Some(_), None) => CleanupPolicy::Compact,
            (Some(compact), Some(delete)) if compact < delete => CleanupPolicy::CompactDelete,
            (Some(_), Some(_)) => CleanupPolicy::DeleteCompact,
        })
    }

    fn boolean(&self) -> Result<bool, ConfigError> {
        match self.trimmed().to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => {
                let reason = "Expected value to be either true or false";
                Err(self.invalid(self.value, reason.to_owned()))
            }
        }
    }

    fn one_of(&self, words: &[&str]) -> Result<&'a str, ConfigError> {
        let word = self.trimmed();
        self.check_word(word, words)?;
        Ok(word)
    }

    /// No word at all is a list too.
    fn list_of(&self, words: &[&str]) -> Result<(), ConfigError> {
        if self.trimmed().is_empty() {
            return Ok(());
        }
        let elements = || self.trimmed().split(',').map(str::trim);
        if elements().any(str::is_empty) {
            return Err(ConfigError::EmptyElement(self.name));
        }
        elements().try_for_each(|word| self.check_word(word, words))
    }

    fn check_word(&self, word: &str, words: &[&str]) -> Result<(), ConfigError> {
        if words.contains(&word) {
            return Ok(());
        }
        Err(self.invalid(word, format!("String must be one of: {}", words.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, value: &str) -> String {
        let given = [(name, Some(value))].into_iter();
        check(TopicConfig::default(), given)
            .expect_err(name)
            .to_string()
    }

    fn taken(name: &str, value: &str) -> TopicConfig {
        let given = [(name, Some(value))].into_iter();
        let (values, config) = check(TopicConfig::default(), given).expect(name);
        assert_eq!(values[name], value, "the value is kept as it was given");
        config
    }

    #[test]
    fn values_are_taken_as_kafka_reads_them() {
        assert_eq!(taken("segment.bytes", " 1048576 ").segment_bytes, 1 << 20);
        assert_eq!(taken("segment.bytes", "+1048576").segment_bytes, 1 << 20);
        assert_eq!(taken("max.message.bytes", "0").max_message_bytes, 0);
        let log_append_time = taken("message.timestamp.type", " LogAppendTime");
        assert_eq!(log_append_time.timestamp_type, TimestampType::LogAppendTime);
        assert_eq!(
            taken("message.timestamp.after.max.ms", "7").timestamp_after_max_ms,
            7
        );
        assert_eq!(
            taken("message.timestamp.before.max.ms", "8").timestamp_before_max_ms,
            8
        );
        for same in ["delete", " delete ", "delete , delete"] {
            assert_eq!(taken("cleanup.policy", same), TopicConfig::default());
        }
        for (given, policy) in [
            ("", CleanupPolicy::Nothing),
            ("compact", CleanupPolicy::Compact),
            ("compact, delete", CleanupPolicy::CompactDelete),
            ("delete,compact", CleanupPolicy::DeleteCompact),
        ] {
            assert_eq!(taken("cleanup.policy", given).cleanup_policy, policy);
        }
        for (given, text) in [
            ("1", "1.0"),
            (" 0.25", "0.25"),
            ("0.00001", "1.0E-5"),
            ("NaN", "NaN"),
        ] {
            let config = taken("min.cleanable.dirty.ratio", given);
            assert_eq!(config.min_cleanable_dirty_ratio.text(), text);
        }
        for (given, ms) in [("-1", -1), ("0", 0)] {
            assert_eq!(taken("retention.ms", given).retention_ms, ms);
        }
        assert_eq!(taken("retention.bytes", "-2").retention_bytes, -2);
        assert_eq!(
            taken("compression.type", " producer "),
            TopicConfig::default()
        );
        let types = ["uncompressed", "gzip", "snappy", "lz4", " zstd"];
        for (name, codec) in types.into_iter().zip(Compression::ALL) {
            assert_eq!(taken("compression.type", name).compression, Some(codec));
        }
        let level = |name, value: &str| taken(name, value).compression_levels;
        for (value, read) in [("-1", -1), ("1", 1), ("9", 9)] {
            assert_eq!(level("compression.gzip.level", value).gzip, read);
        }
        assert_eq!(level("compression.lz4.level", " 17 ").lz4, 17);
        assert_eq!(level("compression.zstd.level", "-131072").zstd, -131_072);
    }

    #[test]
    fn wrong_values_are_refused_in_kafkas_words() {
        let policies = "String must be one of: compact, delete";
        let codecs = "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer";
        let gzip_levels = "Value must be between 1 and 9 or equal to -1";
        let types = "String must be one of: CreateTime, LogAppendTime";
        let long_max_plus_1 = "9223372036854775808";
        for (name, value, said, reason) in [
            ("cleanup.policy", "foo", "foo", policies),
            ("cleanup.policy", "compact,foo", "foo", policies),
            ("cleanup.policy", "Delete", "Delete", policies),
            ("compression.type", "brotli", "brotli", codecs),
            ("compression.type", "PRODUCER", "PRODUCER", codecs),
            ("compression.type", "none", "none", codecs),
            ("compression.gzip.level", "0", "0", gzip_levels),
            ("compression.gzip.level", "-2", "-2", gzip_levels),
            ("compression.gzip.level", "10", "10", gzip_levels),
            (
                "compression.gzip.level",
                "x",
                "x",
                "Not a number of type INT",
            ),
            (
                "compression.lz4.level",
                "0",
                "0",
                "Value must be at least 1",
            ),
            (
                "compression.lz4.level",
                "18",
                "18",
                "Value must be no more than 17",
            ),
            (
                "compression.zstd.level",
                "-131073",
                "-131073",
                "Value must be at least -131072",
            ),
            (
                "compression.zstd.level",
                "23",
                "23",
                "Value must be no more than 22",
            ),
            ("max.message.bytes", "-1", "-1", "Value must be at least 0"),
            (
                "max.message.bytes",
                "3000000000",
                "3000000000",
                "Not a number of type INT",
            ),
            ("message.timestamp.type", "X", "X", types),
            ("message.timestamp.type", "", "", types),
            (
                "message.timestamp.before.max.ms",
                "-1",
                "-1",
                "Value must be at least 0",
            ),
            (
                "message.timestamp.before.max.ms",
                "0x10",
                "0x10",
                "Not a number of type LONG",
            ),
            (
                "message.timestamp.after.max.ms",
                long_max_plus_1,
                long_max_plus_1,
                "Not a number of type LONG",
            ),
            (
                "segment.bytes",
                "1048575",
                "1048575",
                "Value must be at least 1048576",
            ),
            ("segment.bytes", "1e7", "1e7", "Not a number of type INT"),
            ("segment.bytes", "", "", "Not a number of type INT"),
            ("segment.ms", "0", "0", "Value must be at least 1"),
            ("segment.jitter.ms", "-1", "-1", "Value must be at least 0"),
            ("retention.ms", "-2", "-2", "Value must be at least -1"),
            ("retention.ms", "x", "x", "Not a number of type LONG"),
            (
                "file.delete.delay.ms",
                "-1",
                "-1",
                "Value must be at least 0",
            ),
            ("min.insync.replicas", "0", "0", "Value must be at least 1"),
            (
                "delete.retention.ms",
                "-1",
                "-1",
                "Value must be at least 0",
            ),
            (
                "max.compaction.lag.ms",
                "0",
                "0",
                "Value must be at least 1",
            ),
            (
                "min.compaction.lag.ms",
                "-1",
                "-1",
                "Value must be at least 0",
            ),
            (
                "min.cleanable.dirty.ratio",
                "1.5",
                "1.5",
                "Value must be no more than 1",
            ),
            (
                "min.cleanable.dirty.ratio",
                "-.1",
                "-0.1",
                "Value must be at least 0",
            ),
            (
                "min.cleanable.dirty.ratio",
                "x",
                "x",
                "Not a number of type DOUBLE",
            ),
        ] {
            let text = format!("Invalid value {said} for configuration {name}: {reason}");
            assert_eq!(refusal(name, value), text);
        }
        let empty = "Configuration 'cleanup.policy' values must not be empty.";
        assert_eq!(refusal("cleanup.policy", "delete,"), empty);
        assert_eq!(refusal("cleanup.policy", ","), empty);
    }

    #[test]
    fn names_are_checked_before_values_and_nulls_before_names() {
        let check = |given: &[(&'static str, Option<&'static str>)]| {
            super::check(TopicConfig::default(), given.iter().copied())
                .expect_err("refused")
                .to_string()
        };
        let bad_value = ("segment.bytes", Some("x"));
        let bad_name = ("nope", Some("1"));
        assert_eq!(
            check(&[bad_value, bad_name]),
            "Unknown topic config name: nope"
        );
        assert_eq!(check(&[("", Some("x"))]), "Unknown topic config name: ");
        let nulls = [bad_name, ("retention.ms", None), ("segment.ms", None)];
        assert_eq!(
            check(&nulls),
            "Null value not supported for topic configs: retention.ms,segment.ms"
        );
    }

    #[test]
    fn what_has_no_effect_is_refused_and_not_ignored() {
        assert_eq!(
            refusal("flush.ms", "1000"),
            "The topic config flush.ms is not supported yet"
        );
    }

    #[test]
    fn lags_of_compaction_that_contradict_each_other_are_refused() {
        let given = [
            ("min.compaction.lag.ms", Some("10")),
            ("max.compaction.lag.ms", Some("5")),
        ];
        let refused = check(TopicConfig::default(), given.into_iter());
        assert_eq!(
            refused.expect_err("a conflict").to_string(),
            "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)"
        );
    }

    #[test]
    fn only_policies_with_delete_have_a_retention() {
        for (policy, limited) in [
            ("delete", true),
            ("compact,delete", true),
            ("compact", false),
            ("", false),
        ] {
            let retention = taken("cleanup.policy", policy).retention();
            assert_eq!(retention.is_some(), limited, "{policy}");
        }
        assert_eq!(taken("retention.ms", "-1").retention(), None);
    }

    #[test]
    fn batches_of_another_codec_are_recoded_and_those_of_the_right_one_are_not() {
        let config = TopicConfig {
            compression: Some(Compression::Zstd),
            compression_levels: Levels {
                zstd: 7,
                ..Levels::default()
            },
            ..TopicConfig::default()
        };
        let target = Target {
            codec: Compression::Zstd,
            level: Some(7),
        };
        for codec in Compression::ALL {
            let expected = (codec != Compression::Zstd).then_some(target);
            assert_eq!(config.recode(codec), expected);
            assert_eq!(TopicConfig::default().recode(codec), None);
        }
    }

    #[test]
    fn the_path_in_seaweedmq_is_set_once_and_only_there() {
        let broker = [("seaweedmq.path", Some("broker"))];
        assert_eq!(
            refusal("seaweedmq.path", "broker"),
            "The topic config seaweedmq.path can be set with the store seaweedmq only"
        );
        let defaults = TopicConfig {
            seaweedmq_path: Some(SeaweedMqPath::Segments),
            ..TopicConfig::default()
        };
        let (values, config) = check(defaults, broker.into_iter()).expect("taken");
        assert!(config.is_brokers() && config.retention().is_none());
        let fixed = Err(ConfigError::Fixed("seaweedmq.path"));
        assert_eq!(check_fixed(&config, &defaults), fixed);
        assert_eq!(check_fixed(&config, &config), Ok(()));
        let broker_configs = BrokerConfigs::new(1, defaults);
        let told = |values: &Values| {
            let mut all = effective(values, &broker_configs);
            all.find(|e| e.name == "seaweedmq.path")
                .map(|e| (e.value, e.source))
        };
        let set = ("broker".to_owned(), ConfigSource::Topic);
        assert_eq!(told(&values), Some(set));
        let default = ("segments".to_owned(), ConfigSource::Default);
        assert_eq!(told(&Values::new()), Some(default));
        let ids = [broker[0], ("seaweedmq.producer.ids", Some("TRUE"))];
        let (with_ids, config) = check(defaults, ids.into_iter()).expect("taken");
        assert!(config.seaweedmq_producer_ids);
        assert_eq!(check_fixed(&config, &config), Ok(()));
        assert_eq!(with_ids["seaweedmq.producer.ids"], "TRUE");
        assert_eq!(
            refusal("seaweedmq.producer.ids", "true"),
            "The topic config seaweedmq.producer.ids can be set with the store seaweedmq only"
        );
        assert_eq!(
            refusal("seaweedmq.producer.ids", "yes"),
            "Invalid value yes for configuration seaweedmq.producer.ids: Expected value to be either true or false"
        );
        let mut replaced = Values::from([("segment.bytes".to_owned(), "2000000".to_owned())]);
        keep_fixed(&values, &mut replaced);
        assert_eq!(replaced["seaweedmq.path"], "broker");
        let compact = ("cleanup.policy", Some("compact"));
        assert_eq!(
            check(defaults, [broker[0], compact].into_iter()),
            Err(ConfigError::BrokersDoNotCompact)
        );
        let chosen = |defaults: TopicConfig, path, given: &[(&str, &str)]| {
            let given = given.iter().map(|(name, value)| (*name, Some(*value)));
            let (mut values, mut config) = check(defaults, given).expect("taken");
            choose_path(path, &mut values, &mut config);
            assert_eq!(TopicConfig::of("t", &values, defaults), config);
            config.seaweedmq_path
        };
        let (segments, brokers) = (SeaweedMqPath::Segments, SeaweedMqPath::Broker);
        let itself = [("seaweedmq.path", "segments")];
        assert_eq!(chosen(defaults, segments, &[]), Some(segments));
        assert_eq!(chosen(defaults, brokers, &[]), Some(brokers));
        assert_eq!(chosen(defaults, brokers, &itself), Some(segments));
        let compact = [("cleanup.policy", "compact")];
        assert_eq!(chosen(defaults, brokers, &compact), Some(segments));
        assert_eq!(chosen(TopicConfig::default(), brokers, &[]), None);
    }

    #[test]
    fn of_a_config_given_twice_the_last_counts() {
        let given = [
            ("segment.bytes", Some("x")),
            ("segment.bytes", Some("2097152")),
        ];
        let (values, config) = check(TopicConfig::default(), given.into_iter()).expect("valid");
        assert_eq!((values.len(), config.segment_bytes), (1, 2 << 20));
    }

    #[test]
    fn effective_configs_say_where_they_come_from() {
        let defaults = TopicConfig {
            max_message_bytes: 5,
            ..TopicConfig::default()
        };
        let values = Values::from([("segment.bytes".to_owned(), " 1048576".to_owned())]);
        let all: Vec<_> = effective(&values, &BrokerConfigs::new(1, defaults)).collect();
        assert!(all.is_sorted_by(|a, b| a.name < b.name));
        let of = |name| {
            let found = all.iter().find(|e| e.name == name).expect(name);
            (found.value.as_str(), found.source)
        };
        assert_eq!(of("segment.bytes"), (" 1048576", ConfigSource::Topic));
        assert_eq!(of("max.message.bytes"), ("5", ConfigSource::StaticBroker));
        assert_eq!(
            of("message.timestamp.type"),
            ("CreateTime", ConfigSource::Default)
        );
    }

    #[test]
    fn synonyms_go_from_the_topic_over_the_broker_to_kafkas_default() {
        let defaults = TopicConfig {
            segment_bytes: 2 << 20,
            ..TopicConfig::default()
        };
        let row = row("segment.bytes").expect("a row");
        let all = |set: Option<&str>, defaults| -> Vec<_> {
            row.synonyms(set.map(str::to_owned), &BrokerConfigs::new(1, defaults))
                .map(|s| (s.name, s.value, s.source as i8))
                .collect()
        };
        let topic = ("segment.bytes", "1048576".to_owned(), 1);
        let broker = ("log.segment.bytes", "2097152".to_owned(), 4);
        let kafka = ("log.segment.bytes", "1073741824".to_owned(), 5);
        assert_eq!(
            all(Some("1048576"), defaults),
            [topic, broker, kafka.clone()]
        );
        assert_eq!(all(None, TopicConfig::default()), [kafka]);
    }

    #[test]
    fn every_default_is_a_value_that_can_be_set() {
        for row in TABLE {
            let mut config = TopicConfig {
                segment_bytes: 0,
                ..TopicConfig::default()
            };
            let text = (row.get)(&TopicConfig::default());
            config.set(row.name, &text).expect(row.name);
            assert_eq!((row.get)(&config), text);
            assert!(!NOT_SUPPORTED.contains(&row.name), "{}", row.name);
        }
    }
}
