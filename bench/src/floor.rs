//! The floor: a bare loop on blocking threads, one for each connection, that does only what a broker
//! cannot leave out. It reads the frame, checks each batch's CRC, walks its records, writes the batch
//! to a file, and answers. No shards, no offsets, no index, no limits: what it reaches, nobody passes
//! who does the same work one request at a time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::executor::block_on;
use tidegate::bridge::{
    Bridge, BridgeConfig, Entry, FuseAttributes, Mutation, Placement, Transaction,
};
use tidegate::record::batch::TimestampType;
use tidegate::record::validate::Mode;
use tidegate::record::{Batch, Rules, Scratch, validate};
use tidegate::wire::frame::{RequestHeader, encode_response};
use tidegate::wire::produce::{self, PartitionProduceResponse, TopicProduceResponse};
use tidegate::wire::{ErrorCode, Message, Reader, Records};

use crate::load::Outcome;

const RULES: Rules = Rules {
    mode: Mode::Full,
    timestamp_type: TimestampType::CreateTime,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: i64::MAX,
    compacted: false,
    max_batch_bytes: 64 << 20,
    max_inflated_bytes: 1 << 30,
};

/// Serves until the process is killed. Says its port on standard output.
pub fn serve(dir: &Path, sync: bool) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(io::stdout().lock(), "{}", listener.local_addr()?)?;
    let files = AtomicU64::new(0);
    std::thread::scope(|scope| {
        loop {
            let (stream, _) = listener.accept()?;
            let path = dir.join(files.fetch_add(1, Ordering::Relaxed).to_string());
            scope.spawn(move || serve_one(stream, path, sync));
        }
    })
}

/// Ends with its connection, and takes its file along.
fn serve_one(stream: TcpStream, path: PathBuf, sync: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let file = File::create(&path)?;
    let served = serve_requests(stream, &file, sync);
    std::fs::remove_file(path)?;
    served
}

fn serve_requests(mut stream: TcpStream, mut file: &File, sync: bool) -> io::Result<()> {
    let mut scratch = Scratch::default();
    loop {
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len) as usize;
        let mut frame = Vec::with_capacity(len);
        (&mut stream).take(len as u64).read_to_end(&mut frame)?;
        let mut reader = Reader::new(Bytes::from(frame));
        let header = RequestHeader::decode(&mut reader).map_err(io::Error::other)?;
        let request = produce::Request::decode(&mut reader, header.api_version);
        let request = request.map_err(io::Error::other)?;
        let mut response = produce::Response::default();
        for topic in request.topic_data {
            let mut answer = TopicProduceResponse {
                name: topic.name,
                ..Default::default()
            };
            for partition in topic.partition_data {
                let records = partition.records.map(Records::into_bytes);
                let code = store(&records.unwrap_or_default(), &mut file, &mut scratch)?;
                answer.partition_responses.push(PartitionProduceResponse {
                    index: partition.index,
                    error_code: code,
                    ..Default::default()
                });
            }
            response.responses.push(answer);
        }
        if sync {
            file.sync_data()?;
        }
        let (key, version) = (header.api_key, header.api_version);
        let frame = encode_response(key, version, header.correlation_id, &response);
        stream.write_all(&frame.concat())?;
    }
}

fn store(records: &Bytes, file: &mut &File, scratch: &mut Scratch) -> io::Result<ErrorCode> {
    let checked = Batch::only_one(records).and_then(|b| validate(&b, &RULES, 0, scratch));
    match checked {
        Ok(_) => file.write_all(records).map(|()| ErrorCode::NONE),
        Err(_) => Ok(ErrorCode::CORRUPT_MESSAGE),
    }
}

/// Appends 4 KiB and syncs them, `rate` times a second for `time`. Latency counts from when each was due.
pub fn raw_syncs(dir: &Path, rate: u32, time: Duration) -> io::Result<Outcome> {
    let path = dir.join("raw");
    let mut file = File::create(&path)?;
    let outcome = at_rate(rate, time, |page| {
        file.write_all(&page)?;
        file.sync_data()
    })?;
    std::fs::remove_file(path)?;
    Ok(outcome)
}

/// The same with commits to SeaweedFS as the store makes them: a chunk is uploaded, and a transaction makes
/// it a file's.
pub fn raw_commits(master: SocketAddr, rate: u32, time: Duration) -> io::Result<Outcome> {
    let master = master.to_string().parse().map_err(io::Error::other)?;
    let (_thread, bridge) = Bridge::start(BridgeConfig::new(vec![master]))?;
    let directory = "/raw";
    let placement = Placement {
        path: directory.to_owned(),
        ..Placement::default()
    };
    let mut number = 0;
    let mut commit = |page| {
        number += 1;
        let commit = async {
            let chunk = bridge.upload(vec![page], placement.clone()).await?;
            let entry = Entry {
                name: number.to_string(),
                attributes: Some(FuseAttributes {
                    file_size: chunk.size,
                    file_mode: 0o644,
                    ..FuseAttributes::default()
                }),
                chunks: vec![chunk],
                ..Entry::default()
            };
            let put = Mutation::Put {
                directory: directory.to_owned(),
                entry,
            };
            let transaction = Transaction {
                lock: format!("{directory}/lock"),
                condition: None,
                mutations: vec![put],
            };
            bridge.transact(transaction).await
        };
        block_on(commit).map_err(io::Error::other)
    };
    // The first one waits until the servers are found.
    commit(Bytes::from_static(b"first"))?;
    at_rate(rate, time, commit)
}

/// Does it with 4 KiB `rate` times a second for `time`.
fn at_rate(
    rate: u32,
    time: Duration,
    mut act: impl FnMut(Bytes) -> io::Result<()>,
) -> io::Result<Outcome> {
    let page = Bytes::from_static(&[7; 4096]);
    let mut outcome = Outcome::new();
    let times = (time.as_secs_f64() * f64::from(rate)) as u32;
    let began = Instant::now();
    // As whoever sends at such times.
    rustix::thread::set_current_timer_slack(std::num::NonZero::new(1))?;
    for n in 0..times {
        let due = began + Duration::from_secs(1) / rate * n;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        act(page.clone())?;
        outcome.answered(due, page.len(), 1);
    }
    outcome.seconds = began.elapsed().as_secs_f64();
    Ok(outcome)
}
