//! Memory is bounded, and who keeps it in use does not keep others out.

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Client, Gateway, batch, data_folder, fetch_request};
use tidegate::wire::fetch;

const MIB: usize = 1 << 20;

/// Memory for three large requests of 1 MiB, on one shard.
const SMALL: [&str; 8] = [
    "--shards",
    "1",
    "--request-memory",
    "4MiB",
    "--answer-memory",
    "2MiB",
    "--stalled-client-timeout-ms",
    "400",
];

fn large_value() -> Vec<u8> {
    (0..900_000_u32).map(|n| (n % 251) as u8).collect()
}

/// Announces a frame of 8 MiB and sends half of it.
fn begin_and_stall(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address).expect("it takes connections");
    stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .expect("a timeout");
    let _ = stream.write_all(&(8 * MIB as i32).to_be_bytes());
    // It is taken in as far as there is memory for it.
    let _ = stream.write_all(&vec![0; 4 * MIB]);
    stream
}

#[test]
fn clients_that_do_not_finish_their_requests_keep_nobody_out() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &SMALL);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let before = gateway.resident_bytes();
    let stalled: Vec<_> = (0..8).map(|_| begin_and_stall(&gateway)).collect();
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(
        grown < 12 * MIB,
        "{grown} bytes for what is bounded by 3 MiB"
    );
    // Small requests have memory of their own.
    let began = Instant::now();
    client
        .produce("t", 0, batch(&[b"small"], None))
        .expect("an answer");
    assert!(began.elapsed() < Duration::from_secs(5));
    let value = large_value();
    let large = client
        .produce("t", 0, batch(&[&value], None))
        .expect("an answer");
    assert_eq!(
        large.base_offset, 1,
        "a large one comes in when those that stall are gone"
    );
    drop(stalled);
}

#[test]
fn clients_that_do_not_take_their_answers_keep_nobody_out() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &SMALL);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    let value = large_value();
    for _ in 0..8 {
        client
            .produce("t", 0, batch(&[&value], None))
            .expect("an answer");
    }
    let request = fetch_request("t", &[(0, 0)], 0, 1);
    let before = gateway.resident_bytes();
    let stalled: Vec<Client> = (0..8)
        .map(|_| {
            let mut client = gateway.connect();
            // More than what the kernel holds for a connection.
            for _ in 0..20 {
                client.send(fetch::KEY, 11, &request).expect("it is sent");
            }
            client
        })
        .collect();
    let records = client.drain("t", 0);
    assert_eq!(records.len(), 8);
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{grown} bytes");
    drop(stalled);
}

#[test]
fn a_client_that_does_not_read_costs_no_more_than_one_answer() {
    let data = data_folder();
    let gateway = Gateway::start(data.path(), &["--shards", "1", "--tail-memory", "64MiB"]);
    let mut client = gateway.connect();
    client.create_topic("t", 1);
    for _ in 0..20 {
        client
            .produce("t", 0, batch(&[&[3; 1_000_000]], None))
            .unwrap();
    }
    let mut request = fetch_request("t", &[(0, 0)], 0, 1);
    request.topics[0].partitions[0].partition_max_bytes = 20 << 20;
    let before = gateway.resident_bytes();
    let mut lazy: Vec<_> = (0..4).map(|_| gateway.connect()).collect();
    for client in &mut lazy {
        for _ in 0..30 {
            client.send(fetch::KEY, 11, &request).unwrap();
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(
        // Each has one answer of 20 MB, read from the disk, and no more of its thirty.
        gateway.resident_bytes() < before + ((4 * 20 + 16) << 20),
        "answers pile up"
    );
    assert_eq!(client.latest("t", 0), 20);
}
