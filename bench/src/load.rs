//! What is asked of a peer, and what comes of it.
//!
//! Requests are encoded beforehand and sent over blocking sockets, a thread for each connection, so
//! that it is the server that is measured.

use std::io;
use std::net::SocketAddr;
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tidegate::record::{Builder, Compression, split_first};
use tidegate::wire::{self, Message, Records, fetch, produce};

use crate::client::{Client, Encoded, Target, ok};

const ACKS_ALL: i16 = -1;
/// A drain that gets nothing for so long has failed.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// Of one fetch and one partition.
const FETCH_BYTES: i32 = 1 << 20;
/// From when a load at a fixed rate is prepared until its first request is due.
pub const LEAD: Duration = Duration::from_millis(50);
/// A round that would write more than this ends early, before the disk is what is measured.
const ROUND_BYTES_MAX: u64 = 1 << 30;

/// Producing.
#[derive(Debug, Clone, Copy)]
pub struct Produce {
    pub connections: usize,
    pub in_flight: usize,
    pub records: usize,
    pub value_bytes: usize,
    pub gzip: bool,
    pub partitions: i32,
    /// Requests a second of all connections; none: as fast as it goes.
    pub rate: Option<u32>,
}

/// What a round came to.
pub struct Outcome {
    pub seconds: f64,
    pub requests: u64,
    /// Of record batches.
    pub bytes: u64,
    pub records: u64,
    /// Microseconds.
    pub latency: Histogram<u64>,
}

impl Outcome {
    pub fn new() -> Self {
        Outcome {
            seconds: 0.0,
            requests: 0,
            bytes: 0,
            records: 0,
            latency: latencies(),
        }
    }

    fn add(&mut self, other: &Outcome) -> io::Result<()> {
        self.seconds = self.seconds.max(other.seconds);
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.records += other.records;
        self.latency.add(&other.latency).map_err(io::Error::other)
    }

    pub fn answered(&mut self, since: Instant, bytes: usize, records: usize) {
        self.requests += 1;
        self.bytes += bytes as u64;
        self.records += records as u64;
        let took = since.elapsed().as_micros() as u64;
        self.latency.saturating_record(took.max(1));
    }
}

/// Runs `load` for each of as many connections, on threads of their own, and adds up what they come to.
pub fn at_once(
    connections: usize,
    load: impl Fn(usize) -> io::Result<Outcome> + Sync,
) -> io::Result<Outcome> {
    let load = &load;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|number| scope.spawn(move || load(number)))
            .collect();
        let mut all = Outcome::new();
        for thread in threads {
            let outcome = thread.join();
            all.add(&outcome.unwrap_or_else(|_| Err(io::Error::other("a panic")))?)?;
        }
        Ok(all)
    })
}

/// 1 us to 60 s, three digits.
fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).unwrap_or_else(|_| unreachable!("fixed bounds"))
}

impl Produce {
    /// Loads `topic` for `time`.
    pub fn run(&self, target: Target, topic: &str, time: Duration) -> io::Result<Outcome> {
        let began = Instant::now() + LEAD;
        let run = |number| match self.rate {
            None => self.run_closed(target, topic, number, time),
            Some(rate) => self.run_open(target, topic, number, time, rate, began),
        };
        at_once(self.connections, run)
    }

    /// Each request goes as soon as one before it is answered.
    fn run_closed(
        &self,
        target: Target,
        topic: &str,
        number: usize,
        time: Duration,
    ) -> io::Result<Outcome> {
        let (mut requests, batch_bytes) = self.requests(target, topic)?;
        let mut client = Client::connect(target.address)?;
        let mut outcome = Outcome::new();
        let mut flying = std::collections::VecDeque::with_capacity(self.in_flight);
        let (began, count) = (Instant::now(), requests.len());
        let bytes_max = ROUND_BYTES_MAX / self.connections as u64;
        let mut next = number;
        loop {
            let over = began.elapsed() >= time || outcome.bytes >= bytes_max;
            if !over && flying.len() < self.in_flight {
                flying.push_back(Instant::now());
                client.send(&mut requests[next % count])?;
                next += 1;
                continue;
            }
            let Some(since) = flying.pop_front() else {
                break;
            };
            check(client.receive(produce::KEY, target.produce_version)?)?;
            outcome.answered(since, batch_bytes, self.records);
        }
        outcome.seconds = began.elapsed().as_secs_f64();
        Ok(outcome)
    }

    /// Each request goes at its time, whatever became of those before; latency counts from that time. The
    /// first one of all connections is due at `began`.
    fn run_open(
        &self,
        target: Target,
        topic: &str,
        number: usize,
        time: Duration,
        rate: u32,
        began: Instant,
    ) -> io::Result<Outcome> {
        let (mut requests, batch_bytes) = self.requests(target, topic)?;
        let pace = Pace {
            number,
            connections: self.connections,
            rate,
            time,
            began,
        };
        let api = (produce::KEY, target.produce_version);
        pace.run(target.address, api, &mut requests, |answer| {
            check(answer).map(|()| (batch_bytes, self.records))
        })
    }

    /// One request for each partition, and the bytes of its batch.
    fn requests(&self, target: Target, topic: &str) -> io::Result<(Vec<Encoded>, usize)> {
        let batch = self.batch();
        let encode = |partition| {
            let request = produce_request(topic, partition, batch.clone());
            Encoded::new(produce::KEY, target.produce_version, &request)
        };
        Ok(((0..self.partitions).map(encode).collect(), batch.len()))
    }

    fn batch(&self) -> Bytes {
        let mut builder = match self.gzip {
            true => Builder::new().compression(Compression::Gzip, None),
            false => Builder::new(),
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_ms = now.map_or(0, |d| d.as_millis() as i64);
        let mut noise = Noise(88_172_645_463_325_252);
        for n in 0..self.records {
            // A quarter noise and the rest alike: gzip makes about a quarter of it.
            let mut value = vec![b'x'; self.value_bytes];
            let random = if self.gzip {
                self.value_bytes / 5
            } else {
                self.value_bytes
            };
            value[..random].fill_with(|| noise.next());
            // One that begins with 0 is for some the id of a schema in a registry.
            value[0] = b'x';
            builder.append(now_ms + n as i64, None, Some(&value), &[]);
        }
        builder.build()
    }
}

/// The times at which one of several connections sends.
pub struct Pace {
    pub number: usize,
    pub connections: usize,
    /// Requests a second of all connections.
    pub rate: u32,
    pub time: Duration,
    /// When the first one of all connections is due.
    pub began: Instant,
}

impl Pace {
    /// Sends `requests` in turn, of one API and version, each at its time, whatever became of those
    /// before; latency counts from that time. `check` tells what an answer stands for in bytes and records.
    pub fn run<A: Message>(
        &self,
        address: SocketAddr,
        (api_key, api_version): (i16, i16),
        requests: &mut [Encoded],
        check: impl Fn(A) -> io::Result<(usize, usize)> + Send,
    ) -> io::Result<Outcome> {
        let mut client = Client::connect(address)?;
        let mut receiver = client.receiver()?;
        let interval = Duration::from_secs(self.connections as u64) / self.rate;
        let count = (self.time.as_nanos() / interval.as_nanos()) as u32;
        let began = self.began + interval * self.number as u32 / self.connections as u32;
        std::thread::scope(|scope| {
            let received = scope.spawn(move || -> io::Result<Outcome> {
                let mut outcome = Outcome::new();
                for n in 0..count {
                    let (bytes, records) = check(receiver.receive(api_key, api_version)?)?;
                    outcome.answered(began + interval * n, bytes, records);
                }
                outcome.seconds = began.elapsed().as_secs_f64();
                Ok(outcome)
            });
            // The kernel may wake a sleeper 50 us late to save wake-ups, unless it is told not to.
            rustix::thread::set_current_timer_slack(std::num::NonZero::new(1))?;
            let kinds = requests.len();
            for n in 0..count {
                let due = began + interval * n;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                client.send(&mut requests[n as usize % kinds])?;
            }
            let panicked = |_| Err(io::Error::other("a panic"));
            received.join().unwrap_or_else(panicked)
        })
    }
}

/// Xorshift: bytes that do not compress.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as u8
    }
}

fn produce_request(topic: &str, partition: i32, batch: Bytes) -> produce::Request {
    produce::Request {
        acks: ACKS_ALL,
        timeout_ms: 30_000,
        topic_data: vec![produce::TopicProduceData {
            name: topic.to_owned().into(),
            partition_data: vec![produce::PartitionProduceData {
                index: partition,
                records: Some(Records::from(batch)),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn check(response: produce::Response) -> io::Result<()> {
    let answers = response
        .responses
        .iter()
        .flat_map(|t| &t.partition_responses);
    answers
        .into_iter()
        .try_for_each(|a| ok(a.error_code, "Produce"))
}

/// Reads all of a topic once, a connection for each half of the partitions. It holds `records` or more.
pub fn drain(target: Target, topic: &str, partitions: i32, records: u64) -> io::Result<Outcome> {
    let drained = at_once(2, |first| {
        let mine: Vec<i32> = (first as i32..partitions).step_by(2).collect();
        drain_some(target, topic, &mine)
    })?;
    match drained.records {
        read if read < records => Err(io::Error::other(format!(
            "read {read} of {records} records"
        ))),
        _ => Ok(drained),
    }
}

fn drain_some(target: Target, topic: &str, partitions: &[i32]) -> io::Result<Outcome> {
    let mut client = Client::connect(target.address)?;
    let mut outcome = Outcome::new();
    let began = Instant::now();
    for partition in partitions {
        let mut reader = PartitionReader::new(target, topic, *partition);
        loop {
            let since = Instant::now();
            let read = reader.read(&mut client)?;
            outcome.answered(since, read.bytes, read.records);
            if reader.offset >= read.high_watermark && reader.offset > 0 {
                break;
            }
        }
    }
    outcome.seconds = began.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Reads one partition from its start on, a fetch after the other.
struct PartitionReader<'a> {
    target: Target,
    topic: &'a str,
    partition: i32,
    /// Of the next record.
    offset: i64,
    /// When there were records last.
    progress: Instant,
}

/// What one fetch got.
struct Read {
    bytes: usize,
    records: usize,
    high_watermark: i64,
}

impl<'a> PartitionReader<'a> {
    fn new(target: Target, topic: &'a str, partition: i32) -> Self {
        PartitionReader {
            target,
            topic,
            partition,
            offset: 0,
            progress: Instant::now(),
        }
    }

    /// Fails if there is nothing for long.
    fn read(&mut self, client: &mut Client) -> io::Result<Read> {
        let request = fetch_request(self.topic, self.partition, self.offset, FETCH_BYTES);
        let version = self.target.fetch_version;
        let response: fetch::Response = client.call(fetch::KEY, version, &request)?;
        let data = &response.responses[0].partitions[0];
        ok(data.error_code, "Fetch")?;
        let mut batches = data.records.clone().unwrap_or_default().into_bytes();
        let (bytes, mut records) = (batches.len(), 0);
        while let Ok(Some(batch)) = split_first(&mut batches) {
            records += batch.header().record_count() as usize;
            self.offset = batch.header().last_offset() + 1;
        }
        if bytes > 0 {
            self.progress = Instant::now();
        } else if self.progress.elapsed() > DRAIN_PATIENCE {
            let (offset, end) = (self.offset, data.high_watermark);
            return Err(io::Error::other(format!(
                "no records from offset {offset} on, of {end}"
            )));
        }
        Ok(Read {
            bytes,
            records,
            high_watermark: data.high_watermark,
        })
    }
}

/// Produces `load`, over one connection at its rate, and reads it meanwhile, over one for each partition
/// that waits for the next record. Latency is from when a request was due until its records are read. The
/// topic's partitions hold something already.
pub fn end_to_end(
    load: &Produce,
    target: Target,
    topic: &str,
    time: Duration,
) -> io::Result<Outcome> {
    let rate = load.rate.unwrap_or(1).max(1);
    let count = (time.as_secs_f64() * f64::from(rate)) as usize;
    let interval = Duration::from_secs(1) / rate;
    let partitions = load.partitions as usize;
    // All readers and the producer are ready.
    let ready = Barrier::new(partitions + 1);
    let due: OnceLock<Instant> = OnceLock::new();
    let begin = || {
        ready.wait();
        *due.get_or_init(|| Instant::now() + LEAD)
    };
    let consume = |partition: usize| -> io::Result<Outcome> {
        let mut reader = PartitionReader::new(target, topic, partition as i32);
        let connected = Client::connect(target.address)
            .and_then(|mut client| skip(&mut reader, &mut client).map(|()| client));
        // Others wait for this one, whatever became of it.
        let began = begin();
        let mut client = connected?;
        let mut outcome = Outcome::new();
        // Requests go to the partitions in turn.
        let mine = (partition..count).step_by(partitions);
        let mut due = mine
            .flat_map(|n| std::iter::repeat_n(n as u32, load.records))
            .peekable();
        reader.progress = began;
        while due.peek().is_some() {
            let read = reader.read(&mut client)?;
            for n in due.by_ref().take(read.records) {
                outcome.answered(began + interval * n, read.bytes / read.records, 1);
            }
        }
        outcome.seconds = began.elapsed().as_secs_f64();
        Ok(outcome)
    };
    std::thread::scope(|scope| {
        let produced = scope.spawn(|| {
            let began = begin();
            load.run_open(target, topic, 0, time, rate, began)
        });
        let consumed = at_once(partitions, consume);
        let produced = produced.join();
        produced.unwrap_or_else(|_| Err(io::Error::other("a panic")))?;
        consumed
    })
}

/// Reads what is there already: until a fetch waits in vain.
fn skip(reader: &mut PartitionReader, client: &mut Client) -> io::Result<()> {
    while reader.read(client)?.bytes > 0 || reader.offset == 0 {}
    Ok(())
}

/// Writes one small record to each partition of a topic.
pub fn touch(target: Target, topic: &str, partitions: i32) -> io::Result<()> {
    let one = Produce {
        records: 1,
        value_bytes: 1,
        ..crate::rows::STEADY
    };
    let batch = one.batch();
    let mut client = Client::connect(target.address)?;
    let all: Vec<i32> = (0..partitions).collect();
    for some in all.chunks(500) {
        let mut request = produce_request(topic, 0, batch.clone());
        let data = some.iter().map(|index| produce::PartitionProduceData {
            index: *index,
            records: Some(Records::from(batch.clone())),
        });
        request.topic_data[0].partition_data = data.collect();
        check(client.call(produce::KEY, target.produce_version, &request)?)?;
    }
    Ok(())
}

/// Reads the last batch of one partition after the other, again and again.
pub fn fetch_again(
    target: Target,
    topic: &str,
    partitions: i32,
    time: Duration,
) -> io::Result<Outcome> {
    let mut client = Client::connect(target.address)?;
    let mut outcome = Outcome::new();
    let mut last = vec![0; partitions as usize];
    let began = Instant::now();
    while began.elapsed() < time {
        for (partition, offset) in last.iter_mut().enumerate() {
            let since = Instant::now();
            let request = fetch_request(topic, partition as i32, *offset, 1);
            let response: fetch::Response =
                client.call(fetch::KEY, target.fetch_version, &request)?;
            let data = &response.responses[0].partitions[0];
            ok(data.error_code, "Fetch")?;
            // The first one finds out where the last one is.
            if *offset == data.high_watermark - 1 {
                let bytes = data.records.clone().unwrap_or_default().into_bytes().len();
                outcome.answered(since, bytes, 1);
            }
            *offset = data.high_watermark - 1;
        }
    }
    outcome.seconds = began.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Asks for the metadata of one topic or of all, again and again. Bytes are those of the answers.
pub fn metadata(target: Target, topic: Option<&str>, time: Duration) -> io::Result<Outcome> {
    const VERSION: i16 = 5;
    let named = |name: &str| wire::metadata::MetadataRequestTopic {
        name: Some(name.to_owned().into()),
        ..Default::default()
    };
    let request = wire::metadata::Request {
        topics: topic.map(|name| vec![named(name)]),
        ..Default::default()
    };
    let mut request = Encoded::new(wire::metadata::KEY, VERSION, &request);
    let mut client = Client::connect(target.address)?;
    let mut outcome = Outcome::new();
    let began = Instant::now();
    while began.elapsed() < time {
        let since = Instant::now();
        client.send(&mut request)?;
        let answer = client.receive_frame()?;
        outcome.answered(since, answer.len(), 0);
    }
    outcome.seconds = began.elapsed().as_secs_f64();
    Ok(outcome)
}

fn fetch_request(topic: &str, partition: i32, offset: i64, max_bytes: i32) -> fetch::Request {
    fetch::Request {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes,
        session_epoch: -1,
        topics: vec![fetch::FetchTopic {
            topic: topic.to_owned().into(),
            partitions: vec![fetch::FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: max_bytes,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}
