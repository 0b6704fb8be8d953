//! Where things are in the filer.
//!
//! ```text
//! /topics/kafka/<folder>/topic.conf                           the topic to SeaweedMQ
//! /topics/kafka/<folder>/v<generation>/<start>-<stop>/<time>  segments of one partition
//! /topics/kafka/.tidegate/owner, owners/<shard>               who may write (see `fence`)
//! /topics/kafka/.tidegate/journal/<shard>/<slot>              what segments do not have yet (see `journal`)
//! /topics/kafka/.tidegate/catalog                             the catalog's log
//! /topics/kafka/.tidegate/checkpoints/<topic id>/<partition>  see `checkpoint`
//! ```
//! A topic of SeaweedMQ divides a ring among its partitions, and hides what it has when their number
//! changes. So a Kafka topic that grows gets another topic of SeaweedMQ for the partitions added: it is
//! a row of [`Part`]s. A name that SeaweedMQ has seen before is not used again, as its brokers remember
//! more than they should; nor is one that begins with a dot, which they skip.

use serde::{Deserialize, Serialize};

use crate::wire::Uuid;

/// SeaweedMQ's namespace of Kafka topics.
pub const NAMESPACE: &str = "kafka";
pub const TOPICS: &str = "/topics/kafka";
pub const ROOT: &str = "/topics/kafka/.tidegate";
/// Partitions of one topic of SeaweedMQ: the size of the ring (`pub_balancer.MaxPartitionCount`).
pub const RING_SIZE: i32 = 2520;

/// In seconds since the epoch.
const YEAR_10000: i64 = 253_402_300_800;

/// A topic of SeaweedMQ that has some of the partitions of a Kafka topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The topic's name to SeaweedMQ.
    pub folder: String,
    /// Index of its first partition in the Kafka topic.
    pub first: i32,
    pub count: i32,
    /// When SeaweedMQ made it, in ns since the epoch.
    pub generation_ns: i64,
}

/// The folder of a partition of a topic.
pub fn partition_dir(parts: &[Part], index: i32) -> Option<String> {
    let part = parts
        .iter()
        .find(|part| (part.first..part.first + part.count).contains(&index))?;
    let (start, stop) = ring_range(index - part.first, part.count);
    let generation = time_name(part.generation_ns.div_euclid(1_000_000_000));
    Some(format!(
        "{TOPICS}/{}/v{generation}/{start:04}-{stop:04}",
        part.folder
    ))
}

/// As SeaweedMQ's balancer divides the ring; the last partition takes what is left.
fn ring_range(index: i32, count: i32) -> (i32, i32) {
    let size = RING_SIZE / count;
    let stop = match index + 1 == count {
        true => RING_SIZE,
        false => (index + 1) * size,
    };
    (index * size, stop)
}

/// The names to try for a part, the plain one first.
pub fn folder_names(topic: &str, id: &Uuid, first: i32) -> [String; 2] {
    let plain = match topic.starts_with('.') {
        true => format!("~{topic}"),
        false => topic.to_owned(),
    };
    let plain = match first {
        0 => plain,
        _ => format!("{plain}~{first}"),
    };
    let unique = format!("{plain}~{id}");
    [plain, unique]
}

pub fn checkpoints_dir(topic: &Uuid) -> String {
    format!("{ROOT}/checkpoints/{topic}")
}

/// A time in UTC as SeaweedMQ names files and generations, by seconds since the epoch.
pub fn time_name(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}-{hour:02}-{minute:02}-{second:02}")
}

/// The seconds since the epoch that a name of [`time_name`] stands for.
pub fn seconds_of(name: &str) -> Option<i64> {
    // Names are in the order of their times: halves find it in 40 steps.
    let (mut low, mut high) = (0, YEAR_10000);
    while low < high {
        let middle = low + (high - low) / 2;
        match time_name(middle).as_str() < name {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    (time_name(low) == name).then_some(low)
}

/// Year, month and day of a day since the epoch, by the Gregorian calendar.
fn date(days: i64) -> (i64, i64, i64) {
    let is_leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    // 146,097 days are 400 years; the loops then see no more than 399 years and 11 months.
    let mut year = 1970 + days.div_euclid(146_097) * 400;
    let mut left = days.rem_euclid(146_097);
    let mut length = 365 + i64::from(is_leap(year));
    while left >= length {
        left -= length;
        year += 1;
        length = 365 + i64::from(is_leap(year));
    }
    let february = 28 + i64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_named_as_seaweedmq_names_them() {
        for (seconds, name) in [
            (0, "1970-01-01-00-00-00"),
            (951_782_399, "2000-02-28-23-59-59"),
            (951_782_400, "2000-02-29-00-00-00"),
            (1_709_210_096, "2024-02-29-12-34-56"),
            (1_798_761_599, "2026-12-31-23-59-59"),
            (4_102_444_800, "2100-01-01-00-00-00"),
            (-1, "1969-12-31-23-59-59"),
        ] {
            assert_eq!(time_name(seconds), name);
            assert_eq!(seconds_of(name), (seconds >= 0).then_some(seconds));
        }
        assert_eq!(seconds_of("2024-02-30-00-00-00"), None);
        assert_eq!(seconds_of(""), None);
    }

    #[test]
    fn partitions_lie_where_the_ring_puts_them_also_when_more_were_added() {
        let part = |folder: &str, first, count| Part {
            folder: folder.to_owned(),
            first,
            count,
            generation_ns: 1_709_210_096_999_999_999,
        };
        let parts = [part("a", 0, 3), part("a~3", 3, 1)];
        let dir = |index| partition_dir(&parts, index);
        let of = |rest: &str| Some(format!("/topics/kafka/{rest}"));
        assert_eq!(dir(0), of("a/v2024-02-29-12-34-56/0000-0840"));
        assert_eq!(dir(2), of("a/v2024-02-29-12-34-56/1680-2520"));
        assert_eq!(dir(3), of("a~3/v2024-02-29-12-34-56/0000-2520"));
        assert_eq!(dir(4), None);
        assert_eq!(ring_range(10, 11), (2290, 2520));
    }

    #[test]
    fn no_topic_gets_the_folder_of_another_or_tidegates_own() {
        let id = Uuid([3; 16]);
        let plain = |name, first| folder_names(name, &id, first)[0].clone();
        assert_eq!(plain("a", 0), "a");
        assert_eq!(plain(".tidegate", 0), "~.tidegate");
        assert_ne!(plain("a", 3), plain("a~3", 0).replace('~', "-"));
        assert_eq!(folder_names("a", &id, 0)[1], format!("a~{id}"));
    }
}
