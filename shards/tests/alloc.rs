//! What the hot paths allocate. Counted over the whole process, so this file has one test.

mod common;

use bytes::{Bytes, BytesMut};
use common::{Watch, options, run_on_first};
use shards::net::Listener;
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

struct Counted;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: it hands all to the system's allocator.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

const TIMES: u64 = 2000;

/// Allocations for each time, after a round that fills what is kept.
async fn per_time(mut once: impl AsyncFnMut()) -> f64 {
    for _ in 0..TIMES {
        once().await;
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..TIMES {
        once().await;
    }
    (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / TIMES as f64
}

#[test]
fn hot_paths_hardly_allocate() {
    let _watch = Watch::start("allocations");
    run_on_first(options(), |shard| async move {
        let calls = per_time(async || {
            let two = (shard.call(1, 0), shard.call(0, 0));
            two.0.await.unwrap();
            two.1.await.unwrap();
        });
        assert!(calls.await < 0.05, "a call allocates");
        let turns = per_time(async || shards::turn().await);
        assert!(turns.await < 0.05, "a turn allocates");
        let blocking = per_time(async || shard.blocking(|| ()).await.unwrap());
        assert!(
            blocking.await < 1.05,
            "blocking work allocates more than once"
        );

        let listener = Listener::bind(&shard, ([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr();
        let client = std::thread::spawn(move || {
            let mut client = TcpStream::connect(address).unwrap();
            let mut byte = [0];
            while client.read_exact(&mut byte).is_ok() {
                client.write_all(&byte).unwrap();
            }
        });
        let stream = listener.accept().await.unwrap();
        let mut buffer = BytesMut::with_capacity(4096);
        let pieces = [Bytes::from_static(b"x")];
        let echo = per_time(async || {
            stream.send_pieces(&pieces).await.unwrap();
            buffer.clear();
            assert_eq!(stream.recv(&mut buffer).await.unwrap(), 1);
        });
        assert!(echo.await < 0.05, "sending and receiving allocate");
        // The tree of timers has nodes to allocate.
        let sleeps = per_time(async || shards::sleep(Duration::from_micros(1)).await);
        assert!(sleeps.await < 1.05, "a timer allocates more than once");
        drop(stream);
        client.join().unwrap();
    });
}
