//! Record batches as SeaweedMQ keeps messages: `[u32 length][LogEntry]`, one for each record.
//!
//! A LogEntry is a protobuf message of SeaweedFS (`filer.proto`). Its own fields carry what they were
//! made for, so that SeaweedFS's tools read the topic; what they cannot say goes to fields of high
//! numbers, which others skip:
//!
//! | field | type | in | what |
//! | --- | --- | --- | --- |
//! | 1 `ts_ns` | int64 | every entry | time of the append, ascending in a partition |
//! | 3 `data`, 4 `key` | bytes | every entry | value and key; absent: null, empty: empty |
//! | 5 `offset` | int64 | every entry | the record's offset |
//! | 1000 | bytes | a batch's first entry | the batch's header, 61 bytes, with offset and epoch |
//! | 1001 | sint64 | if not 0 | the record's timestamp less the batch's base timestamp, in ms |
//! | 1002 | bytes | if there are headers | their count and they, as in a record |
//! | 1003 | fixed32 | first entry, compressed | CRC-32C of the header and the records before compression (at first: of the records alone) |
//! | 1004 | bytes | an opaque batch's only entry | the batch's payload as it came |
//!
//! A batch is read back with its boundaries and fields as they were; its payload is what it was, but
//! that a codec may write the same records in other bytes. What cannot be read record by record (a
//! producer that was trusted wrote nonsense, or wrote it in an unusual way) is kept opaque.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};

use super::broker::envelope::{self, Origin};
use crate::record::batch::{HEADER_LEN, LOG_OVERHEAD, position};
use crate::record::compress::{Compression, compress, decompress};
use crate::record::{BatchHeader, Builder, RawRecord};
use crate::store::{BATCH_HEAD_LEN, StoredBatch};

/// A batch that inflates to more is kept opaque, in bytes.
const INFLATED_BYTES_MAX: usize = 256 << 20;
/// Of one entry or batch, in bytes: what a chunk may say is believed up to this.
const ENTRY_BYTES_MAX: usize = 1 << 30;

/// Records of one batch that is made of others' entries, and from how many bytes on it takes no more.
const PLAIN_RECORDS: usize = 1000;
const PLAIN_BYTES: usize = 256 << 10;

const TS_NS: u32 = 1;
const DATA: u32 = 3;
const KEY: u32 = 4;
const OFFSET: u32 = 5;
const BATCH_HEADER: u32 = 1000;
const TIMESTAMP_DELTA: u32 = 1001;
const HEADERS: u32 = 1002;
const RECORDS_CRC: u32 = 1003;
const OPAQUE: u32 = 1004;

/// Wire types of protobuf.
const VARINT: u32 = 0;
const I64: u32 = 1;
const LEN: u32 = 2;
const I32: u32 = 5;

/// The times of appends to one partition, in ns since the epoch: none twice, none before another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    pub last_ns: i64,
}

impl Clock {
    pub fn now() -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }

    fn tick(&mut self, now_ns: i64) -> i64 {
        self.last_ns = now_ns.max(self.last_ns.saturating_add(1));
        self.last_ns
    }
}

/// Appends the entries of a batch to `out`.
pub fn encode(batch: &StoredBatch, now_ns: i64, clock: &mut Clock, out: &mut Vec<u8>) {
    let mut header = [0; HEADER_LEN];
    header[..BATCH_HEAD_LEN].copy_from_slice(&batch.head);
    header[BATCH_HEAD_LEN..].copy_from_slice(&batch.body[..HEADER_LEN - BATCH_HEAD_LEN]);
    let payload = &batch.body[HEADER_LEN - BATCH_HEAD_LEN..];
    let began = (out.len(), *clock);
    if put_records(&header, payload, now_ns, clock, out).is_none() {
        out.truncate(began.0);
        *clock = began.1;
        put_entry(out, |out| {
            put_bytes(out, BATCH_HEADER, &header);
            put_int(out, TS_NS, clock.tick(now_ns) as u64);
            put_int(out, OFFSET, batch.base_offset as u64);
            put_bytes(out, OPAQUE, payload);
        });
    }
}

/// `None` if the batch cannot be taken apart into records, or not so that they make up the same again.
fn put_records(
    raw_header: &[u8; HEADER_LEN],
    payload: &[u8],
    now_ns: i64,
    clock: &mut Clock,
    out: &mut Vec<u8>,
) -> Option<()> {
    let header = BatchHeader::parse(raw_header).ok()?;
    let inflated;
    let (mut rest, crc) = match header.attributes().compression().ok()? {
        Compression::None => (payload, None),
        codec => {
            inflated = decompress(codec, payload, INFLATED_BYTES_MAX).ok()?;
            (&inflated[..], Some(records_crc(raw_header, &inflated)))
        }
    };
    let mut first = true;
    for _ in 0..header.record_count() {
        let record = RawRecord::take(&mut rest).ok()??;
        put_entry(out, |out| {
            if first {
                put_bytes(out, BATCH_HEADER, raw_header);
                if let Some(crc) = crc {
                    put_tag(out, RECORDS_CRC, I32);
                    out.extend_from_slice(&crc.to_le_bytes());
                }
            }
            put_int(out, TS_NS, clock.tick(now_ns) as u64);
            put_record(out, &header, &record);
        });
        first = false;
    }
    (!first && rest.is_empty()).then_some(())
}

/// What shows damage of a batch whose own CRC is of bytes that a codec may write otherwise.
fn records_crc(raw_header: &[u8; HEADER_LEN], records: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(raw_header), records)
}

fn put_record(out: &mut Vec<u8>, header: &BatchHeader, record: &RawRecord<'_>) {
    if let Some(value) = record.value {
        put_bytes(out, DATA, value);
    }
    if let Some(key) = record.key {
        put_bytes(out, KEY, key);
    }
    let offset = header.base_offset() + i64::from(record.offset_delta);
    put_int(out, OFFSET, offset as u64);
    if record.timestamp_delta != 0 {
        put_int(out, TIMESTAMP_DELTA, zigzag(record.timestamp_delta));
    }
    if record.header_count > 0 {
        put_tag(out, HEADERS, LEN);
        let count = zigzag(i64::from(record.header_count));
        put_varint(out, (varint_len(count) + record.headers.len()) as u64);
        put_varint(out, count);
        out.extend_from_slice(record.headers);
    }
}

fn put_entry(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    put(out);
    let len = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&len.to_be_bytes());
}

fn put_tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    put_varint(out, u64::from(field << 3 | wire_type));
}

fn put_int(out: &mut Vec<u8>, field: u32, value: u64) {
    put_tag(out, field, VARINT);
    put_varint(out, value);
}

fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_tag(out, field, LEN);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

/// Bytes of a chunk that are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the chunk: {what}")]
pub struct Damaged {
    pub at: usize,
    pub what: &'static str,
}

/// A LogEntry, as far as it matters here.
#[derive(Default)]
struct Entry<'a> {
    ts_ns: i64,
    offset: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    batch_header: Option<&'a [u8]>,
    timestamp_delta: i64,
    headers: Option<&'a [u8]>,
    records_crc: Option<u32>,
    opaque: Option<&'a [u8]>,
}

/// Takes the entry at the front of `rest`.
fn take_entry<'a>(rest: &mut &'a [u8]) -> Result<Entry<'a>, &'static str> {
    let len = rest.try_get_u32().map_err(|_| "a length is cut off")? as usize;
    if len > rest.len().min(ENTRY_BYTES_MAX) {
        return Err("an entry is cut off");
    }
    let (mut fields, after) = rest.split_at(len);
    *rest = after;
    let mut entry = Entry::default();
    while !fields.is_empty() {
        take_field(&mut fields, &mut entry).ok_or("an entry is no protobuf message")?;
    }
    Ok(entry)
}

fn take_field<'a>(fields: &mut &'a [u8], entry: &mut Entry<'a>) -> Option<()> {
    let tag = take_varint(fields)?;
    let (field, wire_type) = ((tag >> 3) as u32, (tag & 7) as u32);
    match wire_type {
        VARINT => {
            let value = take_varint(fields)?;
            match field {
                TS_NS => entry.ts_ns = value as i64,
                OFFSET => entry.offset = value as i64,
                TIMESTAMP_DELTA => entry.timestamp_delta = unzigzag(value),
                _ => {}
            }
        }
        LEN => {
            let len = usize::try_from(take_varint(fields)?).ok()?;
            let (bytes, after) = fields.split_at_checked(len)?;
            *fields = after;
            match field {
                DATA => entry.value = Some(bytes),
                KEY => entry.key = Some(bytes),
                BATCH_HEADER => entry.batch_header = Some(bytes),
                HEADERS => entry.headers = Some(bytes),
                OPAQUE => entry.opaque = Some(bytes),
                _ => {}
            }
        }
        I32 => {
            let value = fields.try_get_u32_le().ok()?;
            if field == RECORDS_CRC {
                entry.records_crc = Some(value);
            }
        }
        I64 => drop(fields.try_get_u64_le().ok()?),
        _ => return None,
    }
    Some(())
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Whole batches, one after the other, and where each is.
#[derive(Debug, Clone, Default)]
pub struct Batches {
    pub bytes: Bytes,
    pub places: Vec<Place>,
    /// Of records that went through a broker and say it: by their offsets, ascending.
    pub origins: Vec<(i64, Origin)>,
}

impl Batches {
    /// What it takes in memory.
    pub fn weight(&self) -> usize {
        self.bytes.len() + self.origins.len() * size_of::<(i64, Origin)>()
    }

    /// Which record of which producer the one at an offset is, if it says so.
    pub fn origin(&self, offset: i64) -> Option<Origin> {
        let at = self.origins.binary_search_by_key(&offset, |(at, _)| *at);
        at.ok().map(|at| self.origins[at].1)
    }
}

/// A batch among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub base_offset: i64,
    pub last_offset: i64,
    pub max_timestamp: i64,
    /// Time of the append of its first record, in ns since the epoch.
    pub ts_ns: i64,
    pub at: usize,
    pub len: usize,
}

/// Rebuilds the batches of a chunk.
pub fn decode(chunk: &[u8]) -> Result<Batches, Damaged> {
    let mut out = Vec::with_capacity(chunk.len());
    let mut places = Vec::new();
    let mut rest = chunk;
    while !rest.is_empty() {
        let began = chunk.len() - rest.len();
        let place = take_batch(&mut rest, &mut out).map_err(|what| Damaged { at: began, what })?;
        places.push(place);
    }
    Ok(Batches {
        bytes: out.into(),
        places,
        origins: Vec::new(),
    })
}

/// Batches of a chunk that somebody else may have written: if its first entry is not Tidegate's, none is,
/// and they are records of brokers: see [`envelope`]. Several publishers of a partition
/// may have stored their records in another order than that of the offsets.
pub fn decode_foreign(chunk: &[u8]) -> Result<Batches, Damaged> {
    let mut rest = chunk;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let at = chunk.len() - rest.len();
        let entry = take_entry(&mut rest).map_err(|what| Damaged { at, what })?;
        if entry.batch_header.is_some() && entries.is_empty() {
            return decode(chunk);
        }
        if entry.offset < 0 {
            let what = "an entry has an offset below 0";
            return Err(Damaged { at, what });
        }
        entries.push(entry);
    }
    entries.sort_by_key(|entry| entry.offset);
    entries.dedup_by_key(|entry| entry.offset);
    let (mut out, mut places) = (Vec::with_capacity(chunk.len()), Vec::new());
    let mut origins = Vec::new();
    let mut entries = &entries[..];
    while let Some(first) = entries.first() {
        let mut builder = Builder::new().base_offset(first.offset);
        let mut taken = 0;
        for entry in entries {
            let Ok(delta) = i32::try_from(entry.offset - first.offset) else {
                break;
            };
            if taken > 0 && (taken == PLAIN_RECORDS || builder.records_len() >= PLAIN_BYTES) {
                break;
            }
            let origin = put_plain(&mut builder, delta, entry);
            origins.extend(origin.map(|origin| (entry.offset, origin)));
            taken += 1;
        }
        let at = out.len();
        let batch = builder.build();
        let what = "records do not make a batch";
        let header = BatchHeader::parse(&batch).map_err(|_| Damaged { at: 0, what })?;
        places.push(Place {
            base_offset: first.offset,
            last_offset: header.last_offset(),
            max_timestamp: header.max_timestamp(),
            ts_ns: first.ts_ns,
            at,
            len: batch.len(),
        });
        out.extend_from_slice(&batch);
        entries = &entries[taken..];
    }
    Ok(Batches {
        bytes: out.into(),
        places,
        origins,
    })
}

/// A record that a broker has stored. Gives what it says of its producer.
fn put_plain(builder: &mut Builder, delta: i32, entry: &Entry<'_>) -> Option<Origin> {
    let stored = entry.ts_ns.div_euclid(1_000_000);
    match envelope::open(entry.key, entry.value) {
        Some(opened) => {
            let timestamp = opened.timestamp.unwrap_or(stored);
            builder.append_at(
                delta,
                timestamp,
                opened.key,
                opened.value,
                &opened.headers(),
            );
            opened.origin
        }
        None => {
            builder.append_at(delta, stored, entry.key, entry.value, &[]);
            None
        }
    }
}

/// What the front of a chunk says of its first entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Peek {
    Offset(i64),
    /// It takes so many bytes.
    More(u64),
    Damaged,
}

/// The offset of a chunk's first entry, if this much of its front has all of it.
pub fn peek(mut front: &[u8]) -> Peek {
    let Some(len) = front.first_chunk::<4>() else {
        return Peek::More(4);
    };
    let needed = 4 + u64::from(u32::from_be_bytes(*len));
    if needed > front.len() as u64 {
        return Peek::More(needed);
    }
    match take_entry(&mut front) {
        Ok(entry) if entry.offset >= 0 => Peek::Offset(entry.offset),
        _ => Peek::Damaged,
    }
}

fn take_batch(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<Place, &'static str> {
    let entry = take_entry(rest)?;
    let raw: &[u8; HEADER_LEN] = entry
        .batch_header
        .and_then(|raw| raw.try_into().ok())
        .ok_or("a message that Tidegate did not write")?;
    let header = BatchHeader::parse(raw).map_err(|_| "the header of a batch makes no sense")?;
    let ts_ns = entry.ts_ns;
    let at = out.len();
    out.extend_from_slice(raw);
    match entry.opaque {
        Some(payload) => out.extend_from_slice(payload),
        None if is_compressed(&header) => {
            take_records(entry, rest, raw, &header, out)?;
            restore_length(&mut out[at..])?;
        }
        None => take_records(entry, rest, raw, &header, out)?,
    }
    let len = out.len() - at;
    let stored = BatchHeader::parse(&out[at..]).map_err(|_| "a batch makes no sense")?;
    if len != stored.size_in_bytes() {
        return Err("a batch has not the length that it had");
    }
    if !crate::store::crc_matches(&stored, &out[at..]) {
        return Err("the CRC of a batch does not match");
    }
    Ok(Place {
        base_offset: header.base_offset(),
        last_offset: header.last_offset(),
        max_timestamp: header.max_timestamp(),
        ts_ns,
        at,
        len,
    })
}

fn is_compressed(header: &BatchHeader) -> bool {
    header.attributes().compression() != Ok(Compression::None)
}

/// A codec may have written other bytes than the producer's: length and CRC are made to fit.
fn restore_length(batch: &mut [u8]) -> Result<(), &'static str> {
    let length = i32::try_from(batch.len() - LOG_OVERHEAD).map_err(|_| "a batch is too large")?;
    batch[position::BATCH_LENGTH..position::PARTITION_LEADER_EPOCH]
        .copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[position::ATTRIBUTES..]);
    batch[position::CRC..position::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}

/// The records of a batch, `first` among them, behind its header.
fn take_records(
    first: Entry<'_>,
    rest: &mut &[u8],
    raw_header: &[u8; HEADER_LEN],
    header: &BatchHeader,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let codec = header.attributes().compression();
    let codec = codec.map_err(|_| "a batch has an unknown codec")?;
    let crc = first.records_crc;
    let mut records = Vec::new();
    let into = match codec {
        Compression::None => &mut *out,
        _ => &mut records,
    };
    take_record(&first, header, into)?;
    for _ in 1..header.record_count() {
        let entry = take_entry(rest)?;
        if entry.batch_header.is_some() {
            return Err("a batch ends too early");
        }
        take_record(&entry, header, into)?;
    }
    if codec != Compression::None {
        let is_good =
            |crc| crc == records_crc(raw_header, &records) || crc == crc32c::crc32c(&records);
        if !crc.is_some_and(is_good) {
            return Err("the CRC of a batch's records does not match");
        }
        out.extend_from_slice(&compress(codec, None, &records));
    }
    Ok(())
}

fn take_record(
    entry: &Entry<'_>,
    header: &BatchHeader,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let offset_delta = entry.offset.wrapping_sub(header.base_offset());
    let offset_delta =
        i32::try_from(offset_delta).map_err(|_| "an offset lies outside of its batch")?;
    let mut headers = entry.headers.unwrap_or_default();
    let header_count = match headers {
        [] => 0,
        _ => unzigzag(take_varint(&mut headers).ok_or("the headers of a record are cut off")?),
    };
    let record = RawRecord {
        timestamp_delta: entry.timestamp_delta,
        offset_delta,
        key: entry.key,
        value: entry.value,
        headers,
        header_count: i32::try_from(header_count).map_err(|_| "a record has too many headers")?,
    };
    record.put(out);
    Ok(())
}

/// Hands the headers of a chunk's batches to `each`, without rebuilding them.
pub fn headers(chunk: &[u8], mut each: impl FnMut(&BatchHeader)) -> Result<(), Damaged> {
    let mut rest = chunk;
    while !rest.is_empty() {
        let at = chunk.len() - rest.len();
        let entry = take_entry(&mut rest).map_err(|what| Damaged { at, what })?;
        if let Some(raw) = entry.batch_header {
            let what = "the header of a batch makes no sense";
            each(&BatchHeader::parse(raw).map_err(|_| Damaged { at, what })?);
        }
    }
    Ok(())
}

/// Largest time of an append in a chunk, in ns since the epoch.
pub fn last_ns(chunk: &[u8]) -> Result<i64, Damaged> {
    let mut rest = chunk;
    let mut last = 0;
    while !rest.is_empty() {
        let at = chunk.len() - rest.len();
        let entry = take_entry(&mut rest).map_err(|what| Damaged { at, what })?;
        last = last.max(entry.ts_ns);
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::batch::Batch;
    use crate::record::testing::{build, record, with_payload};
    use crate::record::{Builder, records};

    const NOW: i64 = 1_700_000_000_000;

    fn stored(batch: &Batch, base_offset: i64) -> StoredBatch {
        let header = batch.header();
        StoredBatch {
            base_offset,
            last_offset: base_offset + i64::from(header.last_offset_delta()),
            max_timestamp: header.max_timestamp(),
            head: header.patched_head(base_offset, 7),
            body: batch.after_head(),
        }
    }

    fn encoded(batches: &[StoredBatch]) -> Vec<u8> {
        let (mut out, mut clock) = (Vec::new(), Clock::default());
        for batch in batches {
            encode(batch, NOW * 1_000_000, &mut clock, &mut out);
        }
        out
    }

    fn whole(batch: &StoredBatch) -> Batch {
        let bytes = [&batch.head[..], &batch.body].concat();
        Batch::parse(&bytes.into()).unwrap()
    }

    fn builder(codec: Compression, flags: u8) -> Builder {
        let mut builder = Builder::new().compression(codec, None);
        if flags & 1 != 0 {
            builder = builder.producer(9, 2, 100);
        }
        if flags & 2 != 0 {
            builder = builder.transactional();
        }
        if flags & 4 != 0 {
            builder = builder.control();
        }
        if flags & 8 != 0 {
            builder = builder.log_append_time(NOW);
        }
        builder
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn batches_come_back_as_they_were(
            all in prop::collection::vec((prop::collection::vec(record(NOW), 1..9), 0..5_usize, 0..16_u8), 1..5),
            base in 0..i64::MAX / 2,
        ) {
            let mut next = base;
            let mut batches = Vec::new();
            for (wanted, codec, flags) in &all {
                let batch = build(builder(Compression::ALL[*codec], *flags), wanted);
                batches.push(stored(&batch, next));
                next += wanted.len() as i64;
            }
            let found = decode(&encoded(&batches)).unwrap();
            prop_assert_eq!(found.places.len(), batches.len());
            for (place, batch) in found.places.iter().zip(&batches) {
                let (was, is) = (whole(batch), found.bytes.slice(place.at..place.at + place.len));
                let is = Batch::parse(&is).unwrap();
                prop_assert!(is.crc_ok());
                prop_assert_eq!(place.base_offset, batch.base_offset);
                prop_assert_eq!(place.last_offset, batch.last_offset);
                prop_assert_eq!(place.max_timestamp, batch.max_timestamp);
                let read = |b: &Batch| records(b, 1 << 20).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
                prop_assert_eq!(read(&is), read(&was));
                // All of the header but the length and CRC of what a codec wrote.
                let fixed = |b: &Batch| {
                    let h = *b.header();
                    (h.base_offset(), h.partition_leader_epoch(), h.attributes(), h.last_offset_delta(),
                     h.base_timestamp(), h.max_timestamp(), h.producer_id(), h.producer_epoch(), h.base_sequence(), h.record_count())
                };
                prop_assert_eq!(fixed(&is), fixed(&was));
                if was.attributes().compression() == Ok(Compression::None) {
                    prop_assert_eq!(is.bytes(), was.bytes());
                }
            }
            let mut bases = Vec::new();
            headers(&encoded(&batches), |h| bases.push(h.base_offset())).unwrap();
            prop_assert_eq!(bases, batches.iter().map(|b| b.base_offset).collect::<Vec<_>>());
        }

        #[test]
        fn what_is_no_record_comes_back_too(
            payload in prop::collection::vec(any::<u8>(), 0..99), codec in 0..5_usize,
        ) {
            let like = build(builder(Compression::ALL[codec], 1), &[]);
            let batch = stored(&with_payload(&like, &payload), 5);
            let found = decode(&encoded(std::slice::from_ref(&batch))).unwrap();
            let is = Batch::parse(&found.bytes).unwrap();
            prop_assert_eq!(is.records(), &payload[..]);
            prop_assert!(is.crc_ok());
        }

        #[test]
        fn damage_never_panics_and_is_noticed(
            wanted in prop::collection::vec(record(NOW), 1..4), codec in 0..5_usize,
            at in any::<prop::sample::Index>(), with in 1..=255_u8,
        ) {
            let batch = build(builder(Compression::ALL[codec], 1), &wanted);
            let good = encoded(&[stored(&batch, 3)]);
            let mut bad = good.clone();
            let at = at.index(bad.len());
            bad[at] ^= with;
            let same = |found: Batches| records(&Batch::parse(&found.bytes).unwrap(), 1 << 20)
                .unwrap().map(|r| r.map(|r| (r.key, r.value, r.headers))).collect::<Result<Vec<_>, _>>().ok();
            if let Ok(found) = decode(&bad) {
                prop_assert_eq!(same(found), same(decode(&good).unwrap()));
            }
            let _ = decode(&good[..at]);
        }
    }

    #[test]
    fn times_ascend_though_the_clock_does_not() {
        let batch = build(builder(Compression::None, 0), &[]);
        let (mut out, mut clock) = (Vec::new(), Clock { last_ns: 100 });
        for now in [50, 200, 10] {
            encode(&stored(&batch, 0), now, &mut clock, &mut out);
        }
        assert_eq!(clock.last_ns, 201);
        assert_eq!(last_ns(&out), Ok(201));
    }

    #[test]
    fn entries_of_others_are_plain_records_at_their_offsets() {
        let mut chunk = Vec::new();
        for (offset, key, value) in [(7, "a", "1"), (9, "", "3"), (8, "b", ""), (8, "x", "y")] {
            put_entry(&mut chunk, |out| {
                put_int(out, TS_NS, (NOW * 1_000_000 + 999_999) as u64);
                [(DATA, value), (KEY, key)]
                    .iter()
                    .filter(|(_, text)| !text.is_empty())
                    .for_each(|(field, text)| put_bytes(out, *field, text.as_bytes()));
                put_int(out, OFFSET, offset);
            });
        }
        let found = decode_foreign(&chunk).unwrap();
        assert_eq!(found.places.len(), 1);
        let batch = Batch::parse(&found.bytes).unwrap();
        assert!(batch.crc_ok());
        let read = records(&batch, 1 << 20).unwrap().map(Result::unwrap);
        let read: Vec<_> = read
            .map(|r| (r.offset, r.timestamp, r.key, r.value))
            .collect();
        let text = |text: &'static str| Some(Bytes::from(text));
        let expected = [
            (7, NOW, text("a"), text("1")),
            (8, NOW, text("b"), None),
            (9, NOW, None, text("3")),
        ];
        assert_eq!(read, expected);
        let own = encoded(&[stored(&batch, 3)]);
        assert_eq!(
            decode_foreign(&own).unwrap().places,
            decode(&own).unwrap().places
        );
        assert!(decode_foreign(&chunk[..chunk.len() - 1]).is_err());
        let first = 4 + u32::from_be_bytes(chunk[..4].try_into().unwrap()) as usize;
        assert_eq!(peek(&chunk[..first]), Peek::Offset(7));
        assert_eq!(peek(&chunk[..first - 1]), Peek::More(first as u64));
        assert_eq!(peek(&chunk[..3]), Peek::More(4));
    }

    /// What SeaweedFS's own readers get of an entry.
    #[test]
    fn an_entry_is_a_log_entry_to_others() {
        let mut builder = Builder::new();
        builder.append(NOW, Some(b"k"), Some(b""), &[]);
        builder.append(NOW, None, None, &[]);
        let batch = Batch::parse(&builder.build()).unwrap();
        let chunk = encoded(&[stored(&batch, 300)]);
        let mut rest = &chunk[..];
        let first = take_entry(&mut rest).unwrap();
        assert_eq!(
            (first.key, first.value, first.offset),
            (Some(&b"k"[..]), Some(&b""[..]), 300)
        );
        assert_eq!(first.ts_ns, NOW * 1_000_000);
        let second = take_entry(&mut rest).unwrap();
        assert_eq!((second.key, second.value, second.offset), (None, None, 301));
        assert!(rest.is_empty());
    }
}
