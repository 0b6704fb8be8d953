//! A gateway process to test against, and a plain client for it.
#![allow(dead_code)] // Each test program uses its own part of this.

pub mod compaction;
pub mod load;
pub mod places;
pub mod prometheus;
pub mod weed;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate::record::{Builder, Record, split_first};
use tidegate::wire::frame::{RequestHeader, ResponseHeader, encode_request};
use tidegate::wire::{ErrorCode, Message, Reader, Records, StrBytes, Uuid};
use tidegate::wire::{
    create_partitions, create_topics, delete_records, delete_topics, fetch, find_coordinator,
    init_producer_id, list_offsets, metadata, offset_commit, produce,
};

/// Longer than anything here may take; a test that hangs fails instead.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder on the disk's own file system, not on tmpfs.
pub fn data_folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder under target/")
}

/// How long something is given that is to be broken off: about as long as it takes.
pub struct Given(Duration);

impl Given {
    pub fn some_ms() -> Self {
        Given(Duration::from_millis(4))
    }

    pub fn wait(&self) {
        std::thread::sleep(self.0);
    }

    /// Whether it was done in that time: the next one is given less then.
    pub fn note(&mut self, done: bool) {
        let by = if done { 0.6 } else { 1.5 };
        self.0 = self.0.mul_f64(by).min(Duration::from_secs(1));
    }
}

/// A gateway process. Killed when dropped.
pub struct Gateway {
    data: PathBuf,
    child: Child,
    pub address: SocketAddr,
}

impl Gateway {
    /// Starts on a free port. A `tidegate.toml` in the folder is its configuration.
    pub fn start(data: &Path, options: &[&str]) -> Gateway {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), data, options)
    }

    /// Starts on a given address and waits until it serves.
    pub fn start_at(address: SocketAddr, data: &Path, options: &[&str]) -> Gateway {
        let logged = Self::log(data).len();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(data.join("gateway.log"));
        // Gateways of tests that run at the same time cannot share the default address.
        let admin = match options.contains(&"--admin") {
            true => &[][..],
            false => &["--admin", "off"],
        };
        let file = data.join("tidegate.toml");
        let config = file
            .exists()
            .then_some([OsStr::new("--config"), file.as_os_str()]);
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["--listen", &address.to_string(), "--data-dir"])
            .arg(data.join("data"))
            .args(config.into_iter().flatten())
            .args(admin)
            .args(options)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"))
            .spawn()
            .expect("the gateway's program starts");
        let mut gateway = Gateway {
            data: data.to_owned(),
            child,
            address,
        };
        let began = Instant::now();
        gateway.address = loop {
            if let Some(address) = told_address(&Self::log(data)[logged..]) {
                break address;
            }
            if let Ok(Some(status)) = gateway.child.try_wait() {
                panic!("the gateway ended with {status}");
            }
            assert!(began.elapsed() < PATIENCE, "the gateway does not serve");
            std::thread::sleep(Duration::from_millis(2));
        };
        gateway
    }

    pub fn log(data: &Path) -> String {
        std::fs::read_to_string(data.join("gateway.log")).unwrap_or_default()
    }

    /// The address of the admin pages, of a gateway that was started with `--admin 127.0.0.1:0`.
    pub fn admin(data: &Path) -> SocketAddr {
        let began = Instant::now();
        loop {
            let log = Self::log(data);
            let told = log.lines().rev().find_map(|l| l.split_once(" admin="));
            if let Some((_, rest)) = told {
                let address = rest.split(' ').next().unwrap_or_default();
                return address.parse().expect("an address");
            }
            assert!(began.elapsed() < PATIENCE, "no admin pages:\n{log}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGTERM, without waiting for the end.
    pub fn begin_stop(&mut self) {
        let pid = self.child.id().to_string();
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill is there");
    }

    /// Makes it stand still: it keeps its connections and does nothing.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args([signal, &pid]).status();
        assert!(done.expect("kill is there").success());
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address).expect("the gateway takes connections")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.begin_stop();
        self.wait_stopped()
    }

    /// The exit code, once the process has ended.
    pub fn wait_stopped(&mut self) -> Option<i32> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the gateway does not stop");
    }

    /// The most that was ever resident, in bytes.
    pub fn peak_bytes(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the process runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<usize>().ok())
            .expect("a number")
            << 10
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> usize {
        let path = format!("/proc/{}/statm", self.child.id());
        let statm = std::fs::read_to_string(path).expect("the process runs");
        statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<usize>().ok())
            .expect("a number")
            * 4096
    }
}

/// Where a gateway says that it serves. To look for a port that answers would not do: a connection to a
/// port that nobody listens on may find itself.
fn told_address(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.rsplit_once("serving listen=\"")?;
    let (addresses, _) = rest.split_once('"')?;
    addresses.split(',').next()?.parse().ok()
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
        // The folder goes with the test; why the test failed may stand in it.
        if std::thread::panicking() {
            let log = format!("the gateway's log:\n{}", Self::log(&self.data));
            let _ = io::stderr().write_all(log.as_bytes());
        }
    }
}

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client {
            stream,
            correlation_id: 0,
        })
    }

    pub fn send<M: Message>(
        &mut self,
        api_key: i16,
        api_version: i16,
        request: &M,
    ) -> io::Result<i32> {
        self.correlation_id += 1;
        let client_id = Some(StrBytes::from("test"));
        let header = RequestHeader {
            api_key,
            api_version,
            correlation_id: self.correlation_id,
            client_id,
        };
        for piece in encode_request(&header, request) {
            self.stream.write_all(&piece)?;
        }
        Ok(self.correlation_id)
    }

    /// The correlation id of what was sent last.
    pub fn last_id(&self) -> i32 {
        self.correlation_id
    }

    /// A frame without its length.
    pub fn receive_frame(&mut self) -> io::Result<Bytes> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    pub fn receive<M: Message>(
        &mut self,
        api_key: i16,
        api_version: i16,
        correlation_id: i32,
    ) -> io::Result<M> {
        let mut reader = Reader::new(self.receive_frame()?);
        let header =
            ResponseHeader::decode(&mut reader, api_key, api_version).expect("a response header");
        assert_eq!(
            header.correlation_id, correlation_id,
            "answers come in the order of the requests"
        );
        let response = M::decode(&mut reader, api_version).expect("a response");
        reader.finish().expect("nothing behind the response");
        Ok(response)
    }

    pub fn call<Q: Message, A: Message>(
        &mut self,
        api_key: i16,
        api_version: i16,
        request: &Q,
    ) -> io::Result<A> {
        let correlation_id = self.send(api_key, api_version, request)?;
        self.receive(api_key, api_version, correlation_id)
    }

    /// Creates a topic and gives its id.
    pub fn create_topic(&mut self, name: &str, partitions: i32) -> Uuid {
        self.create_topic_with(name, partitions, &[])
    }

    /// The same, of a topic that sets configs.
    pub fn create_topic_with(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Uuid {
        let created = self.try_create_topic(name, partitions, configs);
        let (error, message) = (created.error_code, created.error_message);
        assert_eq!(error, ErrorCode::NONE, "{message:?}");
        created.topic_id
    }

    /// The same, of one that may be refused.
    pub fn try_create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> create_topics::CreatableTopicResult {
        let config = |(name, value): &(&str, &str)| create_topics::CreatableTopicConfig {
            name: (*name).to_owned().into(),
            value: Some((*value).to_owned().into()),
        };
        let topic = create_topics::CreatableTopic {
            name: name.to_owned().into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..Default::default()
        };
        let request = create_topics::Request {
            topics: vec![topic],
            timeout_ms: 10_000,
            ..Default::default()
        };
        let mut response: create_topics::Response = self
            .call(create_topics::KEY, 7, &request)
            .expect("an answer");
        response.topics.remove(0)
    }

    /// The coordinator of a group, after which there is one.
    pub fn coordinator(&mut self, group: &str) -> find_coordinator::Coordinator {
        let request = find_coordinator::Request {
            coordinator_keys: vec![group.to_owned().into()],
            ..Default::default()
        };
        let mut response: find_coordinator::Response = self
            .call(find_coordinator::KEY, 4, &request)
            .expect("an answer");
        let coordinator = response.coordinators.remove(0);
        assert_eq!(coordinator.error_code, ErrorCode::NONE);
        coordinator
    }

    /// Asks a coordinator, again while it loads groups.
    pub fn ask_coordinator<Q: Message, A: Message>(
        &mut self,
        key: i16,
        version: i16,
        request: &Q,
        error: impl Fn(&A) -> ErrorCode,
    ) -> A {
        let began = Instant::now();
        loop {
            let answer: A = self.call(key, version, request).expect("an answer");
            if error(&answer) != ErrorCode::COORDINATOR_LOAD_IN_PROGRESS {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "groups are loaded for ever");
        }
    }

    /// Commits an offset in partition 0, as a consumer does that is no member.
    pub fn commit_offset(&mut self, group: &str, topic: &str, offset: i64, metadata: StrBytes) {
        let partition = offset_commit::OffsetCommitRequestPartition {
            committed_offset: offset,
            committed_metadata: Some(metadata),
            ..Default::default()
        };
        let request = offset_commit::Request {
            group_id: group.to_owned().into(),
            generation_id_or_member_epoch: -1,
            topics: vec![offset_commit::OffsetCommitRequestTopic {
                name: topic.to_owned().into(),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let error = |a: &offset_commit::Response| a.topics[0].partitions[0].error_code;
        let answer = self.ask_coordinator(offset_commit::KEY, 9, &request, error);
        assert_eq!(error(&answer), ErrorCode::NONE);
    }

    /// Gives a topic more partitions.
    pub fn grow_topic(&mut self, name: &str, partitions: i32) {
        let topic = create_partitions::CreatePartitionsTopic {
            name: name.to_owned().into(),
            count: partitions,
            assignments: None,
        };
        let request = create_partitions::Request {
            topics: vec![topic],
            timeout_ms: 10_000,
            validate_only: false,
        };
        let response: create_partitions::Response = self
            .call(create_partitions::KEY, 3, &request)
            .expect("an answer");
        assert_eq!(response.results[0].error_code, ErrorCode::NONE);
    }

    /// As many as a topic has; 0: there is none.
    pub fn partitions(&mut self, topic: &str) -> usize {
        let request = metadata::Request {
            topics: Some(vec![metadata::MetadataRequestTopic {
                name: Some(topic.to_owned().into()),
                ..Default::default()
            }]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let answer: metadata::Response = self.call(metadata::KEY, 9, &request).expect("an answer");
        answer.topics[0].partitions.len()
    }

    pub fn delete_topic(&mut self, name: &str) {
        let topic = delete_topics::DeleteTopicState {
            name: Some(name.to_owned().into()),
            ..Default::default()
        };
        let request = delete_topics::Request {
            topics: vec![topic],
            timeout_ms: 10_000,
            ..Default::default()
        };
        let response: delete_topics::Response = self
            .call(delete_topics::KEY, 6, &request)
            .expect("an answer");
        assert_eq!(response.responses[0].error_code, ErrorCode::NONE);
    }

    pub fn new_producer_id(&mut self) -> io::Result<i64> {
        let request = init_producer_id::Request {
            transaction_timeout_ms: 1000,
            ..Default::default()
        };
        let response: init_producer_id::Response = self.call(init_producer_id::KEY, 4, &request)?;
        assert_eq!(response.error_code, ErrorCode::NONE);
        Ok(response.producer_id)
    }

    /// Produces one batch with acks=all.
    pub fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> io::Result<produce::PartitionProduceResponse> {
        self.produce_with(topic, partition, batch, -1)
    }

    /// Produces one batch.
    pub fn produce_with(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
        acks: i16,
    ) -> io::Result<produce::PartitionProduceResponse> {
        let request = produce_request(topic, vec![(partition, batch)], acks);
        let response: produce::Response = self.call(produce::KEY, 9, &request)?;
        Ok(response.responses[0].partition_responses[0].clone())
    }

    pub fn fetch(&mut self, request: &fetch::Request) -> io::Result<fetch::Response> {
        self.call(fetch::KEY, 11, request)
    }

    /// The high watermark.
    pub fn latest(&mut self, topic: &str, partition: i32) -> i64 {
        self.offset_at(topic, partition, -1)
    }

    /// Where the log starts.
    pub fn earliest(&mut self, topic: &str, partition: i32) -> i64 {
        self.offset_at(topic, partition, -2)
    }

    /// What ListOffsets says of a timestamp.
    pub fn offset_at(&mut self, topic: &str, partition: i32, timestamp: i64) -> i64 {
        let partition = list_offsets::ListOffsetsPartition {
            partition_index: partition,
            current_leader_epoch: -1,
            timestamp,
        };
        let topic = list_offsets::ListOffsetsTopic {
            name: topic.to_owned().into(),
            partitions: vec![partition],
        };
        let request = list_offsets::Request {
            replica_id: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let began = Instant::now();
        loop {
            let response: list_offsets::Response = self
                .call(list_offsets::KEY, 7, &request)
                .expect("an answer");
            let partition = &response.topics[0].partitions[0];
            // A topic that others made was not looked at yet.
            if partition.error_code == ErrorCode::OFFSET_NOT_AVAILABLE && began.elapsed() < PATIENCE
            {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            assert_eq!(partition.error_code, ErrorCode::NONE);
            return partition.offset;
        }
    }

    /// Deletes the records before `offset`; the error, and where the log starts then.
    pub fn delete_records(&mut self, topic: &str, partition: i32, offset: i64) -> (ErrorCode, i64) {
        let partition = delete_records::DeleteRecordsPartition {
            partition_index: partition,
            offset,
        };
        let topic = delete_records::DeleteRecordsTopic {
            name: topic.to_owned().into(),
            partitions: vec![partition],
        };
        let request = delete_records::Request {
            topics: vec![topic],
            timeout_ms: 10_000,
        };
        let response: delete_records::Response = self
            .call(delete_records::KEY, 2, &request)
            .expect("an answer");
        let partition = &response.topics[0].partitions[0];
        (partition.error_code, partition.low_watermark)
    }

    /// All records of a partition from its beginning: offset and value.
    pub fn drain(&mut self, topic: &str, partition: i32) -> Vec<(i64, Bytes)> {
        let all = self.records(topic, partition).into_iter();
        all.map(offset_and_value).collect()
    }

    /// The same, whole.
    pub fn records(&mut self, topic: &str, partition: i32) -> Vec<Record> {
        let end = self.latest(topic, partition);
        let (mut next, mut all) = (self.earliest(topic, partition), Vec::new());
        while next < end {
            let response = self
                .fetch(&fetch_request(topic, &[(partition, next)], 1000, 1))
                .expect("an answer");
            let data = &response.responses[0].partitions[0];
            assert_eq!(data.error_code, ErrorCode::NONE);
            let records = whole_records_of(data);
            assert!(!records.is_empty(), "a fetch below the end gives records");
            next = records.last().expect("not empty").offset + 1;
            all.extend(records);
        }
        all
    }
}

pub fn produce_request(topic: &str, batches: Vec<(i32, Bytes)>, acks: i16) -> produce::Request {
    let partition = |(index, batch)| produce::PartitionProduceData {
        index,
        records: Some(Records::from(batch)),
    };
    let topic = produce::TopicProduceData {
        name: topic.to_owned().into(),
        partition_data: batches.into_iter().map(partition).collect(),
        ..Default::default()
    };
    produce::Request {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![topic],
        ..Default::default()
    }
}

pub fn fetch_request(
    topic: &str,
    partitions: &[(i32, i64)],
    max_wait_ms: i32,
    min_bytes: i32,
) -> fetch::Request {
    let partition = |(partition, fetch_offset): &(i32, i64)| fetch::FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic = fetch::FetchTopic {
        topic: topic.to_owned().into(),
        partitions: partitions.iter().map(partition).collect(),
        ..Default::default()
    };
    fetch::Request {
        max_wait_ms,
        min_bytes,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

fn offset_and_value(record: Record) -> (i64, Bytes) {
    (record.offset, record.value.unwrap_or_default())
}

/// Offset and value of each record in a partition's answer.
pub fn records_of(data: &fetch::PartitionData) -> Vec<(i64, Bytes)> {
    let all = whole_records_of(data).into_iter();
    all.map(offset_and_value).collect()
}

fn whole_records_of(data: &fetch::PartitionData) -> Vec<Record> {
    let mut bytes = data.records.clone().unwrap_or_default().into_bytes();
    let mut all = Vec::new();
    while let Some(batch) = split_first(&mut bytes).expect("whole batches") {
        assert!(batch.crc_ok());
        let of_batch = tidegate::record::records(&batch, 1 << 30).expect("records");
        all.extend(of_batch.map(|record| record.expect("a record")));
    }
    all
}

/// Milliseconds since the epoch.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("a clock").as_millis() as i64
}

/// A batch of these values, of this moment. `producer`: id, epoch and first sequence.
pub fn batch(values: &[&[u8]], producer: Option<(i64, i16, i32)>) -> Bytes {
    let mut builder = Builder::new();
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(id, epoch, sequence);
    }
    for value in values {
        builder.append(now_ms(), None, Some(value), &[]);
    }
    builder.build()
}
