//! `tidegate import-offsets`: offsets that SeaweedFS's own Kafka gateway kept are committed to a gateway
//! that runs, by the Kafka protocol, so that its store has no second writer. What is committed there stays.
//!
//! A gateway does this by itself at its first start ([`crate::group::import`]); this is for who wants to see
//! it first, or has used the other one again since.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;

use crate::bridge::{Bridge, BridgeError, SecurityError};
use crate::config::{Config, HostPort, printable};
use crate::group::OFFSETS_TOPIC;
use crate::serve::bridge_config;
use crate::store::seaweedmq::consumer_offsets::{self, KeptGroup, KeptOffset};
use crate::store::seaweedmq::layout::time_name;
use crate::wire::frame::{RequestHeader, ResponseHeader, encode_request};
use crate::wire::{
    ErrorCode, Message, Reader, StrBytes, find_coordinator, metadata, offset_commit, offset_fetch,
};

/// For one answer of the gateway.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a coordinator is asked that still loads.
const ATTEMPTS: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);
/// Larger than any answer to what is asked here.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Offsets of one request.
const OFFSETS_AT_ONCE: usize = 100;
/// Of a name or a text, this much is shown.
const SHOWN_CHARS: usize = 40;

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Security(#[from] SecurityError),
    #[error("cannot start the thread that speaks with SeaweedFS: {0}")]
    Bridge(io::Error),
    #[error("cannot read the offsets in SeaweedFS: {0}")]
    Files(#[from] BridgeError),
    #[error(
        "cannot ask the gateway at {address} (start it, or name another with --gateway): {source}"
    )]
    Gateway {
        address: HostPort,
        source: io::Error,
    },
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    #[error("{0} offsets could not be committed")]
    Refused(usize),
}

/// Imports by the gateway at `address`, or only tells what would be. `out` gets a table.
///
/// # Errors
/// [`ImportError::Refused`] after all of it was tried, if the gateway refused something.
pub fn run(
    config: &Config,
    address: &HostPort,
    dry_run: bool,
    out: &mut impl Write,
) -> Result<(), ImportError> {
    let (_thread, bridge) = Bridge::start(bridge_config(config)?).map_err(ImportError::Bridge)?;
    let mut kept = Vec::new();
    for group in block_on(consumer_offsets::groups(&bridge))? {
        let of_group = block_on(consumer_offsets::of_group(&bridge, &group))?;
        kept.push((group, of_group));
    }
    let failed = |source| ImportError::Gateway {
        address: address.clone(),
        source,
    };
    let mut gateway = match Gateway::connect(address) {
        Ok(gateway) => Some(gateway),
        Err(error) if dry_run => {
            writeln!(
                out,
                "No gateway answers at {address} ({error}): what it has is not known."
            )
            .map_err(ImportError::Output)?;
            None
        }
        Err(error) => return Err(failed(error)),
    };
    let mut table = Table::new(dry_run);
    for (group, kept) in &kept {
        let outcomes = match &mut gateway {
            Some(gateway) => gateway.import(group, kept, dry_run).map_err(failed)?,
            None => vec![Outcome::Takes; kept.offsets.len()],
        };
        table.add(group, kept, &outcomes);
    }
    out.write_all(table.text().as_bytes())
        .and_then(|()| out.flush())
        .map_err(ImportError::Output)?;
    match table.refused {
        0 => Ok(()),
        refused => Err(ImportError::Refused(refused)),
    }
}

/// What becomes of an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It is committed, or would be.
    Takes,
    /// This is committed already.
    Has(i64),
    NoPartition,
    Refused(ErrorCode),
}

/// A gateway that is asked by the Kafka protocol.
struct Gateway {
    bootstrap: Connection,
    /// Of coordinators, by their addresses.
    others: HashMap<(String, u16), Connection>,
    has_groups: bool,
}

impl Gateway {
    fn connect(address: &HostPort) -> io::Result<Self> {
        let mut bootstrap = Connection::open((address.host.as_str(), address.port))?;
        let has_groups = partitions(&mut bootstrap, OFFSETS_TOPIC)? > 0;
        Ok(Gateway {
            bootstrap,
            others: HashMap::new(),
            has_groups,
        })
    }

    /// What becomes of each of a group's offsets.
    fn import(&mut self, group: &str, kept: &KeptGroup, dry_run: bool) -> io::Result<Vec<Outcome>> {
        let mut counts: HashMap<&str, i32> = HashMap::new();
        for offset in &kept.offsets {
            if !counts.contains_key(&*offset.topic) {
                let count = partitions(&mut self.bootstrap, &offset.topic)?;
                counts.insert(&offset.topic, count);
            }
        }
        // To ask for a coordinator makes the topic that groups are kept in.
        let committed = match self.has_groups || !dry_run {
            true => committed(self.coordinator(group)?, group)?,
            false => HashMap::new(),
        };
        let outcome = |kept: &KeptOffset| match committed.get(&(kept.topic.clone(), kept.partition))
        {
            _ if kept.partition >= counts.get(&*kept.topic).copied().unwrap_or(0) => {
                Outcome::NoPartition
            }
            Some(offset) => Outcome::Has(*offset),
            None => Outcome::Takes,
        };
        let mut outcomes: Vec<_> = kept.offsets.iter().map(outcome).collect();
        if !dry_run {
            let takes = (0..outcomes.len()).filter(|n| outcomes[*n] == Outcome::Takes);
            let takes: Vec<_> = takes.collect();
            let coordinator = self.coordinator(group)?;
            for some in takes.chunks(OFFSETS_AT_ONCE) {
                let offsets = some.iter().map(|n| &kept.offsets[*n]);
                let results = commit(coordinator, group, offsets)?;
                for (number, error) in some.iter().zip(results) {
                    if !error.is_ok() {
                        outcomes[*number] = Outcome::Refused(error);
                    }
                }
            }
        }
        Ok(outcomes)
    }

    fn coordinator(&mut self, group: &str) -> io::Result<&mut Connection> {
        let request = find_coordinator::Request {
            coordinator_keys: vec![group.to_owned().into()],
            ..Default::default()
        };
        let mut found = None;
        for _ in 0..ATTEMPTS {
            let answer: find_coordinator::Response =
                self.bootstrap.call(find_coordinator::KEY, 4, &request)?;
            let first = answer
                .coordinators
                .into_iter()
                .next()
                .ok_or_else(no_answer)?;
            if !may_change(first.error_code) {
                found = Some(checked(first.error_code).map(|()| first)?);
                break;
            }
            std::thread::sleep(PAUSE);
        }
        let found = found.ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))?;
        let port = u16::try_from(found.port).map_err(io::Error::other)?;
        let address = (found.host.to_string(), port);
        if !self.others.contains_key(&address) {
            let connection = Connection::open((address.0.as_str(), address.1))?;
            self.others.insert(address.clone(), connection);
        }
        self.others.get_mut(&address).ok_or_else(no_answer)
    }
}

fn no_answer() -> io::Error {
    io::Error::other("an answer without what was asked for")
}

fn may_change(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
    )
}

fn checked(error: ErrorCode) -> io::Result<()> {
    match error.is_ok() {
        true => Ok(()),
        false => Err(io::Error::other(error.name())),
    }
}

/// How many partitions a topic has; 0 if there is none.
fn partitions(gateway: &mut Connection, topic: &str) -> io::Result<i32> {
    let request = metadata::Request {
        topics: Some(vec![metadata::MetadataRequestTopic {
            name: Some(topic.to_owned().into()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let answer: metadata::Response = gateway.call(metadata::KEY, 9, &request)?;
    let topic = answer.topics.first().ok_or_else(no_answer)?;
    match topic.error_code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => Ok(0),
        error => checked(error).map(|()| topic.partitions.len() as i32),
    }
}

/// What a group has committed.
fn committed(coordinator: &mut Connection, group: &str) -> io::Result<HashMap<(String, i32), i64>> {
    let request = offset_fetch::Request {
        groups: vec![offset_fetch::OffsetFetchRequestGroup {
            group_id: group.to_owned().into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    for _ in 0..ATTEMPTS {
        let answer: offset_fetch::Response = coordinator.call(offset_fetch::KEY, 8, &request)?;
        let group = answer.groups.into_iter().next().ok_or_else(no_answer)?;
        if may_change(group.error_code) {
            std::thread::sleep(PAUSE);
            continue;
        }
        checked(group.error_code)?;
        let offsets = group.topics.into_iter().flat_map(|topic| {
            let name = topic.name.to_string();
            let offset = move |p: offset_fetch::OffsetFetchResponsePartitions| {
                ((name.clone(), p.partition_index), p.committed_offset)
            };
            topic.partitions.into_iter().map(offset)
        });
        return Ok(offsets.filter(|(_, offset)| *offset >= 0).collect());
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Commits as an administrator does, which a group that has members refuses.
fn commit<'a>(
    coordinator: &mut Connection,
    group: &str,
    offsets: impl Iterator<Item = &'a KeptOffset>,
) -> io::Result<Vec<ErrorCode>> {
    let topic = |kept: &KeptOffset| offset_commit::OffsetCommitRequestTopic {
        name: kept.topic.clone().into(),
        partitions: vec![offset_commit::OffsetCommitRequestPartition {
            partition_index: kept.partition,
            committed_offset: kept.offset,
            committed_metadata: Some(kept.metadata.clone().into()),
            ..Default::default()
        }],
        ..Default::default()
    };
    let request = offset_commit::Request {
        group_id: group.to_owned().into(),
        topics: offsets.map(topic).collect(),
        ..Default::default()
    };
    let answer: offset_commit::Response = coordinator.call(offset_commit::KEY, 9, &request)?;
    let results = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let results: Vec<_> = results.map(|partition| partition.error_code).collect();
    match results.len() == request.topics.len() {
        true => Ok(results),
        false => Err(no_answer()),
    }
}

/// One request and one answer at a time.
struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    fn open(address: impl ToSocketAddrs) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection {
            stream,
            correlation_id: 0,
        })
    }

    fn call<Q: Message, A: Message>(
        &mut self,
        api_key: i16,
        api_version: i16,
        request: &Q,
    ) -> io::Result<A> {
        self.correlation_id += 1;
        let header = RequestHeader {
            api_key,
            api_version,
            correlation_id: self.correlation_id,
            client_id: Some(StrBytes::from("tidegate-import-offsets")),
        };
        self.stream
            .write_all(&encode_request(&header, request).concat())?;
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len) as usize;
        if len > ANSWER_BYTES_MAX {
            return Err(io::Error::other(
                "the answer is too large: is it a Kafka port?",
            ));
        }
        let mut answer = Vec::new();
        let read = (&mut self.stream)
            .take(len as u64)
            .read_to_end(&mut answer)?;
        if read < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut reader = Reader::new(Bytes::from(answer));
        let header = ResponseHeader::decode(&mut reader, api_key, api_version);
        if header.map_err(io::Error::other)?.correlation_id != self.correlation_id {
            return Err(io::Error::other("an answer to something else"));
        }
        A::decode(&mut reader, api_version).map_err(io::Error::other)
    }
}

/// What is shown.
struct Table {
    dry_run: bool,
    rows: Vec<[String; 7]>,
    groups: HashSet<String>,
    taken: usize,
    skipped: usize,
    refused: usize,
}

impl Table {
    fn new(dry_run: bool) -> Self {
        let head = [
            "GROUP",
            "TOPIC",
            "PARTITION",
            "OFFSET",
            "COMMITTED (UTC)",
            "METADATA",
            "RESULT",
        ];
        Table {
            dry_run,
            rows: vec![head.map(str::to_owned)],
            groups: HashSet::new(),
            taken: 0,
            skipped: 0,
            refused: 0,
        }
    }

    fn add(&mut self, group: &str, kept: &KeptGroup, outcomes: &[Outcome]) {
        self.groups.insert(group.to_owned());
        for (kept, outcome) in kept.offsets.iter().zip(outcomes) {
            let result = self.result(outcome);
            self.rows.push([
                shown(group),
                kept.topic.clone(),
                kept.partition.to_string(),
                kept.offset.to_string(),
                time(kept.committed_ms),
                shown(&kept.metadata),
                result,
            ]);
        }
        for (of, why) in &kept.unusable {
            self.skipped += 1;
            let none = String::new;
            let result = format!("skipped: {why}");
            self.rows.push([
                shown(group),
                shown(of),
                none(),
                none(),
                none(),
                none(),
                result,
            ]);
        }
    }

    fn result(&mut self, outcome: &Outcome) -> String {
        let count = match outcome {
            Outcome::Takes => &mut self.taken,
            Outcome::Refused(_) => &mut self.refused,
            _ => &mut self.skipped,
        };
        *count += 1;
        match outcome {
            Outcome::Takes if self.dry_run => "would be imported".to_owned(),
            Outcome::Takes => "imported".to_owned(),
            Outcome::Has(offset) => format!("skipped: {offset} is committed"),
            Outcome::NoPartition => "skipped: there is no such partition".to_owned(),
            Outcome::Refused(ErrorCode::UNKNOWN_MEMBER_ID) => {
                "refused: the group has members".to_owned()
            }
            Outcome::Refused(error) => format!("refused: {}", error.name()),
        }
    }

    fn text(&self) -> String {
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
        };
        let widths: Vec<_> = (0..7).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                // Cannot fail: it is a string.
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        let done = match self.dry_run {
            true => "would be imported",
            false => "imported",
        };
        let _ = writeln!(
            text,
            "{} offsets of {} groups {done}, {} skipped, {} refused",
            self.taken,
            self.groups.len(),
            self.skipped,
            self.refused
        );
        text
    }
}

fn shown(text: &str) -> String {
    printable(&text.chars().take(SHOWN_CHARS).collect::<String>())
}

/// A time as people read it; nothing if there is none.
fn time(ms: i64) -> String {
    let name = time_name(ms.div_euclid(1000));
    match name.split_at_checked(10) {
        Some((date, time)) if ms > 0 => format!("{date} {}", time[1..].replace('-', ":")),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_becomes_of_each_offset() {
        let kept = KeptGroup {
            offsets: [(0, 7), (1, 8)]
                .map(|(partition, offset)| KeptOffset {
                    topic: "t".to_owned(),
                    partition,
                    offset,
                    metadata: "m\n".to_owned(),
                    committed_ms: 1_709_210_096_123,
                })
                .into(),
            unusable: vec![("t/x".to_owned(), "its folder is odd".to_owned())],
        };
        let mut table = Table::new(true);
        table.add("g", &kept, &[Outcome::Takes, Outcome::Has(3)]);
        let text = table.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[1].contains("2024-02-29 12:34:56"), "{text}");
        assert!(lines[1].ends_with("would be imported"), "{text}");
        assert!(lines[2].ends_with("skipped: 3 is committed"), "{text}");
        assert!(lines[3].ends_with("skipped: its folder is odd"), "{text}");
        assert_eq!(
            lines[4],
            "1 offsets of 1 groups would be imported, 2 skipped, 0 refused"
        );
    }
}
