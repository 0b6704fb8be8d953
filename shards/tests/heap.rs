//! The heap keeps what is freed. A process of its own, as the setting is the process's.

use std::hint::black_box;

/// A frame of a request of 1000 records of 100 bytes: below what glibc maps, close to what it trims.
const FRAME_BYTES: usize = 111_000;
const ROUNDS: u64 = 200;

/// Page faults of this thread that needed no disk, so far.
fn page_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    // proc(5): minflt is the tenth field, the eighth behind the name.
    after_name
        .split_whitespace()
        .nth(7)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
#[cfg(target_env = "gnu")]
fn memory_that_is_used_again_costs_no_page_faults() {
    shards::keep_freed_memory();
    // Not the main thread's heap, which grows by other means.
    let faults = std::thread::spawn(|| {
        let frames = || drop(black_box([1, 2, 3].map(|byte| vec![byte; FRAME_BYTES])));
        frames();
        let before = page_faults();
        (0..ROUNDS).for_each(|_| frames());
        page_faults() - before
    });
    let faults = faults.join().unwrap();
    assert!(faults < ROUNDS, "{faults} faults in {ROUNDS} rounds");
}
