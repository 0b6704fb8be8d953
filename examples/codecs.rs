//! Prints what checking batches and writing them anew costs on this machine, for each codec:
//! `cargo run --release --example codecs [check|recode|threshold...]`. Without names: all.
//!
//! Batches are of 64 records of 1 KiB of JSON.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use tidegate::record::{
    Batch, Builder, Compression, Recode, Rules, Scratch, Target, Validated, validate,
};

const NOW: i64 = 1_700_000_000_000;
const RECORDS: usize = 64;
const RECORD_BYTES: usize = 1 << 10;
const RUN: Duration = Duration::from_millis(400);
/// What a shard may spend on a batch before others have waited for too long.
const AT_ONCE: Duration = Duration::from_micros(200);

const LEVELS: [(Compression, &[i32]); 5] = [
    (Compression::None, &[0]),
    (Compression::Snappy, &[0]),
    (Compression::Lz4, &[1, 3, 6, 9, 12]),
    (Compression::Gzip, &[1, 3, 5, -1, 7, 9]),
    (Compression::Zstd, &[-5, 1, 3, 5, 7, 10, 15, 22]),
];

/// JSON of which a fourth is left by good codecs.
fn json(number: usize, random: &mut u32) -> Vec<u8> {
    const WORDS: [&str; 8] = [
        "alpha", "beta", "gamma", "delta", "omega", "x1", "y22", "z333",
    ];
    let mut text = format!(
        "{{\"id\":{number},\"user\":\"user-{}\",\"text\":\"",
        *random % 1000
    );
    while text.len() < RECORD_BYTES - 2 {
        *random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.push_str(WORDS[(*random >> 29) as usize]);
        if (*random >> 20).is_multiple_of(4) {
            text.push(char::from(b'a' + (*random >> 10) as u8 % 26));
        }
    }
    text.truncate(RECORD_BYTES - 2);
    text.push_str("\"}");
    text.into_bytes()
}

fn batch(codec: Compression, bytes: usize) -> Batch {
    let mut random = 1;
    let mut builder = Builder::new().compression(codec, None);
    let mut number = 0;
    while builder.records_len() + RECORD_BYTES <= bytes.max(RECORD_BYTES) {
        builder.append(NOW, None, Some(&json(number, &mut random)), &[]);
        number += 1;
    }
    Batch::parse(&builder.build()).expect("a batch")
}

fn checked(batch: &Batch, scratch: &mut Scratch) -> Validated {
    validate(batch, &rules(), NOW, scratch).expect("a good batch")
}

fn rules() -> Rules {
    Rules {
        max_batch_bytes: 64 << 20,
        ..Rules::default()
    }
}

/// The shortest time of one go.
fn time(mut work: impl FnMut()) -> Duration {
    let (began, mut best) = (Instant::now(), Duration::MAX);
    while began.elapsed() < RUN {
        let go = Instant::now();
        work();
        best = best.min(go.elapsed());
    }
    best
}

fn check() {
    println!("\ncheck: codec, records, µs a batch, MB/s inflated, ms a MB as sent");
    let mut scratch = Scratch::default();
    for codec in Compression::ALL {
        for records in [1, 16, RECORDS, 16 * RECORDS] {
            let batch = batch(codec, records * (RECORD_BYTES + 16));
            let mut inflated = 0;
            let took = time(|| inflated = checked(&batch, &mut scratch).inflated_bytes);
            let took = took.as_secs_f64();
            println!(
                "{:8} {records:6} {:8.1} {:8.0} {:8.2}",
                codec.name(),
                took * 1e6,
                inflated as f64 / took / 1e6,
                took * 1e3 / (batch.size_in_bytes() as f64 / 1e6)
            );
        }
    }
}

fn recode() {
    println!("\nrecode: from, to, level, µs a batch, MB/s inflated, bytes");
    for from in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let batch = batch(from, RECORDS * (RECORD_BYTES + 16));
        for (codec, level) in targets() {
            let recode = prepared(&batch, codec, level);
            let mut bytes = 0;
            let took = time(|| bytes = recode.run().expect("it fits").size_in_bytes());
            println!(
                "{:8} {:8} {level:4} {:8.1} {:8.0} {bytes:8}",
                from.name(),
                codec.name(),
                took.as_secs_f64() * 1e6,
                batch_bytes(&batch) / took.as_secs_f64() / 1e6,
            );
        }
    }
}

fn batch_bytes(batch: &Batch) -> f64 {
    checked(batch, &mut Scratch::default()).inflated_bytes as f64
}

/// Where work is handed to other threads, and how long it takes there.
fn threshold() {
    println!("\nthreshold: codec, level, KiB that are thought to take 200 µs, µs that they take");
    for (codec, level) in targets() {
        let mut bytes = 1 << 10;
        let at_once = |bytes| {
            let recode = prepared(&batch(Compression::None, bytes), codec, level);
            recode.cost_ns() <= AT_ONCE.as_nanos() as usize
        };
        while bytes < 1 << 20 && at_once(bytes * 2) {
            bytes *= 2;
        }
        let recode = prepared(&batch(Compression::None, bytes), codec, level);
        let took = time(|| drop(recode.run()));
        println!(
            "{:8} {level:4} {:8} {:8.0}",
            codec.name(),
            bytes >> 10,
            took.as_secs_f64() * 1e6
        );
    }
}

fn targets() -> impl Iterator<Item = (Compression, i32)> {
    let levels = |(codec, levels): (Compression, &'static [i32])| {
        levels.iter().map(move |&level| (codec, level))
    };
    LEVELS.into_iter().flat_map(levels)
}

fn prepared(batch: &Batch, codec: Compression, level: i32) -> Recode {
    let validated = checked(batch, &mut Scratch::default());
    let target = Target {
        codec,
        level: Some(level),
    };
    Recode::new(batch.clone(), &validated, &rules(), target).expect("it fits")
}

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    for (name, measure) in [
        ("check", check as fn()),
        ("recode", recode),
        ("threshold", threshold),
    ] {
        if asked.is_empty() || asked.iter().any(|one| one == name) {
            measure();
        }
    }
}
