//! No combination of calls, sockets and other threads may put a shard to sleep over its work.
//!
//! glommio 0.9 does that, and so did the kernel's sleep in io_uring. Each scenario runs a number of
//! operations, alone and with both CPUs busy; a watch outside ends the process when nothing moves.

mod common;

use bytes::BytesMut;
use common::{Counting, Load, Watch, options, run_on_first, start_on_first};
use shards::net::Listener;
use shards::{ReplyTo, Runtime, Service, Shard};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::Thread;
use std::time::Duration;

const CALM_OPS: u64 = 100_000;
const LOADED_OPS: u64 = 100_000;

fn calm_and_loaded(scenario: impl Fn(u64)) {
    scenario(CALM_OPS);
    let _load = Load::start(2);
    scenario(LOADED_OPS);
}

/// Counts, and unparks the thread that asked.
struct Unparker;

impl Service for Unparker {
    type Request = (Arc<AtomicU64>, Thread);
    type Reply = ();

    fn handle(self: &Rc<Self>, (count, thread): Self::Request, reply: ReplyTo<()>) {
        count.fetch_add(1, Ordering::Release);
        thread.unpark();
        reply.send(());
    }
}

#[test]
fn a_thread_and_a_shard_ping_pong() {
    let watch = Watch::start("a thread and a shard");
    calm_and_loaded(|ops| {
        let (remote, remotes) = mpsc::channel();
        let runtime = shards::start(options(), move |shard: Shard<Unparker>| {
            let remote = remote.clone();
            async move {
                shard.serve(Rc::new(Unparker));
                remote
                    .send(shard.remote())
                    .map_err(|error| error.to_string())
            }
        })
        .unwrap();
        let remote = remotes.recv().unwrap();
        let count = Arc::new(AtomicU64::new(0));
        for n in 1..=ops {
            let request = (count.clone(), std::thread::current());
            assert!(remote.send((n % 2) as usize, request).is_ok());
            while count.load(Ordering::Acquire) < n {
                std::thread::park();
            }
            watch.step();
        }
        runtime.stop_and_wait().unwrap();
    });
}

#[test]
fn a_shard_and_its_worker_ping_pong() {
    let watch = Watch::start("a shard and its worker");
    calm_and_loaded(|ops| {
        let counter = watch.counter();
        run_on_first(options(), move |shard| {
            let counter = counter.clone();
            async move {
                let worker = shard.serial_worker("worker");
                for n in 0..ops {
                    assert_eq!(worker.run(move || n).await, Ok(n));
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    });
}

#[test]
fn shards_call_each_other() {
    let watch = Watch::start("two shards");
    calm_and_loaded(|ops| {
        let counter = watch.counter();
        let runtime = shards::start(options(), move |shard: Shard<Counting>| {
            let counter = counter.clone();
            async move {
                shard.serve(Rc::new(Counting::default()));
                shard.ready();
                for n in 0..ops / 2 {
                    assert_eq!(shard.call(1 - shard.index(), n).await, Ok(n));
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                shard.stop();
                Ok::<(), String>(())
            }
        })
        .unwrap();
        runtime.wait().unwrap();
    });
}

#[test]
fn shards_that_only_sleep_wake_up() {
    let watch = Watch::start("two sleeping shards");
    let counter = watch.counter();
    let runtime = start_on_first(options(), move |_| {
        let counter = counter.clone();
        async move {
            for _ in 0..1000 {
                shards::sleep(Duration::from_millis(1)).await;
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    runtime.wait().unwrap();
}

fn start_echo() -> (Runtime, SocketAddr) {
    let (address, addresses) = mpsc::channel();
    let runtime = shards::start(options(), move |shard: Shard<Counting>| {
        let address = address.clone();
        async move {
            let listener = Listener::bind(&shard, ([127, 0, 0, 1], 0).into())?;
            address
                .send(listener.local_addr())
                .map_err(io::Error::other)?;
            shard.ready();
            while let Some(stream) = listener.accept().await {
                shard.spawn(async move {
                    let mut buffer = BytesMut::new();
                    while let Ok(1..) = stream.recv(&mut buffer).await {
                        if stream
                            .send_pieces(&[buffer.split().freeze()])
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                });
            }
            Ok::<(), io::Error>(())
        }
    })
    .unwrap();
    (runtime, addresses.recv().unwrap())
}

#[test]
fn an_echo_server_answers() {
    let watch = Watch::start("an echo server");
    for connections in [16, 64, 256] {
        calm_and_loaded(|ops| {
            let (runtime, address) = start_echo();
            let mut clients: Vec<TcpStream> = (0..connections)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            let mut reply = [0; 100];
            for _ in 0..ops / connections / 3 {
                for client in &mut clients {
                    client.write_all(&[7; 100]).unwrap();
                }
                for client in &mut clients {
                    client.read_exact(&mut reply).unwrap();
                    watch.step();
                }
            }
            runtime.stop_and_wait().unwrap();
        });
    }
}
