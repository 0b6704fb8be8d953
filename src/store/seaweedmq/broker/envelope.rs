//! Kafka's records as messages of SeaweedMQ, and back.
//!
//! A message is a key, a value and a time, all in protobuf 3, which does not tell an empty field from
//! one that is not there. A record is stored as it is if that says all of it: without headers, with a time
//! that the broker will keep, with a key that is null or has bytes, with a value that is null or has
//! bytes, and of no producer that is to be known later. What such a message cannot say follows the value:
//!
//! ```text
//! value | C2 3E <varint: length of the rest> | Extras | u32 length of Extras | u32 CRC-32C | "tidegate"
//! ```
//! The CRC is that of the value and of Extras. To whoever takes the value for protobuf (as a RecordValue of
//! SeaweedMQ is) this is a field of number 1000 that it does not know, and skips; others find the value at
//! the front. A value that ends as such a one does gets it too, so that nothing is mistaken for it.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::bridge::DataMessage;
use crate::record::batch::increment_sequence;
use crate::record::{BatchHeader, Header, Record};

const MAGIC: &[u8; 8] = b"tidegate";
/// Field 1000 with a length.
const TAG: [u8; 2] = [0xC2, 0x3E];
/// Behind the extras: their length, the CRC, and [`MAGIC`].
const FOOTER_LEN: usize = 16;

const NS_PER_MS: i64 = 1_000_000;
/// A record that is older does not have its own time as the message's: brokers name files by it.
const RECENT_NS: i64 = 1_000_000_000;

/// What a message cannot say.
#[derive(Clone, PartialEq, Message)]
struct Extras {
    /// In ms since the epoch.
    #[prost(sint64, optional, tag = "1")]
    timestamp: Option<i64>,
    #[prost(bool, tag = "2")]
    is_key_empty: bool,
    #[prost(bool, tag = "3")]
    is_value_null: bool,
    #[prost(message, repeated, tag = "4")]
    headers: Vec<ExtraHeader>,
    #[prost(message, optional, tag = "5")]
    origin: Option<ExtraOrigin>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ExtraOrigin {
    #[prost(int64, tag = "1")]
    producer_id: i64,
    #[prost(int32, tag = "2")]
    epoch: i32,
    #[prost(int32, tag = "3")]
    sequence: i32,
}

/// Which record of which idempotent producer (KIP-98) it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub producer_id: i64,
    pub epoch: i16,
    pub sequence: i32,
}

impl Origin {
    /// Of a batch's record, by its index. `None` if its producer is not idempotent.
    pub fn of(batch: &BatchHeader, index: usize) -> Option<Origin> {
        batch.has_producer_id().then(|| Origin {
            producer_id: batch.producer_id(),
            epoch: batch.producer_epoch(),
            sequence: increment_sequence(batch.base_sequence(), index as i32),
        })
    }
}

impl From<Origin> for ExtraOrigin {
    fn from(origin: Origin) -> Self {
        ExtraOrigin {
            producer_id: origin.producer_id,
            epoch: i32::from(origin.epoch),
            sequence: origin.sequence,
        }
    }
}

impl ExtraOrigin {
    /// `None` if a producer cannot have it.
    fn read(self) -> Option<Origin> {
        let epoch = i16::try_from(self.epoch).ok()?;
        (self.producer_id >= 0 && epoch >= 0 && self.sequence >= 0).then_some(Origin {
            producer_id: self.producer_id,
            epoch,
            sequence: self.sequence,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
struct ExtraHeader {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    value: Option<Bytes>,
}

/// The times of one stream's messages, in ns since the epoch: a broker moves one that does not ascend.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    last_ns: i64,
}

impl Clock {
    /// No message is of before `from_ns`. A broker that has just taken a partition over begins a file with
    /// the first, and files are in the order of their names.
    pub fn from(from_ns: i64) -> Self {
        let last_ns = from_ns.saturating_sub(1);
        Clock { last_ns }
    }

    /// The time of a message, and whether it says the record's, in ms.
    fn tick(&mut self, timestamp: i64, now_ns: i64) -> (i64, bool) {
        let begins = now_ns - RECENT_NS;
        let own = timestamp.checked_mul(NS_PER_MS);
        let own = own.filter(|own| (begins..=now_ns).contains(own));
        let time = own.unwrap_or(begins).max(self.last_ns.saturating_add(1));
        self.last_ns = time;
        let is_told = own.is_some() && time.div_euclid(NS_PER_MS) == timestamp;
        (time, is_told)
    }
}

/// The message that a record is published as, and with its origin if that is to be kept.
pub fn message(
    record: &Record,
    origin: Option<Origin>,
    now_ns: i64,
    clock: &mut Clock,
) -> DataMessage {
    let (ts_ns, is_time_told) = clock.tick(record.timestamp, now_ns);
    let key = record.key.clone().unwrap_or_default();
    let value = record.value.clone().unwrap_or_default();
    let extras = Extras {
        timestamp: (!is_time_told).then_some(record.timestamp),
        is_key_empty: record.key.is_some() && key.is_empty(),
        is_value_null: false,
        headers: record.headers.iter().map(ExtraHeader::from).collect(),
        origin: origin.map(ExtraOrigin::from),
    };
    let is_value_told = record.value.is_some() != value.is_empty();
    let value = match is_value_told && extras == Extras::default() && !value.ends_with(MAGIC) {
        true => value,
        false => with_extras(
            &value,
            &Extras {
                is_value_null: record.value.is_none(),
                ..extras
            },
        ),
    };
    DataMessage { key, value, ts_ns }
}

impl From<&Header> for ExtraHeader {
    fn from(header: &Header) -> Self {
        ExtraHeader {
            key: header.key.clone(),
            value: header.value.clone(),
        }
    }
}

fn crc(value: &[u8], extras: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(value), extras)
}

fn with_extras(value: &[u8], extras: &Extras) -> Bytes {
    let extras = extras.encode_to_vec();
    let rest = extras.len() + FOOTER_LEN;
    let mut out = BytesMut::with_capacity(value.len() + rest + 8);
    out.put_slice(value);
    out.put_slice(&TAG);
    prost::encode_length_delimiter(rest, &mut out).expect("the buffer grows");
    out.put_slice(&extras);
    out.put_u32(extras.len() as u32);
    out.put_u32(crc(value, &extras));
    out.put_slice(MAGIC);
    out.freeze()
}

/// What a message's key and value stand for. `None`: for themselves.
pub fn open<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Option<Opened<'a>> {
    let rest = value?.strip_suffix(MAGIC)?;
    let (rest, sum) = rest.split_last_chunk::<4>()?;
    let (rest, len) = rest.split_last_chunk::<4>()?;
    let len = u32::from_be_bytes(*len) as usize;
    let (rest, extras) = rest.split_at_checked(rest.len().checked_sub(len)?)?;
    let mut delimiter = TAG.to_vec();
    prost::encode_length_delimiter(len + FOOTER_LEN, &mut delimiter).ok()?;
    let value = rest.strip_suffix(&delimiter[..])?;
    if u32::from_be_bytes(*sum) != crc(value, extras) {
        return None;
    }
    let extras = Extras::decode(extras).ok()?;
    Some(Opened {
        key: key.or(extras.is_key_empty.then_some(&[])),
        value: (!extras.is_value_null).then_some(value),
        timestamp: extras.timestamp,
        origin: extras.origin.and_then(ExtraOrigin::read),
        headers: extras.headers,
    })
}

/// A record that did not fit into a message.
pub struct Opened<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Unless it is the message's.
    pub timestamp: Option<i64>,
    pub origin: Option<Origin>,
    headers: Vec<ExtraHeader>,
}

impl Opened<'_> {
    pub fn headers(&self) -> Vec<(&[u8], Option<&[u8]>)> {
        let all = self.headers.iter();
        all.map(|h| (&h.key[..], h.value.as_deref())).collect()
    }
}

/// Tells a record from others by what a broker does not change.
pub fn fingerprint(record: &Record) -> u64 {
    let mut hasher = DefaultHasher::new();
    record.key.hash(&mut hasher);
    record.value.hash(&mut hasher);
    for header in &record.headers {
        header.key.hash(&mut hasher);
        header.value.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW_MS: i64 = 1_700_000_000_000;
    const NOW: i64 = NOW_MS * NS_PER_MS;

    fn record(key: Option<&[u8]>, value: Option<&[u8]>, timestamp: i64) -> Record {
        Record {
            offset: 0,
            timestamp,
            key: key.map(Bytes::copy_from_slice),
            value: value.map(Bytes::copy_from_slice),
            headers: Vec::new(),
        }
    }

    /// What a reader gets: protobuf has no empty fields.
    fn read(message: &DataMessage) -> Record {
        let present = |bytes: &Bytes| (!bytes.is_empty()).then(|| bytes.clone());
        let (key, value) = (present(&message.key), present(&message.value));
        let stored = message.ts_ns.div_euclid(NS_PER_MS);
        match open(key.as_deref(), value.as_deref()) {
            Some(opened) => Record {
                headers: opened
                    .headers()
                    .into_iter()
                    .map(|(key, value)| Header {
                        key: Bytes::copy_from_slice(key),
                        value: value.map(Bytes::copy_from_slice),
                    })
                    .collect(),
                ..record(opened.key, opened.value, opened.timestamp.unwrap_or(stored))
            },
            None => record(key.as_deref(), value.as_deref(), stored),
        }
    }

    #[test]
    fn what_a_message_can_say_is_published_as_it_is() {
        let mut clock = Clock::from(0);
        for ago in [900, 5, 5, 0] {
            let record = record(Some(b"k"), Some(b"v"), NOW_MS - ago);
            let message = message(&record, None, NOW, &mut clock);
            assert_eq!(
                (&message.key[..], &message.value[..]),
                (&b"k"[..], &b"v"[..])
            );
            assert_eq!(read(&message), record);
        }
        let tombstone = record(Some(b"k"), None, NOW_MS);
        assert!(message(&tombstone, None, NOW, &mut clock).value.is_empty());
    }

    #[test]
    fn the_value_stays_in_front_and_protobuf_skips_the_rest() {
        #[derive(Clone, PartialEq, Message)]
        struct Own {
            #[prost(string, tag = "1")]
            text: String,
        }
        let text = "some text".to_owned();
        let own = Own { text };
        let mut record = record(None, Some(&own.encode_to_vec()), NOW_MS);
        record.headers.push(Header {
            key: "h".into(),
            value: None,
        });
        let message = message(&record, None, NOW, &mut Clock::from(0));
        assert!(message.value.len() > own.encoded_len());
        assert_eq!(Own::decode(message.value.clone()).unwrap(), own);
        assert_eq!(read(&message), record);
    }

    fn bytes() -> impl Strategy<Value = Option<Bytes>> {
        let some = prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        prop::option::of(some)
    }

    proptest! {
        #[test]
        fn records_come_back_with_all_they_had(
            all in prop::collection::vec(
                (bytes(), bytes(), prop_oneof![NOW_MS - 2000..NOW_MS + 2000, any::<i64>()],
                 prop::collection::vec((bytes(), bytes()), 0..3), any::<bool>(),
                 prop::option::of((0..=i64::MAX, 0..=i16::MAX, 0..=i32::MAX))), 1..20),
        ) {
            let mut clock = Clock::from(0);
            let mut before = i64::MIN;
            for (key, value, timestamp, headers, again, origin) in all {
                let headers = headers.into_iter().map(|(key, value)| Header {
                    key: key.unwrap_or_default(), value,
                });
                let mut record = Record { offset: 0, timestamp, key, value, headers: headers.collect() };
                let origin = origin.map(|(producer_id, epoch, sequence)| Origin { producer_id, epoch, sequence });
                let mut published = message(&record, origin, NOW, &mut clock);
                if again {
                    // Somebody produces what it has read as bytes.
                    record.value = Some(published.value.clone()).filter(|value| !value.is_empty());
                    published = message(&record, origin, NOW, &mut clock);
                }
                prop_assert!(published.ts_ns > before, "a broker would move it");
                before = published.ts_ns;
                let found = read(&published);
                prop_assert_eq!(fingerprint(&found), fingerprint(&record));
                let value = Some(&published.value[..]).filter(|value| !value.is_empty());
                prop_assert_eq!(open(None, value).and_then(|opened| opened.origin), origin);
                prop_assert_eq!(found, record);
            }
        }

        #[test]
        fn any_bytes_are_a_value(value in prop::collection::vec(any::<u8>(), 0..60), cut in 0..60_usize) {
            let mut like = with_extras(&value, &Extras { timestamp: Some(5), ..Extras::default() }).to_vec();
            let len = like.len();
            like[cut % len] ^= 1;
            prop_assert!(open(None, Some(&like)).is_none_or(|opened| opened.timestamp == Some(5)));
            like.extend_from_slice(MAGIC);
            prop_assert!(open(None, Some(&like)).is_none());
        }
    }
}
